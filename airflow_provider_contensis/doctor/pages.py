"""Checks of pages: how many entries they hold, and how many the service says there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_contensis.doctor.check import REPORT, Checklist, FailedError, SkippedError
from airflow_provider_contensis.doctor.speed import PAGE_SIZES
from airflow_provider_contensis.exceptions import APIError
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.doctor.probe import Probe

PAGES = Checklist()

_REFUSED = frozenset({400, 413, 422})


@PAGES.add(
    "total-count",
    "totalCount is the same on every page",
    impact="Exports read again, and fail if the figures stay different.",
    advice=REPORT,
)
def total_count(probe: Probe) -> str:
    """Ask for the first pages, and for a page of one entry."""
    size = max(1, min(25, probe.slice_total // 3))
    totals = [probe.page(base=probe.slice, size=size, index=index).total_count for index in range(3)]
    totals.append(probe.count(base=probe.slice))
    if len(set(totals)) > 1:
        raise FailedError(f"from {min(totals):,} to {max(totals):,}")
    return f"{totals[0]:,} each time"


@PAGES.add(
    "count-limit",
    "totalCount is not capped",
    impact="None: exports take a totalCount of 10,000 for 10,000 or more.",
    advice="Nothing to do.",
    needs=("content-type-clause",),
)
def count_limit(probe: Probe) -> str:
    """Compare the count of everything with those of its content types."""
    total = probe.count()
    if total < probe.row_limit:
        raise SkippedError(f"fewer than {probe.row_limit:,} entries")
    parts = 0
    for content_type_id in probe.content_types:
        parts += probe.count({"field": "sys.contentTypeId", "equalTo": content_type_id})
        if parts > total:
            break
    if parts > total or total == probe.row_limit:
        raise FailedError(f"counts stop at {total:,}")
    return count(total, "entry", "entries")


@PAGES.add(
    "page-size",
    f"Pages of up to {PAGE_SIZES[-1]:,} entries are full",
    impact="Exports take smaller pages if the answer says so, and fail if it does not.",
    advice="Set page_size to a size that is full.",
)
def page_size(probe: Probe) -> str:
    """Ask for larger and larger pages, until all entries fit or a page is slow."""
    total = min(probe.total, probe.row_limit)
    largest = min(PAGE_SIZES[-1], probe.row_limit)
    for size in (*(size for size in PAGE_SIZES if size < largest), largest):
        started = time.monotonic()
        try:
            page = probe.page(size=size)
        except APIError as error:
            if error.status_code in _REFUSED:
                raise FailedError(
                    f"{size:,} entries a page: refused with status {error.status_code}"
                ) from None
            raise
        seconds = time.monotonic() - started
        expected = min(size, total)
        if (found := len(set(page.keys))) < expected:
            said = "says so" if page.page_size == found else "does not say so"
            raise FailedError(f"{size:,} asked for, {found:,} came, and the answer {said}")
        if found == size:
            probe.measures.page_seconds[size] = seconds
        if seconds > probe.slow_page and size < largest:
            return f"up to {size:,}; larger ones not tried: it took {seconds:.0f} s"
    return f"up to {largest:,}, of {count(probe.total, 'entry', 'entries')}"


@PAGES.add(
    "row-limit",
    "Pages past row 10,000 are refused, or full",
    impact="None: exports never ask for rows past the first page of a query.",
    advice="Do not page by number with the hook's search_entries; use iter_entries.",
)
def row_limit(probe: Probe) -> str:
    """Ask for a page past the limit."""
    size = 100
    index = probe.row_limit // size
    try:
        page = probe.page(size=size, index=index)
    except APIError as error:
        if error.status_code in {400, 422, 500}:
            return f"refused with status {error.status_code}"
        raise
    rows = max(0, page.total_count - index * size)
    if len(page.items) < min(size, rows):
        raise FailedError(f"{len(page.items)} entries on a page that should hold {min(size, rows)}")
    if not rows:
        raise SkippedError(f"no more than {probe.row_limit:,} entries")
    return f"{count(len(page.items), 'entry', 'entries')} on the page"
