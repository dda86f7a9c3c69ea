"""The arguments of a copy in PostgreSQL, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import flag, one_of
from airflow_provider_contensis.export.changes_request import (
    FollowArguments,
    FollowedArguments,
    follow_options,
    followed_query,
)
from airflow_provider_contensis.export.request import QueryArguments, ReadArguments, read_options
from airflow_provider_contensis.export.sinks.postgres_tables import Deletes, OnSchemaChange
from airflow_provider_contensis.utils.text import as_text, show

if TYPE_CHECKING:
    from typing import Unpack

    from airflow_provider_contensis.export.changes_request import FollowOptions
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.request import ReadOptions

DEFAULT_SCHEMA = "contensis"

_SCHEMA = re.compile(r"(?!pg_)[A-Za-z_][A-Za-z0-9_$-]{0,62}")
_PREFIX = re.compile(r"([a-z][a-z0-9_]{0,31})?")


class PostgresArguments(FollowedArguments, total=False):
    """One run of a copy; the meaning of each is in `ContensisToPostgresOperator`."""

    schema: str
    table_prefix: str
    deletes: Deletes | str
    on_schema_change: OnSchemaChange | str


@dataclass(frozen=True, kw_only=True)
class PostgresRequest:
    """One run of a copy, all its arguments checked.

    :param query: which entries the copy follows.
    :param options: how entries are read.
    :param rules: how the copy follows them.
    :param schema: where its tables are.
    :param table_prefix: how their names begin.
    :param deletes: whether rows of deleted entries are deleted or marked.
    :param on_schema_change: what to do if a content type has changed.
    :param skip_if_unchanged: skip the task if nothing changed.
    """

    query: EntryQuery
    options: ReadOptions
    rules: FollowOptions
    schema: str = DEFAULT_SCHEMA
    table_prefix: str = ""
    deletes: Deletes = "delete"
    on_schema_change: OnSchemaChange = "evolve"
    skip_if_unchanged: bool = False

    @classmethod
    def from_arguments(cls, **arguments: Unpack[PostgresArguments]) -> PostgresRequest:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        given: dict[str, Any] = {**arguments}

        def take(of: type) -> dict[str, Any]:
            return {name: given.pop(name) for name in [*given] if name in of.__annotations__}

        query = followed_query(**take(QueryArguments))
        return cls(
            query=query,
            options=read_options(**take(ReadArguments)),
            rules=follow_options(query, **take(FollowArguments)),
            schema=_name("schema", given.get("schema", DEFAULT_SCHEMA), _SCHEMA),
            table_prefix=_name("table_prefix", given.get("table_prefix", ""), _PREFIX),
            deletes=one_of("deletes", given.get("deletes", "delete"), Deletes),
            on_schema_change=one_of(
                "on_schema_change", given.get("on_schema_change", "evolve"), OnSchemaChange
            ),
            skip_if_unchanged=flag("skip_if_unchanged", given.get("skip_if_unchanged", False)),
        )


def _name(argument: str, value: object, pattern: re.Pattern[str]) -> str:
    text = as_text(value)
    if not pattern.fullmatch(text):
        example = "contensis" if argument == "schema" else "cms_"
        raise ConfigurationError(f"{argument} must be a plain name, such as {example}, not {show(value)}.")
    return text
