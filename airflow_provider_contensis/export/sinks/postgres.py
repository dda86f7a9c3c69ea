"""A sink that is a copy in PostgreSQL: staged while the run reads, merged just before it commits.

A snapshot goes straight into new tables, which nobody else can see. Later runs stage what differs in
temporary tables, so that rows are locked during the merge only, not while the run waits for Contensis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.batch import EntryMeta
from airflow_provider_contensis.export.sinks.postgres_database import identifier, literal
from airflow_provider_contensis.export.sinks.postgres_ledger import GONE, Staged
from airflow_provider_contensis.export.sinks.postgres_rows import (
    SEPARATOR,
    Misfits,
    RowEncoder,
    quoted,
)
from airflow_provider_contensis.export.sinks.postgres_tables import KEY_COLUMNS
from airflow_provider_contensis.export.times import as_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import msgspec

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.deletions import Deletion
    from airflow_provider_contensis.export.ledger import Held, HeldSlice
    from airflow_provider_contensis.export.sinks.postgres_database import Database
    from airflow_provider_contensis.export.sinks.postgres_tables import Table, Tables

_BYTES_AT_ONCE = 4 << 20
_ROWS_AT_ONCE = 500


class PostgresSink:
    """Writes what one run has found.

    :param database: the transaction.
    :param tables: of the copy.
    :param staged: records what is staged, for the ledger.
    :param is_snapshot: whether the copy is new.
    """

    def __init__(self, database: Database, tables: Tables, staged: Staged, *, is_snapshot: bool) -> None:
        self._database = database
        self._tables = tables
        self._staged = staged
        self._is_snapshot = is_snapshot
        self._created: set[str] = set()
        self._encoders: dict[str, RowEncoder] = {}
        self.misfits = Misfits()

    def define(self, content_types: Sequence[ContentType]) -> None:
        """Take the definitions of content types; as `ChangeSink.define`."""
        self._tables.define(content_types)

    def keep(self, held_slice: HeldSlice, entries: Sequence[msgspec.Raw], held: Sequence[Held]) -> None:
        """Leave rows as they are; as `ChangeSink.keep`."""

    def upsert(
        self,
        held_slice: HeldSlice,
        entries: Sequence[msgspec.Raw],
        metas: Sequence[EntryMeta],
        held: Sequence[Held],
        *,
        replaced: Sequence[str],  # noqa: ARG002 - the merge finds them
    ) -> None:
        """Take entries of a slice that are new or differ; as `ChangeSink.upsert`."""
        table = self._tables.table(held_slice.content_type_id)
        target = self._target(table)
        encode = self._encoder(table).encode
        has_published = "_is_published" in self._tables.fixed
        lines: list[bytes] = []
        size = 0
        for raw, meta, each in zip(entries, metas, held, strict=True):
            entry = bytes(raw)
            values = [*_key(meta), b"\\x%b" % each.digest.hex().encode()]
            values += [_moment(meta.created, each.created), _moment(meta.changed, each.changed), entry]
            if has_published:
                values.append(b"true" if each.is_published else b"false")
            lines.append(SEPARATOR.join(values + encode(entry, meta)))
            size += len(lines[-1])
            if size > _BYTES_AT_ONCE:
                self._copy(target, self._tables.columns(table), lines)
                lines, size = [], 0
        self._copy(target, self._tables.columns(table), lines)

    def delete(self, deletions: Sequence[Deletion]) -> None:
        """Take deletions."""
        if not self._staged.has_gone:
            self._database.execute(
                f"CREATE TEMPORARY TABLE {GONE} (table_name text, _id text, _language text, reason text, "
                "detected timestamp with time zone, PRIMARY KEY (_id, _language, table_name)) ON COMMIT DROP"
            )
            self._staged.has_gone = True
        lines = []
        for each in deletions:
            table = self._tables.table(each.held_slice.content_type_id)
            values = (table.name, each.id, each.held_slice.language, each.reason, each.detected)
            lines.append(SEPARATOR.join(map(quoted, values)))
        self._copy(GONE, ["table_name", "_id", "_language", "reason", "detected"], lines)

    def prepare(self) -> None:
        """Bring the tables up to date, as late as possible: from here on, other sessions may have to wait."""
        if self._is_snapshot:
            self._create_schema()  # also for a project without content types
        else:
            for table in self._tables.all():
                self._backfill(table)
        for table in self._tables.all():
            self._define(table)
            if table.content_type_id in self._staged.stages:
                self._merge(table)
            if self._staged.has_gone and table.exists:
                self._delete(table)
        self.misfits.warn()

    def _target(self, table: Table) -> str:
        """Return the table that rows are copied to, and create it first if it is not there."""
        if self._is_snapshot:
            self._create(table)
            return table.qualified
        stages = self._staged.stages
        if table.content_type_id not in stages:
            name = f"pg_temp.contensis_stage_{len(stages)}"
            self._database.execute(self._tables.create_stage(table, name))
            stages[table.content_type_id] = name
        return stages[table.content_type_id]

    def _create(self, table: Table) -> None:
        if table.exists or table.name in self._created:
            return
        if not self._created:
            self._create_schema()
        self._database.execute(self._tables.create(table))
        self._created.add(table.name)

    def _create_schema(self) -> None:
        """Create the schema, unless it exists: that takes fewer rights."""
        if not self._database.rows(
            "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", self._tables.schema
        ):
            self._database.execute(f"CREATE SCHEMA {identifier(self._tables.schema)}")

    def _define(self, table: Table) -> None:
        """Create or alter a table, as far as its content type asks for it."""
        execute = self._database.execute
        if not table.exists:
            self._create(table)
            execute(f"ALTER TABLE {table.qualified} ADD PRIMARY KEY (_id, _language)")
            execute(f"CREATE INDEX ON {table.qualified} (_changed)")
            execute(f"CREATE INDEX ON {table.qualified} (_language, _created)")
        elif table.added:
            added = ", ".join(f"ADD COLUMN {identifier(name)} {kind}" for name, kind in table.added.items())
            execute(f"ALTER TABLE {table.qualified} {added}")
            self._fill(table)
        for statement in self._tables.comment(table):
            execute(statement)

    def _merge(self, table: Table) -> None:
        columns = self._tables.columns(table)
        changes = [f"{name} = EXCLUDED.{name}" for name in columns if name not in KEY_COLUMNS]
        if table.marks:
            changes += ["_deleted_at = NULL", "_deleted_reason = NULL"]
        names = ", ".join(columns)
        self._database.execute(
            f"INSERT INTO {table.qualified} ({names}) "
            f"SELECT {names} FROM {self._staged.stages[table.content_type_id]} "
            f"ON CONFLICT (_id, _language) DO UPDATE SET {', '.join(changes)}"
        )

    def _delete(self, table: Table) -> None:
        if self._tables.deletes == "mark":
            begin = (
                f"UPDATE {table.qualified} t SET _deleted_at = g.detected, _deleted_reason = g.reason FROM"
            )
        else:
            begin = f"DELETE FROM {table.qualified} t USING"
        self._database.execute(
            f"{begin} {GONE} g WHERE g._id = t._id AND g._language = t._language "
            f"AND g.table_name = {literal(table.name)}"
        )

    def _backfill(self, table: Table) -> None:
        """Stage the values of columns that are new, for entries that have not changed."""
        fields = [each for each in table.fields if each.name in table.added]
        if not fields:
            return
        fill = _fill_name(table)
        columns = ", ".join(f"{identifier(each.name)} {each.type}" for each in fields)
        self._database.execute(
            f"CREATE TEMPORARY TABLE {fill} (_id text, _language text, {columns}) ON COMMIT DROP"
        )
        encode = RowEncoder(fields, self.misfits).encode
        names = [*KEY_COLUMNS, *(identifier(each.name) for each in fields)]
        lines: list[bytes] = []
        for id_, language, entry in self._database.stream(
            f"SELECT _id, _language, _entry::text FROM {table.qualified}"
        ):
            meta = EntryMeta(id_, language, table.content_type_id, None, None)
            lines.append(SEPARATOR.join([*_key(meta), *encode(entry.encode(), meta)]))
            if len(lines) == _ROWS_AT_ONCE:
                self._copy(fill, names, lines)
                lines = []
        self._copy(fill, names, lines)

    def _fill(self, table: Table) -> None:
        fields = [identifier(each.name) for each in table.fields if each.name in table.added]
        if fields:
            changes = ", ".join(f"{name} = f.{name}" for name in fields)
            self._database.execute(
                f"UPDATE {table.qualified} t SET {changes} FROM {_fill_name(table)} f "
                "WHERE f._id = t._id AND f._language = t._language"
            )

    def _encoder(self, table: Table) -> RowEncoder:
        if table.content_type_id not in self._encoders:
            self._encoders[table.content_type_id] = RowEncoder(table.fields, self.misfits)
        return self._encoders[table.content_type_id]

    def _copy(self, table: str, columns: Iterable[str], lines: Sequence[bytes]) -> None:
        if lines:
            self._database.copy(table, ", ".join(columns), b"\n".join(lines) + b"\n")


def _fill_name(table: Table) -> str:
    return f"pg_temp.{identifier(f'fill_{table.name}')}"


def _key(meta: EntryMeta) -> list[bytes]:
    try:
        return [quoted(meta.id), quoted(meta.language)]
    except ValueError:
        raise ExportError(f"{meta.id!r} is not a valid id: PostgreSQL cannot store it.") from None


def _moment(served: str | None, known: int | None) -> bytes:
    """Return a time as `COPY` takes it, cut to the microsecond: PostgreSQL itself would round it.

    :param known: what a ledger knows of it; None if it cannot be read.
    """
    if served is None or known is None:
        return b""
    if served[-1] == "Z" and served[10] == "T" and len(served) > len("2031-04-02T00:00"):
        return served[:26].rstrip("Z").encode() + b"Z"
    moment = as_datetime(served)
    return b"" if moment is None else moment.isoformat().encode()
