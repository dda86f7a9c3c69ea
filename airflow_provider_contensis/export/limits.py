"""Limits that adapt to the service: page size and concurrency halve on trouble and recover after a calm."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import (
    APIError,
    ContensisError,
    InvalidResponseError,
    RequestTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

_CALM_ANSWERS = 8
_LONGEST_CALM = 256
# Statuses that a smaller page may avoid (docs/contensis-api.md, "Limits").
_TOO_LARGE = frozenset({408, 413, 500, 502, 504})
_TOO_MANY = frozenset({429, 503})
_START_SECONDS = 0.01


class _Waiter:
    """A thread in the queue for a permit."""

    def __init__(self) -> None:
        self.admitted = threading.Event()
        self.started = threading.Event()


class Permit:
    """Permission to have one request in flight.

    :param page_size: number of entries that it may ask for.
    """

    def __init__(self, page_size: int, release: Callable[[], None]) -> None:
        self.page_size = page_size
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Let the next request go out, once this one is answered: parsing it costs the service nothing."""
        if self._release is not None:
            self._release()
            self._release = None


class Limits:
    """The page size and the number of requests in flight that the service bears, shared by all threads.

    :param page_size: entries a page, while there is no trouble.
    :param concurrency: requests in flight, while there is no trouble.
    """

    def __init__(self, page_size: int, concurrency: int) -> None:
        self._page_size = _Level(page_size)
        self._min_page_size = max(1, page_size // 16)
        self._concurrency = _Level(concurrency)
        self._in_flight = 0
        self._queue: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    @property
    def page_size(self) -> int:
        """Entries a page, at the moment."""
        return self._page_size.value

    @property
    def concurrency(self) -> int:
        """Requests in flight, at the moment."""
        return self._concurrency.value

    @contextmanager
    def permit(self, page_size: int | None = None) -> Iterator[Permit]:
        """Queue for a permit, yield it, and adapt the limits to how the request ends.

        :param page_size: as the caller needs it; None for the limit.
        """
        waiter = _Waiter()
        with self._lock:
            self._queue.append(waiter)
            self._admit()
        waiter.admitted.wait()
        waiter.started.set()
        permit, concurrency = Permit(page_size or self.page_size, self._release), self.concurrency
        failure: Exception | None = None
        try:
            yield permit
        except Exception as error:
            failure = error
            raise
        finally:
            permit.release()
            with self._lock:
                self._adapt(failure, None if page_size else permit.page_size, concurrency)
                self._admit()

    def _admit(self) -> list[_Waiter]:
        admitted = []
        while self._queue and self._in_flight < self.concurrency:
            self._in_flight += 1
            admitted.append(self._queue.popleft())
            admitted[-1].admitted.set()
        return admitted

    def _release(self) -> None:
        with self._lock:
            self._in_flight -= 1
            admitted = self._admit()
        for waiter in admitted:
            # The interpreter lets this thread compute for 5 ms before another may send its request.
            waiter.started.wait(_START_SECONDS)

    def _adapt(self, failure: Exception | None, page_size: int | None, concurrency: int) -> None:
        before = self.page_size, self.concurrency
        status = failure.status_code if isinstance(failure, APIError) else None
        if failure is None:
            self._concurrency.calm()
            if page_size is not None:
                self._page_size.calm()
        elif status in _TOO_MANY:
            self._concurrency.trouble(concurrency)
        elif page_size is not None and (
            status in _TOO_LARGE or isinstance(failure, RequestTimeoutError | InvalidResponseError)
        ):
            if isinstance(failure, ContensisError) and page_size > 1:
                failure.retryable = True  # whatever it is: the next page is smaller
            # Only a 413 is surely about the size; other failures must not end in one request for each entry.
            self._page_size.trouble(page_size, minimum=1 if status == 413 else self._min_page_size)
        if before != (self.page_size, self.concurrency):
            log.info("Limits now: page_size=%d, max_concurrent_requests=%d", self.page_size, self.concurrency)


class _Level:
    """A number that halves on trouble and doubles again after a calm; each relapse makes the calm longer."""

    def __init__(self, maximum: int) -> None:
        self.value = self._maximum = maximum
        self._answers = self._needed = _CALM_ANSWERS

    def trouble(self, value: int, *, minimum: int = 1) -> None:
        """Halve, unless that was done since the failed request was sent.

        :param value: the level at which the request was sent.
        :param minimum: the lowest level.
        """
        if value != self.value:
            return
        relapsed = self._answers < _CALM_ANSWERS
        self._needed = min(2 * self._needed, _LONGEST_CALM) if relapsed else _CALM_ANSWERS
        self._answers = 0
        self.value = min(self.value, max(minimum, self.value // 2))

    def calm(self) -> None:
        """Count an answer without trouble."""
        self._answers += 1
        if self.value < self._maximum and self._answers >= self._needed:
            self._answers = 0
            self.value = min(2 * self.value, self._maximum)
