"""Retries: which failures, how often, and how long to wait."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_provider_contensis.api.fork import ForkSafeEvent
from airflow_provider_contensis.api.retry import NO_RETRIES, RetryPolicy, parse_retry_after
from airflow_provider_contensis.exceptions import ContensisError, HostUnreachableError, ServerError


class Failing:
    """Fails with each error in turn, then succeeds."""

    def __init__(self, *errors: ContensisError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def busy(retry_after: float | None = None) -> ServerError:
    return ServerError("busy.", status_code=503, retry_after=retry_after)


def test_temporary_failure_is_retried_with_one_warning_for_each_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempt = Failing(busy(), HostUnreachableError("broken."))
    with caplog.at_level(logging.WARNING):
        assert RetryPolicy(initial_wait=0.001).call(attempt, what="GET /x") == "done"
    assert attempt.calls == 3
    assert [record.getMessage().split(" Waiting")[0] for record in caplog.records] == [
        "GET /x: busy.",
        "GET /x: broken.",
    ]
    assert "attempt 2 (gives up after 300 s)" in caplog.text


@pytest.mark.parametrize("status", [501, 505, 531])
def test_permanent_failure_is_not_retried(status: int) -> None:
    attempt = Failing(ServerError("no", status_code=status))
    with pytest.raises(ServerError):
        RetryPolicy(initial_wait=0.001).call(attempt, what="GET /x")
    assert attempt.calls == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 522, 525, 530])
def test_failure_of_a_gateway_is_retryable(status: int) -> None:
    assert ServerError("no", status_code=status).retryable


def test_last_failure_is_raised_when_attempts_run_out() -> None:
    last = HostUnreachableError("third")
    attempt = Failing(HostUnreachableError("first"), HostUnreachableError("second"), last)
    with pytest.raises(HostUnreachableError) as failure:
        RetryPolicy(attempts=3, initial_wait=0.001).call(attempt, what="GET /x")
    assert failure.value is last


def test_no_retries_means_one_attempt() -> None:
    attempt = Failing(busy())
    with pytest.raises(ServerError):
        NO_RETRIES.call(attempt, what="GET /x")
    assert attempt.calls == 1


def test_retry_after_is_a_lower_bound() -> None:
    started = time.monotonic()
    RetryPolicy(initial_wait=0.001).call(Failing(busy(retry_after=0.3)), what="GET /x")
    assert time.monotonic() - started >= 0.3


def test_error_with_retry_after_above_max_wait_is_raised_and_carries_it() -> None:
    attempt = Failing(busy(retry_after=3600))
    with pytest.raises(ServerError) as failure:
        RetryPolicy(max_wait=60).call(attempt, what="GET /x")
    assert attempt.calls == 1
    assert failure.value.retry_after == 3600


def test_no_wait_begins_that_would_exceed_the_total() -> None:
    attempt = Failing(busy(retry_after=2), busy())
    started = time.monotonic()
    with pytest.raises(ServerError):
        RetryPolicy(total=1).call(attempt, what="GET /x")
    assert time.monotonic() - started < 1
    assert attempt.calls == 1


def test_wait_ends_when_the_client_is_closed() -> None:
    cancelled = ForkSafeEvent()
    threading.Timer(0.1, cancelled.set).start()
    started = time.monotonic()
    attempt = Failing(*(busy(retry_after=30) for _ in range(3)))
    with pytest.raises(ServerError):
        RetryPolicy().call(attempt, what="GET /x", cancelled=cancelled)
    assert time.monotonic() - started < 5


def test_outer_policy_does_not_retry_what_an_inner_one_gave_up_on() -> None:
    attempt = Failing(*(busy() for _ in range(99)))
    policy = RetryPolicy(attempts=3, initial_wait=0.001)
    with pytest.raises(ServerError) as failure:
        policy.call(lambda: policy.call(attempt, what="the token"), what="GET /x")
    assert attempt.calls == 3
    assert failure.value.retryable  # Airflow may still retry the task


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
        ("120", 120.0),
        ("9" * 400, 1e9),
        (" 0 ", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after_in_seconds(header: str | None, expected: float | None) -> None:
    assert parse_retry_after(header) == expected


def test_retry_after_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(soon) == pytest.approx(90, abs=2)
    assert parse_retry_after(past) == 0


class TestPatience:
    """Patience is counted in seconds, not in attempts."""

    def waits(self, policy: RetryPolicy, monkeypatch: pytest.MonkeyPatch, failures: int) -> list[float]:
        """Return the waits between failures, on a clock that moves by waiting only."""
        now = [1000.0]
        waits: list[float] = []

        def wait(_: ForkSafeEvent, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            now[0] += timeout
            return False

        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        monkeypatch.setattr(ForkSafeEvent, "wait", wait)
        with contextlib.suppress(ContensisError):
            policy.call(Failing(*(busy() for _ in range(failures))), what="GET /x")
        return waits

    @pytest.mark.parametrize("seed", range(20))
    def test_lasts_five_minutes_by_default(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        random.seed(seed)
        waits = self.waits(RetryPolicy(), monkeypatch, 10_000)
        assert 270 <= sum(waits) < 300

    def test_waits_grow_to_thirty_seconds_and_none_is_nearly_zero(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        waits = self.waits(RetryPolicy(total=3_600), monkeypatch, 100)
        for number, wait in enumerate(waits):
            bound = min(30, 2**number)
            assert bound / 2 <= wait <= bound
        assert max(waits) > 20
        assert len({round(wait, 6) for wait in waits}) > len(waits) / 2  # clients do not come back together
        assert "Waiting 0 s" not in caplog.text
        assert "Waiting 0.0 s" not in caplog.text

    def test_long_waits_are_logged_in_whole_seconds(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.waits(RetryPolicy(total=3_600, initial_wait=240, max_wait=240), monkeypatch, 3)
        waits = re.findall(r"Waiting (\S+) s", caplog.text)
        assert waits
        assert all(120 <= int(wait) <= 240 for wait in waits)

    def test_outlasts_a_restart_of_150_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits = self.waits(RetryPolicy(), monkeypatch, 10_000)
        assert sum(waits) > 150

    def test_ends_before_a_wait_that_would_be_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert sum(self.waits(RetryPolicy(total=10), monkeypatch, 100)) < 10
