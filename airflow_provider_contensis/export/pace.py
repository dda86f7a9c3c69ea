"""How far to read ahead of what is written: far enough to keep pace, and no further, as it is in memory."""

from __future__ import annotations

import time
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Read = TypeVar("_Read")

_SPARE_WINDOWS = 2
_KEPT = 0.8  # of earlier times


class Pace:
    """The speeds of reading and writing; safe to share between threads.

    :param most: windows to read ahead until the speeds are known, and at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._reading = self._writing = 0.0  # seconds a window

    @property
    def windows(self) -> int:
        """The windows to read ahead: as many as are written while one is read, and a few more."""
        if not self._writing:
            return self._most
        return min(self._most, ceil(self._reading / self._writing) + _SPARE_WINDOWS)

    def read(self, function: Callable[..., _Read], *args: object) -> _Read:
        """Call a function that reads a window."""
        begun = time.monotonic()
        result = function(*args)
        # A slow answer counts at once, or the next one would find too few requests in flight.
        self._reading = max(time.monotonic() - begun, _KEPT * self._reading)
        return result

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write a window meanwhile."""
        begun = time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self._writing = _KEPT * self._writing + (1 - _KEPT) * seconds if self._writing else seconds
