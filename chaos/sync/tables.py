"""A copy in PostgreSQL as its readers see it, and a watch on the statements of the runs that write it."""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg

from airflow_provider_contensis.export.sinks.postgres_database import Database
from chaos.sync.consumer import ChangeSet, Key, TornFeedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_TIMEOUT_SECONDS = 60.0
_OWN = frozenset({"_contensis_sync", "_contensis_runs"})
_BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '20ms'"
# Deleted rows do not say why they left; absent is all that this reason asks for.
_NO_REASON = "not_matching"


class TableReader:
    """Reads a copy, and holds what it says the service has.

    :param reader: a connection to the database.
    :param marks: whether rows of deleted entries are marked.
    """

    def __init__(self, reader: psycopg.Connection, *, marks: bool) -> None:
        self.held: dict[Key, bytes] = {}
        self.sequence = 0
        self._marked: set[Key] = set()
        self._content: bytes | None = None
        self._reader = reader
        self._reason = "_deleted_reason" if marks else "NULL::text"

    @property
    def index(self) -> dict[str, Any] | None:
        """Where the copy is; None if there is none."""
        rows = self._read(lambda reader: [row[:1] for row in _syncs(reader)])
        return {"horizon": rows[0][0]} if rows else None

    def content(self) -> bytes | None:
        """Return a digest of all that a reader sees now; None if there is no copy."""
        with suppress(psycopg.errors.LockNotAvailable):  # a column is being added: a reader waits
            self._content = self._read(self._fingerprint)
        return self._content

    def latecomer(self) -> None:
        """Return nothing: who comes late to a table sees it as it is."""

    def check(self) -> None:
        """Do nothing: what a reader sees is whole, or it is not that of before or after."""

    def leftovers(self) -> list[str]:
        """Return the names of relations that do not belong to the copy."""
        names = self._read(_relations)
        tables = self._read(lambda reader: {table for _, table in _tables(_syncs(reader))})
        return sorted(names - tables - _OWN)

    def catch_up(self) -> list[ChangeSet]:
        """Return what differs from what was read before, as one change set, or none."""
        rows = self._read(lambda reader: self._rows(reader, _syncs(reader)))
        now = {key: entry for key, entry, reason, _ in rows if reason is None}
        reasons = {key: reason for key, _, reason, _ in rows if reason is not None}
        if missing := self._marked - now.keys() - reasons.keys():
            raise TornFeedError(f"{len(missing)} marked rows are gone")
        upserts = [(key, entry) for key, entry in now.items() if self.held.get(key) != entry]
        deletes = [(key, reasons.get(key, _NO_REASON)) for key in self.held.keys() - now.keys()]
        self.held, self._marked = now, set(reasons)
        if not upserts and not deletes:
            return []
        self.sequence += 1
        return [ChangeSet("", {}, upserts, deletes)]

    def contradictions(self, result: Any, found: Sequence[ChangeSet]) -> list[str]:
        """Return what a run returned that is not what it did."""
        returned = result["upserts"], result["deletes"]
        done = sum(len(each.upserts) for each in found), sum(len(each.deletes) for each in found)
        return [] if returned == done else [f"a run returned {returned} upserts and deletes, but did {done}"]

    def digests(self) -> dict[Key, bytes]:
        """Return what the ledger holds."""
        return {
            key: digest
            for key, _, reason, digest in self._read(lambda reader: self._rows(reader, _syncs(reader)))
            if reason is None
        }

    def wait(self) -> None:
        """Wait until the server has noticed that a run is gone."""
        others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self._read(lambda reader: reader.execute(others).fetchall()):
            if time.monotonic() > deadline:
                raise TornFeedError("the session of a run that was killed does not end")
            time.sleep(0.005)

    def _fingerprint(self, reader: psycopg.Connection) -> bytes | None:
        syncs = _syncs(reader)
        if not syncs:
            return None
        return hashlib.sha256(repr((syncs, sorted(self._rows(reader, syncs)))).encode()).digest()

    def _rows(
        self, reader: psycopg.Connection, syncs: Sequence[tuple[Any, ...]]
    ) -> list[tuple[Key, bytes, str | None, bytes]]:
        """Return the key, entry, reason to be marked and digest of all rows."""
        found = []
        for id_, table in _tables(syncs):
            names = f"_language, _id, _entry::text, {self._reason}, _digest"
            sql = f'SELECT {names} FROM contensis."{table}"'  # noqa: S608 - the copy's own names
            found += [
                (Key(id_, language, entry_id), entry.encode(), reason, digest)
                for language, entry_id, entry, reason, digest in reader.execute(sql.encode())
            ]
        return found

    def _read(self, read: Callable[[psycopg.Connection], Any]) -> Any:
        try:
            self._reader.execute(_BEGIN)
            return read(self._reader)
        finally:
            self._reader.rollback()


@contextmanager
def before_each_statement(before: Callable[[], None]) -> Iterator[None]:
    """Call a function before each statement of a run, and after its commit.

    What it raises, the statement raises.
    """

    def preceded(name: str) -> Any:
        method = getattr(Database, name)

        def call(*args: Any) -> Any:
            before()
            result = method(*args)
            if name == "commit":
                before()
            return result

        return patch.object(Database, name, call)

    with preceded("rows"), preceded("execute"), preceded("copy"), preceded("commit"):
        yield


def _syncs(reader: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Return the state of the copy; nothing if there is none."""
    horizon = """to_char(horizon AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
    sql = f"SELECT {horizon}, runs, tables FROM contensis._contensis_sync"  # noqa: S608 - no input
    try:
        return reader.execute(sql.encode()).fetchall()
    except psycopg.errors.UndefinedTable:
        return []


def _relations(reader: psycopg.Connection) -> set[str]:
    sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace('contensis')"
    return {name for (name,) in reader.execute(sql)}


def _tables(syncs: Sequence[tuple[Any, ...]]) -> list[tuple[str, str]]:
    """Return content types and their tables."""
    return [(id_, table["table"]) for _, _, tables in syncs for id_, table in tables.items()]
