"""Cutting what is asked for into windows that can be read side by side.

No query of the service can be trusted past 10,000 rows (API notes, section 4.6), so what is larger than a
page is cut by `sys.version.created`: that time never changes, so no entry moves between windows while they
are read. The windows of a query cover it by construction: the first has no lower bound, the last no upper
one, and one more asks for entries without a time, unless there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Literal, NamedTuple

from airflow_provider_contensis.api.errors import ExportError
from airflow_provider_contensis.api.query import CREATED
from airflow_provider_contensis.api.times import as_datetime

if TYPE_CHECKING:
    from airflow_provider_contensis.api.query import Clause
    from airflow_provider_contensis.export.formats.base import ContentType

_MOST_PARTS = 10_000
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_HEX_DIGITS = "0123456789abcdef"
_LONGEST_PREFIX = 8


@dataclass(frozen=True)
class Window:
    """A part of a query, as plain data.

    :param language: of its entries.
    :param content_type_id: of its entries; None where the query names no single one.
    :param query: the search clauses of the whole query.
    :param created_from: its lower bound in created time, None for none.
    :param created_to: its upper bound, exclusive, None for none.
    :param undated: whether it holds the entries without a created time.
    :param id_prefix: what its entries' ids start with, where time could not separate them.
    :param other_ids: whether no hexadecimal digit follows that prefix.
    """

    language: str
    content_type_id: str | None
    query: tuple[Clause, ...]
    created_from: str | None = None
    created_to: str | None = None
    undated: bool = False
    id_prefix: str = ""
    other_ids: bool = False

    @property
    def part(self) -> tuple[str | None, str]:
        """What its query asks for: the content type and the language."""
        return self.content_type_id, self.language

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its query."""
        return self == Window(self.language, self.content_type_id, self.query)

    @property
    def cut_by(self) -> Literal["created", "id", "nothing"]:
        """What it can be cut by, should it turn out too large."""
        if self.other_ids or len(self.id_prefix) >= _LONGEST_PREFIX:
            return "nothing"
        return "id" if self.undated or self.id_prefix else "created"

    @property
    def where(self) -> list[Clause]:
        """Its search clauses."""
        clauses = list(self.query)
        if self.undated:
            clauses.append({"field": CREATED, "exists": False})
        if self.created_from is not None:
            clauses.append({"field": CREATED, "greaterThanOrEqualTo": self.created_from})
        if self.created_to is not None:
            clauses.append({"field": CREATED, "lessThan": self.created_to})
        if self.id_prefix:
            clauses.append({"field": "sys.id", "startsWith": self.id_prefix})
        if self.other_ids:
            starts = [{"field": "sys.id", "startsWith": self.id_prefix + digit} for digit in _HEX_DIGITS]
            clauses.append({"not": {"or": starts}})
        return clauses

    def may_hold(self, entry_id: str) -> bool:
        """Return whether it asks for an entry's id."""
        prefix, text = self.id_prefix, entry_id.lower()
        follows = text[len(prefix) : len(prefix) + 1]
        return text.startswith(prefix) and not (self.other_ids and follows and follows in _HEX_DIGITS)

    def __str__(self) -> str:
        name = f"{self.content_type_id or 'other content types'} in {self.language}"
        if self.undated:
            name += ", without a created time"
        if self.created_from or self.created_to:
            name += f", created from {self.created_from or 'the beginning'} to {self.created_to or 'now'}"
        if self.id_prefix:
            name += f", ids starting with {self.id_prefix}"
        if self.other_ids:
            name += ", other ids"
        return name


@dataclass(frozen=True)
class Measure:
    """How large a window is.

    :param total: how many entries it holds, as far as the service tells.
    :param first: the created time of its first entry, None if hidden or not asked for.
    :param last: the created time of its last entry, None if hidden or not asked for.
    :param undated: whether it may hold entries without a created time.
    """

    total: int
    first: str | None = None
    last: str | None = None
    undated: bool = True


class Part(NamedTuple):
    """One content type in one language.

    :param window: all of it.
    :param total: how many entries it holds.
    """

    window: Window
    total: int


@dataclass(frozen=True)
class Plan:
    """What will be read, as plain data.

    :param content_types: the definitions of those asked for, sorted by id.
    :param parts: what there is of them, in the order in which it is read.
    :param windows: the same, cut small enough to be read whole.
    """

    content_types: tuple[ContentType, ...]
    parts: tuple[Part, ...]
    windows: tuple[Window, ...]

    @property
    def total(self) -> int:
        """How many entries there are to read."""
        return sum(part.total for part in self.parts)


def cut(window: Window, measure: Measure, *, aim: int, at_once: int = 1) -> list[Window]:
    """Return windows that together are the given one, in the order of its entries.

    :param aim: how many entries each should hold at the most, if they were spread evenly.
    :param at_once: how many are read at a time; they shall come out even.
    :raises ExportError: it can't be cut any further.
    """
    if window.cut_by == "created":
        lower, upper = as_datetime(window.created_from), as_datetime(window.created_to)
        begin = as_datetime(measure.first) or lower or _EARLIEST
        end = as_datetime(measure.last) or upper or datetime.now(UTC)
        # A service that ignores bounds would else be asked the same for ever.
        begin, end = max(begin, lower or begin), min(end, upper or end)
        parts = max(2, ceil(min(measure.total, aim * _MOST_PARTS) / aim))
        if parts > at_once:
            parts = ceil(parts / at_once) * at_once
        if marks := _marks(begin, end, parts):
            return _cut_by_created(window, marks, undated=measure.undated)
    return _cut_by_id(window)


def mark(moment: datetime) -> str:
    """Return a time in UTC as an operand, cut to the millisecond: the search index resolves no finer."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _marks(begin: datetime, end: datetime, parts: int) -> list[str]:
    """Return the times that cut a range into equal parts, without repetition."""
    marks: list[datetime] = []
    for number in range(1, parts):
        moment = begin + (end - begin) * number / parts
        moment -= timedelta(microseconds=moment.microsecond % 1000)
        if begin < moment <= end and (not marks or moment > marks[-1]):
            marks.append(moment)
    return [mark(moment) for moment in marks]


def _cut_by_created(window: Window, marks: list[str], *, undated: bool) -> list[Window]:
    bounds = [window.created_from, *marks, window.created_to]
    parts = [replace(window, created_from=begin, created_to=end) for begin, end in pairwise(bounds)]
    if window.is_whole and undated:
        # No range holds an entry without a created time.
        parts.append(replace(window, undated=True))
    return parts


def _cut_by_id(window: Window) -> list[Window]:
    if window.cut_by == "nothing":
        raise ExportError(
            f"{window}: more entries than a page holds can't be told apart by created time or id. "
            "Set a larger page_size, or narrow the export with content_type_id, language or where."
        )
    prefixes = [window.id_prefix + digit for digit in _HEX_DIGITS]
    return [*(replace(window, id_prefix=prefix) for prefix in prefixes), replace(window, other_ids=True)]
