"""The documents that searches choose from, and a quick way to those within a range of times."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.sandbox.documents import Document, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TimeRange(NamedTuple):
    """A range that a date has to be in, as `instant` returns it.

    :param path: of the date.
    :param first: the earliest; None for no limit.
    :param last: the latest; None for no limit.
    """

    path: str
    first: int | None
    last: int | None


class _Times(NamedTuple):
    """Dates in order with the positions of their documents, and those of values that are no dates."""

    instants: list[int]
    positions: list[int]
    others: set[int]


class Selection:
    """Documents in order.

    :param documents: these documents.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents
        self._times: dict[str, _Times] = {}

    def within(self, ranges: Iterable[TimeRange]) -> Sequence[Document]:
        """Return all documents that may have dates in all ranges, in order: those in the narrowest one."""
        narrowest: Sequence[int] | None = None
        for path, first, last in ranges:
            times = self._times.get(path) or self._times.setdefault(path, self._times_at(path))
            start = 0 if first is None else bisect_left(times.instants, first)
            end = len(times.instants) if last is None else bisect_right(times.instants, last)
            if narrowest is None or max(0, end - start) + len(times.others) < len(narrowest):
                narrowest = [*{*times.positions[start:end], *times.others}]
        if narrowest is None:
            return self.documents
        return [self.documents[position] for position in sorted(narrowest)]

    def _times_at(self, path: str) -> _Times:
        moments: list[int] = []
        positions: list[int] = []
        others: set[int] = set()
        for position, document in enumerate(self.documents):
            for value in document.values(path):
                if isinstance(value, str):
                    moment = instant(value)
                    if moment is None:
                        others.add(position)
                    else:
                        moments.append(moment)
                        positions.append(position)
        order = sorted(range(len(moments)), key=moments.__getitem__)
        return _Times([moments[place] for place in order], [positions[place] for place in order], others)
