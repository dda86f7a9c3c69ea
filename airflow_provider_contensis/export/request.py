"""The arguments of an export, as operators and templates give them, checked before anything is read.

The names are the operators' own; defaults come from the dataclasses that hold the checked values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import (
    Parser,
    choice,
    flag,
    names,
    number,
    parse,
    rendered_value,
    take,
    whole_number,
)
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.formats.base import FormatOptions, TimestampUnit
from airflow_provider_contensis.export.model import EntryQuery
from airflow_provider_contensis.export.times import query_time, sort_key
from airflow_provider_contensis.utils.json import is_json_serializable
from airflow_provider_contensis.utils.text import show

if TYPE_CHECKING:
    from os import PathLike
    from typing import Unpack

OnEmpty = Literal["write", "keep", "skip", "fail"]

DEFAULT_PAGE_SIZE = 500
DEFAULT_CONCURRENCY = 4
MAX_PAGE_SIZE = 10_000  # docs/contensis-api.md, "Paging"
MAX_CONCURRENCY = 32
MAX_LINK_DEPTH = 10  # docs/contensis-api.md, "Management and Delivery"


class QueryArguments(TypedDict, total=False):
    """Which entries; the meaning of each is in `ContensisExportEntriesOperator`."""

    content_type_id: str | Iterable[str] | None
    language: str | Iterable[str] | None
    version_status: VersionStatus | str
    data_format: DataFormat | str | None
    where: str | Clause | Iterable[Clause] | None
    api: Api | str


class ExportQueryArguments(QueryArguments, total=False):
    """Which entries, and how they look."""

    changed_from: str | datetime | None
    changed_to: str | datetime | None
    link_depth: int | str | None
    field_link_depths: str | Mapping[str, int | str] | None


class ReadArguments(TypedDict, total=False):
    """How entries are read."""

    page_size: int | str
    max_concurrent_requests: int | str


class FormatArguments(TypedDict, total=False):
    """Choices within a file format."""

    escape_formulas: bool | str
    bom: bool | str
    parquet_mode: Literal["typed", "raw"] | str
    on_type_mismatch: Literal["fail", "raw"] | str
    timestamp_unit: TimestampUnit | str


class ExportArguments(ExportQueryArguments, ReadArguments, FormatArguments, total=False):
    """One export."""

    destination: Required[str | PathLike[str]]
    file_format: str | None
    compression: str | None
    fields: str | Iterable[str] | None
    on_empty: OnEmpty | str
    start_over: bool | str


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How entries are read.

    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight, 1 to 32.
    """

    page_size: int = DEFAULT_PAGE_SIZE
    max_concurrent_requests: int = DEFAULT_CONCURRENCY


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export, all its arguments checked.

    :param query: which entries.
    :param destination: where they go.
    :param fields: the field paths to keep; None for whole entries.
    :param options: how they are read.
    :param on_empty: what to do if no entries match: `write` an empty file, `keep` the existing one, `skip`
        the task, or `fail`.
    :param start_over: read everything, even if an earlier attempt has read some of it.
    :param format_options: choices within the file format.
    """

    query: EntryQuery
    destination: Destination
    fields: tuple[str, ...] | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    on_empty: OnEmpty = "write"
    start_over: bool = False
    format_options: FormatOptions = field(default_factory=FormatOptions)

    @classmethod
    def from_arguments(cls, **arguments: Unpack[ExportArguments]) -> ExportRequest:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        rest: dict[str, Any] = {**arguments}
        return cls(
            query=entry_query(**take(rest, _QUERY_ARGUMENTS)),
            options=read_options(**take(rest, _READ_ARGUMENTS)),
            format_options=format_options(**take(rest, _FORMAT_ARGUMENTS)),
            **parse(take(rest, _EXPORT_ARGUMENTS), _EXPORT_ARGUMENTS),
            destination=Destination.from_arguments(**rest),
        )


def entry_query(**arguments: Unpack[ExportQueryArguments]) -> EntryQuery:
    """Return the query that arguments describe.

    :raises ConfigurationError: names the argument and its choices.
    """
    parsed = parse(arguments, _QUERY_ARGUMENTS)
    if "data_format" in arguments:
        parsed.setdefault("data_format", None)  # both, which is a choice of its own
    for argument, name in (("content_type_id", "content_type_ids"), ("language", "languages")):
        if argument in parsed:
            parsed[name] = parsed.pop(argument)
    query = EntryQuery(**parsed)
    if query.changed_from and query.changed_to and sort_key(query.changed_from) >= sort_key(query.changed_to):
        raise ConfigurationError(
            f"changed_from ({query.changed_from}) must be earlier than changed_to ({query.changed_to}). "
            "In Airflow 3, the interval of a cron schedule has no length: "
            "see 'Incremental exports' in the README."
        )
    if query.api != "delivery":
        for name in ("link_depth", "field_link_depths"):
            if getattr(query, name) is not None:
                raise ConfigurationError(
                    f"{name} needs api='delivery': the Management API never resolves links."
                )
    return query


def read_options(**arguments: Unpack[ReadArguments]) -> ReadOptions:
    """Return the options that arguments describe.

    :raises ConfigurationError: names the argument and its bounds.
    """
    return ReadOptions(**parse(arguments, _READ_ARGUMENTS))


def format_options(**arguments: Unpack[FormatArguments]) -> FormatOptions:
    """Return the choices within a file format that arguments describe.

    :raises ConfigurationError: names the argument and its choices.
    """
    return FormatOptions(**parse(arguments, _FORMAT_ARGUMENTS))


def _field_link_depths(argument: str, value: str | Mapping[str, int | str]) -> Mapping[str, int]:
    depths = rendered_value(value)
    if not isinstance(depths, Mapping) or not all(isinstance(path, str) and path.strip() for path in depths):
        raise ConfigurationError(
            f'{argument} must map field paths to depths, such as {{"director": 1}}, or be the same as JSON.'
        )
    return {
        path.strip(): whole_number(f"{argument}[{path!r}]", depth, 0, MAX_LINK_DEPTH)
        for path, depth in depths.items()
    }


def _clauses(argument: str, value: str | Clause | Iterable[Clause]) -> tuple[Clause, ...]:
    example = '[{"field": "runtime", "greaterThan": 90}]'
    where = rendered_value(value)
    clauses = [where] if isinstance(where, Mapping) else where
    try:
        if isinstance(clauses, str) or not isinstance(clauses, Iterable):
            raise TypeError
        clauses = [_json(argument, rendered_value(clause)) for clause in clauses]
        if not is_json_serializable(clauses):
            raise TypeError
    except (TypeError, RecursionError):
        raise ConfigurationError(
            f"{argument} must be a list of search clauses, such as {example}, or the same as JSON text."
        ) from None
    if not all(isinstance(clause, Mapping) and clause for clause in clauses):
        raise ConfigurationError(f"{argument} must contain search clauses only, such as {example}.")
    return tuple(clauses)


def _json(argument: str, value: object) -> Any:
    """Return what a native template gives, as JSON has it: times as text, and any collection as a list.

    :raises ConfigurationError: names a value that JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {name: _json(argument, member) for name, member in value.items()}
    if isinstance(value, set | frozenset):  # sorted, so that every attempt asks for the same
        return sorted((_json(argument, item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [_json(argument, item) for item in value]
    if isinstance(value, datetime):
        return query_time(argument, value)
    if isinstance(value, date):
        return value.isoformat()
    if not is_json_serializable(value):
        raise ConfigurationError(f"{argument} contains {show(value)}, which JSON cannot hold.")
    return value


_QUERY_ARGUMENTS: dict[str, Parser] = {
    "content_type_id": names,
    "language": names,
    "version_status": choice(VersionStatus),
    "data_format": choice(DataFormat),
    "where": _clauses,
    "changed_from": query_time,
    "changed_to": query_time,
    "api": choice(Api),
    "link_depth": number(0, MAX_LINK_DEPTH),
    "field_link_depths": _field_link_depths,
}
_READ_ARGUMENTS: dict[str, Parser] = {
    "page_size": number(1, MAX_PAGE_SIZE),
    "max_concurrent_requests": number(1, MAX_CONCURRENCY),
}
_FORMAT_ARGUMENTS: dict[str, Parser] = {
    "escape_formulas": flag,
    "bom": flag,
    "parquet_mode": choice(Literal["typed", "raw"]),
    "on_type_mismatch": choice(Literal["fail", "raw"]),
    "timestamp_unit": choice(TimestampUnit),
}
_EXPORT_ARGUMENTS: dict[str, Parser] = {
    "fields": names,
    "on_empty": choice(OnEmpty),
    "start_over": flag,
}
