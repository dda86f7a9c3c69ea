"""The ledger of a copy in PostgreSQL answers as its rows do, staged or not."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest

from airflow_provider_contensis.export.batch import EntryMeta
from airflow_provider_contensis.export.deletions import Deletion
from airflow_provider_contensis.export.ledger import Held, HeldSlice, Part, moment_of
from airflow_provider_contensis.export.sinks.postgres import PostgresSink
from airflow_provider_contensis.export.sinks.postgres_database import Database
from airflow_provider_contensis.export.sinks.postgres_ledger import PostgresLedger, Staged
from airflow_provider_contensis.export.sinks.postgres_tables import Tables
from tests.export.test_ledger import FILM, WHOLE, inside, invented, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.postgres import Postgres


class Run:
    """One run of a copy of invented entries."""

    def __init__(self, connection: Any, remembered: Any) -> None:
        self.database = Database(connection)
        self.tables = Tables(
            self.database,
            "contensis",
            "",
            remembered,
            deletes="delete",
            has_published=True,
            on_schema_change="evolve",
        )
        staged = Staged()
        self.sink = PostgresSink(self.database, self.tables, staged, is_snapshot=not remembered)
        self.ledger = PostgresLedger(self.database, self.tables, staged)

    def put(self, entries: Sequence[Held], held_slice: HeldSlice = FILM) -> None:
        metas = [_meta(entry, held_slice) for entry in entries]
        self.sink.upsert(held_slice, [msgspec.Raw(b"{}")] * len(entries), metas, entries, replaced=[])

    def remove(self, entries: Sequence[Held]) -> None:
        at = "2031-01-01T00:00:00Z"
        self.sink.delete([Deletion(FILM, entry.id, "deleted", at) for entry in entries])

    def commit(self) -> Any:
        self.sink.prepare()
        self.database.commit()
        return self.tables.remembered


def _meta(entry: Held, held_slice: HeldSlice) -> EntryMeta:
    def text(milliseconds: float | None) -> str | None:
        return None if milliseconds is None else moment_of(milliseconds).isoformat().replace("+00:00", "Z")  # type: ignore[arg-type]  # a fraction

    changed = None if entry.changed is None else entry.changed / 1_000
    content_type_id, language = held_slice
    return EntryMeta(entry.id, language, content_type_id, text(entry.created), text(changed))


@pytest.fixture
def begin(postgres: Postgres) -> Iterator[Callable[..., Run]]:
    connections: list[Any] = []

    def make(remembered: Any = None) -> Run:
        connections.append(psycopg.connect(postgres.url))
        return Run(connections[-1], remembered or {})

    yield make
    for connection in connections:
        connection.close()


def found(run: Run, part: Part = WHOLE) -> set[tuple[Any, ...]]:
    return plain(held for _, held in run.ledger.held(part))


def test_counts_as_its_entries_do(begin: Callable[..., Run]) -> None:
    entries = invented(400, undated=30)
    run = begin()
    run.put(entries[:350])
    run = begin(run.commit())
    run.put(entries[350:])  # staged
    cuts = run.ledger.cuts(WHOLE, 50)
    assert 5 <= len(cuts) <= 8
    parts: list[dict[str, Any]] = [{}, {"is_undated": True}, {"id_prefix": "a"}, {"other_ids": True}]
    parts += [{"created_from": one, "created_to": other} for one, other in pairwise([None, *cuts, None])]
    parts += [
        {"id_prefix": "a", "created_to": cuts[2]},
        {"id_prefix": "a", "created_from": cuts[1], "created_to": cuts[3] + 1},
        {"id_prefix": "ab"},
        {"id_prefix": "a", "other_ids": True},
        {"created_from": cuts[0] + 1},
    ]
    for bound in parts:
        for only_drafts in (False, True):
            part = Part(content_type_ids=("film",), languages=("en-GB",), only_drafts=only_drafts, **bound)
            expected = plain(entry for entry in entries if inside(entry, part))
            assert found(run, part) == expected, part
            assert run.ledger.count(part) == len(expected), part
    assert run.ledger.slices() == {FILM: 400}


def test_cuts_anywhere_leave_entries_of_one_moment_together(begin: Callable[..., Run]) -> None:
    times = [1] * 5 + [2] * 30 + [3] + [4] * 4
    run = begin()
    run.put([Held(f"id{n}", time, None, b"12345678", True) for n, time in enumerate(times)])
    run = begin(run.commit())
    assert run.ledger.cuts(WHOLE, 20) == [2]
    assert run.ledger.cuts(WHOLE, 36) == [4]
    assert run.ledger.cuts(WHOLE, 100) == [4]
    assert run.ledger.cuts(Part(content_type_ids=("film",), languages=("en-GB",), created_from=4), 2) == []


def test_replaces_and_removes(begin: Callable[..., Run]) -> None:
    entries = invented(120)
    run = begin()
    run.put(entries)
    run = begin(run.commit())
    changed = [entry._replace(digest=b"changed!", created=7) for entry in entries[:10]]
    run.put(changed)
    assert run.ledger.removed(FILM, [entries[100].id]) == set()
    run.remove(entries[100:])
    expected = plain([*changed, *entries[10:100]])
    assert found(run) == expected
    assert run.ledger.count(WHOLE) == 100
    fresh = {held.id for _, held in run.ledger.held(WHOLE) if held.is_fresh}
    assert fresh == {entry.id for entry in changed}
    assert run.ledger.removed(FILM, [entries[0].id, entries[100].id]) == {entries[100].id}
    some = run.ledger.find(FILM, [entries[0].id, entries[100].id, entries[20].id, "nobody"])
    assert {name: (held.digest, held.is_fresh) for name, held in some.items()} == {
        entries[0].id: (b"changed!", True),
        entries[20].id: (entries[20].digest, False),
    }
    run = begin(run.commit())
    assert found(run) == expected
    assert not any(held.is_fresh for _, held in run.ledger.held(WHOLE))


def test_other_slices_are_told_apart(begin: Callable[..., Run]) -> None:
    run = begin()
    for name in ("film", "person"):
        for language in ("cy", "en-GB"):
            run.put(invented(4), HeldSlice(name, language))
    run = begin(run.commit())
    assert len(run.ledger.slices()) == 4
    rest = Part(content_type_ids=("film",), languages=("cy",), is_rest=True)
    assert {held_slice for held_slice, _ in run.ledger.held(rest)} == {HeldSlice("person", "cy")}
    assert run.ledger.count(rest) == 4
    assert run.ledger.find(HeldSlice("film", "fr"), [invented(4)[0].id]) == {}


def test_memory_does_not_grow_with_the_number_of_rows(begin: Callable[..., Run]) -> None:
    run = begin()
    run.put(invented(500))
    run = begin(run.commit())
    rows = run.ledger.held(WHOLE)
    next(rows)
    [(cursors,)] = run.database.rows("SELECT count(*) FROM pg_cursors WHERE name LIKE 'contensis%'")
    assert cursors == 1  # the rest is still on the server
    rows.close()  # type: ignore[attr-defined]  # a generator
    [(cursors,)] = run.database.rows("SELECT count(*) FROM pg_cursors WHERE name LIKE 'contensis%'")
    assert cursors == 0
