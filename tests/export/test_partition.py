"""Parts of a plan: disjoint, together the whole, of about equal size, at the cost of a few requests."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.partition import partition
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.request import ReadOptions, entry_query
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.shared_plan import check_partition
from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.catalogues import catalogue_of, log_normal_sizes
from tests.conftest import HASTY, SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.shared_plan import Part

TWO = ("en-GB", "cy")


class Cut:
    """A partition, and how good it is.

    :param truth: counts entries without a limit.
    """

    def __init__(
        self,
        client: ContensisClient,
        truth: ContensisClient,
        project_id: str,
        parts: int,
        page_size: int = 100,
        **arguments: Any,
    ) -> None:
        query = entry_query(**arguments)
        search = WindowSearch(client, project_id, query, ReadOptions(page_size=page_size))
        self.whole = Planner(client, project_id, search).plan().whole
        before = client.requests_sent
        self.parts: list[Part] = partition(search, self.whole, parts)
        self.requests = client.requests_sent - before
        counter = WindowSearch(truth, project_id, query, ReadOptions())
        self.sizes = [sum(counter.counts(part.windows)) for part in self.parts]
        self.total = counter.first(self.whole).total

    @property
    def windows(self) -> list[Window]:
        return [window for part in self.parts for window in part.windows]


@pytest.fixture
def cut(make_client: Callable[..., ContensisClient]) -> Callable[..., Cut]:
    def run(
        catalogue: Catalogue, parts: int = 16, page_size: int = 100, *, options: Any = None, **arguments: Any
    ) -> Cut:
        with Sandbox(catalogue, **(options or {})) as sandbox, Sandbox(catalogue) as true:
            clients = make_client(sandbox), make_client(true)
            found = Cut(*clients, sandbox.project_id, parts, page_size, **arguments)
        check_partition(found.whole, found.windows)
        assert sum(found.sizes) == found.total == len(catalogue.entries("published"))
        return found

    return run


@pytest.fixture(scope="module")
def large() -> Catalogue:
    return synthetic_catalogue(8_000, body_bytes=10)


@pytest.mark.parametrize("parts", [1, 2, 16, 64])
def test_one_slice_is_cut_into_equal_parts(cut: Callable[..., Cut], large: Catalogue, parts: int) -> None:
    found = cut(large, parts)
    assert len(found.parts) == parts
    assert max(found.sizes) <= 1.5 * found.total / parts
    assert found.requests <= 30
    assert all(abs(part.expected - size) < 150 for part, size in zip(found.parts, found.sizes, strict=True))


@pytest.mark.parametrize("aggregations", [True, False])
def test_kinds_of_all_sizes_are_cut_into_equal_parts(cut: Callable[..., Cut], aggregations: bool) -> None:
    catalogue = catalogue_of({"a": 1_500, "b": 500, "c": 30, "d": 2_500, "e": 10, "f": 0}, TWO)
    found = cut(catalogue, options={"aggregations": aggregations})
    assert len(found.parts) == 16
    assert max(found.sizes) <= 1.6 * found.total / 16
    assert found.requests <= 30


@pytest.mark.parametrize("content_type_id", [None, "film"])
def test_one_content_type_in_two_languages_is_cut(
    cut: Callable[..., Cut], content_type_id: str | None
) -> None:
    found = cut(catalogue_of({"film": 1_500}, TWO), 4, content_type_id=content_type_id)
    assert len(found.parts) == 4
    assert max(found.sizes) <= 1.3 * found.total / 4


@pytest.mark.parametrize("aggregations", [True, False])
def test_many_small_kinds_take_few_requests(cut: Callable[..., Cut], aggregations: bool) -> None:
    found = cut(catalogue_of(log_normal_sizes(80, 6_000)), 8, options={"aggregations": aggregations})
    assert len(found.parts) == 8
    assert found.requests <= 16
    assert len(found.windows) <= 4 * 8


def test_bulk_import_at_one_moment_stays_together(cut: Callable[..., Cut]) -> None:
    found = cut(synthetic_catalogue(4_000, same_created=1_000, body_bytes=10), 8)
    rest = sorted(found.sizes)[:-1]
    assert 1_000 <= max(found.sizes) <= 1_600
    assert max(rest) <= 2 * 4_000 / 8


@pytest.mark.parametrize("same_created", [0, 9_000])
@pytest.mark.parametrize("aggregations", [True, False])
def test_capped_counts_give_a_whole_partition(
    cut: Callable[..., Cut], monkeypatch: pytest.MonkeyPatch, same_created: int, aggregations: bool
) -> None:
    monkeypatch.setattr("airflow_provider_contensis.export.partition.MAX_COUNT", 1_000)
    catalogue = synthetic_catalogue(9_500, same_created=same_created, body_bytes=10)
    options = {"aggregations": aggregations, "cap_total_count": True, "row_limit": 1_000}
    found = cut(catalogue, 8, options=options)
    assert len(found.parts) >= 2
    assert same_created or max(found.sizes) <= 2 * 9_500 / 8


def test_hidden_times_give_a_whole_partition(cut: Callable[..., Cut]) -> None:
    catalogue = synthetic_catalogue(3_000, body_bytes=10)
    catalogue.project["deliverySysExclusions"] = ["sys.version.*"]
    assert len(cut(catalogue, 8, api="delivery").parts) > 1


@pytest.mark.parametrize(("entries", "expected"), [(0, 1), (30, 1), (199, 1), (350, 3)])
def test_few_entries_make_few_parts(cut: Callable[..., Cut], entries: int, expected: int) -> None:
    assert len(cut(catalogue_of({"a": entries})).parts) == expected


def test_project_without_content_types_is_one_part(
    make_client: Callable[..., ContensisClient], large: Catalogue
) -> None:
    with Sandbox(large, hidden_types=["article"]) as sandbox:
        client = make_client(sandbox)
        found = Cut(client, client, sandbox.project_id, 16)
    check_partition(found.whole, found.windows)
    assert [part.name for part in found.parts] == ["everything"]


def test_names_show_where_parts_begin(cut: Callable[..., Cut]) -> None:
    found = cut(catalogue_of({"a": 40, "b": 40, "c": 1_000}, TWO), 4)
    assert [part.name for part in found.parts][:2] == ["a to b", "c en-GB from 2021-08"]


@pytest.fixture(scope="module")
def found(large: Catalogue) -> Cut:
    with Sandbox(large) as sandbox:
        credentials = Credentials(sandbox.url, sandbox.client_id, sandbox.client_secret, SCOPES)
        with closing(ContensisClient(credentials, retry=HASTY)) as client:
            return Cut(client, client, sandbox.project_id, 4)


class TestCheckPartition:
    @pytest.mark.parametrize("lost", range(5))
    def test_missing_window_is_refused(self, found: Cut, lost: int) -> None:
        windows = found.windows
        del windows[lost]
        with pytest.raises(ExportError, match="parts overlap, or something is missing"):
            check_partition(found.whole, windows)

    @pytest.mark.parametrize("doubled", range(5))
    def test_window_that_comes_twice_is_refused(self, found: Cut, doubled: int) -> None:
        with pytest.raises(ExportError, match="parts overlap, or something is missing"):
            check_partition(found.whole, [*found.windows, found.windows[doubled]])

    def test_gap_and_overlap_are_refused(self, found: Cut) -> None:
        first, second, *others = found.windows
        for bound in ("2018-01-01T00:00:00.000Z", "2030-01-01T00:00:00.000Z"):
            with pytest.raises(ExportError, match="parts overlap, or something is missing"):
                check_partition(found.whole, [replace(first, created_to=bound), second, *others])

    def test_other_kinds_are_refused(self, found: Cut) -> None:
        more = replace(found.whole, content_type_ids=("article", "other"))
        with pytest.raises(ExportError, match="parts overlap, or something is missing"):
            check_partition(more, found.windows)
        with pytest.raises(ExportError, match="parts overlap, or something is missing"):
            check_partition(found.whole, [replace(found.whole, content_type_ids=("article", "other"))])
