"""Cutting a window into smaller ones, which together are the whole.

No query can be trusted past 10,000 rows (docs/contensis-api.md, "Paging"), so a window too large to be read
at once is cut: first into bundles of whole content types, then of languages, so that small ones share pages.
A single slice is cut by `sys.version.created`: that time never changes, so no entry moves between windows
while they are read. The first of the new windows has no lower bound and the last no upper one; none holds
entries without a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.export.model import HEX_DIGITS
from airflow_provider_contensis.export.times import as_datetime, query_millisecond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.export.model import EntryQuery, Measure, Window
    from airflow_provider_contensis.export.page import Page

_MAX_WINDOWS = 10_000
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# The last page of a window is rarely full, so small pages come several to a window.
_WINDOW_ENTRIES = 1_000
_WINDOW_BYTES = 3 << 20  # more windows than requests in flight are in memory
_MAX_PAGES = 10


def cut_by_kind(window: Window, page: Page, query: EntryQuery) -> list[Window]:
    """Return windows of neighbouring content types, or languages, each small enough to be read at once.

    :param page: the first page of the window: it shows how many entries there are of each kind.
    :param query: what the window is a part of.
    """
    by_type = window.cut_by == "content type"
    kinds = window.content_type_ids if by_type else window.languages
    sizes = page.sizes
    if sizes is None:
        sample = Counter(
            (meta.content_type_id if by_type else meta.language).lower() for meta in page.batch.metas
        )
        # A kind that is not on the page may still have entries.
        share = page.total / (sample.total() + len(kinds) / 2)
        weights = [share * (sample[kind.lower()] + 0.5) for kind in kinds]
    else:
        weights = [sizes.get(kind.lower(), 0) for kind in kinds]
    windows = []
    for start, end in _bundles(weights, page.size * pages_per_window(page)):
        expected = None if page.sizes is None else int(sum(weights[start:end]))
        bundle = kinds[start:end]
        windows.append(
            query.window(bundle, window.languages, expected=expected)
            if by_type
            else query.window(window.content_type_ids, bundle, expected=expected)
        )
    return windows


def _bundles(weights: Sequence[float], most: int) -> list[tuple[int, int]]:
    """Return where to cut a sequence so that no part of several outweighs a limit; one part becomes two."""
    bundles, start, sum_ = [], 0, 0.0
    for number, weight in enumerate(weights):
        if number > start and sum_ + weight > most:
            bundles.append((start, number))
            start, sum_ = number, 0.0
        sum_ += weight
    if start == 0 and len(weights) > 1:
        middle = len(weights) // 2
        bundles.append((0, middle))
        start = middle
    return [*bundles, (start, len(weights))]


def pages_per_window(page: Page) -> int:
    """Return how many pages, one after the other, a window may fill.

    :param page: a full page of it.
    """
    return max(1, min(_MAX_PAGES, _WINDOW_ENTRIES // page.size, _WINDOW_BYTES // (page.batch.nbytes or 1)))


def cut_to_pages(window: Window, measure: Measure, page: Page, *, concurrency: int) -> list[Window]:
    """Return windows of about a page each, or several small pages; as `cut`.

    :param page: a full page of the window.
    :param concurrency: windows that are read at once.
    """
    pages = min(pages_per_window(page), max(1, measure.total // page.size // (4 * concurrency)))
    # Entries cluster in time, hence the margin. A page also holds the last entry of the page before it.
    aim = pages * (page.size - 1) if pages > 1 else page.size - int(sqrt(page.size))
    return cut(window, measure, aim=max(1, aim), at_once=concurrency)


def cut(window: Window, measure: Measure, *, aim: int, at_once: int = 1) -> list[Window]:
    """Return windows that together are the given one, in the order of its entries.

    A window is cut by id only if it is a single millisecond: that keeps entries in the order of `in_order`.

    :param aim: the most entries in each, if they were spread evenly.
    :param at_once: windows that are read at once; their number becomes a multiple of it.
    :raises ExportError: the window cannot be cut any further.
    """
    if window.cut_by == "created":
        lower, upper = as_datetime(window.created_from), as_datetime(window.created_to)
        begin = as_datetime(measure.first) or lower or _EARLIEST
        end = as_datetime(measure.last) or upper or datetime.now(UTC)
        # Clamp, or a service that ignores bounds would loop forever.
        begin, end = _floor(max(begin, lower or begin)), _floor(min(end, upper or end))
        number = max(2, ceil(min(measure.total, aim * _MAX_WINDOWS) / aim))
        if number > at_once:
            number = ceil(number / at_once) * at_once
        bounds = [
            bound
            for bound in _bounds(begin, end, number) or (begin, begin + _MILLISECOND)
            if (lower is None or bound > lower) and (upper is None or bound < upper)
        ]
        if bounds:
            edges = [window.created_from, *map(query_millisecond, bounds), window.created_to]
            return [replace(window, created_from=begin, created_to=end) for begin, end in pairwise(edges)]
    return _cut_by_id(window)


def _bounds(begin: datetime, end: datetime, number: int) -> list[datetime]:
    """Return the times that cut a range into about equal parts; none, if it is a single millisecond."""
    parts = (_floor(begin + (end - begin) * part / number) for part in range(1, number))
    bounds = sorted({moment for moment in parts if moment > begin})
    return bounds or ([end] if end > begin else [])


def _floor(moment: datetime) -> datetime:
    """Return a time cut to the millisecond: the search index resolves no finer."""
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _cut_by_id(window: Window) -> list[Window]:
    if window.cut_by == "nothing":
        raise ExportError(
            f"{window}: more entries than fit on a page share a created time and the start of their id. "
            "Set a larger page_size, or narrow the export with content_type_id, language or where. "
            + hint("starts-with", "created-ranges")
        )
    prefixes = [window.id_prefix + digit for digit in HEX_DIGITS]
    return [*(replace(window, id_prefix=prefix) for prefix in prefixes), replace(window, other_ids=True)]
