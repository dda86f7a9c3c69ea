"""How many requests an export takes, for projects of many shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.model import EntryQuery
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest, ReadOptions
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.sandbox import Sandbox, synthetic_catalogue
from tests.catalogues import catalogue_of, log_normal_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

ONE, TWO, THREE = ("en-GB",), ("en-GB", "cy"), ("en-GB", "cy", "fr")
# Sizes, languages and arguments; requests with aggregations, and without. Three of them are for the token,
# the project and the content types. Pages hold 100 entries if nothing else is said.
SHAPES: dict[str, tuple[dict[str, int], tuple[str, ...], dict[str, Any], int, int]] = {
    "nothing": ({"a": 0}, ONE, {}, 5, 5),
    "one small content type": ({"a": 30}, ONE, {}, 4, 4),
    "a full page": ({"a": 100}, ONE, {}, 5, 5),
    "one content type, named": ({"a": 30, "b": 900}, ONE, {"content_type_id": "a"}, 4, 4),
    "two pages": ({"a": 150}, ONE, {}, 5, 5),
    "ten pages": ({"a": 1_000}, ONE, {}, 14, 14),
    "thirty pages": ({"a": 3_000}, ONE, {}, 45, 45),
    "three languages": ({"a": 60}, THREE, {}, 5, 5),
    "small content types": ({f"t{n:02}": 5 for n in range(40)}, TWO, {}, 8, 8),
    "one large among small": ({"big": 1_500, **{f"t{n:02}": 5 for n in range(40)}}, ONE, {}, 22, 22),
    "two large, three languages": ({"a": 700, "b": 900}, THREE, {}, 63, 69),
    "a real university": (log_normal_sizes(80, 4_000), TWO, {"page_size": 500}, 26, 35),
}


@pytest.fixture
def count_requests(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., int]:
    """A function that exports all of a project, and returns the number of requests."""

    def run(
        sizes: Mapping[str, int], languages: Sequence[str], *, aggregations: bool, **arguments: Any
    ) -> int:
        request = ExportRequest.from_arguments(
            destination=tmp_path / "out.jsonl",
            max_concurrent_requests=4,
            **{"page_size": 100, **arguments},
        )
        catalogue = catalogue_of(sizes, languages)
        with Sandbox(catalogue, aggregations=aggregations) as sandbox:
            result = export_entries(make_client(sandbox), sandbox.project_id, request)
            assert result.requests == sandbox.count()
        asked = arguments.get("content_type_id")
        assert result.entries == len(catalogue.entries("published", content_type_id=asked))
        return result.requests

    return run


@pytest.mark.parametrize("aggregations", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_requests_are_as_few_as_the_content_needs(
    count_requests: Callable[..., int], shape: str, aggregations: bool
) -> None:
    sizes, languages, arguments, with_aggregations, without = SHAPES[shape]
    requests = count_requests(sizes, languages, aggregations=aggregations, **arguments)
    assert requests == (with_aggregations if aggregations else without)


def test_large_entries_are_read_in_windows_of_a_page(make_client: Callable[..., ContensisClient]) -> None:
    options = ReadOptions(page_size=20, max_concurrent_requests=4)
    with Sandbox(synthetic_catalogue(200, body_bytes=60_000)) as sandbox:
        source = EntrySource(make_client(sandbox), sandbox.project_id, EntryQuery(), options)
        sizes = [len(batch.entries) for batch in source.read(source.plan())]
    assert sum(sizes) == 200
    assert max(sizes) <= 2 * 20  # of small entries, ten pages are one window
