"""The ledger of a copy in PostgreSQL: its tables, seen together with what the run has staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.export.ledger import Held, HeldSlice, moment_of
from airflow_provider_contensis.export.sinks.postgres_database import literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_contensis.export.ledger import Part
    from airflow_provider_contensis.export.sinks.postgres_database import Database
    from airflow_provider_contensis.export.sinks.postgres_tables import Table, Tables

GONE = "pg_temp.contensis_gone"

_TABLES_AT_ONCE = 50
_MILLISECONDS = "floor(extract(epoch FROM _created) * 1000)::bigint"
_MICROSECONDS = "floor(extract(epoch FROM _changed) * 1000000)::bigint"


class Staged:
    """What a run has staged so far: where the ledger has to look besides the tables.

    :ivar stages: the stage of each content type that has one.
    :ivar has_gone: whether entries were deleted.
    """

    def __init__(self) -> None:
        self.stages: dict[str, str] = {}
        self.has_gone = False


class PostgresLedger:
    """What a copy holds, this run's changes included.

    :param database: the transaction.
    :param tables: of the copy.
    :param staged: what the run has changed.
    """

    def __init__(self, database: Database, tables: Tables, staged: Staged) -> None:
        self._database = database
        self._tables = tables
        self._staged = staged
        self._has_published = "_is_published" in tables.fixed

    def slices(self) -> dict[HeldSlice, int]:
        """Return how many entries it holds of each slice."""
        found: dict[HeldSlice, int] = {}
        held = self._held()
        for start in range(0, len(held), _TABLES_AT_ONCE):
            some = held[start : start + _TABLES_AT_ONCE]
            selects = [
                f"SELECT {number}, _language, count(*) FROM {self._source(table)} GROUP BY _language"
                for number, table in enumerate(some)
            ]
            for number, language, entries in self._database.rows(" UNION ALL ".join(selects)):
                found[HeldSlice(some[number].content_type_id, language)] = entries
        return dict(sorted(found.items()))

    def count(self, part: Part) -> int:
        """Return how many entries it holds in a part."""
        total = 0
        tables = self._in(part)
        where, values = _where(part)
        for start in range(0, len(tables), _TABLES_AT_ONCE):
            some = tables[start : start + _TABLES_AT_ONCE]
            selects = [f"SELECT count(*) AS n FROM {self._source(table)} WHERE {where}" for table in some]
            [(number,)] = self._database.rows(
                f"SELECT sum(n)::bigint FROM ({' UNION ALL '.join(selects)}) counts", *values * len(some)
            )
            total += number
        return total

    def cuts(self, part: Part, size: int) -> list[int]:
        """Return created times that cut the dated entries of a part into ranges of about `size` entries."""
        cuts: list[int] = []
        for table in self._in(part):
            where, values = _where(part)
            source = f"SELECT {_MILLISECONDS} AS ms FROM {self._source(table)} WHERE {where}"
            numbered = (
                f"SELECT ms, row_number() OVER (ORDER BY ms) - 1 AS n FROM ({source}) a WHERE ms NOTNULL"
            )
            # The first of every `size` entries and, in case that is one time only, the last one.
            some = [
                int(ms)
                for (ms,) in self._database.rows(
                    f"WITH numbered AS ({numbered}), ends AS (SELECT min(ms), max(ms) FROM numbered) "
                    "SELECT DISTINCT ms FROM numbered, ends WHERE n %% %s = 0 AND ms > min "
                    "UNION SELECT max FROM ends WHERE max > min ORDER BY 1",
                    *values,
                    size,
                )
            ]
            cuts += some[:-1] or some
        return cuts

    def held(self, part: Part) -> Iterator[tuple[HeldSlice, Held]]:
        """Yield the entries it holds in a part."""
        for table in self._in(part):
            where, values = _where(part)
            sql = f"SELECT _language, {self._columns} FROM {self._source(table)} WHERE {where}"
            for language, *row in self._database.stream(f"{sql} ORDER BY _created", *values):
                yield HeldSlice(table.content_type_id, language), _held(row)

    def find(self, held_slice: HeldSlice, ids: Sequence[str]) -> dict[str, Held]:
        """Return the entries it holds of a slice, of those with some ids."""
        found = {}
        for table in self._held():
            if table.content_type_id == held_slice.content_type_id:
                sql = f"SELECT {self._columns} FROM {self._source(table)}"
                where = "WHERE _language = %s AND _id = ANY(%s)"
                for row in self._database.rows(f"{sql} {where}", held_slice.language, list(ids)):
                    found[row[0]] = _held(row)
        return found

    def removed(self, held_slice: HeldSlice, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that the current run has removed from a slice."""
        if not self._staged.has_gone:
            return set()
        rows = self._database.rows(
            f"SELECT _id FROM {GONE} WHERE table_name = %s AND _language = %s AND _id = ANY(%s)",
            *(self._tables.table(held_slice.content_type_id).name, held_slice.language, list(ids)),
        )
        return {entry_id for (entry_id,) in rows}

    @property
    def _columns(self) -> str:
        return f"_id, {_MILLISECONDS}, {_MICROSECONDS}, _digest, _is_published, _is_fresh"

    def _held(self) -> list[Table]:
        """Return the tables that hold something, or may do so when the run commits."""
        stages = self._staged.stages
        return [each for each in self._tables.all() if each.exists or each.content_type_id in stages]

    def _in(self, part: Part) -> list[Table]:
        named = set(part.content_type_ids)
        return [each for each in self._held() if (each.content_type_id in named) is not part.is_rest]

    def _source(self, table: Table) -> str:
        """Return what stands behind FROM: the rows of a table as they will be."""
        published = "_is_published" if self._has_published else "true AS _is_published"
        columns = f"_id, _language, _created, _changed, _digest, {published}"
        stage = self._staged.stages.get(table.content_type_id)
        selects = []
        if table.exists:
            conditions = ["_deleted_at IS NULL"] if table.marks and "_deleted_at" not in table.added else []
            others = f"SELECT FROM {stage} s WHERE s._id = t._id AND s._language = t._language"
            if stage is not None:
                conditions.append(f"NOT EXISTS ({others})")
            if self._staged.has_gone:
                conditions.append(
                    f"NOT EXISTS (SELECT FROM {GONE} g WHERE g._id = t._id AND g._language = t._language "
                    f"AND g.table_name = {literal(table.name)})"
                )
            where = " AND ".join(conditions) or "true"
            selects.append(f"SELECT {columns}, false AS _is_fresh FROM {table.qualified} t WHERE {where}")
        if stage is not None:
            selects.append(f"SELECT {columns}, true AS _is_fresh FROM {stage}")
        return f"({' UNION ALL '.join(selects)}) held"


def _where(part: Part) -> tuple[str, list[Any]]:
    conditions, values = ["_language = ANY(%s)"], list[Any]([list(part.languages)])
    if part.is_undated:
        conditions.append("_created IS NULL")
    for bound, comparison in ((part.created_from, ">="), (part.created_to, "<")):
        if bound is not None:
            conditions.append(f"_created {comparison} %s")
            values.append(moment_of(bound))
    length = len(part.id_prefix)
    if length:
        conditions.append(f"left(lower(_id), {length}) = %s")
        values.append(part.id_prefix)
    if part.other_ids:
        conditions.append(f"substr(lower(_id), {length + 1}, 1) !~ '[0-9a-f]'")
    if part.only_drafts:
        conditions.append("NOT _is_published")
    return " AND ".join(conditions), values


def _held(row: Sequence[Any]) -> Held:
    entry_id, created, changed, digest, is_published, is_fresh = row
    return Held(entry_id, created, changed, bytes(digest), is_published, is_fresh)
