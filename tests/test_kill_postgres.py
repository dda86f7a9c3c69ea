"""Copies in PostgreSQL whose runs are killed at random moments: a reader sees the copy before or after."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_provider_contensis.export.postgres import update_postgres
from airflow_provider_contensis.export.postgres_request import PostgresRequest
from airflow_provider_contensis.export.sinks.postgres_database import Database, connected
from airflow_provider_contensis.sandbox import Sandbox
from tests.feeds import served
from tests.file_pointer import FilePointer
from tests.kills import PROCESSES, TIMEOUT, Service, edition
from tests.terminal import tell
from tests.test_kill_sync import edit, run_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import PostgresSummary
    from tests.postgres import Postgres

pytestmark = pytest.mark.slow


def update(
    client: ContensisClient, project_id: str, url: str, schema: str, number: int, pointer: Path
) -> PostgresSummary:
    request = PostgresRequest.from_arguments(schema=schema, page_size=30)
    with connected(lambda: psycopg.connect(url)) as database:
        return update_postgres(
            database,
            client,
            project_id,
            request,
            run=run_name(number),
            owner="t",
            pointer=FilePointer(pointer),
        )


def update_and_die(
    service: Service, url: str, schema: str, number: int, pointer: Path, begun: Event, step: int | None
) -> None:
    """Bring a copy up to date, in a process that will be killed.

    :param step: after how many statements the process kills itself; None to leave it to others.
    """
    begun.set()
    if step is not None:
        die_after(step)
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    update(client, service.project_id, url, schema, number, pointer)


def die_after(step: int) -> None:
    """Make this process kill itself after some statements; after none, it does so after the commit."""
    remaining = itertools.count(step, -1)

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = method(*args)
            if next(remaining) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in ("rows", "execute", "copy", "commit") if step else ("commit",):
        setattr(Database, name, counted(getattr(Database, name)))


def test_runs_killed_at_random_moments_leave_the_copy_before_or_after(
    tmp_path: Path, postgres: Postgres, make_client: Callable[..., ContensisClient], request: Any
) -> None:
    """`make kills-postgres RUNS=100` kills more runs; the moments depend on SEED."""
    runs = int(os.environ.get("RUNS", "6"))
    rng = random.Random(int(os.environ.get("SEED", "0")))
    seen: Counter[str] = Counter()
    number, duration, statements = 0, 1.0, 100
    schema, catalogue = "copy0", edition(1)
    with Sandbox(catalogue, latency=0.005) as sandbox:
        client = make_client(sandbox)
        while seen["kills"] < runs:
            number += 1
            pointer = tmp_path / f"{number}.pointer"
            if rng.random() < 0.15:
                schema = f"copy{number}"  # a snapshot
            edit(catalogue, rng)
            before, after = postgres.load(schema), served(catalogue)
            # Half of the kills come right after a statement.
            step = rng.choice((0, rng.randrange(1, statements))) if rng.random() < 0.5 else None
            process = start(sandbox, postgres.url, schema, number, pointer, step)
            process.join(TIMEOUT if step is not None else duration * rng.uniform(0.1, 1.1))
            process.kill()
            process.join()
            is_killed = process.exitcode == -signal.SIGKILL
            wait_for_server(postgres)
            found = postgres.load(schema)
            assert found in (before, after)

            sandbox.forget_requests()
            started = time.monotonic()
            result = update(client, sandbox.project_id, postgres.url, schema, number, pointer)
            assert postgres.load(schema) == after
            committed = found == after
            if committed:
                assert sandbox.count() == 0
                assert result["upserts"] > 0
            else:
                duration = time.monotonic() - started
            seen["kills"] += is_killed
            seen[("after" if committed else "before") if is_killed else "not killed in time"] += 1
    if "RUNS" in os.environ:
        tell(request, f"{dict(seen)}: every retry succeeded, and no other state was seen")


def start(sandbox: Sandbox, url: str, schema: str, number: int, pointer: Path, step: int | None) -> Any:
    """Start a run in another process."""
    begun = PROCESSES.Event()
    process = PROCESSES.Process(
        target=update_and_die,
        args=(Service.of(sandbox), url, schema, number, pointer, begun, step),
        daemon=True,
    )
    process.start()
    assert begun.wait(TIMEOUT)
    return process


def wait_for_server(postgres: Postgres) -> None:
    """Wait until the server has noticed that a session is gone."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + TIMEOUT
    while postgres.rows(f"SELECT pid FROM pg_stat_activity WHERE {others}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
