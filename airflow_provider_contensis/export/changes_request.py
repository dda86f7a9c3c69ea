"""The arguments of an export of changes, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import Parser, choice, flag, number, parse, take
from airflow_provider_contensis.export.destination import Destination, folder_url
from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.model import nested_clauses
from airflow_provider_contensis.export.request import (
    FormatArguments,
    QueryArguments,
    ReadArguments,
    entry_query,
    format_options,
    read_options,
)
from airflow_provider_contensis.export.times import DATE_FUNCTION, PERIODS
from airflow_provider_contensis.utils.text import as_text, show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from typing import Unpack

    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.request import ReadOptions

Deletes = Literal["detect", "ignore"]

DEFAULT_OVERLAP = 600
DEFAULT_MAX_DELETE_SHARE = 0.2

# Arguments of an export that a copy cannot have: they change what an entry looks like without a change mark.
VIEW_ARGUMENTS = ("fields", "link_depth", "field_link_depths")

_WEEK_SECONDS = 7 * 86_400
_MAX_CHANGE_SETS = 1_000_000
# The Delivery API may answer from a cache that is up to an hour old (docs/contensis-api.md, "Limits").
_DELIVERY_OVERLAP = 3_900
_RANGES = frozenset({"between", "greaterThan", "greaterThanOrEqualTo", "lessThan", "lessThanOrEqualTo"})
_EQUALS = frozenset({"equalTo", "in"})


class FollowArguments(TypedDict, total=False):
    """How a copy follows the service."""

    overlap: int | str
    max_delete_share: float | str | None
    full_refresh: bool | str


class ChangesArguments(QueryArguments, ReadArguments, FormatArguments, FollowArguments, total=False):
    """One export of changes; the meaning of each is in `ContensisExportChangesOperator`."""

    destination: Required[str | PathLike[str]]
    file_format: str | None
    compression: str | None
    deletes: Deletes | str
    skip_if_unchanged: bool | str
    write_snapshot: bool | str
    keep_change_sets: int | str | None


@dataclass(frozen=True, kw_only=True)
class FollowOptions:
    """How a copy follows the service.

    :param overlap: seconds before the service's clock from which the next run reads again.
    :param detect_deletions: whether entries are counted to find those that left.
    :param max_delete_share: the share of the copy that may go at once; None for no limit.
    :param full_refresh: whether everything is read.
    """

    overlap: int = DEFAULT_OVERLAP
    detect_deletions: bool = True
    max_delete_share: float | None = DEFAULT_MAX_DELETE_SHARE
    full_refresh: bool = False


@dataclass(frozen=True, kw_only=True)
class ChangesRequest:
    """One export of changes, all its arguments checked.

    :param query: which entries the feed follows.
    :param destination: the feed.
    :param options: how entries are read.
    :param rules: how the feed follows them.
    :param skip_if_unchanged: skip the task if nothing changed.
    :param write_snapshot: write everything, so that a consumer can start there.
    :param keep_change_sets: how many change sets stay, if a snapshot replaces the others; None for all.
    :param format_options: choices within the format of the files of upserts.
    """

    query: EntryQuery
    destination: Destination
    options: ReadOptions
    rules: FollowOptions
    skip_if_unchanged: bool = False
    write_snapshot: bool = False
    keep_change_sets: int | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)

    @classmethod
    def from_arguments(cls, **arguments: Unpack[ChangesArguments]) -> ChangesRequest:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        rest: dict[str, Any] = {**arguments}
        query = followed_query(**take(rest, (*QueryArguments.__annotations__, *VIEW_ARGUMENTS)))
        options = read_options(**take(rest, ReadArguments.__annotations__))
        follow = take(rest, FOLLOW_ARGUMENTS)
        own = parse(take(rest, _FEED_ARGUMENTS), _FEED_ARGUMENTS)
        detects = own.pop("deletes", "detect") == "detect"
        rules = follow_options(query, detect_deletions=detects, **follow)
        if own.get("write_snapshot"):
            rules = replace(rules, full_refresh=True)
        return cls(
            query=query,
            options=options,
            format_options=format_options(**take(rest, FormatArguments.__annotations__)),
            rules=rules,
            **own,
            destination=_feed(**rest),
        )


def followed_query(**arguments: Unpack[QueryArguments]) -> EntryQuery:
    """Return the query that a copy follows.

    :raises ConfigurationError: names the argument and its choices.
    """
    for name in VIEW_ARGUMENTS:
        if name in arguments:
            raise ConfigurationError(
                f"{name} is not available for changes: what it shows of an entry would change without "
                "a change of the entry. Leave it out, or use ContensisExportEntriesOperator."
            )
    query = entry_query(**arguments)
    _check_where(query.where)
    return query


def follow_options(
    query: EntryQuery, *, detect_deletions: bool = True, **arguments: Unpack[FollowArguments]
) -> FollowOptions:
    """Return how a copy follows a query.

    :raises ConfigurationError: names the argument and its bounds.
    """
    parsed = parse(arguments, FOLLOW_ARGUMENTS)
    if "max_delete_share" in arguments:
        parsed.setdefault("max_delete_share", None)  # no limit, which is a choice of its own
    options = FollowOptions(detect_deletions=detect_deletions, **parsed)
    if query.api == "delivery":
        return replace(options, overlap=max(options.overlap, _DELIVERY_OVERLAP))
    return options


def as_asked(query: EntryQuery) -> dict[str, Any]:
    """Return what a copy follows, as it was asked for.

    None stays None, so that a new language or content type does not make it another query.
    """
    names, languages = query.content_type_ids, query.languages
    return {
        "content_type_id": None if names is None else sorted(names),
        "language": None if languages is None else sorted(languages),
        "version_status": query.version_status,
        "data_format": query.data_format,
        "where": [dict(clause) for clause in query.where],
        "api": query.api,
    }


def _feed(**arguments: Any) -> Destination:
    """Return the folder of a feed.

    :raises ConfigurationError: it is no folder, or its format is none.
    """
    url = folder_url(arguments.pop("destination"), "a feed has many files")
    return Destination.from_arguments(url, **arguments)


def _share(argument: str, value: object) -> float:
    try:
        share = float(as_text(value))
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise ConfigurationError(
            f"{argument} must be a number from 0 to 1, or None for no limit, not {show(value)}."
        )
    return share


def _check_where(clauses: object) -> None:
    """Refuse times that move by themselves: what matches would change without a change mark.

    :raises ConfigurationError: names the value.
    """
    for operator, operand in _operands(clauses):
        text = operand.strip() if isinstance(operand, str) else ""
        if DATE_FUNCTION.fullmatch(text) or (operator in _RANGES and PERIODS.fullmatch(text)):
            raise ConfigurationError(
                f"where contains the relative time {operand!r}: what matches would change without a change "
                "of the entries, which changes cannot follow. Use a fixed time, or a full export."
            )


def _operands(clauses: object) -> Iterator[tuple[str, object]]:
    """Yield what clauses compare with, and how."""
    for clause in nested_clauses(clauses):
        for name, operand in clause.items():
            if name in _RANGES | _EQUALS:
                for each in operand if isinstance(operand, list | tuple) else [operand]:
                    yield name, each


FOLLOW_ARGUMENTS: dict[str, Parser] = {
    "overlap": number(0, _WEEK_SECONDS),
    "max_delete_share": _share,
    "full_refresh": flag,
}
_FEED_ARGUMENTS: dict[str, Parser] = {
    "deletes": choice(Deletes),
    "skip_if_unchanged": flag,
    "write_snapshot": flag,
    "keep_change_sets": number(1, _MAX_CHANGE_SETS),
}
