"""Sixteen threads and one token, against a real server."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.sandbox import Sandbox
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue

THREADS = 16


def at_once(work: Callable[[], object]) -> None:
    """Run something in all threads, started at the same moment; raise what any of them raised."""
    ready = threading.Barrier(THREADS)

    def start(_: int) -> None:
        ready.wait()
        work()

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(start, range(THREADS)))


@pytest.mark.parametrize("share", [True, False])
def test_threads_cause_one_token_request_at_first_and_one_after_each_revocation(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], share: bool
) -> None:
    """They share a client, or have one each, like several hooks of a task."""
    with Sandbox(small_catalogue) as sandbox:
        tokens = TokenCache()
        one = make_client(sandbox, tokens=tokens)
        clients = [one if share else make_client(sandbox, tokens=tokens) for _ in range(THREADS)]
        for expected in (1, 2, 3):
            waiting = list(clients)
            at_once(lambda: waiting.pop().list_projects())  # noqa: B023 - used before the next round
            assert sandbox.count("token") == expected
            sandbox.revoke_tokens()


def test_no_call_fails_while_tokens_live_for_two_seconds(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], request: pytest.FixtureRequest
) -> None:
    """`make threads DURATION=60` runs it for a minute."""
    seconds = float(os.environ.get("DURATION", "5"))
    with Sandbox(small_catalogue, token_lifetime=2) as sandbox:
        client = make_client(sandbox)
        deadline = time.monotonic() + seconds

        def work() -> None:
            while time.monotonic() < deadline:
                client.get_project(sandbox.project_id)

        at_once(work)
        refused = sum(record.status == 401 for record in sandbox.requests)
        tokens, calls = sandbox.count("token"), sandbox.count("project")
    if "DURATION" in os.environ:
        tell(
            request,
            f"{THREADS} threads, {seconds:g} s: {calls} calls, {tokens} tokens, "
            f"{refused} expired on the way, 0 failed calls",
        )
    # A failed call would have been raised; one whose token expires on the way is repeated with a new one.
    assert 2 <= tokens <= seconds / 1.8 + 2 + refused
    assert calls > THREADS


def test_new_token_is_announced_once_and_by_one_thread_at_a_time(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    """Airflow sends it to its supervisor; in older versions that channel is not safe between threads."""
    busy = threading.Lock()
    announced: list[str] = []

    def announce(token: str) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.05)
        announced.append(token)
        busy.release()

    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox, on_new_token=announce)
        at_once(lambda: client.get_project(sandbox.project_id))
    assert len(announced) == 1
