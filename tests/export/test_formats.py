"""Entries written down: the bytes as served, re-encoded only where they must be."""

from __future__ import annotations

import io
import json

import msgspec
import pytest

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.fields import field_tree, keep_fields
from airflow_provider_contensis.export.formats.json import JsonLinesWriter

ODD = (
    b'{"big":12345678901234567890,"small":1e-7,"exact":1.10,"zero":-0.0,'
    b'"text":"\\u00e9 \xc3\xa9 \xf0\x9f\x87\xa6",'
    b'"escaped":"line\\nbreak \\/ \\u2028","empty":{},"none":null,"list":[],'
    b'"sys":{"id":"1","language":"cy","contentTypeId":"film","version":{"versionNo":"1.10","created":"x"}}}'
)


def raw(*texts: bytes) -> list[msgspec.Raw]:
    return [msgspec.Raw(text) for text in texts]


def test_json_lines_are_the_bytes_as_read() -> None:
    sink = io.BytesIO()
    writer = JsonLinesWriter(sink)
    for entries in raw(ODD, b'{"a":1}'), [], raw(b'{"b":2}'):
        writer.write(entries, [])
    writer.close()
    assert sink.getvalue() == ODD + b'\n{"a":1}\n{"b":2}\n'


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (["exact"], {"exact": 1.1, "sys": {"id": "1", "language": "cy", "contentTypeId": "film"}}),
        (
            ["sys.version.versionNo", "nothing.there"],
            {"sys": {"id": "1", "language": "cy", "contentTypeId": "film", "version": {"versionNo": "1.10"}}},
        ),
        (["sys", "sys.version.versionNo", "none"], {"none": None, "sys": json.loads(ODD)["sys"]}),
        (
            ["list.x", "none.x"],
            {"none": None, "list": [], "sys": {"id": "1", "language": "cy", "contentTypeId": "film"}},
        ),
    ],
)
def test_chosen_fields_are_kept_with_what_identifies_the_entry(
    paths: list[str], kept: dict[str, object]
) -> None:
    assert json.loads(bytes(keep_fields(msgspec.Raw(ODD), field_tree(paths)))) == kept


def test_chosen_fields_keep_their_very_digits_and_order() -> None:
    chosen = bytes(keep_fields(msgspec.Raw(ODD), field_tree(["text", "small", "big", "exact", "zero"])))
    start = ODD[: ODD.index(b',"escaped"')]
    assert chosen == start + b',"sys":{"id":"1","language":"cy","contentTypeId":"film"}}'


def test_a_path_through_an_array_applies_to_each_item() -> None:
    entry = b'{"quotes":[{"text":"a","source":"b"},{"text":"c"},7],"sys":{"id":"1"}}'
    chosen = bytes(keep_fields(msgspec.Raw(entry), field_tree(["quotes.text"])))
    assert chosen == b'{"quotes":[{"text":"a"},{"text":"c"},7],"sys":{"id":"1"}}'


@pytest.mark.parametrize("title", [b'{"\\ud800":1}', b"[" * 100_000 + b"]" * 100_000])
def test_fields_of_an_entry_that_can_not_be_looked_into_are_refused(title: bytes) -> None:
    with pytest.raises(
        InvalidResponseError, match="an entry: it is nested too deeply, or a field's name is not text"
    ):
        keep_fields(msgspec.Raw(b'{"title":%b}' % title), field_tree(["title.a"]))
