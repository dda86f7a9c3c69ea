"""Editors at work between requests, and the record of what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import EDITS, Editors, Sandbox
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue


def content(catalogue: Catalogue) -> dict[tuple[str, str, str], bytes]:
    _, documents = catalogue.select(lambda _: True)
    return {(*document.key, document.status): document.management for document in documents}


def busy(seed: int, rate: float = 1, reads: int = 40, **options: Any) -> tuple[Catalogue, Editors]:
    """Read a while with editors at work; return what is left, and the editors."""
    films = make_films()
    editors = Editors(films, seed, rate, **options)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        for number in range(reads):
            assert client.search([], pageIndex=number % 7, pageSize=5).status_code == 200
    return films, editors


def test_they_do_all_that_editors_do() -> None:
    _, editors = busy(1, rate=3)
    assert set(editors.made) == set(EDITS)
    assert 100 < editors.made.total() <= 120


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (0.25, 2, 20), (2.5, 80, 120)])
def test_they_work_as_hard_as_asked(rate: float, least: int, most: int) -> None:
    assert least <= busy(2, rate)[1].made.total() <= most


def test_they_do_only_what_is_asked() -> None:
    films, editors = busy(3, shares={"create": 1, "unpublish": 2})
    assert set(editors.made) == {"create", "unpublish"}
    assert len(films) == len(make_films()) + editors.made["create"]
    with pytest.raises(ValueError, match="no edit 'shred'"):
        Editors(films, 0, 1, {"shred": 1})


def test_they_rest_while_nobody_reads_entries() -> None:
    films = make_films()
    editors = Editors(films, 0, 5)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        client.get()
        client.get("/contenttypes")
    assert editors.made.total() == 0


def test_the_same_seed_makes_the_same_edits() -> None:
    def done(seed: int) -> tuple[dict[str, int], int]:
        films, editors = busy(seed, shares={"save": 1, "create": 1, "publish": 1})
        return dict(editors.made), len(films)

    assert done(4) == done(4) != done(5)


def test_every_change_is_on_record() -> None:
    films = make_films()
    before = content(films)
    assert films.changes
    begun = films.revision
    editors = Editors(films, 6, 2)
    with Sandbox(films, faults=editors) as sandbox:
        client = Client(sandbox)
        for number in range(30):
            client.search([], pageSize=number + 1)
    replayed = dict(before)
    changes = [change for change in films.changes if change.revision > begun]
    for change in changes:
        if change.document is None:
            del replayed[*change.key, change.status]
        else:
            replayed[*change.key, change.status] = change.document.management
    assert replayed == content(films) != before
    revisions = [change.revision for change in changes]
    assert revisions == list(range(begun + 1, films.revision + 1))
