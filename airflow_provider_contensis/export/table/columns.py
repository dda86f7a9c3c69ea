"""The columns of a content type, from its definition alone, so that two exports always agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_contensis.export.fields import field_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_contensis.api.resources import ContentType, Field
    from airflow_provider_contensis.export.fields import FieldTree

# `mixed` is text if the service sends text, else JSON; `json` is always JSON.
Kind = Literal["text", "integer", "decimal", "boolean", "time", "mixed", "json"]

# Holds members that have no column.
REST = "_rest"
# Holds the whole entry, if one of its values does not fit its column.
RAW = "_raw"
# Half of the digits of a 128-bit decimal; the other half is for those before the point.
_MOST_PLACES = 20


@dataclass(frozen=True)
class Leaf:
    """One value.

    :param scale: of a decimal, the places that its definition allows; of a time, the digits of a second to
        keep. None for any number.
    """

    kind: Kind
    scale: int | None = None


@dataclass(frozen=True)
class Many:
    """An array of values of one shape."""

    item: Shape


@dataclass(frozen=True)
class Record:
    """An object with known members."""

    members: Mapping[str, Shape]


Shape = Leaf | Many | Record


def _record(**members: Shape) -> Record:
    return Record(members)


_TEXT, _TIME, _DECIMAL = Leaf("text"), Leaf("time"), Leaf("decimal")
_MIXED, _JSON = Leaf("mixed"), Leaf("json")
_TEXTS = Many(_TEXT)

LINK = _record(sys=_record(id=_TEXT, language=_TEXT, contentTypeId=_TEXT, dataFormat=_TEXT, uri=_TEXT))

# docs/contensis-api.md, "Fields". Other objects have no reliable shape.
_OBJECTS: dict[str, Shape] = {
    "asset": LINK,
    "daterange": Record({"from": _TIME, "to": _TIME}),
    "entry": LINK,
    # Delivery serves the transformations as a query string, Management as an object.
    "image": _record(asset=LINK, altText=_TEXT, caption=_TEXT, transformations=_MIXED),
    "location": _record(lat=_DECIMAL, lon=_DECIMAL),
    "quote": _record(text=_TEXT, source=_TEXT),
}
_SCALARS: dict[str, Shape] = {
    "boolean": Leaf("boolean"),
    "datetime": _TIME,
    "decimal": _DECIMAL,
    "integer": Leaf("integer"),
    "string": _TEXT,
}

# docs/contensis-api.md, "Entries", "Versions and times" and "Assets". The same for all content types and both
# APIs, in the order of the Management API, which is the quickest to decode.
_SYS = _record(
    id=_TEXT,
    projectId=_TEXT,
    contentTypeId=_TEXT,
    dataFormat=_TEXT,
    language=_TEXT,
    availableLanguages=_TEXTS,
    unavailableLanguages=_TEXTS,
    deletedLanguages=_TEXTS,
    archivedLanguages=_TEXTS,
    uri=_TEXT,
    allUris=_TEXTS,
    owner=_TEXT,
    slug=_TEXT,
    isPublished=Leaf("boolean"),
    versionStatus=_TEXT,
    translationState=_TEXT,
    metadata=_JSON,
    properties=_record(
        filename=_TEXT,
        fileSize=Leaf("integer"),
        filePath=_TEXT,
        fileId=_TEXT,
        width=Leaf("integer"),
        height=Leaf("integer"),
    ),
    schedules=_JSON,
    workflow=_JSON,
    version=_record(
        createdBy=_TEXT,
        created=_TIME,
        modifiedBy=_TEXT,
        modified=_TIME,
        publishedBy=_TEXT,
        published=_TIME,
        deletedBy=_TEXT,
        deleted=_TIME,
        archivedBy=_TEXT,
        archived=_TIME,
        versionNo=_TEXT,
    ),
)

# Members of every entry; their columns come after those of the fields.
COMPUTED: dict[str, Shape] = {
    "entryTitle": _TEXT,
    "entryDescription": _TEXT,
    "entryThumbnail": _JSON,
    "entryTags": _JSON,
    "sys": _SYS,
}


def entry_shape(content_type: ContentType, fields: Iterable[str] | None = None) -> Record:
    """Return the shape of a content type's entries: its fields in order, then the members of every entry.

    :param content_type: its definition.
    :param fields: the field paths that were kept of each entry; None for all.
    """
    members = {
        name: shape
        for name, shape in _members(content_type.get("fields")).items()
        if name not in {REST, RAW, *COMPUTED}
    }
    shape = Record({**members, **COMPUTED})
    return shape if fields is None else _kept(shape, field_tree(fields))


def with_time_digits(record: Record, digits: int) -> Record:
    """Return a shape whose times keep so many digits of a second."""
    return Record({name: _with_time_digits(shape, digits) for name, shape in record.members.items()})


def _with_time_digits(shape: Shape, digits: int) -> Shape:
    if isinstance(shape, Record):
        return with_time_digits(shape, digits)
    if isinstance(shape, Many):
        return Many(_with_time_digits(shape.item, digits))
    return Leaf("time", digits) if shape.kind == "time" else shape


def field_shapes(content_type: ContentType) -> dict[str, Shape]:
    """Return the shapes of a content type's fields, in order."""
    return _members(content_type.get("fields"))


def _members(fields: Iterable[Field] | None) -> dict[str, Shape]:
    return {str(field["id"]): _field_shape(field) for field in fields or ()}


def _field_shape(field: Field) -> Shape:
    # Samples of the service differ in letter case.
    data_type = str(field.get("dataType") or "").lower()
    data_format = str(field.get("dataFormat") or "").lower()
    single = data_type.removesuffix("array")
    shape: Shape | None
    if single == "object":
        shape = _OBJECTS.get(data_format)
        if data_format.startswith("component.") and field.get("fields"):
            shape = Record(_members(field["fields"]))
    elif data_format == "taxonomy":
        shape = _MIXED  # Management serves the key, Delivery the node
    else:
        shape = _SCALARS.get(single)
    if shape == _DECIMAL:
        shape = Leaf("decimal", _decimal_places(field))
    if shape is None:
        return _JSON
    return shape if single == data_type else Many(shape)


def _decimal_places(field: Field) -> int | None:
    rule = (field.get("validations") or {}).get("decimalPlaces")
    places = rule.get("value") if isinstance(rule, dict) else rule
    return places if isinstance(places, int) and 0 <= places <= _MOST_PLACES else None


def _kept(record: Record, tree: FieldTree) -> Record:
    """Return a record with only the paths of a tree, as `keep_fields` keeps them."""
    kept: dict[str, Shape] = {}
    for name, shape in record.members.items():
        if name not in tree:
            continue
        pruned = _pruned(shape, tree[name])
        if pruned is not None:
            kept[name] = pruned
    return Record(kept)


def _pruned(shape: Shape, tree: FieldTree) -> Shape | None:
    if not tree or isinstance(shape, Leaf):
        return shape
    if isinstance(shape, Many):
        item = _pruned(shape.item, tree)
        return None if item is None else Many(item)
    record = _kept(shape, tree)
    return record if record.members else None
