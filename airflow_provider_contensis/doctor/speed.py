"""Speed: seconds a page by page size and by requests in flight, and what suits the environment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import APIError, ContensisError

if TYPE_CHECKING:
    from airflow_provider_contensis.doctor.probe import Probe

PAGE_SIZES = (100, 500, 1_000, 2_000, 10_000)
IN_FLIGHT = (1, 2, 4, 8)
DEFAULT_PAGE_SIZE, DEFAULT_IN_FLIGHT = 500, 4

_LARGEST_ADVISED = 1_000  # larger pages cost memory, and gain little
_NEARLY = 1.25
_PAGES_EACH = 2
_PAGE_SIZE = 100


@dataclass
class Measures:
    """What was measured.

    :param page_seconds: seconds a full page took, by page size.
    :param pages_a_second: pages that came in a second, by the requests in flight.
    """

    page_seconds: dict[int, float] = field(default_factory=dict)
    pages_a_second: dict[int, float] = field(default_factory=dict)

    @property
    def page_size(self) -> int:
        """The smallest page size whose entries come nearly as quickly as with any other."""
        by_entry = {
            size: seconds / size for size, seconds in self.page_seconds.items() if size <= _LARGEST_ADVISED
        }
        if max(by_entry, default=0) < DEFAULT_PAGE_SIZE:  # too few entries to tell
            return DEFAULT_PAGE_SIZE
        quickest = min(by_entry.values())
        return min(size for size, seconds in by_entry.items() if seconds <= _NEARLY * quickest)

    @property
    def max_concurrent_requests(self) -> int:
        """The smallest number of requests in flight that brings nearly as many pages as any other."""
        most = max(self.pages_a_second.values(), default=0.0)
        return min(
            (number for number, pages in self.pages_a_second.items() if pages * _NEARLY >= most),
            default=DEFAULT_IN_FLIGHT,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the measures and what suits the environment."""
        return {
            "page_size": self.page_size,
            "max_concurrent_requests": self.max_concurrent_requests,
            "page_seconds": {str(size): round(seconds, 3) for size, seconds in self.page_seconds.items()},
            "pages_a_second": {str(number): round(pages, 2) for number, pages in self.pages_a_second.items()},
        }


def measure_in_flight(probe: Probe, number: int) -> tuple[float, int]:
    """Ask for pages, several at once and without retries.

    :param number: requests in flight.
    :return: pages a second, and how many requests were refused as too many.
    """
    size = max(1, min(_PAGE_SIZE, probe.total))
    pages = max(1, min(probe.total, probe.row_limit) // size)

    def ask(index: int) -> bool:
        query = {
            "where": probe.everything,
            "orderBy": [{"asc": "sys.version.created"}, {"asc": "sys.id"}],
            "pageIndex": index % pages,
            "pageSize": size,
        }
        try:
            probe.client.search(probe.project_id, query, what="A page")
        except APIError as error:
            return error.status_code not in {429, 503}
        except ContensisError:
            return True  # a failure of another kind shows nothing about the number of requests
        return True

    with ThreadPoolExecutor(number, thread_name_prefix="contensis-doctor") as threads:
        started = time.monotonic()
        answered = list(threads.map(ask, range(_PAGES_EACH * number)))
        seconds = time.monotonic() - started
    return len(answered) / max(seconds, 1e-6), answered.count(False)
