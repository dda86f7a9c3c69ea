"""Reading windows: several at a time, in order, and so that no editor at work can hide an entry.

No page is asked for by its number, which shifts when somebody deletes or publishes an entry. Each page asks
for the entries from a created time on, in order: that time never changes, so the next page begins where the
last one ended, whatever happens in between. Entries that are on both pages are taken once.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export.cut import cut_by_kind, cut_to_pages, pages_per_window
from airflow_provider_contensis.export.model import MAX_COUNT, Cut, Measure
from airflow_provider_contensis.export.order import in_order
from airflow_provider_contensis.export.pace import Pace
from airflow_provider_contensis.export.times import as_datetime, query_millisecond
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.page import Page
    from airflow_provider_contensis.export.search import WindowSearch

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0


@dataclass
class _Slot:
    """A window's place in the queue, and its reading once that has begun."""

    window: Window
    is_part: bool = False
    reading: Future[Batch | Cut] | None = None


class WindowReader:
    """Reads windows.

    :param search: asks for their pages.
    :param on_progress: called in the caller's thread with the number of entries read, and about once a
        second with 0.
    """

    def __init__(self, search: WindowSearch, *, on_progress: Callable[[int], None] = lambda _: None) -> None:
        self._search = search
        self._on_progress = on_progress

    def read(
        self,
        windows: Sequence[Window],
        *,
        on_cut: Callable[[Cut], None] = lambda _: None,
        are_parts: bool = False,
    ) -> Iterator[Batch]:
        """Yield the entries of windows, in order and each window complete.

        :param on_cut: called with the windows that take the place of one too large, when its turn comes.
        :param are_parts: whether they were cut from a larger window, whose count does not prove each.
        :raises IncompleteReadError: a page did not hold what the service said it would.
        :raises ContensisError: a page could not be read.
        """
        queue = deque(_Slot(window, are_parts) for window in windows)
        process = os.getpid()
        pace = Pace(self._search.windows_ahead)
        with self._search.threads() as executor:
            while queue:
                if os.getpid() != process:
                    raise ContensisError("A read cannot continue in a forked process: begin it there.")
                # With one request at a time, the order of requests can be repeated.
                ahead = pace.windows if self._search.concurrency > 1 else self._search.windows_ahead
                for slot in islice(queue, ahead):
                    slot.reading = slot.reading or executor.submit(
                        pace.read, self._read, slot.window, slot.is_part
                    )
                reading = queue[0].reading
                if reading is None or not wait([reading], timeout=_TICK_SECONDS).done:
                    self._on_progress(0)
                    continue
                queue.popleft()
                result = reading.result()
                batch = result.first if isinstance(result, Cut) else result
                if isinstance(result, Cut):
                    on_cut(result)
                    parts = result.parts[0 if batch is None else 1 :]
                    queue.extendleft(_Slot(part, is_part=True) for part in reversed(parts))
                if batch is not None:
                    self._on_progress(len(batch.entries))
                    with pace.writing():
                        yield batch

    def _read(self, window: Window, is_part: bool) -> Batch | Cut:
        """Return the entries of a window, or the smaller windows to read instead.

        :param is_part: whether it was cut from a larger window.
        """
        search = self._search
        page = search.confirmed(window)
        follow = _follow_from(page)
        longest = page.size if follow is None or page.is_all else 2 * page.size * pages_per_window(page)
        if page.total > longest or page.total >= MAX_COUNT:
            return self._cut(window, page, keep_page=True)
        first, batch = page, page.batch
        seen: set[int] = set()
        rest, begun_at = window, _at_millisecond(page.first_created)
        while not page.is_last:
            if follow is None or follow == begun_at:
                if page.is_all and search.first(rest).total <= page.total:
                    break
                # A page's worth of entries at one moment, or hidden times: ids tell them apart.
                return self._cut(window, page)
            seen.update(page.batch.keys)
            rest, begun_at = replace(window, created_from=follow), follow
            page = search.page(rest)
            follow = _follow_from(page)
            batch = batch.extended(page.batch.without(seen))
        if len(batch.entries) < first.total and window.is_whole:
            # No page from a created time on holds entries without one.
            page = search.confirmed(replace(window, undated=True))
            if not page.is_last:
                return self._cut(window, first)
            batch = batch.extended(page.batch.without(set(batch.keys)))
        if self._lacks_entries(window, first, len(batch.entries), is_part=is_part):
            return self._cut(window, first)
        return in_order(batch) if window.is_slice else batch

    def _lacks_entries(self, window: Window, page: Page, found: int, *, is_part: bool) -> bool:
        """Return whether a window holds more than was found, as one of its pages may have been another one.

        :param page: its first page.
        """
        # The whole query, and the ranges of a slice, are counted when the read is proven.
        is_counted = not (is_part and window.is_whole) or found == window.expected
        if found >= page.total and is_counted:
            return False
        total = self._search.recount(window)
        if total > found:
            log.warning(
                "%s: the service counts %s, of which %s were read. Reading the window again",
                window,
                count(total, "entry", "entries"),
                f"{found:,}",
            )
        return total > found

    def _cut(self, window: Window, page: Page, *, keep_page: bool = False) -> Cut:
        """Return the cut of a window.

        :param page: its first page.
        :param keep_page: whether the page's entries are beyond doubt.
        """
        if window.cut_by in {"content type", "language"}:
            parts = cut_by_kind(window, page, self._search.query)
            listed = {id_.lower() for id_ in window.content_type_ids}
            others = any(meta.content_type_id.lower() not in listed for meta in page.batch.metas)
            if len(parts) > 1 or others or not parts[0].is_slice:
                return Cut(window, page.total, tuple(parts))
            window = parts[0]  # the same entries, without a doubt about other content types
        first, rest, total, begin = None, window, page.total, page.first_created
        after = _follow_from(page)
        if keep_page and after is not None and window.cut_by == "created":
            kept = _created_before(after, in_order(page.batch))
            if kept.entries:
                first = kept._replace(window=replace(window, created_to=after))
                rest, total, begin = replace(window, created_from=after), total - len(kept.entries), after
        if first is not None and total <= page.size:
            parts = [rest]
        else:
            measure = Measure(total, begin, self._search.last(rest).first_created)
            parts = cut_to_pages(rest, measure, page, concurrency=self._search.concurrency)
        return Cut(window, page.total, (*([first.window] if first else []), *parts), first)


def _created_before(time: str, batch: Batch) -> Batch:
    """Return the entries of a batch in order that were created before a time, which is given in UTC."""
    end = len(batch.metas)
    while end and (_at_millisecond(batch.metas[end - 1].created) or time) >= time:
        end -= 1
    return batch.take(range(end))


def _follow_from(page: Page) -> str | None:
    """Return the created time from which to ask for the page after this one; None if it cannot be told.

    It is hidden, or the service has not sorted the page, so that what comes after it is not known. It is cut
    to the millisecond, as the search index is: entries that the index sorts behind the last one may differ
    from it in later digits.
    """
    seconds = [meta.created[:19] for meta in page.batch.metas if meta.created]
    return _at_millisecond(page.last_created) if seconds == sorted(seconds) else None


def _at_millisecond(created: str | None) -> str | None:
    moment = as_datetime(created)
    return None if moment is None else query_millisecond(moment)
