"""Retries: which failures, how often, and how long to wait before the next attempt.

Retries wrap authentication, so that a repeated call carries a current token, and they see the
whole answer, so that a body cut short is a failure too.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

import tenacity

from airflow_provider_contensis.exceptions import ContensisError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How failed calls are repeated.

    Waits grow exponentially with full jitter. A `Retry-After` is a lower bound; if it exceeds
    `max_wait`, the error is raised and carries it.

    :param attempts: maximum number of calls, the first one included.
    :param initial_wait: upper bound of the first wait, in seconds.
    :param max_wait: upper bound of any wait, in seconds.
    :param total: no wait begins that would end later than this after the first call, in seconds.
    """

    attempts: int = 7
    initial_wait: float = 0.5
    max_wait: float = 60.0
    total: float = 300.0

    def call(self, attempt: Callable[[], T], *, what: str, cancelled: threading.Event | None = None) -> T:
        """Return what `attempt` returns, repeating it while it fails with a retryable error.

        :param attempt: makes one call; a `ContensisError` says whether it is retryable.
        :param what: names the call in the warning that is logged for each wait.
        :param cancelled: once set, no further wait or call begins.
        :raises ContensisError: the last failure.
        """
        cancelled = cancelled or threading.Event()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            wait=self._wait,
            stop=lambda state: cancelled.is_set() or self._stop(state),
            sleep=tenacity.sleep_using_event(cancelled),
            before_sleep=lambda state: self._warn(state, what),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except ContensisError as error:
            error.retries_exhausted = True
            raise

    def _wait(self, state: tenacity.RetryCallState) -> float:
        jittered = tenacity.wait_random_exponential(multiplier=self.initial_wait, max=self.max_wait)(state)
        return max(jittered, _retry_after(state))

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        enough = tenacity.stop_after_attempt(self.attempts) | tenacity.stop_before_delay(self.total)
        return enough(state) or _retry_after(state) > self.max_wait

    def _warn(self, state: tenacity.RetryCallState, what: str) -> None:
        problem = str(state.outcome.exception()) if state.outcome else ""
        log.warning(
            "%s Waiting %.1f s, then attempt %d of %d",
            problem if what in problem else f"{what}: {problem}",
            state.upcoming_sleep,
            state.attempt_number + 1,
            self.attempts,
        )


NO_RETRIES = RetryPolicy(attempts=1)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds a `Retry-After` header asks to wait (RFC 9110, section 10.2.3).

    :param value: the header: whole seconds or an HTTP date.
    :return: seconds from now, never negative; None if the header is absent or unreadable.
    """
    text = (value or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _is_retryable(error: BaseException) -> bool:
    # An inner policy, such as that of the token request, has already retried this.
    return isinstance(error, ContensisError) and error.retryable and not error.retries_exhausted


def _retry_after(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (isinstance(error, ContensisError) and error.retry_after) or 0.0
