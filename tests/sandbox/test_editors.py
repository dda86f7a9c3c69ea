"""Seeded edits between requests, and the catalogue's record of changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import EDITS, Editors, Sandbox
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue


def content(catalogue: Catalogue) -> dict[tuple[str, str, str], bytes]:
    _, documents = catalogue.select(lambda _: True)
    return {(*document.key, document.status): document.management for document in documents}


def read_with_edits(seed: int, rate: float = 1, reads: int = 40, **options: Any) -> tuple[Catalogue, Editors]:
    """Read pages while editors edit; return the edited catalogue and the editors."""
    films = make_films()
    editors = Editors(films, seed, rate, **options)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        for number in range(reads):
            assert client.search([], pageIndex=number % 7, pageSize=5).status_code == 200
    return films, editors


def test_editors_make_every_kind_of_edit() -> None:
    _, editors = read_with_edits(1, rate=3)
    assert set(editors.made) == set(EDITS)
    assert 100 < editors.made.total() <= 120


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (0.25, 2, 20), (2.5, 80, 120)])
def test_number_of_edits_matches_rate(rate: float, least: int, most: int) -> None:
    assert least <= read_with_edits(2, rate)[1].made.total() <= most


def test_shares_limit_kinds_of_edit() -> None:
    films, editors = read_with_edits(3, shares={"create": 1, "unpublish": 2})
    assert set(editors.made) == {"create", "unpublish"}
    assert len(films) == len(make_films()) + editors.made["create"]
    with pytest.raises(ValueError, match="Unknown edit 'shred'"):
        Editors(films, 0, 1, {"shred": 1})


def test_clock_gives_edits_their_times() -> None:
    films, editors = read_with_edits(3, shares={"create": 1}, clock=lambda: "2031-12-24T12:00:00Z")
    entries = [json.loads(entry)["sys"]["version"]["created"] for entry in films.entries("latest")]
    assert entries.count("2031-12-24T12:00:00Z") == editors.made["create"] > 10


def test_deletions_are_permanent_or_can_be_restored() -> None:
    films, editors = read_with_edits(8, rate=2, shares={"delete": 1, "create": 2})
    with Sandbox(films) as sandbox:
        page = Client(sandbox).search([], includeDeleted=True).json()
    left = page["totalCount"]
    assert editors.made["delete"] > 10
    assert len(films) < left < len(make_films()) + editors.made["create"]


def test_requests_other_than_entry_reads_cause_no_edits() -> None:
    films = make_films()
    editors = Editors(films, 0, 5)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        client.get()
        client.get("/contenttypes")
    assert editors.made.total() == 0


def test_same_seed_makes_same_edits() -> None:
    def edits_and_size(seed: int) -> tuple[dict[str, int], int]:
        films, editors = read_with_edits(seed, shares={"save": 1, "create": 1, "publish": 1})
        return dict(editors.made), len(films)

    assert edits_and_size(4) == edits_and_size(4) != edits_and_size(5)


def test_changes_record_every_edit() -> None:
    films = make_films()
    before = content(films)
    assert films.changes
    start = films.revision
    editors = Editors(films, 6, 2)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        for number in range(30):
            client.search([], pageSize=number + 1)
    replayed = dict(before)
    changes = [change for change in films.changes if change.revision > start]
    for change in changes:
        if change.document is None:
            del replayed[*change.key, change.status]
        else:
            replayed[*change.key, change.status] = change.document.management
    assert replayed == content(films) != before
    revisions = [change.revision for change in changes]
    assert revisions == list(range(start + 1, films.revision + 1))
