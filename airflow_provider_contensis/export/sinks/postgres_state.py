"""The state in which the last run left a copy in PostgreSQL: `_contensis_sync` and `_contensis_runs`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis import __version__
from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError
from airflow_provider_contensis.export.changes import Position
from airflow_provider_contensis.export.sinks.postgres_database import identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_contensis.export.results import PostgresSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.export.sinks.postgres_database import Database
    from airflow_provider_contensis.export.sinks.postgres_tables import RememberedTable

COPY_VERSION = 1

# How many runs a copy remembers, so that a cleared task returns what it had returned.
_MAX_RUNS = 1_000


@dataclass(frozen=True)
class State:
    """What the last run has left; nothing if the copy is new.

    :param tables: its tables, by content type.
    """

    position: Position = field(default_factory=Position)
    tables: Mapping[str, RememberedTable] = field(default_factory=dict)


class SyncTable:
    """`_contensis_sync`, which has a row for each copy of the schema, and `_contensis_runs`.

    :param database: the transaction.
    :param schema: of the copy.
    :param prefix: how the names of its tables begin, which is what a copy is named by.
    """

    def __init__(self, database: Database, schema: str, prefix: str) -> None:
        self._database = database
        self._schema = schema
        self._prefix = prefix
        self._sync = f"{identifier(schema)}._contensis_sync"
        self._runs = f"{identifier(schema)}._contensis_runs"

    def lock(self) -> None:
        """Keep other runs of this copy away until the transaction ends.

        :raises DestinationError: another run is at work.
        """
        [(is_locked,)] = self._database.rows(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))",
            f"airflow-provider-contensis {self._schema} {self._prefix}",
        )
        if not is_locked:
            raise DestinationError(
                f"Another run is updating the copy in schema {self._schema}, and a copy has one writer: set "
                "max_active_runs=1 in the DAG."
            )

    @property
    def _exists(self) -> bool:
        [(name,)] = self._database.rows("SELECT to_regclass(%s)::text", self._sync)
        return name is not None

    def load(self, source: Mapping[str, Any], query: Mapping[str, Any]) -> State:
        """Return what the last run has left.

        :raises ConfigurationError: the copy follows another source or query, or needs a later version.
        """
        rows = (
            self._database.rows(
                "SELECT copy_version, source::text, query::text, to_char(horizon AT TIME ZONE 'UTC', "
                """'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), schemas::text, runs, tables::text """
                f"FROM {self._sync} WHERE table_prefix = %s",
                self._prefix,
            )
            if self._exists
            else []
        )
        if not rows:
            return State()
        version, *texts, horizon, schemas, runs, tables = rows[0]
        if version != COPY_VERSION:
            raise ConfigurationError(
                f"Schema {self._schema} has a copy of version {version}, and this version of the provider "
                f"reads {COPY_VERSION}: upgrade it, or set another schema."
            )
        for held, asked in zip(map(json.loads, texts), (source, query), strict=True):
            for name, value in asked.items():
                if held.get(name) != value:
                    raise ConfigurationError(
                        f"Schema {self._schema} has a copy with {name}={held.get(name)!r}, and this task has "
                        f"{name}={value!r}: set another schema or table_prefix, as a copy follows one query "
                        "of one project."
                    )
        position = Position(horizon=horizon, schemas=json.loads(schemas), runs=runs)
        return State(position, json.loads(tables))

    def result_of(self, run: RunName) -> PostgresSummary | None:
        """Return what a run returned, if it has updated the copy."""
        if not self._exists:
            return None
        rows = self._database.rows(
            f"SELECT result::text FROM {self._runs} WHERE table_prefix = %s AND dag_id = %s AND task_id = %s "
            "AND run_id = %s AND map_index = %s ORDER BY number DESC LIMIT 1",
            *(self._prefix, run["dag_id"], run["task_id"], run["run_id"], run["map_index"]),
        )
        result: PostgresSummary | None = json.loads(rows[0][0]) if rows else None
        return result

    def save(self, state: State, source: Mapping[str, Any], query: Mapping[str, Any]) -> None:
        """Save the state that this run leaves."""
        execute = self._database.execute
        if not self._exists:
            execute(
                f"CREATE TABLE {self._sync} (table_prefix text PRIMARY KEY, copy_version integer NOT NULL, "
                "written_by text NOT NULL, source json NOT NULL, query json NOT NULL, "
                "horizon timestamp with time zone, schemas json NOT NULL, runs bigint NOT NULL, "
                "tables json NOT NULL, updated timestamp with time zone NOT NULL)"
            )
            execute(
                f"CREATE TABLE {self._runs} (table_prefix text, number bigint, dag_id text NOT NULL, "
                "task_id text NOT NULL, run_id text NOT NULL, map_index integer NOT NULL, "
                "result json NOT NULL, PRIMARY KEY (table_prefix, number))"
            )
            execute(
                f"COMMENT ON TABLE {self._sync} IS 'The copies of Contensis in this schema: leave it alone'"
            )
            execute(f"COMMENT ON TABLE {self._runs} IS 'What the last runs of each copy have returned'")
        position = state.position
        names = ("source", "query", "schemas", "tables")
        texts = [_dump(each) for each in (source, query, position.schemas, state.tables)]
        changes = ("copy_version", "written_by", *names, "horizon", "runs", "updated")
        execute(
            f"INSERT INTO {self._sync} (table_prefix, copy_version, written_by, {', '.join(names)}, "
            "horizon, runs, updated) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, now()) "
            "ON CONFLICT (table_prefix) DO UPDATE SET "
            + ", ".join(f"{name} = EXCLUDED.{name}" for name in changes),
            *(self._prefix, COPY_VERSION, f"airflow-provider-contensis {__version__}", *texts),
            *(position.horizon, position.runs),
        )

    def remember(self, run: RunName, number: int, result: PostgresSummary) -> None:
        """Save what a run returns, and forget the oldest ones."""
        self._database.execute(
            f"INSERT INTO {self._runs} VALUES (%s, %s, %s, %s, %s, %s, %s)",
            *(self._prefix, number, run["dag_id"], run["task_id"], run["run_id"], run["map_index"]),
            _dump(result),
        )
        self._database.execute(
            f"DELETE FROM {self._runs} WHERE table_prefix = %s AND number <= %s",
            self._prefix,
            number - _MAX_RUNS,
        )


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
