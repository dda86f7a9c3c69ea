"""What an export does if no entries match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, ExportError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult
    from airflow_provider_contensis.sandbox import Sandbox

NOTHING = {"where": [{"field": "name", "equalTo": "Atlantis"}], "content_type_id": "country"}


@pytest.fixture
def export(
    iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> Callable[..., ExportResult]:
    def run(destination: str = "x.jsonl", **arguments: Any) -> ExportResult:
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/{destination}", **arguments)
        return export_entries(make_client(iso_sandbox), iso_sandbox.project_id, request)

    return run


@pytest.fixture
def yesterday(tmp_path: Path) -> Path:
    path = tmp_path / "x.jsonl"
    path.write_text("yesterday")
    return path


def test_write_replaces_the_file_by_an_empty_one(
    export: Callable[..., ExportResult], yesterday: Path
) -> None:
    assert export(**NOTHING).files[None].rows == 0
    assert yesterday.read_text() == ""


@pytest.mark.parametrize("on_empty", ["keep", "skip", "KEEP"])
def test_keep_and_skip_leave_the_file_alone(
    export: Callable[..., ExportResult], yesterday: Path, on_empty: str
) -> None:
    result = export(**NOTHING, on_empty=on_empty)
    assert (result.files, result.entries, result.as_dict()["files"]) == ({}, 0, [])
    assert yesterday.read_text() == "yesterday"
    assert list(yesterday.parent.iterdir()) == [yesterday]


def test_keep_leaves_a_folder_alone(export: Callable[..., ExportResult], tmp_path: Path) -> None:
    export("folder/", content_type_id="country")
    before = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    export("folder/", **NOTHING, on_empty="keep")
    assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == before


def test_fail_is_final_and_leaves_the_file_alone(
    export: Callable[..., ExportResult], yesterday: Path
) -> None:
    with pytest.raises(ExportError, match='No entries matched, and on_empty is "fail"') as failure:
        export(**NOTHING, on_empty="fail")
    assert not failure.value.retryable
    assert yesterday.read_text() == "yesterday"


@pytest.mark.parametrize("on_empty", ["write", "keep", "skip", "fail"])
def test_entries_that_match_are_written_in_any_case(
    export: Callable[..., ExportResult], yesterday: Path, on_empty: str
) -> None:
    assert export(content_type_id="country", language="en-GB", on_empty=on_empty).entries == 245
    assert yesterday.read_text() != "yesterday"


def test_typo_in_where_replaces_nothing(export: Callable[..., ExportResult], yesterday: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"where contains the field 'nmae'.*Did you mean 'name'"):
        export(where=[{"field": "nmae", "exists": True}], content_type_id="country")
    assert yesterday.read_text() == "yesterday"


def test_other_values_are_refused(export: Callable[..., ExportResult]) -> None:
    with pytest.raises(ConfigurationError, match="on_empty must be one of write, keep, skip, fail"):
        export(on_empty="delete")
