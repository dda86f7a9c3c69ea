"""The tables of a copy in PostgreSQL: their names and columns, and how they follow the content types."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.sinks.postgres_database import identifier, literal
from airflow_provider_contensis.export.sinks.postgres_rows import FieldColumn, kind_of
from airflow_provider_contensis.export.table.columns import field_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.sinks.postgres_database import Database

OnSchemaChange = Literal["evolve", "fail"]
Deletes = Literal["delete", "mark"]

KEY_COLUMNS = {"_id": "text", "_language": "text"}
ENTRY_COLUMNS = {
    **KEY_COLUMNS,
    "_digest": "bytea",
    "_created": "timestamp with time zone",
    "_changed": "timestamp with time zone",
    "_entry": "json",
}
PUBLISHED_COLUMN = {"_is_published": "boolean"}
DELETED_COLUMNS = {"_deleted_at": "timestamp with time zone", "_deleted_reason": "text"}
_NOT_NULL = {*KEY_COLUMNS, "_digest", "_entry"}

_MOST_BYTES = 63  # of a name
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


class RememberedTable(TypedDict):
    """What `_contensis_sync` remembers of a table.

    :param columns: the column of each field, also of those that are gone.
    :param gone: the fields that are gone.
    """

    table: str
    columns: dict[str, str]
    gone: list[str]


@dataclass
class Existing:
    """A relation that is in the schema already.

    :param columns: the type and comment of each column.
    """

    comment: str | None
    columns: dict[str, tuple[str, str | None]] = field(default_factory=dict)


@dataclass
class Table:
    """The table of a content type.

    :param fields: the columns of its fields.
    :param added: the columns that an existing table lacks.
    :param marks: whether it has columns for deleted entries.
    :param exists: whether it was there when the run began.
    :param comments: of its columns and, under an empty name, its own, as far as they have to be set.
    """

    content_type_id: str
    name: str
    qualified: str
    fields: list[FieldColumn]
    added: dict[str, str]
    marks: bool
    exists: bool
    comments: dict[str, str]


class Tables:
    """The tables of a copy.

    :param database: the transaction.
    :param schema: where they are.
    :param prefix: how their names begin.
    :param remembered: what the last run knew of them, by content type.
    :param deletes: whether rows of deleted entries are deleted or marked.
    :param has_published: whether a column says that an entry is published.
    :param on_schema_change: what to do if a content type has changed.
    """

    def __init__(
        self,
        database: Database,
        schema: str,
        prefix: str,
        remembered: Mapping[str, RememberedTable],
        *,
        deletes: Deletes,
        has_published: bool,
        on_schema_change: OnSchemaChange,
    ) -> None:
        self.schema = schema
        self._prefix = prefix
        self.remembered = dict(remembered)
        self.fixed = ENTRY_COLUMNS | (PUBLISHED_COLUMN if has_published else {})
        self.deletes = deletes
        self._fails = on_schema_change == "fail" and bool(remembered)
        self._existing = relations(database, schema)
        self._tables: dict[str, Table] = {}
        self._defined: set[str] = set()
        for content_type_id, each in remembered.items():
            if each["table"] in self._existing:
                self._tables[content_type_id] = self._make(content_type_id, [], {})

    def define(self, content_types: Iterable[ContentType]) -> None:
        """Plan the tables of content types, as they are defined now.

        :raises ConfigurationError: a table cannot follow its content type, or is not the copy's own.
        """
        for each in content_types:
            if each["id"] not in self._defined:  # one that changes during a run is left to the next run
                self._define(each)

    def table(self, content_type_id: str) -> Table:
        """Return the table of a content type; one that is not defined has no columns for fields."""
        if content_type_id not in self._tables:
            self._define({"id": content_type_id})
        return self._tables[content_type_id]

    def all(self) -> list[Table]:
        """Return all tables, those to be created included."""
        return list(self._tables.values())

    def _define(self, content_type: Mapping[str, Any]) -> None:
        id_ = str(content_type["id"])
        self._defined.add(id_)
        shapes = field_shapes(content_type)  # type: ignore[arg-type]  # one that is not listed has an id only
        known = self.remembered.get(id_)
        if known is None:
            taken = {each["table"] for each in self.remembered.values()}
            known = {"table": _unique(self._prefix + snake_case(id_), taken), "columns": {}, "gone": []}
            if self._fails:
                raise ConfigurationError(
                    f"Content type {id_} is new, and on_schema_change is fail: set it to evolve, and the run "
                    f"creates table {self.schema}.{known['table']}."
                )
        existing = self._existing.get(known["table"])
        if existing and id_ not in self.remembered:
            raise ConfigurationError(
                f"Table {self.schema}.{known['table']} exists, and is not of this copy: rename it, or set "
                "another schema or table_prefix."
            )
        names = dict(known["columns"])
        taken = {*names.values(), *_SYSTEM_COLUMNS, *(existing.columns if existing else ())}
        for field_id in shapes:
            if field_id not in names:
                names[field_id] = _unique(snake_case(field_id), taken)
                taken.add(names[field_id])
        fields = [FieldColumn(name, names[name], kind_of(shape)) for name, shape in shapes.items()]
        gone = [name for name in known["columns"] if name not in shapes]
        if self._fails:
            self._refuse_changes(id_, known, names, gone)
        self.remembered[id_] = {"table": known["table"], "columns": names, "gone": gone}
        self._tables[id_] = self._make(id_, fields, _comments(content_type, names))

    def _refuse_changes(
        self, id_: str, known: RememberedTable, names: Mapping[str, str], gone: Iterable[str]
    ) -> None:
        changes = {"new": set(names) - set(known["columns"]), "gone": set(gone) - set(known["gone"])}
        for what, some in changes.items():
            if some:
                raise ConfigurationError(
                    f"Field {min(some)} of content type {id_} is {what}, and on_schema_change is fail: set "
                    "it to evolve, and the table follows."
                )

    def _make(self, id_: str, fields: list[FieldColumn], comments: Mapping[str, str]) -> Table:
        name = self.remembered[id_]["table"]
        existing = self._existing.get(name)
        columns = existing.columns if existing else {}
        marks = self.deletes == "mark" or "_deleted_at" in columns
        added: dict[str, str] = {}
        if existing:
            wanted = self.fixed | (DELETED_COLUMNS if marks else {})
            added = {column: kind for column, kind in wanted.items() if column not in columns}
            if lost := added.keys() - DELETED_COLUMNS.keys():
                raise ConfigurationError(
                    f"Table {self.schema}.{name} lacks the column {min(lost)}: drop the table, and the "
                    "next run loads it again."
                )
            added |= {each.name: each.type for each in fields if each.name not in columns}
            for column, kind in wanted.items():
                self._check_type(name, column, kind, columns, f"a copy needs {kind}")
            for each in fields:
                why = f"field {each.field_id} of content type {id_} needs {each.type} now"
                self._check_type(name, each.name, each.type, columns, why)
            comments = {
                column: text
                for column, text in comments.items()
                if text != (columns.get(column, ("", None))[1] if column else existing.comment)
            }
        qualified = f"{identifier(self.schema)}.{identifier(name)}"
        return Table(id_, name, qualified, fields, added, marks, existing is not None, dict(comments))

    def _check_type(
        self, table: str, column: str, kind: str, columns: Mapping[str, tuple[str, str | None]], why: str
    ) -> None:
        has = columns.get(column, (kind, None))[0]
        if has != kind:
            raise ConfigurationError(
                f"Column {column} of table {self.schema}.{table} is {has}, and {why}: drop or rename the "
                "column, and the next run adds and fills it."
            )

    def create(self, table: Table) -> str:
        """Return the statement that creates a table, without its key and indexes."""
        columns = self.fixed | (DELETED_COLUMNS if table.marks else {})
        return f"CREATE TABLE {table.qualified} ({_declared(columns, table.fields)})"

    def create_stage(self, table: Table, name: str) -> str:
        """Return the statement that creates the stage of a table."""
        return (
            f"CREATE TEMPORARY TABLE {name} ({_declared(self.fixed, table.fields)}, "
            "PRIMARY KEY (_id, _language)) ON COMMIT DROP"
        )

    def columns(self, table: Table) -> list[str]:
        """Return the columns that a row of `COPY` has, as SQL writes them."""
        return [*self.fixed, *(identifier(each.name) for each in table.fields)]

    def comment(self, table: Table) -> list[str]:
        """Return the statements that set comments."""
        return [
            f"COMMENT ON COLUMN {table.qualified}.{identifier(column)} IS {literal(text)}"
            if column
            else f"COMMENT ON TABLE {table.qualified} IS {literal(text)}"
            for column, text in table.comments.items()
        ]


def _declared(columns: Mapping[str, str], fields: Iterable[FieldColumn]) -> str:
    return ", ".join(
        [
            *(f"{name} {kind}{' NOT NULL' if name in _NOT_NULL else ''}" for name, kind in columns.items()),
            *(f"{identifier(each.name)} {each.type}" for each in fields),
        ]
    )


def relations(database: Database, schema: str) -> dict[str, Existing]:
    """Return the relations of a schema, by name, with their columns in order."""
    found: dict[str, Existing] = {}
    rows = database.stream(
        "SELECT c.relname, obj_description(c.oid, 'pg_class'), a.attname, "
        "format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum) "
        "FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_attribute a "
        "ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s) "
        "ORDER BY c.relname, a.attnum",
        schema,
    )
    for name, comment, column, kind, column_comment in rows:
        relation = found.setdefault(name, Existing(comment))
        if column is not None:
            relation.columns[column] = kind, column_comment
    return found


def snake_case(name: str) -> str:
    """Return a name in snake_case, such as `release_date` for `releaseDate`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W+", "_", name).strip("_").lower() or "field"


def _unique(name: str, taken: Iterable[str]) -> str:
    """Return a name that is not taken, with a suffix if need be, and no longer than PostgreSQL allows."""
    taken = set(taken)
    number, suffix = 1, ""
    while (short := _cut(name, _MOST_BYTES - len(suffix)) + suffix) in taken:
        number += 1
        suffix = f"_{number}"
    return short


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def _comments(content_type: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """Return comments by column; the table's own has no name."""
    language = str(content_type.get("defaultLanguage") or "")
    comments = {"": _described(content_type, language)}
    comments |= {
        names[str(each["id"])]: _described(each, language) for each in content_type.get("fields") or ()
    }
    return {column: text for column, text in comments.items() if text}


def _described(item: Mapping[str, Any], language: str) -> str:
    texts = [_localised(item.get("name"), language), _localised(item.get("description"), language)]
    return ": ".join(filter(None, texts))


def _localised(texts: object, language: str) -> str:
    """Return a text in a language, or else in the first one there is."""
    if isinstance(texts, dict):
        texts = texts.get(language) or next(filter(None, texts.values()), "")
    return texts.replace("\0", "") if isinstance(texts, str) else ""
