"""One attempt of a task that follows a service, in this process or in one that is killed."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import psycopg
import psycopg2

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export import changes, differences, read
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.postgres import update_postgres
from airflow_provider_contensis.export.postgres_request import PostgresRequest
from airflow_provider_contensis.export.sinks import feed_ledger, feed_ledger_file
from airflow_provider_contensis.export.sinks.postgres_database import connected
from chaos.harness import Service, open_client
from chaos.sync.buckets import before_each_request
from chaos.sync.files import before_each_call
from chaos.sync.tables import before_each_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ChangesSummary, PostgresSummary
    from chaos.sync.buckets import Bucket
    from chaos.sync.scenario import Attempt

# New processes fork from one that has imported everything.
_PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["chaos.sync.attempt"])
_TIMEOUT_SECONDS = 300.0  # a longer attempt counts as one that never ends


class Task(NamedTuple):
    """A task of a run: all its attempts have these in common.

    :param number: of the run.
    :param service: where it reads.
    :param folder: where the feed is.
    :param arguments: of the operator.
    :param part_entries: as many entries as are counted at once.
    :param row_limit: where counts are taken to stop.
    :param database: the URL of the PostgreSQL that has the copy; None if it is a feed.
    :param bucket: where the feed is; None if it is in the folder.
    """

    number: int
    service: Service
    folder: Path
    arguments: dict[str, Any]
    part_entries: int
    row_limit: int
    database: str | None = None
    bucket: Bucket | None = None

    @property
    def pointer(self) -> Path:
        """The file that stands for Airflow's task state."""
        return self.folder.with_name(f"pointer-{self.number}.json")

    def run(
        self,
        clock: datetime,
        *,
        is_last: bool = True,
        searches: int | None = None,
        interruption: Callable[[], None] | None = None,
    ) -> ChangesSummary | PostgresSummary:
        """Run the task.

        :param clock: the time of the worker's clock when it begins.
        :param is_last: whether no other attempt will follow.
        :param searches: the number of the search at which it is interrupted; None to never interrupt it.
        :param interruption: called then; None to raise `TaskInterruptedError`.
        """
        options = {} if interruption is None else {"interruption": interruption}
        client = open_client(self.service, searches, **options)
        try:
            with _circumstances(self, clock):
                return self._follow(
                    client,
                    owner="task",
                    run={"dag_id": "d", "task_id": "t", "run_id": str(self.number), "map_index": -1},
                    pointer=_FilePointer(self.pointer, is_last_attempt=is_last),
                )
        finally:
            client.close()

    def before_each_step(self, before: Callable[[], None]) -> AbstractContextManager[None]:
        """Call a function before each call to the file system or the store of the feed, or each statement."""
        if self.bucket is not None:
            return before_each_request(before)
        if self.database is None:
            return before_each_call(self.folder, before)
        return before_each_statement(before)

    def _follow(self, client: ContensisClient, **names: Any) -> ChangesSummary | PostgresSummary:
        if self.bucket is not None:
            url = f"s3://{self.bucket.root}"
            feed = ChangesRequest.from_arguments(destination=url, **self.arguments)
            names |= {"storage": self.bucket.storage(), "root": self.bucket.root}
            return export_changes(client, self.service.project_id, feed, **names)
        if self.database is None:
            feed = ChangesRequest.from_arguments(destination=f"{self.folder}/", **self.arguments)
            return export_changes(client, self.service.project_id, feed, **names)
        url, connect = self.database, (psycopg.connect, psycopg2.connect)[self.number % 2]
        copy = PostgresRequest.from_arguments(**self.arguments)
        with connected(lambda: connect(url)) as database:
            return update_postgres(database, client, self.service.project_id, copy, **names)


def run_until_killed(task: Task, attempt: Attempt, clock: datetime) -> int | None:
    """Run a task in a process of its own that kills itself; return its exit code, None if it never ends."""
    process = _PROCESSES.Process(target=_run_until_killed, args=(task, attempt, clock), daemon=True)
    process.start()
    process.join(_TIMEOUT_SECONDS)
    exit_code = process.exitcode
    process.kill()
    process.join()
    return exit_code


def _run_until_killed(task: Task, attempt: Attempt, clock: datetime) -> None:
    logging.disable()
    calls = count(1)

    def die_at_call() -> None:
        if next(calls) == attempt.at:
            _die()

    with ExitStack() as stack:
        searches = attempt.at if attempt.end == "killed at a search" else None
        if searches is None:
            stack.enter_context(task.before_each_step(die_at_call))
        with suppress(ContensisError):  # it may meet a fault first
            task.run(clock, is_last=False, searches=searches, interruption=_die)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _circumstances(task: Task, clock: datetime) -> Iterator[None]:
    """Let small catalogues be counted in several parts, as large ones are, at the history's time."""
    moments = SimpleNamespace(now=lambda _: clock, fromtimestamp=datetime.fromtimestamp)
    seconds = SimpleNamespace(time_ns=lambda: int(clock.timestamp() * 1_000_000_000))
    with (
        patch.object(differences, "PART_ENTRIES", task.part_entries),
        patch.object(differences, "MAX_COUNT", task.row_limit),
        patch.object(read, "MAX_COUNT", task.row_limit),
        patch.object(feed_ledger, "BLOCK_ENTRIES", task.part_entries),
        patch.object(feed_ledger_file, "BLOCK_ENTRIES", task.part_entries),
        patch.multiple(changes, datetime=moments, time=seconds),  # all that it uses of both
    ):
        yield


class _FilePointer:
    """The pointer to a checkpoint, in a file."""

    def __init__(self, path: Path, *, is_last_attempt: bool) -> None:
        self.is_last_attempt = is_last_attempt
        self._path = path

    def load(self) -> Any:
        return json.loads(self._path.read_text()) if self._path.exists() else None

    def save(self, pointer: dict[str, str]) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(pointer))
        part.replace(self._path)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
