"""Selected fields of an entry, each value as served."""

from __future__ import annotations

import json

import msgspec
import pytest

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.fields import field_tree, keep_fields
from tests.export.formats.every_type import EXACT


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (["exact"], {"exact": 1.1, "sys": {"id": "1", "language": "cy", "contentTypeId": "film"}}),
        (
            ["sys.version.versionNo", "nothing.there"],
            {"sys": {"id": "1", "language": "cy", "contentTypeId": "film", "version": {"versionNo": "1.10"}}},
        ),
        (["sys", "sys.version.versionNo", "none"], {"none": None, "sys": json.loads(EXACT)["sys"]}),
        (
            ["list.x", "none.x"],
            {"none": None, "list": [], "sys": {"id": "1", "language": "cy", "contentTypeId": "film"}},
        ),
    ],
)
def test_selected_fields_and_identity_are_kept(paths: list[str], kept: dict[str, object]) -> None:
    assert json.loads(bytes(keep_fields(msgspec.Raw(EXACT), field_tree(paths)))) == kept


def test_selected_fields_keep_digits_and_order() -> None:
    selected = bytes(keep_fields(msgspec.Raw(EXACT), field_tree(["text", "small", "big", "exact", "zero"])))
    start = EXACT[: EXACT.index(b',"escaped"')]
    assert selected == start + b',"sys":{"id":"1","language":"cy","contentTypeId":"film"}}'


def test_path_through_array_applies_to_each_item() -> None:
    entry = b'{"quotes":[{"text":"a","source":"b"},{"text":"c"},7],"sys":{"id":"1"}}'
    selected = bytes(keep_fields(msgspec.Raw(entry), field_tree(["quotes.text"])))
    assert selected == b'{"quotes":[{"text":"a"},{"text":"c"},7],"sys":{"id":"1"}}'


def test_entry_that_is_nested_too_deeply_is_refused() -> None:
    title = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(
        InvalidResponseError, match="an entry: it is nested too deeply, or a field's name is not text"
    ):
        keep_fields(msgspec.Raw(b'{"title":%b}' % title), field_tree(["title.a"]))
