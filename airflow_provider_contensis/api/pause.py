"""A pause of the whole client: if one answer asks to wait, no thread sends another request until then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.responses import api_error_class
from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.utils.text import duration

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
        self._status = 429

    def for_another_host(self) -> Pause:
        """Return a pause with the same rules: what one host asks for does not hold back the others."""
        return Pause(max_seconds=self._max_seconds, cancelled=self._cancelled)

    def extend(self, seconds: float, status: int) -> None:
        """Pause for at least so many seconds from now.

        :param status: of the answer that asks to wait.
        """
        until = time.monotonic() + seconds
        if until > self._until:
            self._until, self._status = until, status

    def wait(self) -> None:
        """Return once the pause is over.

        :raises APIError: it takes too long; carries the seconds that are left.
        :raises ContensisError: the client was closed.
        """
        while (left := self._until - time.monotonic()) > 0:
            if left > self._max_seconds:
                raise api_error_class(self._status)(
                    f"The service answered {self._status} and asked to wait "
                    f"{duration(round(left), 'more second')}.",
                    status_code=self._status,
                    retry_after=left,
                )
            if self._cancelled.wait(left):
                raise ContensisError("The client was closed while it waited to send a request.")
