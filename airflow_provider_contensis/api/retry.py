"""Retries: which failures, for how long, and how long to wait before the next attempt.

Retries wrap authentication, so that a repeated call carries a current token, and they see the
whole answer, so that a body cut short is a failure too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

import tenacity

from airflow_provider_contensis.api.fork import ForkSafeEvent
from airflow_provider_contensis.exceptions import ContensisError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)

DEFAULT_RETRY_SECONDS = 300.0
_FOREVER = 1e9  # seconds: longer waits are a mistake, and some are too long for a number


@dataclass(frozen=True)
class RetryPolicy:
    """How long failed calls are repeated.

    Waits double up to `max_wait`, with equal jitter: each is between half and all of its bound. A
    `Retry-After` is a lower bound; if it exceeds `total`, the error is raised and carries it.

    :param total: no wait begins that would end later than this after the first call, in seconds;
        0 for no retries.
    :param initial_wait: upper bound of the first wait, in seconds.
    :param max_wait: upper bound of any wait that the service did not ask for, in seconds.
    :param attempts: maximum number of calls; None for no limit.
    """

    total: float = DEFAULT_RETRY_SECONDS
    initial_wait: float = 1.0
    max_wait: float = 30.0
    attempts: int | None = None

    def call(self, attempt: Callable[[], T], *, what: str, cancelled: ForkSafeEvent | None = None) -> T:
        """Return what `attempt` returns, repeating it while it fails with a retryable error.

        :param attempt: makes one call; a `ContensisError` says whether it is retryable.
        :param what: names the call in the warning that is logged for each wait.
        :param cancelled: once set, no further wait or call begins.
        :raises ContensisError: the last failure.
        """
        event = cancelled or ForkSafeEvent()

        def sleep(seconds: float) -> None:
            event.wait(seconds)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            wait=self._wait,
            stop=lambda state: event.is_set() or self._stop(state),
            sleep=sleep,
            before_sleep=lambda state: self._warn(state, what),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except ContensisError as error:
            error.retries_exhausted = True
            raise

    def _wait(self, state: tenacity.RetryCallState) -> float:
        # Half of the exponential bound, and up to half at random: waits spread, but none is nearly zero.
        half = tenacity.wait_exponential(multiplier=self.initial_wait / 2, max=self.max_wait / 2)(state)
        return max(half + tenacity.wait_random(0, half)(state), _retry_after(state))

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        if self.attempts is not None and state.attempt_number >= self.attempts:
            return True
        return tenacity.stop_before_delay(self.total)(state)

    def _warn(self, state: tenacity.RetryCallState, what: str) -> None:
        problem = str(state.outcome.exception()) if state.outcome else ""
        wait = state.upcoming_sleep
        log.warning(
            "%s Waiting %s s, then attempt %d (gives up after %g s)",
            problem if what in problem else f"{what}: {problem}",
            f"{wait:.2g}" if wait < 10 else f"{wait:.0f}",
            state.attempt_number + 1,
            self.total,
        )


NO_RETRIES = RetryPolicy(total=0)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds a `Retry-After` header asks to wait (RFC 9110, section 10.2.3).

    :param value: the header: whole seconds or an HTTP date.
    :return: seconds from now, never negative; None if the header is absent or unreadable.
    """
    text = (value or "").strip()
    if text.isdecimal():
        return min(float(text), _FOREVER)
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
