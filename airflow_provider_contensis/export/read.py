"""Reading windows: several at a time, in order, and so that no editor at work can hide an entry.

No page is asked for by its number, which shifts when somebody deletes or publishes an entry. Each page asks
for the entries from a created time on, in order: that time never changes, so the next page begins where the
last one ended, whatever happens in between. Entries that are on both pages are taken once.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export.cut import cut_to_pages, pages_per_window
from airflow_provider_contensis.export.model import Batch
from airflow_provider_contensis.export.order import in_order
from airflow_provider_contensis.export.times import as_datetime, query_millisecond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.page import Page
    from airflow_provider_contensis.export.search import WindowSearch

_TICK_SECONDS = 1.0
_MAX_COUNT = 10_000  # a count may stop there (docs/contensis-api.md, "Paging")


@dataclass
class _Slot:
    """A window's place in the queue, and its reading once that has begun."""

    window: Window
    reading: Future[Batch | list[Window]] | None = None


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
        self, windows: Sequence[Window], *, on_cut: Callable[[list[Window]], None] = lambda _: None
    ) -> Iterator[Batch]:
        """Yield the entries of windows, in order and each window complete.

        :param on_cut: called with the windows that take the place of a window too large, when its turn comes.
        :raises IncompleteReadError: a page did not hold what the service said it would.
        :raises ContensisError: a page could not be read.
        """
        ahead = self._search.windows_ahead
        queue = deque(_Slot(window) for window in windows)
        process = os.getpid()
        with self._search.threads() as executor:
            while queue:
                if os.getpid() != process:
                    raise ContensisError("A read cannot continue in a forked process: begin it there.")
                for number, slot in enumerate(islice(queue, 3 * ahead)):
                    # There are often no entries without a created time, which takes two requests to confirm:
                    # begun early, nobody waits for them in the end.
                    if number < ahead or slot.window.undated:
                        slot.reading = slot.reading or executor.submit(self._read, slot.window)
                reading = queue[0].reading
                if reading is None or not wait([reading], timeout=_TICK_SECONDS).done:
                    self._on_progress(0)
                    continue
                queue.popleft()
                result = reading.result()
                if isinstance(result, Batch):
                    self._on_progress(len(result.entries))
                    yield result
                else:
                    on_cut(result)
                    queue.extendleft(_Slot(part) for part in reversed(result))

    def _read(self, window: Window) -> Batch | list[Window]:
        """Return the entries of a window, or the smaller windows to read instead."""
        search = self._search
        page = search.confirmed(window)
        # A page from a created time on leaves out entries without one, which only a whole query may hold.
        can_follow = _follow_from(page) is not None and not window.is_whole
        longest = 2 * page.size * pages_per_window(page.size) if can_follow else page.size
        if page.total > longest or page.total >= _MAX_COUNT:
            return self._cut(window, page)
        first, batch = page, page.batch
        seen: set[int] = set()
        rest, begun_at = window, _at_millisecond(page.first_created)
        while not page.is_last:
            begin = _follow_from(page) if can_follow else None
            if begin is None or begin == begun_at:
                if page.is_all and search.first(rest).total <= page.total:
                    break
                # A page's worth of entries at one moment, or hidden times: ids tell them apart.
                return self._cut(window, page)
            seen.update(page.batch.keys)
            rest, begun_at = replace(window, created_from=begin), begin
            page = search.page(rest)
            batch = batch.extended(page.batch.without(seen))
        if len(batch.entries) < first.total and search.first(window).total > len(batch.entries):
            # A later page was another one, within the same bounds.
            return self._cut(window, first)
        return in_order(batch)

    def _cut(self, window: Window, page: Page) -> list[Window]:
        measure = self._search.measure(window, page)
        return cut_to_pages(window, measure, page_size=page.size, concurrency=self._search.concurrency)


def _follow_from(page: Page) -> str | None:
    """Return the created time from which to ask for the page after this one; None if it is hidden.

    It is cut to the millisecond, as the search index is: entries that the index sorts behind the last one may
    differ from it in later digits.
    """
    return _at_millisecond(page.last_created)


def _at_millisecond(created: str | None) -> str | None:
    moment = as_datetime(created)
    return None if moment is None else query_millisecond(moment)
