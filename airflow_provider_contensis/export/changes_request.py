"""The arguments of an export of changes, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Required

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import flag, one_of, whole_number
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.model import nested_clauses
from airflow_provider_contensis.export.request import QueryArguments, ReadArguments, entry_query, read_options
from airflow_provider_contensis.utils.text import as_text, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike
    from typing import Unpack

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.request import ReadOptions

Deletes = Literal["detect", "ignore"]

DEFAULT_OVERLAP = 600
DEFAULT_MAX_DELETE_SHARE = 0.2

_WEEK_SECONDS = 7 * 86_400
_MAX_CHANGE_SETS = 1_000_000
# The Delivery API may answer from a cache that is up to an hour old (docs/contensis-api.md, "Limits").
_DELIVERY_OVERLAP = 3_900
# Times that depend on when they are asked for (docs/contensis-api.md, "Search").
_DATE_FUNCTION = re.compile(r"(now|(start|end)of(minute|hour|day|week|month|year))\s*\(.*\)", re.IGNORECASE)
_PERIODS = re.compile(r"[+-]?\d+[yMwdhm](\s+[+-]?\d+[yMwdhm])*")
_RANGES = frozenset({"between", "greaterThan", "greaterThanOrEqualTo", "lessThan", "lessThanOrEqualTo"})
_EQUALS = frozenset({"equalTo", "in"})


class ChangesArguments(ReadArguments, total=False):
    """One export of changes; the meaning of each is in `ContensisExportChangesOperator`."""

    content_type_id: str | Iterable[str] | None
    language: str | Iterable[str] | None
    version_status: VersionStatus | str
    data_format: DataFormat | str | None
    where: str | Clause | Iterable[Clause] | None
    api: Api | str
    destination: Required[str | PathLike[str]]
    file_format: str | None
    compression: str | None
    overlap: int | str
    deletes: Deletes | str
    max_delete_share: float | str | None
    full_refresh: bool | str
    skip_if_unchanged: bool | str
    keep_change_sets: int | str | None


@dataclass(frozen=True, kw_only=True)
class FollowOptions:
    """How a copy follows the service.

    :param overlap: seconds before the service's clock from which the next run reads again.
    :param detect_deletions: whether entries are counted to find those that left.
    :param max_delete_share: the share of the copy that may go at once; None for no limit.
    :param full_refresh: whether everything is read.
    """

    overlap: int
    detect_deletions: bool = True
    max_delete_share: float | None = 0.2
    full_refresh: bool = False


@dataclass(frozen=True, kw_only=True)
class ChangesRequest:
    """One export of changes, all its arguments checked.

    :param query: which entries the feed follows.
    :param destination: the feed.
    :param options: how entries are read.
    :param rules: how the feed follows them.
    :param skip_if_unchanged: skip the task if nothing changed.
    :param keep_change_sets: how many change sets stay; None for all.
    """

    query: EntryQuery
    destination: Destination
    options: ReadOptions
    rules: FollowOptions
    skip_if_unchanged: bool = False
    keep_change_sets: int | None = None

    @classmethod
    def from_arguments(cls, **arguments: Unpack[ChangesArguments]) -> ChangesRequest:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        given: dict[str, Any] = {**arguments}

        def take(of: type) -> dict[str, Any]:
            return {name: given.pop(name) for name in [*given] if name in of.__annotations__}

        query = entry_query(**take(QueryArguments))
        options = read_options(**take(ReadArguments))
        _check_where(query.where)
        overlap = whole_number("overlap", given.pop("overlap", DEFAULT_OVERLAP), 0, _WEEK_SECONDS)
        deletes = one_of("deletes", given.pop("deletes", "detect"), Deletes)
        rules = FollowOptions(
            overlap=max(overlap, _DELIVERY_OVERLAP) if query.api == "delivery" else overlap,
            detect_deletions=deletes == "detect",
            max_delete_share=_share(given.pop("max_delete_share", DEFAULT_MAX_DELETE_SHARE)),
            full_refresh=flag("full_refresh", given.pop("full_refresh", False)),
        )
        skip, keep = given.pop("skip_if_unchanged", False), given.pop("keep_change_sets", None)
        no_limit = keep is None or as_text(keep) in {"None", ""}
        return cls(
            query=query,
            options=options,
            rules=rules,
            skip_if_unchanged=flag("skip_if_unchanged", skip),
            keep_change_sets=None
            if no_limit
            else whole_number("keep_change_sets", keep, 1, _MAX_CHANGE_SETS),
            destination=_feed(**given),
        )


def _feed(**arguments: Any) -> Destination:
    """Return the folder of a feed.

    :raises ConfigurationError: it is no local folder, or its files would be of a format that no feed has yet.
    """
    destination = Destination.from_arguments(**arguments)
    if not destination.is_folder:
        raise ConfigurationError(
            f"destination {show(as_text(arguments['destination']))} must be a folder and end in /, such as "
            "/data/contensis/: a feed has many files."
        )
    if not destination.is_local:
        raise ConfigurationError(
            f"destination {show(destination.url)} is in an object store, and a feed can only be written to "
            "a local or shared disk so far."
        )
    if destination.file_format != "jsonl":
        raise ConfigurationError(
            f"file_format {destination.file_format!r} is not available for a feed, which holds JSON Lines "
            "so far: remove file_format."
        )
    return destination


def _share(value: object) -> float | None:
    """Return a share; None, also as the text that a template gives, for no limit."""
    if value is None or as_text(value) in {"None", ""}:
        return None
    try:
        share = float(as_text(value))
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise ConfigurationError(
            f"max_delete_share must be a number from 0 to 1, or None for no limit, not {show(value)}."
        )
    return share


def _check_where(clauses: object) -> None:
    """Refuse times that move by themselves: what matches would change without a change mark.

    :raises ConfigurationError: names the value.
    """
    for operator, operand in _operands(clauses):
        text = operand.strip() if isinstance(operand, str) else ""
        if _DATE_FUNCTION.fullmatch(text) or (operator in _RANGES and _PERIODS.fullmatch(text)):
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
