"""Progress of an export, logged every few seconds."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 10.0


class Progress:
    """Logs how many entries were read, how fast, and how long the rest will take.

    :param noun: what is read, in the plural.
    """

    def __init__(self, noun: str = "entries") -> None:
        self._noun = noun
        self.begin(0)

    def begin(self, total: int) -> None:
        """Start to count towards a total."""
        self._total = total
        self._read = 0
        self._started = self._logged = time.monotonic()

    def add(self, entries: int) -> None:
        """Count entries, and log the progress if that is due."""
        self._read += entries
        now = time.monotonic()
        if now - self._logged < _INTERVAL_SECONDS:
            return
        self._logged = now
        rate = self._read / (now - self._started)
        left = f"about {(self._total - self._read) / rate:.0f} s left" if rate > 0 else "no estimate yet"
        log.info(
            "Read %s of %s %s (%d%%), %.0f per second, %s",
            f"{self._read:,}",
            f"{self._total:,}",
            self._noun,
            100 * self._read / max(self._total, 1),
            rate,
            left,
        )
