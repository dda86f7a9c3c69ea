"""Wrong answers of a service: the export notices them and asks again."""

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
from tests.catalogues import catalogue_of
from tests.searches import window_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., list[bytes]]:
    """A function that exports a catalogue under faults, and returns the rows."""

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
def test_page_of_another_window_is_requested_again(export: Callable[..., list[bytes]], seed: int) -> None:
    """As a cache does that looks at the URL only, not at the body of a search."""
    catalogue = synthetic_catalogue(400, same_created=60, body_bytes=50)
    rows = export(catalogue, Mixture(seed, {"repeated-page": 0.05}), 20)
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("seed", range(5))
def test_page_of_another_window_with_hidden_times_is_replaced_or_fails_export(
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
def test_full_page_with_too_low_count_does_not_end_window(
    export: Callable[..., list[bytes]], page_size: int
) -> None:
    """The first count is as low, so the sum of all windows does not show the gap."""
    searches: list[int] = []

    def lie(request: Request) -> Response | None:
        if request.kind != "search":
            return None
        searches.append(request.number)
        answer = request.answer()
        page = json.loads(answer.body)
        if len(searches) % 3 or not page["items"]:
            return None
        total = f'"totalCount":{page["totalCount"]},'.encode()
        too_low = f'"totalCount":{len(page["items"])},'.encode()
        return replace(answer, body=answer.body.replace(total, too_low, 1))

    catalogue = synthetic_catalogue(120, same_created=30, body_bytes=50)
    rows = export(catalogue, lie, page_size, max_concurrent_requests=1)
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("same_created", [0, 10_300])
@pytest.mark.slow
def test_count_capped_at_10_000_loses_nothing_with_pages_as_large(
    same_created: int, make_client: Any, tmp_path: Path
) -> None:
    catalogue = synthetic_catalogue(10_500, same_created=same_created, body_bytes=10)
    request = ExportRequest.from_arguments(destination=f"{tmp_path}/out.jsonl", page_size=10_000)
    with Sandbox(catalogue, cap_total_count=True) as sandbox:
        assert export_entries(make_client(sandbox), sandbox.project_id, request).entries == 10_500


def test_window_shown_empty_is_read_again_though_deletions_hide_the_gap(
    export: Callable[..., list[bytes]],
) -> None:
    """The count at the end is then no higher than the number of entries read."""
    catalogue = synthetic_catalogue(300, body_bytes=50)
    ids = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
    deleted: list[int] = []

    def hide_window(request: Request) -> Response | None:
        if request.kind != "search" or json.loads(request.body)["pageSize"] == 1:
            return None
        answer = request.answer()
        page = json.loads(answer.body)
        shown = {item["sys"]["id"] for item in page["items"]}
        if deleted or not page["items"] or ids[200] not in shown:
            return None
        deleted.append(len(shown) + 10)
        for entry_id in ids[: deleted[0]]:
            catalogue.delete(entry_id)
        page.update(items=[], totalCount=0, pageCount=0)
        return Response.json(page)

    rows = export(catalogue, hide_window, 30, max_concurrent_requests=1)
    assert deleted
    assert {json.loads(row)["sys"]["id"] for row in rows} >= set(ids[deleted[0] :])


def test_second_page_shown_empty_is_read_again_though_new_entries_hide_the_gap(
    export: Callable[..., list[bytes]],
) -> None:
    """As many entries are published as the empty page hides, so the number read is the number planned."""
    catalogue = synthetic_catalogue(300, body_bytes=50)
    ids = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
    for entry_id in ids[-60:]:
        catalogue.unpublish(entry_id)
    begun: set[str] = set()
    hidden: list[str] = []
    published: list[str] = []

    def hide(request: Request) -> Response | None:
        window = window_of(request)
        if window in begun and not hidden:
            hidden.append(window)
            published.extend(ids[-60:][: json.loads(request.answer().body)["totalCount"] - 1])
            for entry_id in published:
                catalogue.publish(entry_id)
            return Response.json({"totalCount": 0, "items": []})
        begun.update({window} if window else ())
        return None

    rows = export(catalogue, hide, 20, max_concurrent_requests=1)
    assert published
    assert sorted(json.loads(row)["sys"]["id"] for row in rows) == sorted(ids[:-60] + published)


def test_page_that_is_not_sorted_is_not_followed_by_another(export: Callable[..., list[bytes]]) -> None:
    """As many entries leave as the page after it cannot show, so the number read is the number counted."""
    catalogue = synthetic_catalogue(30, body_bytes=50)
    rows = catalogue.entries("published")
    newest, ids = rows[:-21:-1], [json.loads(row)["sys"]["id"] for row in rows]
    shown: list[Request] = []

    def unsorted(request: Request) -> Response | None:
        if request.kind != "search" or json.loads(request.body)["pageSize"] != 20 or shown:
            return None
        shown.append(request)
        page = {**json.loads(request.answer().body), "items": [json.loads(row) for row in newest]}
        for entry_id in ids[20:]:
            catalogue.unpublish(entry_id)
        return Response.json(page)

    found = export(catalogue, unsorted, 20, max_concurrent_requests=1)
    assert shown
    assert {json.loads(row)["sys"]["id"] for row in found} >= set(ids[:20])


def test_page_of_other_ids_with_wrong_entries_is_requested_again(export: Callable[..., list[bytes]]) -> None:
    """Windows of entries with one created time are cut by id; the last one holds all other ids."""
    catalogue = synthetic_catalogue(60, same_created=60, body_bytes=50)
    earlier: list[Response] = []
    repeated: list[Request] = []

    def repeat(request: Request) -> Response | None:
        if window_of(request) is None:
            return None
        if any("not" in clause for clause in json.loads(request.body)["where"]):
            repeated.append(request)
            return earlier[-1] if len(repeated) == 1 else None
        earlier.append(request.answer())
        return None

    rows = export(catalogue, repeat, 20, max_concurrent_requests=1)
    assert repeated
    assert sorted(rows) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("max_concurrent_requests", [1, 4])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_content_type_shown_empty_when_counted_is_exported(
    export: Callable[..., list[bytes]], direction: str, max_concurrent_requests: int
) -> None:
    catalogue = synthetic_catalogue(500, body_bytes=50)
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
def test_entries_without_created_time_shown_missing_once_are_exported(
    export: Callable[..., list[bytes]], lies: int, max_concurrent_requests: int
) -> None:
    """With 4 concurrent requests they are counted during planning, otherwise when their window is read."""
    source = synthetic_catalogue(100, body_bytes=50)
    documents = [
        Document(document.management.replace(b'"created":', b'"formerly":'), document.status)
        if document.id.startswith("7")
        else document
        for document in source.select(lambda _: True)[1]
    ]
    catalogue = Catalogue(source.project, list(source.content_types.values()), documents)
    lied_to: list[Request] = []

    def lie(request: Request) -> Response | None:
        if request.kind != "search" or b'"exists": false' not in request.body or len(lied_to) >= lies:
            return None
        lied_to.append(request)
        return Response.json({"totalCount": 0, "items": []})

    rows = export(
        catalogue, lie, 20, max_concurrent_requests=max_concurrent_requests, content_type_id="article"
    )
    assert len(lied_to) == lies
    assert sum(b'"formerly":' in row for row in rows) > 1
    assert sorted(rows) == sorted(each.management for each in documents if each.status == "published")


@pytest.mark.parametrize("content_type_id", [None, ["country", "currency"]])
@pytest.mark.parametrize("aggregations", [True, False])
@pytest.mark.parametrize("times", [2, 8])
def test_slice_that_seems_empty_is_counted_until_the_answer_is_to_that_search(
    make_client: Callable[..., ContensisClient],
    tmp_path: Path,
    content_type_id: list[str] | None,
    aggregations: bool,
    times: int,
) -> None:
    """Empty pages in a row may all be answers to another query."""
    left = [times]

    def hide(request: Request) -> Response | None:
        if request.kind != "search" or not left[0]:
            return None
        where = json.loads(request.body)["where"]
        if {"field": "sys.contentTypeId", "equalTo": "currency"} not in where:
            return None
        if {"field": "sys.language", "equalTo": "cy"} not in where:
            return None
        left[0] -= 1
        return Response.json({"pageIndex": 0, "pageSize": 1, "totalCount": 0, "pageCount": 0, "items": []})

    request = ExportRequest.from_arguments(
        destination=tmp_path / "x.jsonl",
        content_type_id=content_type_id,
        max_concurrent_requests=1,
        page_size=10,
    )
    catalogue = catalogue_of({"country": 30, "currency": 130}, ("en-GB", "cy"))
    with Sandbox(catalogue, faults=hide, aggregations=aggregations) as sandbox:
        export_entries(make_client(sandbox), sandbox.project_id, request)
    assert left == [0]
    languages = [json.loads(line)["sys"] for line in (tmp_path / "x.jsonl").read_bytes().splitlines()]
    exported = [sys for sys in languages if (sys["contentTypeId"], sys["language"]) == ("currency", "cy")]
    assert len(exported) == 130
