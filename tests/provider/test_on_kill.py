"""A task that Airflow kills stops at once and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_contensis.operators._task import TaskKilledError
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from tests.feeds import served
from tests.searches import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgres import Postgres


@pytest.fixture
def on_sigterm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Call a function when this process gets SIGTERM, as Airflow does."""
    before = signal.getsignal(signal.SIGTERM)

    def install(function: Callable[[], None]) -> None:
        signal.signal(signal.SIGTERM, lambda *_: function())

    yield install
    signal.signal(signal.SIGTERM, before)


class StuckAfterPages:
    """Serves some pages of entries; then calls a function once, and answers no more until `ended` is set."""

    def __init__(self, pages: int, then: Callable[[], None]) -> None:
        self.ended = threading.Event()
        self._left = pages
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        if window_of(request) is None:
            return None
        with self._lock:
            self._left -= 1
            left = self._left
        if left == 0:
            self._then()
        if left <= 0:
            self.ended.wait(30)
        return None


@pytest.mark.parametrize("name", ["x.jsonl", "x/"])
def test_killed_export_stops_without_waiting_for_answers_and_removes_its_files(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    on_sigterm: Callable[[Callable[[], None]], None],
    tmp_path: Path,
    name: str,
) -> None:
    export = ContensisExportEntriesOperator(task_id="export", destination=f"{tmp_path}/{name}", page_size=50)
    on_sigterm(export.on_kill)
    faults = StuckAfterPages(12, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        try:
            with pytest.raises(TaskKilledError):
                export.execute({})
            assert not faults.ended.is_set()
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        finally:
            faults.ended.set()


def test_killed_copy_leaves_the_tables_as_they_were(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    on_sigterm: Callable[[Callable[[], None]], None],
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres.connection_json)
    copy = ContensisToPostgresOperator(task_id="copy", page_size=50)
    on_sigterm(copy.on_kill)
    faults = StuckAfterPages(12, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        try:
            with pytest.raises(TaskKilledError):
                copy.execute({})
            assert not faults.ended.is_set()
            assert postgres.tables() == {}
        finally:
            faults.ended.set()
        copy.execute({})  # no lock is left behind
    assert postgres.load() == served(small_catalogue)


def test_on_kill_from_another_thread_ends_the_calls(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    export = ContensisExportEntriesOperator(
        task_id="export", destination=f"{tmp_path}/x.jsonl", page_size=50, max_concurrent_requests=1
    )

    def kill() -> None:
        export.on_kill()
        faults.ended.set()

    faults = StuckAfterPages(12, kill)
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        with pytest.raises(AirflowFailException, match="The client was closed"):
            export.execute({})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operator", [ContensisExportEntriesOperator, ContensisExportContentTypesOperator])
def test_on_kill_does_nothing_when_nothing_runs(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path, operator: Any
) -> None:
    connect(iso_sandbox)
    export = operator(task_id="export", destination=f"{tmp_path}/x.json")
    export.on_kill()
    export.execute({})
    export.on_kill()
    assert (tmp_path / "x.json").exists()
