"""How large pages are and how many are asked for at a time: less in trouble, more again once it is over."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.errors import (
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
# What a smaller page may mend, beside timeouts and answers cut short (API notes, section 11).
_TOO_LARGE = frozenset({408, 413, 500, 502, 504})
_TOO_MANY = frozenset({429, 503})
_START_SECONDS = 0.01


class _Waiting:
    """A place in the line."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.gone = threading.Event()


class Turn:
    """A request that may be under way.

    :param page_size: how many entries it may ask for.
    """

    def __init__(self, page_size: int, end: Callable[[], None]) -> None:
        self.page_size = page_size
        self._end: Callable[[], None] | None = end

    def answered(self) -> None:
        """Let the next request go out: what is left to do with this one is not the service's."""
        if self._end is not None:
            self._end()
            self._end = None


class Pace:
    """The page size and the number of requests at a time that the service bears, shared by all threads.

    :param page_size: entries a page while there is no trouble.
    :param concurrency: requests at a time while there is no trouble.
    """

    def __init__(self, page_size: int, concurrency: int) -> None:
        self._page_size = _Level(page_size)
        self._smallest = max(1, page_size // 16)
        self._concurrency = _Level(concurrency)
        self._under_way = 0
        self._line: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    @property
    def page_size(self) -> int:
        """Entries a page, for now."""
        return self._page_size.value

    @property
    def concurrency(self) -> int:
        """Requests at a time, for now."""
        return self._concurrency.value

    @contextmanager
    def turn(self, page_size: int | None = None) -> Iterator[Turn]:
        """Wait in line until one more request may be under way; yield its turn, and learn how it ends.

        :param page_size: what the caller needs; None for the size of the pace.
        """
        waiting = _Waiting()
        with self._lock:
            self._line.append(waiting)
            self._admit()
        waiting.called.wait()
        waiting.gone.set()
        turn, concurrency = Turn(page_size or self.page_size, self._end_one), self.concurrency
        failure: Exception | None = None
        try:
            yield turn
        except Exception as error:
            failure = error
            raise
        finally:
            turn.answered()
            with self._lock:
                self._learn(failure, None if page_size else turn.page_size, concurrency)
                self._admit()

    def _admit(self) -> list[_Waiting]:
        called = []
        while self._line and self._under_way < self.concurrency:
            self._under_way += 1
            called.append(self._line.popleft())
            called[-1].called.set()
        return called

    def _end_one(self) -> None:
        with self._lock:
            self._under_way -= 1
            called = self._admit()
        for waiting in called:
            # The interpreter lets this thread compute for 5 ms before another may send its request.
            waiting.gone.wait(_START_SECONDS)

    def _learn(self, failure: Exception | None, size: int | None, concurrency: int) -> None:
        before = self.page_size, self.concurrency
        status = failure.status_code if isinstance(failure, APIError) else None
        if failure is None:
            self._concurrency.calm()
            if size is not None:
                self._page_size.calm()
        elif status in _TOO_MANY:
            self._concurrency.trouble(concurrency)
        elif size is not None and (
            status in _TOO_LARGE or isinstance(failure, RequestTimeoutError | InvalidResponseError)
        ):
            if isinstance(failure, ContensisError) and size > 1:
                failure.retryable = True  # whatever it is: the next page is smaller
            # Only a 413 is surely about the size; what is not must not end in a request for each entry.
            self._page_size.trouble(size, smallest=1 if status == 413 else self._smallest)
        if before != (self.page_size, self.concurrency):
            log.info(
                "From now on %s entries a page, %d requests at a time",
                f"{self.page_size:,}",
                self.concurrency,
            )


class _Level:
    """A number that trouble halves, and that doubles again after a calm; each relapse makes that longer."""

    def __init__(self, most: int) -> None:
        self.value = self._most = most
        self._answers = self._needed = _CALM_ANSWERS

    def trouble(self, value: int, *, smallest: int = 1) -> None:
        """Halve, unless that was done since the failed request began.

        :param value: the level at which the request was sent.
        :param smallest: what it does not fall below.
        """
        if value != self.value:
            return
        relapsed = self._answers < _CALM_ANSWERS
        self._needed = min(2 * self._needed, _LONGEST_CALM) if relapsed else _CALM_ANSWERS
        self._answers = 0
        self.value = min(self.value, max(smallest, self.value // 2))

    def calm(self) -> None:
        """Count an answer without trouble."""
        self._answers += 1
        if self.value < self._most and self._answers >= self._needed:
            self._answers = 0
            self.value = min(2 * self.value, self._most)
