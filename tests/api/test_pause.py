"""A service that asks to wait is left alone by the whole client."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.api.fork import ForkSafeEvent
from airflow_provider_contensis.api.pause import Pause
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.exceptions import ContensisError, RateLimitedError, ServerError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


class Arrivals:
    """Refuses one request, and notes when the others arrive.

    :param refuse_at: number of the request that is refused.
    :param respond: returns the response to that request.
    """

    def __init__(self, refuse_at: int, respond: Callable[[], Response], kind: str = "search") -> None:
        self.refused_at: float | None = None
        self.times: list[float] = []
        self._refuse_at = refuse_at
        self._respond = respond
        self._kind = kind
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        with self._lock:
            self.times.append(time.monotonic())
            if request.kind != self._kind or self.refused_at is not None:
                return None
            self._refuse_at -= 1
            if self._refuse_at:
                return None
            self.refused_at = time.monotonic()
            return self._respond()

    def silence(self) -> float:
        """Return the seconds from the refusal to the next request, leaving out those already on their way."""
        assert self.refused_at is not None
        later = [each - self.refused_at for each in self.times if each > self.refused_at]
        return min(each for each in later if each > 0.1)


def in_two_seconds() -> str:
    return formatdate(time.time() + 2, usegmt=True)


@pytest.mark.parametrize("status", [429, 503, 500, 408])
def test_export_is_silent_for_as_long_as_one_answer_asks(
    make_client: Callable[..., ContensisClient], tmp_path: Path, status: int
) -> None:
    catalogue = synthetic_catalogue(2_500)
    arrivals = Arrivals(10, lambda: Response(status, b"", {"Retry-After": "1"}))
    request = ExportRequest.from_arguments(destination=tmp_path / "x.jsonl", page_size=100)
    with Sandbox(catalogue, faults=arrivals) as sandbox:
        result = export_entries(make_client(sandbox), sandbox.project_id, request)
    assert result.entries == 2_500
    assert arrivals.silence() >= 0.95


def test_date_is_kept_too(small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]) -> None:
    arrivals = Arrivals(1, lambda: Response(503, b"", {"Retry-After": in_two_seconds()}), "project")
    with Sandbox(small_catalogue, faults=arrivals) as sandbox:
        client = make_client(sandbox)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: client.get_project(sandbox.project_id), range(8)))
    assert arrivals.silence() >= 0.9


def test_token_request_holds_back_calls_and_calls_hold_back_token_requests(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    arrivals = Arrivals(1, lambda: Response(503, b"", {"Retry-After": "1"}), "token")
    with Sandbox(small_catalogue, faults=arrivals) as sandbox:
        client = make_client(sandbox)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: client.get_project(sandbox.project_id), range(4)))
    assert arrivals.silence() >= 0.95


def test_session_for_own_calls_is_held_back_too(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    arrivals = Arrivals(1, lambda: Response(429, b"", {"Retry-After": "1"}), "project")
    with Sandbox(small_catalogue, faults=arrivals) as sandbox:
        session = make_client(sandbox).session
        path = f"/api/management/projects/{sandbox.project_id}"
        assert session.get(path).status_code == 429
        assert session.get(path).status_code == 200
    assert arrivals.silence() >= 0.95


def test_longer_pause_than_calls_are_retried_is_an_error_at_once(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    busy = Response(503, b"", {"Retry-After": "600"})
    with Sandbox(small_catalogue, faults=Arrivals(1, lambda: busy, "project")) as sandbox:
        client = make_client(sandbox, retry=RetryPolicy(total=300))
        with pytest.raises(ServerError) as first:
            client.get_project(sandbox.project_id)
        with pytest.raises(ServerError, match=r"answered 503 and asked to wait \d+ more seconds") as second:
            client.list_projects()
        assert first.value.retry_after == 600
        assert second.value.retry_after == pytest.approx(600, abs=5)
        assert sandbox.count() == 2  # one of them for the token


def test_shorter_request_does_not_shorten_a_pause() -> None:
    pause = Pause(max_seconds=5, cancelled=ForkSafeEvent())
    pause.extend(60, 503)
    pause.extend(1, 429)
    with pytest.raises(ServerError, match="answered 503"):
        pause.wait()
    pause.extend(90, 429)
    with pytest.raises(RateLimitedError):
        pause.wait()


def test_closing_the_client_ends_a_pause() -> None:
    closed = ForkSafeEvent()
    pause = Pause(max_seconds=60, cancelled=closed)
    pause.extend(30, 503)
    threading.Timer(0.1, closed.set).start()
    started = time.monotonic()
    with pytest.raises(ContensisError, match="closed while it waited"):
        pause.wait()
    assert time.monotonic() - started < 5
