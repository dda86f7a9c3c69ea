r"""Half of a surrogate pair (`\ud83d`) in one text neither fails an export nor changes other entries."""

from __future__ import annotations

import csv
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq
import pytest

from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.export.fields import field_tree, keep_fields
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue
from tests.file_pointer import FilePointer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

LONE = rb"caf\u00e9 \ud83d \ud83d\ude00 \\ud83d \udc00"
REPLACED = "café \ufffd \U0001f600 \\ud83d \ufffd"


@pytest.mark.parametrize(
    ("json_text", "replaced"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00x"', rb'"\ufffdx"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ud83d\ude00\ude00"', rb'"\ud83d\ude00\ufffd"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d\n"', rb'"\\\ufffd\n"'),
        (rb'{"\ud800":["\udfff"]}', rb'{"\ufffd":["\ufffd"]}'),
    ],
)
def test_only_lone_surrogates_are_replaced_or_hidden(json_text: bytes, replaced: bytes) -> None:
    assert lone_surrogates.replace(json_text) == replaced
    hidden = lone_surrogates.hide(json_text)
    assert len(hidden) == len(json_text)
    msgspec.json.decode(hidden)
    assert lone_surrogates.reveal(hidden) == json_text


def test_text_that_looks_hidden_is_refused_rather_than_changed() -> None:
    with pytest.raises(ValueError, match="control characters"):
        lone_surrogates.hide(b'"\x7fd83d\x7f \\ud83d"')


@pytest.mark.parametrize("fields", [["title"], ["title.a"], ["other"]])
def test_selected_fields_keep_them_as_served(fields: list[str]) -> None:
    entry = rb'{"title":{"a":"\ud83d","b":1.10},"other":"\udc00","sys":{"id":"1"}}'
    kept = bytes(keep_fields(msgspec.Raw(entry), field_tree(fields)))
    assert (rb"\ud83d" in kept) is (fields != ["other"])
    assert (rb"\udc00" in kept) is (fields == ["other"])
    assert (b"1.10" in kept) is (fields == ["title"])


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., Path]:
    """A function that exports 30 entries, the tenth of which holds lone surrogates, and returns the file."""
    catalogue = synthetic_catalogue(30)
    odd = sorted(json.loads(entry)["sys"]["id"] for entry in catalogue.entries())[9].encode()

    def corrupt(request: Request) -> Response | None:
        answer = request.answer()
        if request.kind != "search" or odd not in answer.body:
            return answer
        before, sys_id, after = answer.body.partition(b'"id":"' + odd)
        start = before.rindex(b'"title":"') + len(b'"title":"')
        end = before.index(b'",', start)
        return Response(200, before[:start] + LONE + before[end:] + sys_id + after, answer.headers)

    def run(name: str, **arguments: Any) -> Path:
        path = tmp_path / name
        request = ExportRequest.from_arguments(destination=path, content_type_id="article", **arguments)
        with Sandbox(catalogue, faults=corrupt) as sandbox:
            result = export_entries(
                make_client(sandbox), sandbox.project_id, request, pointer=FilePointer(tmp_path / "pointer")
            )
        assert result.entries == 30
        return path

    return run


@pytest.mark.parametrize("page_size", [7, 500])
def test_json_lines_and_json_pass_them_on(export: Callable[..., Path], page_size: int) -> None:
    lines = export("x.jsonl", page_size=page_size).read_bytes().splitlines()
    assert [LONE in line for line in lines].count(True) == 1
    assert LONE in export("x.json", page_size=page_size).read_bytes()


def test_csv_holds_the_replacement_character_and_one_warning_names_the_entry(
    export: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        text = export("x.csv").read_bytes().decode()
    titles = [row["title"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert titles.count(REPLACED) == 1
    [warning] = [record.getMessage() for record in caplog.records if "surrogate" in record.getMessage()]
    [entry_id] = [
        row["sys.id"] for row in csv.DictReader(io.StringIO(text, newline="")) if row["title"] == REPLACED
    ]
    assert warning.startswith(f"Entry {entry_id} (en-GB) contains half of a surrogate pair")


@pytest.mark.parametrize("arguments", [{"fields": "title"}, {"on_type_mismatch": "raw"}])
def test_parquet_holds_the_replacement_character(
    export: Callable[..., Path], caplog: pytest.LogCaptureFixture, arguments: dict[str, Any]
) -> None:
    table = pq.read_table(export("x.parquet", **arguments))
    assert table.column("title").to_pylist().count(REPLACED) == 1
    assert caplog.text.count("half of a surrogate pair") == 1


def test_raw_parquet_holds_the_json_as_served(export: Callable[..., Path]) -> None:
    table = pq.read_table(export("x.parquet", parquet_mode="raw"))
    assert [LONE.decode() in entry for entry in table.column("entry").to_pylist()].count(True) == 1
