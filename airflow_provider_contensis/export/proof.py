"""The proof that a read is complete: its windows add up to what the service counts.

If they do not, somebody may have published an entry into a window that was already read, or the service may
have kept an entry back: windows that have grown are read again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import IncompleteReadError
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.export.model import Batch, Receipt, Slice, SliceKey, Window
    from airflow_provider_contensis.export.read import WindowReader
    from airflow_provider_contensis.export.search import WindowSearch

log = logging.getLogger(__name__)

_ATTEMPTS = 4


class Proof:
    """Proves a read, one content type after the other.

    :param search: counts entries.
    :param reader: reads windows again.
    :param plan_is_old: whether an earlier attempt made the plan.
    """

    def __init__(self, search: WindowSearch, reader: WindowReader, *, plan_is_old: bool = False) -> None:
        self._search = search
        self._reader = reader
        self._plan_is_old = plan_is_old
        self._entries = self._windows = 0
        # Of windows whose times do not show that no other window holds the same entries.
        self._undated: list[Receipt] = []

    def complete(self, slices: Sequence[Slice], receipts: Sequence[Receipt]) -> Iterator[Batch]:
        """Yield the entries that the read of some slices lacked, and return once it is proven complete.

        :param slices: as planned.
        :param receipts: of all their windows; the keys grow with what is found.
        :raises IncompleteReadError: the read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        # Deletions since an earlier attempt's plan would hide entries that are missing.
        found = _counts(receipts)
        unsure = [
            each.window for each in slices if self._plan_is_old or found[each.window.slice_key] != each.total
        ]
        for window, total in zip(unsure, self._search.counts(unsure), strict=True):
            if found[window.slice_key] != total:
                yield from self._read_grown(_of_slice(receipts, window.slice_key))
        for attempt in range(_ATTEMPTS):
            short = self._short_slices(slices, receipts)
            if not short:
                self._undated += (receipt for receipt in receipts if not receipt.is_dated)
                self._entries += sum(len(receipt.keys) for receipt in receipts)
                self._windows += len(receipts)
                return
            if attempt + 1 < _ATTEMPTS:
                for window, _, _ in short:
                    yield from self._read_grown(_of_slice(receipts, window.slice_key))
        window, expected, read = short[0]
        raise IncompleteReadError(
            f"{window}: the service counts {count(expected, 'entry', 'entries')}, but its windows hold "
            f"{read:,}. Somebody may be changing much content: try again later.",
            expected=expected,
            found=read,
        )

    def conclude(self) -> None:
        """Check that no entry came twice, and log what was proven.

        :raises IncompleteReadError: an entry is in two windows.
        """
        _check_distinct(self._undated)
        log.info(
            "Proof: %s distinct (sys.id, sys.language) in %s, as many as the service counts",
            f"{self._entries:,}",
            count(self._windows, "window"),
        )

    def _short_slices(
        self, slices: Sequence[Slice], receipts: Sequence[Receipt]
    ) -> list[tuple[Window, int, int]]:
        """Return the slices of which fewer entries were read than there are, with both figures.

        Deletions may have lowered the count since the plan, so it is asked again where fewer were found.
        """
        found = _counts(receipts)
        short = [each for each in slices if found[each.window.slice_key] < each.total]
        now = self._search.counts([each.window for each in short])
        figures = [
            (each.window, min(each.total, total), found[each.window.slice_key])
            for each, total in zip(short, now, strict=True)
        ]
        return [(window, expected, read) for window, expected, read in figures if read < expected]

    def _read_grown(self, receipts: Sequence[Receipt]) -> Iterator[Batch]:
        """Read again the windows that hold more than was read; yield what is new."""
        totals = self._search.counts([receipt.window for receipt in receipts])
        for receipt, total in zip(receipts, totals, strict=True):
            if total <= len(receipt.keys):
                continue
            log.warning(
                "%s: the service counts %s, of which %s were read. Reading the window again",
                receipt.window,
                count(total, "entry", "entries"),
                f"{len(receipt.keys):,}",
            )
            for batch in self._reader.read([receipt.window]):
                fresh = batch.without(set(receipt.keys))
                receipt.keys.extend(fresh.keys)
                yield fresh


def _counts(receipts: Iterable[Receipt]) -> Counter[SliceKey]:
    """Return how many entries of each slice were read."""
    counts: Counter[SliceKey] = Counter()
    for receipt in receipts:
        counts[receipt.window.slice_key] += len(receipt.keys)
    return counts


def _of_slice(receipts: Sequence[Receipt], slice_key: SliceKey) -> list[Receipt]:
    return [receipt for receipt in receipts if receipt.window.slice_key == slice_key]


def _check_distinct(receipts: Sequence[Receipt]) -> None:
    """Refuse an entry that is in two windows, which hidden created times cannot rule out.

    :raises IncompleteReadError: with both figures.
    """
    found = sum(len(receipt.keys) for receipt in receipts)
    distinct = len(set().union(*(receipt.keys for receipt in receipts)))
    if distinct < found:
        raise IncompleteReadError(
            f"Of {count(found, 'entry', 'entries')}, only {distinct:,} are distinct: the service, or a cache "
            "in front of it, returned a page that was not asked for.",
            expected=found,
            found=distinct,
        )
