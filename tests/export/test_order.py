"""The same content gives the same bytes, however it was read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from airflow_provider_contensis.export.batch import Batch, EntryMeta
from airflow_provider_contensis.export.model import Window
from airflow_provider_contensis.export.order import in_order
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field, new_project

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

WINDOW = Window(("film",), ("en-GB",), ())
Export = Callable[..., bytes]


def batch(*entries: tuple[str, str | None], window: Window = WINDOW) -> Batch:
    metas = [EntryMeta(id_, "en-GB", "film", created, None) for id_, created in entries]
    return Batch.of(window, [msgspec.Raw(f'"{id_}"'.encode()) for id_, _ in entries], metas)


def ids(ordered: Batch) -> list[str]:
    assert [json.loads(bytes(entry)) for entry in ordered.entries] == [meta.id for meta in ordered.metas]
    assert ordered.keys == Batch.of(WINDOW, ordered.entries, ordered.metas).keys
    return [meta.id for meta in ordered.metas]


class TestInOrder:
    def test_times_are_compared_to_the_millisecond_and_then_ids(self) -> None:
        given = batch(
            ("b", "2031-01-01T00:00:00.0019Z"),
            ("c", "2031-01-01T00:00:00.0011Z"),
            ("a", "2031-01-01T00:00:00.001Z"),
            ("d", "2031-01-01T00:00:00Z"),
        )
        assert ids(in_order(given)) == ["d", "a", "b", "c"]

    @pytest.mark.parametrize(
        "times",
        [
            ["2031-01-01T00:00:00Z", "2031-01-01T00:00:00.5Z", "2031-01-01T00:00:01Z"],
            ["2031-01-01T00:00:09.99Z", "2031-01-01T00:00:10Z", "2031-01-01T00:00:10.01Z"],
            ["2031-01-01T01:00:00+01:00", "2031-01-01T00:00:00.1Z", "2031-01-01T00:00:00.2"],
        ],
    )
    def test_times_are_ordered_whatever_their_digits_and_offsets(self, times: list[str]) -> None:
        entries = list(zip("zyx", times, strict=True))
        for seed in range(6):
            shuffled = random.Random(seed).sample(entries, len(entries))
            assert ids(in_order(batch(*shuffled))) == ["z", "y", "x"]

    def test_ids_are_ordered_as_windows_are_cut_by_them(self) -> None:
        expected = ["0", "A0", "af", "a", "a-", "ag", "f", "g", "z"]
        shuffled = random.Random(1).sample(expected, len(expected))
        given = batch(*((id_, "2031-01-01T00:00:00Z") for id_ in shuffled))
        assert ids(in_order(given)) == expected

    def test_entries_without_a_time_come_last(self) -> None:
        given = batch(("b", None), ("a", None), ("z", "2031-01-01T00:00:00Z"))
        assert ids(in_order(given)) == ["z", "a", "b"]

    def test_hidden_times_keep_the_order_of_the_service(self) -> None:
        assert ids(in_order(batch(("b", None), ("a", None)))) == ["b", "a"]

    def test_entries_known_to_have_no_time_are_ordered_by_id(self) -> None:
        undated = Window(("film",), ("en-GB",), (), undated=True)
        assert ids(in_order(batch(("b", None), ("a", None), window=undated))) == ["a", "b"]


def bulk_import(entries: int, milliseconds: int, *, seed: int = 1) -> Catalogue:
    """Return entries of two content types and languages, created within a few milliseconds."""
    project = new_project("films", "Films", "", ["en-GB", "cy"])
    types = [
        new_content_type(project, id_, id_.title(), fields=[new_field("title", "string")])
        for id_ in ("film", "person")
    ]
    catalogue = Catalogue(project, types)
    chance = random.Random(seed)
    for number in range(entries):
        ticks = chance.randrange(milliseconds * 10_000)
        at = f"2031-03-28T08:00:01.{ticks:07}".rstrip("0").rstrip(".") + "Z"
        id_ = f"{chance.getrandbits(32):08x}-0000-4000-8000-{number:012x}"
        for language in ("en-GB", "cy"):
            content_type = "person" if number % 3 else "film"
            catalogue.add(content_type, {"title": str(number)}, entry_id=id_, language=language, at=at)
    return catalogue


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Export:
    """A function that exports, and returns the bytes of the file."""

    def run(sandbox: Sandbox, suffix: str = "jsonl", **arguments: Any) -> bytes:
        path = tmp_path / f"out.{suffix}"
        request = ExportRequest.from_arguments(destination=path, **arguments)
        export_entries(make_client(sandbox), sandbox.project_id, request)
        return path.read_bytes()

    return run


class TestExport:
    @pytest.mark.parametrize(("entries", "milliseconds"), [(245, 3), (245, 1), (200, 400)])
    def test_bulk_import_gives_the_same_bytes_at_every_page_size(
        self, export: Export, entries: int, milliseconds: int
    ) -> None:
        with Sandbox(bulk_import(entries, milliseconds)) as sandbox:
            files = {
                export(sandbox, page_size=size, max_concurrent_requests=at_once)
                for size, at_once in ((5, 4), (20, 1), (50, 8), (250, 2), (10_000, 4))
            }
        assert len(files) == 1

    @pytest.mark.parametrize("suffix", ["json", "csv", "jsonl.gz"])
    def test_every_format_has_the_same_order(self, export: Export, suffix: str) -> None:
        with Sandbox(bulk_import(120, 3)) as sandbox:
            assert export(sandbox, suffix, page_size=7) == export(sandbox, suffix, page_size=1_000)

    def test_parquet_has_the_same_order(self, export: Export) -> None:
        with Sandbox(bulk_import(120, 3)) as sandbox:
            small, large = (
                export(sandbox, "parquet", content_type_id="film", page_size=size) for size in (7, 1_000)
            )
        assert small == large

    def test_pages_that_shrink_on_the_way_change_nothing(self, export: Export) -> None:
        refused = []

        def refuse_large_pages(request: Request) -> Response | None:
            size = json.loads(request.body)["pageSize"] if request.kind == "search" else 0
            if size <= 10:
                return None
            refused.append(size)
            return Response(413, b"")

        catalogue = bulk_import(245, 3)
        with Sandbox(catalogue) as calm, Sandbox(catalogue, faults=refuse_large_pages) as trouble:
            assert export(calm) == export(trouble, page_size=160)
        assert refused

    def test_service_that_orders_ties_differently_changes_nothing(self, export: Export) -> None:
        """Within a millisecond, the index may order by digits that it does not store."""
        catalogue = bulk_import(100, 1)

        def reverse(request: Request) -> Response | None:
            if request.kind != "search":
                return None
            answer = request.answer()
            page = json.loads(answer.body)
            if page.get("totalCount", 0) > len(page.get("items", [])):
                return answer
            page["items"].reverse()
            return Response.json(page)

        with Sandbox(catalogue) as calm, Sandbox(catalogue, faults=reverse) as trouble:
            rows, other = (
                [json.loads(row)["sys"]["id"] for row in export(sandbox).splitlines()]
                for sandbox in (calm, trouble)
            )
        assert rows == other
