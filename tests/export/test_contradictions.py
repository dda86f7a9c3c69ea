"""Answers that contradict the question are refused: what can be checked of an entry is checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


def page_of(entries: list[bytes], size: int) -> Response:
    body = b'{"totalCount":%d,"items":[%b]}' % (len(entries), b",".join(entries[:size]))
    return Response(200, body, {"content-type": "application/json"})


def changed(entry: bytes, path: str, value: Any) -> bytes:
    content = json.loads(entry)
    target = content
    *parents, last = path.split(".")
    for name in parents:
        target = target[name]
    target[last] = value
    return json.dumps(content).encode()


@pytest.fixture
def catalogue() -> Catalogue:
    return synthetic_catalogue(12, drafts=3, edited=2)


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., int]:
    """A function that exports from a service that answers each search with the same entries."""

    def run(catalogue: Catalogue, entries: list[bytes], **arguments: Any) -> int:
        def answer_always(request: Request) -> Response | None:
            if request.kind != "search":
                return None
            return page_of(entries, json.loads(request.body)["pageSize"])

        request = ExportRequest.from_arguments(
            destination=tmp_path / "x.jsonl", content_type_id="article", **arguments
        )
        with Sandbox(catalogue, faults=answer_always) as sandbox:
            return export_entries(make_client(sandbox), sandbox.project_id, request).entries

    return run


def test_drafts_are_not_taken_for_published_entries(
    catalogue: Catalogue, export: Callable[..., int], tmp_path: Path
) -> None:
    edited, drafts = catalogue.entries("latest"), set(catalogue.entries("published"))
    with pytest.raises(InvalidResponseError, match="was not asked for: .* so it is a draft"):
        export(catalogue, edited)
    never_published = [entry for entry in edited if entry in drafts or b'"published":null' in entry]
    with pytest.raises(InvalidResponseError, match="was not asked for: it was never published"):
        export(catalogue, never_published)
    assert not (tmp_path / "x.jsonl").exists()


def test_drafts_belong_into_an_export_of_the_latest_versions(
    catalogue: Catalogue, export: Callable[..., int]
) -> None:
    assert export(catalogue, catalogue.entries("latest"), version_status="latest") == 12


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("sys.language", "fr", "its sys.language is 'fr'"),
        ("sys.contentTypeId", "person", "its sys.contentTypeId is 'person'"),
        ("sys.dataFormat", "asset", "its sys.dataFormat is 'asset'"),
        ("sys.projectId", "other", "its sys.projectId is 'other'"),
        ("sys.versionStatus", "latest", "its sys.versionStatus is 'latest'"),
        ("sys.version.published", None, "it was never published"),
    ],
)
def test_entry_of_another_kind_is_refused(
    catalogue: Catalogue, export: Callable[..., int], path: str, value: Any, reason: str
) -> None:
    entries = catalogue.entries("published")
    entries[4] = changed(entries[4], path, value)
    with pytest.raises(InvalidResponseError, match=f"was not asked for: {reason}"):
        export(catalogue, entries)


@pytest.mark.parametrize(
    "bounds", [{"changed_from": "2099-01-01"}, {"changed_to": "2001-01-01"}], ids=["from", "to"]
)
def test_entry_that_changed_at_another_time_is_refused(
    catalogue: Catalogue, export: Callable[..., int], bounds: dict[str, str]
) -> None:
    with pytest.raises(InvalidResponseError, match="was not asked for: its change mark is"):
        export(catalogue, catalogue.entries("published"), **bounds)


def test_hidden_versions_contradict_nothing(catalogue: Catalogue, export: Callable[..., int]) -> None:
    hidden = [changed(entry, "sys.version", None) for entry in catalogue.entries("latest")]
    hidden = [changed(entry, "sys.projectId", None) for entry in hidden]
    assert export(catalogue, hidden) == 12


def test_letter_case_contradicts_nothing(catalogue: Catalogue, export: Callable[..., int]) -> None:
    entries = [changed(entry, "sys.language", "EN-gb") for entry in catalogue.entries("published")]
    assert export(catalogue, entries) == len(entries)
