"""A content type with every data type and format, and entries that are hard to write.

The shapes are those of docs/contensis-api.md, "Fields".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_contensis.export.page import entry_metas

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from airflow_provider_contensis.api.resources import ContentType, Field
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.model import ChangeMark


class Number(str):
    """A JSON number, spelled as served."""

    __slots__ = ()


class MemorySink:
    """A sink that keeps what it gets in memory."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> None:
        self.content += data


def parse_exact(text: bytes | str) -> Any:
    """Return JSON as Python values, with numbers spelled as in the text."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def raws(entries: Iterable[bytes]) -> list[msgspec.Raw]:
    return [msgspec.Raw(entry) for entry in entries]


def metas(entries: Iterable[bytes], change_mark: ChangeMark = "published") -> list[EntryMeta]:
    return entry_metas(raws(entries), change_mark)


def field(field_id: str, data_type: str, data_format: str | None = None, **more: Unpack[Field]) -> Field:
    return {"id": field_id, "dataType": data_type, "dataFormat": data_format, "validations": {}, **more}


def content_type(content_type_id: str, fields: list[Field]) -> ContentType:
    return {"id": content_type_id, "version": {"versionNo": "3.0"}, "dataFormat": "entry", "fields": fields}


_CREDIT = [
    field("person", "object", "entry"),
    field("role", "string"),
    field("fee", "decimal"),
    field("days", "integerArray"),
    field("shot", "object", "dateRange"),
    field("notes", "objectArray", "quote"),
]

EVERY_TYPE = content_type(
    "everything",
    [
        field("title", "string"),
        field("html", "String", "html"),
        field("markdown", "string", "markdown"),
        field("heading", "string", "heading"),
        field("email", "string", "email"),
        field("phone", "string", "phone"),
        field("reference", "string", "reference"),
        field("topic", "string", "taxonomy"),
        field("topics", "stringArray", "taxonomy"),
        field("choices", "stringArray", validations={"maxCount": {"value": 3}}),
        field("runtime", "integer"),
        field("rating", "decimal"),
        field("price", "decimal", validations={"decimalPlaces": {"value": 20, "message": None}}),
        field("restored", "boolean"),
        field("released", "dateTime"),
        field("period", "object", "dateRange"),
        field("oldPeriod", "Object", "daterange"),
        field("place", "object", "location"),
        field("motto", "object", "quote"),
        field("poster", "object", "image"),
        field("file", "object", "asset"),
        field("director", "object", "entry"),
        field("credit", "object", "component.credit", fields=_CREDIT),
        field("credits", "objectArray", "component.credit", fields=_CREDIT),
        field("cast", "objectArray", "entry"),
        field("files", "objectArray", "asset"),
        field("stills", "objectArray", "image"),
        field("quotes", "ObjectArray", "quote"),
        field("places", "objectArray", "location"),
        field("runs", "objectArray", "dateRange"),
        field("composer", "objectArray", "field"),
        field("canvas", "objectArray", "canvas"),
        field("tag", "object", "tag"),
        field("tags", "objectArray", "tag.genres"),
        field("form", "object", "contenttype"),
        field("node", "object", "node"),
        field("embed", "object", "embed"),
        field("anything", "object"),
        field("anythings", "objectArray"),
        field("unheardOf", "hologram", "laser"),
        field("numbers", "integerArray"),
        field("ratings", "decimalArray"),
        field("showings", "dateTimeArray"),
        field("answers", "booleanArray"),
        field("class", "string"),
        field("with-dash", "string"),
    ],
)

_LINK = b'{"sys":{"id":"9a0d","dataFormat":"entry","contentTypeId":"person","language":"en-GB"}}'
_ASSET = b'{"sys":{"id":"3c7b","dataFormat":"asset","contentTypeId":"image","language":"en-GB"}}'
_RANGE = b'{"from":"2031-04-02T00:00:00+01:00","to":null}'
_PLACE = b'{"lat":52.36,"lon":-2.710}'
_QUOTE = b'{"text":"Fog, \\"thick\\" fog","source":""}'
_IMAGE = (
    b'{"asset":' + _ASSET + b',"altText":"A \xf0\x9f\x9a\xa2","caption":null,'
    b'"transformations":{"size":{"width":800,"height":1.50}}}'
)
_CREDIT_VALUE = (
    b'{"person":' + _LINK + b',"role":"pilot","fee":1.10,"days":[1,9007199254740993],'
    b'"shot":' + _RANGE + b',"notes":[' + _QUOTE + b"]}"
)


def sys_json(entry_id: str, *, content_type_id: str = "everything", more: bytes = b"") -> bytes:
    return (
        b'{"id":"%s","projectId":"filmArchive","contentTypeId":"%s","dataFormat":"entry","language":"en-GB",'
        b'"availableLanguages":["en-GB","cy"],"unavailableLanguages":[],"deletedLanguages":[],'
        b'"archivedLanguages":[],"owner":"jo","slug":null,"isPublished":true,"translationState":"none",'
        b'"metadata":{},"schedules":{},"workflow":{"id":"w","state":"versionComplete","allowedEvents":["a"]},'
        b'"version":{"createdBy":"jo","created":"2031-03-28T08:00:01.5Z","modifiedBy":"jo",'
        b'"modified":"2031-03-30T10:15:10.7048498Z","publishedBy":"jo","published":"2031-03-30T10:15:12Z",'
        b'"deletedBy":null,"deleted":null,"archivedBy":null,"archived":null,"versionNo":"1.10"}%s}'
    ) % (entry_id.encode(), content_type_id.encode(), more)


FULL = (
    b'{"title":"The \\"Lantern\\", keeper\\r\\nof the quay \xf0\x9f\x8f\xae \\ud83d\\ude00 \\u2028",'
    b'"html":"<p class=\\"a\\">x</p>","markdown":"# x\\n\\n- y","heading":"x","email":"a@example.com",'
    b'"phone":"+44 1584","reference":"=1+1","topic":"0/12/34","topics":["0/12/34","0/12,35"],'
    b'"choices":["a","b, \\"c\\"",""],"runtime":-9223372036854775808,"rating":1e-7,'
    b'"price":987.73519103736829737802,"restored":false,"released":"2031-04-02T00:00:00",'
    b'"period":' + _RANGE + b',"oldPeriod":{"from":"1999-12-31T23:59:59.1234567Z","to":"2000-01-01"},'
    b'"place":' + _PLACE + b',"motto":' + _QUOTE + b',"poster":' + _IMAGE + b',"file":' + _ASSET + b","
    b'"director":' + _LINK + b',"credit":' + _CREDIT_VALUE + b',"credits":[' + _CREDIT_VALUE + b",null],"
    b'"cast":[' + _LINK + b"," + _LINK + b'],"files":[' + _ASSET + b'],"stills":[' + _IMAGE + b"],"
    b'"quotes":[' + _QUOTE + b',{}],"places":[' + _PLACE + b'],"runs":[' + _RANGE + b"],"
    b'"composer":[{"type":"text","value":"a"},{"type":"number","value":12345678901234567890}],'
    b'"canvas":[{"id":"a1","type":"_paragraph","value":[{"id":"b1","type":"_fragment","value":"Fog"}]}],'
    b'"tag":{"sys":{"id":"t1"}},"tags":[{"sys":{"id":"t1"}}],"form":{"id":"contact"},"node":{"id":"n"},'
    b'"embed":{"url":"https://example.com/?a=1,2"},"anything":{"big":12345678901234567890,"exact":1.10},'
    b'"anythings":[{},{"a":null}],"unheardOf":"light","numbers":[0,-1,9223372036854775807],'
    b'"ratings":[1.10,1e-7,-0.0],"showings":["2031-04-02T00:00:00.1234567Z","2031-04-02T09:30:00-05:00"],'
    b'"answers":[true,false],"class":"A","with-dash":"B","entryTitle":"The Lantern Keeper",'
    b'"entryDescription":"","sys":' + sys_json("full") + b"}"
)
NULLS = (
    b"{"
    + b",".join(b'"%s":null' % item["id"].encode() for item in EVERY_TYPE["fields"])
    + b',"entryTitle":null,"entryDescription":null,"sys":'
    + sys_json("nulls")
    + b"}"
)
ABSENT = b'{"sys":{"id":"absent","language":"cy","contentTypeId":"everything"}}'
EMPTY = (
    b'{"title":"","choices":[],"period":{},"place":{},"motto":{},"poster":{},"director":{},"credit":{},'
    b'"credits":[],"canvas":[],"composer":[],"anything":{},"answers":[],"poster":{"asset":null},"sys":'
    + sys_json("empty")
    + b"}"
)
UNKNOWN = (
    b'{"title":"x","extra":{"big":12345678901234567890,"exact":1.10},"nothing":null,"period":{"from":null,'
    b'"mood":"grey"},"credits":[{"role":"pilot","ghost":1}],"sys":'
    + sys_json("unknown", more=b',"novel":[1]')
    + b"}"
)
# As the Delivery API answers with link_depth=1: the linked entry replaces the link.
RESOLVED = (
    b'{"title":"x","director":{"name":"Ines","born":1.50,"sys":{"id":"9a0d","contentTypeId":"person",'
    b'"dataFormat":"entry","language":"en-GB","uri":"/people/ines","owner":"jo"}},'
    b'"cast":[{"name":"Bo","sys":{"id":"b0"}}],"topic":{"key":"0/12","name":"Fog","children":[]},'
    b'"poster":{"asset":' + _ASSET + b',"transformations":"w=800&h=600"},'
    b'"place":{"lat":1,"lon":2,"distance":3.0},"entryTitle":"x","entryThumbnail":' + _ASSET + b","
    b'"entryTags":[{"sys":{"id":"t1"}}],"sys":{"id":"resolved","contentTypeId":"everything",'
    b'"dataFormat":"entry","language":"en-GB","uri":"/films/x","allUris":["/films/x"],'
    b'"versionStatus":"published","properties":{},"metadata":{},"workflow":{"id":"w","state":"s"}}}'
)
PRETTY = json.dumps(json.loads(UNKNOWN.replace(b"12345678901234567890", b"7")), indent=2).encode()

# Another JSON encoder would write these numbers and this text differently.
EXACT = (
    b'{"big":12345678901234567890,"small":1e-7,"exact":1.10,"zero":-0.0,'
    b'"text":"\\u00e9 \xc3\xa9 \xf0\x9f\x87\xa6",'
    b'"escaped":"line\\nbreak \\/ \\u2028","empty":{},"none":null,"list":[],'
    b'"sys":{"id":"1","language":"cy","contentTypeId":"film","version":{"versionNo":"1.10","created":"x"}}}'
)

ENTRIES = [FULL, NULLS, ABSENT, EMPTY, UNKNOWN, RESOLVED, PRETTY]

ASSET_TYPE: ContentType = {
    "id": "image",
    "dataFormat": "asset",
    "fields": [
        field("title", "string"),
        field("description", "string"),
        field("keywords", "stringArray"),
        field("thumbnail", "object", "asset"),
        field("altText", "string"),
    ],
}
ASSET = (
    b'{"thumbnail":null,"altText":"A gate","keywords":null,"entryDescription":null,"description":null,'
    b'"title":"gate","sys":{"owner":"jo","metadata":{"includeInAToZ":false,"nodeId":"0c64"},'
    b'"dataFormat":"asset","isPublished":true,"availableLanguages":["en-GB"],"contentTypeId":"image",'
    b'"language":"en-GB","uri":"/library/gate.x6548b903.jpg","version":{"created":"2024-10-04T11:09:19.720178Z",'
    b'"published":"2024-10-04T11:09:30.5492109Z","versionNo":"1.0"},"versionStatus":"latest","id":"0c64",'
    b'"projectId":"p","slug":null,"properties":{"filename":"gate.jpg","fileSize":433023,"filePath":"/library/",'
    b'"width":1919,"fileId":"0c64","height":1244,"frames":1}},"entryTitle":"gate"}'
)
