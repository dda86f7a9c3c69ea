"""The proof that a read is complete: what was read adds up to what the service counts.

If it does not, somebody may have published an entry into a window that was already read, or the service may
have kept an entry back: windows that have grown are read again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import IncompleteReadError
from airflow_provider_contensis.export.batch import Receipt
from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.read import WindowReader
    from airflow_provider_contensis.export.search import WindowSearch

log = logging.getLogger(__name__)

_ATTEMPTS = 4


class Proof:
    """Proves a read: each slice, and each bundle of small ones, as it ends; and all of them together.

    :param search: counts entries.
    :param reader: reads windows again.
    :param plan_is_old: whether an earlier attempt made the plan.
    """

    def __init__(self, search: WindowSearch, reader: WindowReader, *, plan_is_old: bool = False) -> None:
        self._search = search
        self._reader = reader
        self._plan_is_old = plan_is_old
        self._entries = self._windows = 0
        self._proven: list[Window] = []
        # Of windows whose times do not show that no other window holds the same entries.
        self.undated: list[Receipt] = []

    def add(self, whole: Window, receipts: Sequence[Receipt]) -> None:
        """Note what is complete.

        :param whole: the window that was read, at once or in ranges.
        :param receipts: of all that was read of it.
        """
        self._proven.append(whole)
        self.undated += (receipt for receipt in receipts if not receipt.is_dated)
        self._entries += _found(receipts)
        self._windows += len(receipts)

    def complete(self, whole: Window, total: int | None, receipts: list[Receipt]) -> Iterator[Batch]:
        """Yield the entries that the read of a slice in ranges lacked, and return once it is proven complete.

        :param whole: the slice, or the range of it that was to be read.
        :param total: number of its entries when it was cut; None if it was read at once.
        :param receipts: of all its ranges; they grow with what is found.
        :raises IncompleteReadError: the read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        if total is None:
            [total] = self._search.counts([whole])
        if _found(receipts) < total and whole.is_whole:
            # No range of times holds the entries without one.
            for batch in self._reader.read([replace(whole, undated=True)]):
                receipts.append(Receipt.of(batch))
                yield batch
        # Deletions since an earlier attempt's plan would hide entries that are missing.
        if self._plan_is_old or _found(receipts) != total:
            [now] = self._search.counts([whole])
            if _found(receipts) != now:
                yield from self._read_grown(receipts)
        for attempt in range(_ATTEMPTS):
            if (found := _found(receipts)) >= total:
                break
            # Deletions may have lowered the count since.
            now = self._search.recount(whole)
            if found >= (expected := min(total, now)):
                break
            if attempt + 1 < _ATTEMPTS:
                yield from self._read_grown(receipts)
        else:
            raise IncompleteReadError(
                f"{whole}: the service counts {count(expected, 'entry', 'entries')}, but its windows hold "
                f"{found:,}. Somebody may be changing much content: try again later. "
                + hint("order", "created-ranges", "total-count"),
                expected=expected,
                found=found,
            )
        self.add(whole, receipts)

    def covers(self, whole: Window) -> bool:
        """Return whether all that was asked for was read as one."""
        return self._proven == [whole]

    def conclude(self, whole: Window | None) -> None:
        """Check what was read against the count of all of it, and that no entry came twice; log the result.

        :param whole: all that was asked for; None if others read the rest, and somebody adds everything up.
        :raises IncompleteReadError: there is more, or an entry is in two windows.
        :raises ContensisError: the service could not be asked.
        """
        if whole is not None and not self.covers(whole):
            self._check_sum(whole)
        check_distinct([receipt.keys for receipt in self.undated])
        log.info(
            "Proof: %s distinct (sys.id, sys.language) in %s, as many as the service counts",
            f"{self._entries:,}",
            count(self._windows, "window"),
        )

    def _check_sum(self, whole: Window) -> None:
        """Check that everything read adds up to the count of all that was asked for.

        :raises IncompleteReadError: there is more.
        """
        for _ in range(_ATTEMPTS):
            [now] = self._search.counts([whole])
            if now < self._entries:
                now = self._search.recount(whole)
            # Where something was published since it was proven, the parts have grown as the whole has.
            if now <= self._entries or now <= (parts := sum(self._search.counts(self._proven))):
                return
        raise IncompleteReadError(
            f"{whole}: the service counts {count(now, 'entry', 'entries')}, but {parts:,} by content "
            "type and language. Somebody may be changing much content: try again later. "
            + hint("content-types", "in", "not"),
            expected=now,
            found=parts,
        )

    def _read_grown(self, receipts: Sequence[Receipt]) -> Iterator[Batch]:
        """Read again the windows that hold more than was read; yield what is new."""
        totals = list(self._search.counts([receipt.window for receipt in receipts]))
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


def _found(receipts: Sequence[Receipt]) -> int:
    return sum(len(receipt.keys) for receipt in receipts)


def check_distinct(keys: Sequence[array[int]]) -> None:
    """Refuse an entry that is in two windows, which hidden created times cannot rule out.

    :param keys: the identity keys of the entries of each window.
    :raises IncompleteReadError: with both figures.
    """
    found = sum(map(len, keys))
    distinct = len(set().union(*keys))
    if distinct < found:
        raise IncompleteReadError(
            f"Of {count(found, 'entry', 'entries')}, only {distinct:,} are distinct: the service, or a cache "
            "in front of it, returned a page that was not asked for. "
            + hint("created-ranges", "starts-with", "content-type-clause", "language-clause"),
            expected=found,
            found=distinct,
        )
