"""The arguments of a copy in PostgreSQL, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import Parser, choice, flag, parse, take
from airflow_provider_contensis.export.changes_request import (
    FOLLOW_ARGUMENTS,
    VIEW_ARGUMENTS,
    FollowArguments,
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


class PostgresArguments(QueryArguments, ReadArguments, FollowArguments, total=False):
    """One run of a copy; the meaning of each is in `ContensisToPostgresOperator`."""

    schema: str
    table_prefix: str
    deletes: Deletes | str
    on_schema_change: OnSchemaChange | str
    skip_if_unchanged: bool | str


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
        rest: dict[str, Any] = {**arguments}
        query = followed_query(**take(rest, (*QueryArguments.__annotations__, *VIEW_ARGUMENTS)))
        return cls(
            query=query,
            options=read_options(**take(rest, ReadArguments.__annotations__)),
            rules=follow_options(query, **take(rest, FOLLOW_ARGUMENTS)),
            **parse(rest, _POSTGRES_ARGUMENTS),
        )


def _plain_name(pattern: str, example: str) -> Parser:
    """Return a parser of names without spaces, dots and quotes."""

    def name(argument: str, value: object) -> str:
        text = as_text(value)
        if not re.fullmatch(pattern, text):
            raise ConfigurationError(
                f"{argument} must be a plain name, such as {example}, not {show(value)}."
            )
        return text

    return name


_POSTGRES_ARGUMENTS: dict[str, Parser] = {
    "schema": _plain_name(r"(?!pg_)[A-Za-z_][A-Za-z0-9_$-]{0,62}", "contensis"),
    "table_prefix": _plain_name(r"[a-z][a-z0-9_]{0,31}", "cms_"),
    "deletes": choice(Deletes),
    "on_schema_change": choice(OnSchemaChange),
    "skip_if_unchanged": flag,
}
