"""Services that answer something else than they were asked: found out, and asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import IncompleteReadError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import (
    Catalogue,
    Faults,
    Mixture,
    Request,
    Response,
    Sandbox,
    synthetic_catalogue,
)
from airflow_provider_contensis.sandbox.documents import Document
from tests.searches import window_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., list[bytes]]:
    """Export a catalogue under faults; return the rows."""

    def run(catalogue: Catalogue, faults: Faults | None, page_size: int, **options: Any) -> list[bytes]:
        path = tmp_path / "out.jsonl"
        request = ExportRequest.from_arguments(destination=str(path), page_size=page_size, **options)
        with Sandbox(catalogue, faults=faults) as sandbox:
            result: ExportResult = export_entries(make_client(sandbox), sandbox.project_id, request)
        rows = path.read_bytes().splitlines()
        assert result.entries == len(rows)
        return rows

    return run


@pytest.mark.parametrize("seed", range(5))
def test_a_page_that_was_served_for_another_window(export: Callable[..., list[bytes]], seed: int) -> None:
    """As by a cache that looks at the URL only, and not at the body of a search."""
    catalogue = synthetic_catalogue(400, same_created=60, body_bytes=50)
    rows = export(catalogue, Mixture(seed, {"repeated-page": 0.05}), 20)
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("seed", range(5))
def test_where_times_are_hidden_such_a_page_fails_the_export(
    export: Callable[..., list[bytes]], seed: int
) -> None:
    catalogue = synthetic_catalogue(400, body_bytes=50)
    catalogue.project["deliverySysExclusions"] = ["sys.version.*"]
    try:
        rows = export(catalogue, Mixture(seed, {"repeated-page": 0.1}), 20, api="delivery")
    except IncompleteReadError:
        return
    assert len({json.loads(row)["sys"]["id"] for row in rows}) == len(rows) == 400


@pytest.mark.parametrize("page_size", [1, 7, 20, 60])
def test_a_full_page_whose_count_says_that_it_is_all(
    export: Callable[..., list[bytes]], page_size: int
) -> None:
    """With a first count that is as low, so that the sum of all windows can't tell."""
    asked: list[int] = []

    def lie(request: Request) -> Response | None:
        if request.kind != "search":
            return None
        asked.append(request.number)
        answer = request.answer()
        page = json.loads(answer.body)
        if len(asked) % 3 or not page["items"]:
            return None
        total = f'"totalCount":{page["totalCount"]},'.encode()
        told = f'"totalCount":{len(page["items"])},'.encode()
        return replace(answer, body=answer.body.replace(total, told, 1))

    catalogue = synthetic_catalogue(120, same_created=30, body_bytes=50)
    rows = export(catalogue, lie, page_size, max_concurrent_requests=1)
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("same_created", [0, 10_300])
def test_a_count_that_stops_at_10_000_with_pages_as_large(
    same_created: int, make_client: Any, tmp_path: Path
) -> None:
    catalogue = synthetic_catalogue(10_500, same_created=same_created, body_bytes=10)
    request = ExportRequest.from_arguments(destination=f"{tmp_path}/out.jsonl", page_size=10_000)
    with Sandbox(catalogue, cap_total_count=True) as sandbox:
        assert export_entries(make_client(sandbox), sandbox.project_id, request).entries == 10_500


def test_a_window_kept_back_while_as_much_is_deleted_elsewhere(export: Callable[..., list[bytes]]) -> None:
    """The count at the end is then no higher than what was read."""
    catalogue = synthetic_catalogue(300, body_bytes=50)
    ids = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
    kept_back: list[int] = []

    def keep_back(request: Request) -> Response | None:
        if request.kind != "search" or json.loads(request.body)["pageSize"] == 1:
            return None
        answer = request.answer()
        page = json.loads(answer.body)
        shown = {item["sys"]["id"] for item in page["items"]}
        if kept_back or not page["items"] or ids[200] not in shown:
            return None
        kept_back.append(len(shown) + 10)
        for entry_id in ids[: kept_back[0]]:
            catalogue.delete(entry_id)
        page.update(items=[], totalCount=0, pageCount=0)
        return Response.json(page)

    rows = export(catalogue, keep_back, 30, max_concurrent_requests=1)
    assert kept_back
    assert {json.loads(row)["sys"]["id"] for row in rows} >= set(ids[kept_back[0] :])


def test_an_empty_page_where_one_follows_while_as_much_is_published_elsewhere(
    export: Callable[..., list[bytes]],
) -> None:
    """As many as it keeps back: what was read is then what was planned."""
    catalogue = synthetic_catalogue(300, body_bytes=50)
    ids = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
    for entry_id in ids[-60:]:
        catalogue.unpublish(entry_id)
    begun: set[str] = set()
    hidden: list[str] = []
    back: list[str] = []

    def hide(request: Request) -> Response | None:
        window = window_of(request)
        if window in begun and not hidden:
            hidden.append(window)
            back.extend(ids[-60:][: json.loads(request.answer().body)["totalCount"] - 1])
            for entry_id in back:
                catalogue.publish(entry_id)
            return Response.json({"totalCount": 0, "items": []})
        begun.update({window} if window else ())
        return None

    rows = export(catalogue, hide, 20, max_concurrent_requests=1)
    assert back
    assert sorted(json.loads(row)["sys"]["id"] for row in rows) == sorted(ids[:-60] + back)


def test_an_entry_shown_where_ids_of_another_kind_are_asked_for(export: Callable[..., list[bytes]]) -> None:
    """Entries created at one moment are told apart by their ids, the last window holding all other ids."""
    catalogue = synthetic_catalogue(60, same_created=60, body_bytes=50)
    others: list[Response] = []
    repeated: list[Request] = []

    def repeat(request: Request) -> Response | None:
        if window_of(request) is None:
            return None
        if any("not" in clause for clause in json.loads(request.body)["where"]):
            repeated.append(request)
            return others[-1] if len(repeated) == 1 else None
        others.append(request.answer())
        return None

    rows = export(catalogue, repeat, 20, max_concurrent_requests=1)
    assert repeated
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("max_concurrent_requests", [1, 4])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_content_type_that_seems_empty_when_it_is_counted(
    export: Callable[..., list[bytes]], direction: str, max_concurrent_requests: int
) -> None:
    catalogue = synthetic_catalogue(100, body_bytes=50)
    hidden: list[Request] = []

    def hide(request: Request) -> Response | None:
        if request.kind != "search" or hidden or direction not in json.loads(request.body)["orderBy"][0]:
            return None
        if json.loads(request.answer().body)["items"]:
            hidden.append(request)
            return Response.json({"totalCount": 0, "items": []})
        return None

    rows = export(catalogue, hide, 20, max_concurrent_requests=max_concurrent_requests)
    assert hidden
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("max_concurrent_requests", [1, 2, 4])
@pytest.mark.parametrize("lies", [0, 1])
def test_entries_without_a_created_time_that_seem_not_to_be_there(
    export: Callable[..., list[bytes]], lies: int, max_concurrent_requests: int
) -> None:
    """With 4 requests at a time they are asked for while the plan is made, else when their turn comes."""
    made = synthetic_catalogue(100, body_bytes=50)
    documents = [
        Document(document.management.replace(b'"created":', b'"formerly":'), document.status)
        if document.id.startswith("7")
        else document
        for document in made.select(lambda _: True)[1]
    ]
    catalogue = Catalogue(made.project, list(made.content_types.values()), documents)
    told: list[Request] = []

    def lie(request: Request) -> Response | None:
        if request.kind != "search" or b'"exists": false' not in request.body or len(told) >= lies:
            return None
        told.append(request)
        return Response.json({"totalCount": 0, "items": []})

    rows = export(
        catalogue, lie, 20, max_concurrent_requests=max_concurrent_requests, content_type_id="article"
    )
    assert len(told) == lies
    assert sum(b'"formerly":' in row for row in rows) > 1
    assert sorted(rows) == sorted(each.management for each in documents if each.status == "published")
