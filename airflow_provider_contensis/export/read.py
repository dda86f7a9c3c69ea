"""Reading windows: several at a time, in order, and so that no editor at work can hide an entry.

A page is never asked for by its number, which shifts when somebody deletes or publishes something. Each
page asks for the entries from a created time on, first come first: that time never changes, so whatever
happens meanwhile, the next page begins where the last one ended. What both hold is taken once.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_contensis.api.errors import IncompleteReadError, InvalidResponseError
from airflow_provider_contensis.api.query import CREATED
from airflow_provider_contensis.api.times import as_datetime
from airflow_provider_contensis.export.pace import Pace
from airflow_provider_contensis.export.plan import Measure, Window, cut, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from airflow_provider_contensis.api.client import ContensisClient, EntriesPage
    from airflow_provider_contensis.api.query import Api

_TICK_SECONDS = 1.0
_MOST_COUNTED = 10_000  # a count may stop there (API notes, section 4.6)
# Windows that are read beyond those under way, so that no thread idles while one is written.
_MORE_WINDOWS = 4
# Each window ends in a page that is not full: where pages are small, a window aims at several.
_WINDOW_ENTRIES = 1_000
_MOST_PAGES = 10


class Version(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The times of an entry's version; a project may hide them (API notes, section 3.1)."""

    created: str | None = None
    modified: str | None = None
    published: str | None = None


class Sys(msgspec.Struct, rename="camel", gc=False):
    """What identifies an entry."""

    id: str
    language: str = ""
    content_type_id: str = ""
    version: Version | None = None


class Head(msgspec.Struct, gc=False):
    """The part of an entry that the export itself looks into; the rest stays bytes."""

    sys: Sys

    @property
    def identity(self) -> tuple[str, str]:
        """What no two entries share."""
        return self.sys.id, self.sys.language

    @property
    def created(self) -> str | None:
        """When the entry was created, unless that is hidden."""
        return self.sys.version.created if self.sys.version else None


_HEAD = msgspec.json.Decoder(Head)


def heads_of(entries: Sequence[msgspec.Raw]) -> list[Head]:
    """Return the heads of entries."""
    return [_HEAD.decode(entry) for entry in entries]


class Block(NamedTuple):
    """The entries of one window, in order: their bytes as served, and their heads."""

    window: Window
    entries: list[msgspec.Raw]
    heads: list[Head]

    @property
    def is_dated(self) -> bool:
        """Whether its entries show when they were created, by which they belong to one window only."""
        return all(head.created for head in (self.heads[0], self.heads[-1])) if self.heads else True

    @property
    def fingerprints(self) -> array[int]:
        """A number of 64 bits for each entry, much the same as its identity; another one in each process."""
        return array("q", [hash((head.sys.id, head.sys.language)) for head in self.heads])

    def without(self, fingerprints: Container[int]) -> Block:
        """Return what is left when entries with some fingerprints are left out."""
        fresh = [number for number, mark in enumerate(self.fingerprints) if mark not in fingerprints]
        return Block(
            self.window,
            [self.entries[number] for number in fresh],
            [self.heads[number] for number in fresh],
        )


@dataclass(frozen=True)
class _Page:
    size: int
    total: int
    entries: list[msgspec.Raw]
    heads: list[Head]

    @property
    def is_all(self) -> bool:
        """Whether it says that there is no more."""
        return self.total <= len(self.entries)

    @property
    def is_last(self) -> bool:
        """Whether there is no more, beyond doubt: where a full page says so, the next one has to agree."""
        return self.is_all and len(self.entries) < self.size


@dataclass
class _Slot:
    """A window's place in the line, and its reading once that was begun."""

    window: Window
    reading: Future[Block | list[Window]] | None = None


class WindowReader:
    """Reads windows through one client.

    :param client: whose connections are used.
    :param project_id: the project to read from.
    :param api: `management` or `delivery`.
    :param link_depth: how deep the Delivery API resolves links.
    :param field_link_depths: the same for single field paths.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: how many pages are asked for at the same time.
    :param on_progress: called in the caller's thread with the number of entries read, and about once a
        second with 0.
    """

    def __init__(
        self,
        client: ContensisClient,
        project_id: str,
        *,
        api: Api = "management",
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        page_size: int = 500,
        max_concurrent_requests: int = 4,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._api = api
        self._link_depth = link_depth
        self._field_link_depths = field_link_depths
        self._pace = Pace(page_size, max_concurrent_requests)
        self._concurrency = max_concurrent_requests
        self._windows_ahead = max_concurrent_requests + _MORE_WINDOWS
        self._on_progress = on_progress
        # Threads that all compute would keep those waiting that have to ask for the next page.
        self._reading = threading.Lock()

    def totals(self, windows: Sequence[Window]) -> list[int]:
        """Return how many entries windows hold, several at a time.

        :raises ContensisError: the service could not be asked.
        """
        with self._threads() as executor:
            return [page.total for page in executor.map(self._counted, windows)]

    def measure(self, windows: Sequence[Window]) -> list[Measure]:
        """Return how large windows are; as `totals`."""
        with self._threads() as executor:
            # Nobody waits for what is asked of a few windows too early; of many, most of it is not needed.
            spare = self._concurrency // max(1, len(windows)) - 1
            measures = []
            for window in windows:
                last = executor.submit(self._end, window, "desc") if spare >= 1 else None
                rest = replace(window, undated=True)
                undated = [executor.submit(self._end, rest) for _ in range(2)] if spare >= 3 else []
                measures.append(executor.submit(self._measure, window, last, undated))
            return [measure.result() for measure in measures]

    def parts(self, window: Window, measure: Measure) -> list[Window]:
        """Return a window cut small enough to be read side by side with others, if it has to be."""
        page_size = self._pace.page_size
        return [window] if measure.total <= page_size else self._cut(window, measure, page_size)

    def read(
        self, windows: Sequence[Window], *, on_cut: Callable[[list[Window]], None] = lambda _: None
    ) -> Iterator[Block]:
        """Yield the entries of windows, in order and each window complete.

        :param on_cut: called with the parts of a window that are read in its place, when its turn has come.
        :raises IncompleteReadError: a page did not hold what the service said it would.
        :raises ContensisError: a page could not be read.
        """
        line = deque(_Slot(window) for window in windows)
        with self._threads() as executor:
            while line:
                for number, slot in enumerate(islice(line, 3 * self._windows_ahead)):
                    # Of entries without a created time there are often none, which is asked for again to be
                    # sure: begun early, nobody waits for that in the end.
                    if number < self._windows_ahead or slot.window.undated:
                        slot.reading = slot.reading or executor.submit(self._read, slot.window)
                reading = line[0].reading
                if reading is None or not wait([reading], timeout=_TICK_SECONDS).done:
                    self._on_progress(0)
                    continue
                line.popleft()
                result = reading.result()
                if isinstance(result, Block):
                    self._on_progress(len(result.entries))
                    yield result
                else:
                    on_cut(result)
                    line.extendleft(_Slot(part) for part in reversed(result))

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Lend threads; on a failure nobody waits for those that are still asking.

        There are more of them than requests may be under way, as some look into what was answered; but
        where that is one, all comes in an order that can be repeated.
        """
        number = self._windows_ahead if self._concurrency > 1 else 1
        executor = ThreadPoolExecutor(number, thread_name_prefix="contensis")
        try:
            yield executor
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _read(self, window: Window) -> Block | list[Window]:
        """Return the entries of a window, or the parts that have to be read instead."""
        page = self._page(window)
        if not page.total and self._end(window).total:
            page = self._page(window)  # an empty page does not show what it is a page of
        # Asking from a time on would leave out entries without one, which only a whole query may hold.
        follows = bool(page.heads) and _mark(page.heads[-1]) is not None and not window.is_whole
        longest = 2 * page.size * self._pages(page.size) if follows else page.size
        if page.total > longest or page.total >= _MOST_COUNTED:
            return self._cut(window, self._extent(window, page), page.size)
        first, entries, heads = page, page.entries, page.heads
        seen = set() if page.is_last else {head.identity for head in heads}
        rest, begun_at = window, _mark(heads[0]) if heads else None
        while not page.is_last:
            begin = _mark(page.heads[-1]) if follows else None
            if begin is None or begin == begun_at:
                if page.is_all and self._end(rest).total <= page.total:
                    break
                # As many at one moment as a page holds, or times that are hidden: ids tell them apart.
                return self._cut(window, self._extent(window, page), page.size)
            rest, begun_at = replace(window, created_from=begin), begin
            page = self._page(rest)
            fresh = [number for number, head in enumerate(page.heads) if head.identity not in seen]
            entries = [*entries, *(page.entries[number] for number in fresh)]
            heads = [*heads, *(page.heads[number] for number in fresh)]
            seen.update(head.identity for head in page.heads)
        if len(entries) < first.total and self._end(window).total > len(entries):
            # What was shown as a page that follows was another one, within its bounds.
            return self._cut(window, self._extent(window, first), first.size)
        return Block(window, entries, heads)

    def _cut(self, window: Window, measure: Measure, page_size: int) -> list[Window]:
        pages = min(self._pages(page_size), max(1, measure.total // page_size // (4 * self._concurrency)))
        # Entries cluster in time. A page also holds the last entry of the one before it.
        aim = pages * (page_size - 1) if pages > 1 else page_size - int(sqrt(page_size))
        return cut(window, measure, aim=max(1, aim), at_once=self._concurrency)

    def _pages(self, page_size: int) -> int:
        """Return how many pages a window may fill, which follow each other."""
        return max(1, min(_MOST_PAGES, _WINDOW_ENTRIES // page_size))

    def _measure(
        self, window: Window, last: Future[_Page] | None, undated: Sequence[Future[_Page]]
    ) -> Measure:
        page, far = (self._end(window), last.result()) if last else (self._counted(window), None)
        total = max(page.total, far.total if far else 0)
        if total <= self._pace.page_size:
            return Measure(total)
        measure = self._extent(window, replace(page, total=total), far)
        # Twice none, for one answer that there is none does not show what it is an answer to.
        return replace(measure, undated=any(each.result().total for each in undated) or not undated)

    def _counted(self, window: Window) -> _Page:
        """Return the first entry of a window; that there is none does not show what it is an answer to."""
        page = self._end(window)
        return page if page.total else self._end(window)

    def _extent(self, window: Window, page: _Page, last: _Page | None = None) -> Measure:
        """Return how large a window is, and when the first and last of its entries were created."""
        last = last or self._end(window, "desc")
        return Measure(
            page.total,
            page.heads[0].created if page.heads else None,
            last.heads[0].created if last.heads else None,
        )

    def _end(self, window: Window, direction: str = "asc") -> _Page:
        """Return the first entry of a window, or its last."""
        return self._page(window, page_size=1, direction=direction)

    def _page(self, window: Window, *, page_size: int | None = None, direction: str = "asc") -> _Page:
        """Return the first entries of a window, as many as a page holds; a page is whole or it is refused."""
        what = f"A page of {window}"
        query: dict[str, Any] = {
            "where": window.where,
            # Without an order the service sorts by relevance, anew for each request.
            "orderBy": [{direction: CREATED}, {direction: "sys.id"}],
            "pageIndex": 0,
        }

        def attempt() -> _Page:
            with self._pace.turn(page_size) as turn:
                answer = self._client.search(
                    self._project_id,
                    {**query, "pageSize": turn.page_size},
                    link_depth=self._link_depth,
                    field_link_depths=self._field_link_depths,
                    api=self._api,
                    what=what,
                )
                turn.answered()
                with self._reading:
                    page = answer.page()
            with self._reading:
                return _checked(page, window, turn.page_size)

        return self._client.retrying(attempt, what=what)


def _checked(answer: EntriesPage, window: Window, size: int) -> _Page:
    """Return a page whose entries are as many as the service says there are, all different, all asked for."""
    try:
        heads = heads_of(answer.items)
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidResponseError(
            f"{window}: an entry came whose sys.id, sys.language or sys.contentTypeId is missing or odd."
        ) from None
    if answer.page_size is not None and 1 <= answer.page_size < size:
        size = answer.page_size  # the service may give smaller pages than asked for
    expected = min(size, answer.total_count)
    found = len({(head.sys.id, head.sys.language) for head in heads})
    if not expected == found == len(heads):
        raise IncompleteReadError(
            f"{window}: the service counts {answer.total_count:,} entries and a page should hold "
            f"{expected:,} of them, but it holds {found:,} distinct ones in {len(heads):,}.",
            expected=expected,
            found=found,
        )
    # Nearly always one kind, so that this costs no comparison for each entry.
    kinds = {(head.sys.language, head.sys.content_type_id): head.sys.id for head in heads}
    for (language, content_type_id), entry_id in kinds.items():
        asked = window.language, window.content_type_id or content_type_id
        told = zip((language, content_type_id), asked, strict=True)
        if any(name and name.lower() != other.lower() for name, other in told):
            raise InvalidResponseError(f"{window}: an entry came that was not asked for ({entry_id}).")
    if (stranger := _stranger(window, heads)) is not None:
        # As from a cache that does not look at what is asked for, and shows some other page.
        raise InvalidResponseError(f"{window}: an entry came that was not asked for ({stranger.sys.id}).")
    return _Page(size, answer.total_count, answer.items, heads)


def _stranger(window: Window, heads: Sequence[Head]) -> Head | None:
    """Return an entry whose created time or id says that it is not of a window; times may be hidden.

    A page is ordered by created time, so its ends tell.
    """
    lower, upper = as_datetime(window.created_from), as_datetime(window.created_to)
    for head in (heads[0], heads[-1]) if heads else ():
        moment = as_datetime(head.created)
        if moment is not None and (
            window.undated
            or (lower is not None and moment < lower)
            or (upper is not None and moment >= upper)
        ):
            return head
    if not (window.id_prefix or window.other_ids):
        return None
    return next((head for head in heads if not window.may_hold(head.sys.id)), None)


def _mark(head: Head) -> str | None:
    """Return the time from which a page that follows an entry is asked for; None if it is hidden.

    Cut to the millisecond, as finely as the search index can tell times apart: entries that it puts
    behind this one are not earlier than that.
    """
    moment = as_datetime(head.created)
    return None if moment is None else mark(moment - timedelta(microseconds=moment.microsecond % 1000))
