"""A pause of the whole client: if one answer asks to wait, no thread sends another request until then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ContensisError, RateLimitedError

if TYPE_CHECKING:
    from airflow_provider_contensis.api.fork import ForkSafeEvent


class Pause:
    """The time until which no request may be sent.

    :param max_seconds: a longer pause is an error rather than a wait.
    :param cancelled: once set, ends waits with an error.
    """

    def __init__(self, *, max_seconds: float, cancelled: ForkSafeEvent) -> None:
        self._max_seconds = max_seconds
        self._cancelled = cancelled
        self._until = 0.0

    def extend(self, seconds: float) -> None:
        """Pause for at least so many seconds from now."""
        self._until = max(self._until, time.monotonic() + seconds)

    def wait(self) -> None:
        """Return once the pause is over.

        :raises RateLimitedError: it takes too long; carries the seconds that are left.
        :raises ContensisError: the client was closed.
        """
        while (left := self._until - time.monotonic()) > 0:
            if left > self._max_seconds:
                raise RateLimitedError(
                    f"The service asked to wait {left:.0f} more seconds before the next request.",
                    status_code=429,
                    retry_after=left,
                )
            if self._cancelled.wait(left):
                raise ContensisError("The client was closed while it waited to send a request.")
