"""Exports of changes that are killed at random moments: a reader sees the feed before or after."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import pytest

from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.storage import conditional, local, object_store, store_lock
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.sandbox import Sandbox
from tests.feeds import feed_index, load, served
from tests.file_pointer import FilePointer
from tests.kills import EXPIRY, KINDS, PROCESSES, TIMEOUT, Service, edition, s3_filesystem
from tests.object_stores import StoredFeed
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.sandbox import Catalogue
    from tests.feeds import Key

pytestmark = pytest.mark.slow

# `make kills-sync` names one.
DESTINATIONS = [os.environ.get("DESTINATION", "feed")] if "RUNS" in os.environ else ["feed", "s3"]

# Classes, and those of their methods whose calls are counted.
Steps: TypeAlias = tuple[tuple[type, tuple[str, ...]], ...]


def run_name(number: int) -> RunName:
    return {"dag_id": "d", "task_id": "t", "run_id": str(number), "map_index": -1}


class Feed(NamedTuple):
    """A feed, as the process that writes it sees it.

    :param url: of its folder.
    :param pointer: the file with the pointer to the checkpoint.
    :param s3_url: the S3 server, if it is there.
    """

    url: str
    pointer: Path
    s3_url: str | None = None

    def update(self, client: ContensisClient, project_id: str, number: int) -> ChangesSummary:
        request = ChangesRequest.from_arguments(destination=self.url, page_size=30)
        where: dict[str, Any] = {}
        if self.s3_url is not None:
            where = {"storage": ObjectStorage(s3_filesystem(self.s3_url)), "root": self.url[len("s3://") :]}
        name, pointer = run_name(number), FilePointer(self.pointer)
        return export_changes(client, project_id, request, run=name, owner="t", pointer=pointer, **where)


class Reader(Protocol):
    """A feed, as a reader sees it."""

    feed: Feed

    def folder(self) -> Path:
        """Return a folder with its files."""


class DiskReader:
    def __init__(self, folder: Path) -> None:
        self.feed = Feed(f"{folder}/", folder.with_suffix(".pointer"))
        self._folder = folder

    def folder(self) -> Path:
        return self._folder


class S3Reader(StoredFeed):
    def __init__(self, s3_url: str, folder: Path) -> None:
        super().__init__("s3", s3_filesystem(s3_url), folder)
        self.feed = Feed(self.url, folder.with_suffix(".pointer"), s3_url)


def export(service: Service, feed: Feed, number: int, begun: Event, step: int | None) -> None:
    """Bring a feed up to date, in a process that will be killed.

    :param step: after how many steps of the storage the process kills itself; None to leave it to others.
    """
    begun.set()
    store_lock._EXPIRY = EXPIRY
    if step is not None:
        die_after(step, STORE_STEPS if feed.s3_url else DISK_STEPS)
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    feed.update(client, service.project_id, number)


DISK_STEPS: Steps = (
    (local._LocalFile, ("finish", "commit")),
    (local.LocalStorage, ("create", "remove")),
)
STORE_STEPS: Steps = (
    (object_store._Upload, ("finish", "commit")),
    (object_store.ObjectStorage, ("create", "remove", "replace", "supersede", "names")),
    (conditional._S3, ("write", "remove")),
)


def die_after(step: int, kinds: Steps = DISK_STEPS) -> None:
    """Make this process kill itself after some steps of the storage, each of which a reader might see."""
    remaining = itertools.count(step, -1)

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if next(remaining) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for kind, names in kinds:
        for name in names:
            setattr(kind, name, counted(getattr(kind, name)))


def state(reader: Reader) -> dict[Key, bytes]:
    folder = reader.folder()
    return load(folder) if (folder / "_feed.json").exists() else {}


def edit(catalogue: Catalogue, rng: random.Random) -> None:
    """Change, create and delete some entries of each content type."""
    for kind in KINDS:
        entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries(content_type_id=kind)]
        for entry_id in rng.sample(entries, 3):
            catalogue.update(entry_id, {"title": f"edit {rng.random()}"})
        catalogue.delete(rng.choice(entries))
        for _ in range(rng.randrange(3)):
            catalogue.add(kind, {"title": f"new {rng.random()}"})


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_runs_killed_at_random_moments_leave_the_feed_before_or_after(
    tmp_path: Path,
    s3_url: str,
    make_client: Callable[..., ContensisClient],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    destination: str,
) -> None:
    """`make kills-sync RUNS=100` kills more runs, `DESTINATION=s3` on S3; the moments depend on SEED."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    monkeypatch.setattr(store_lock, "_EXPIRY", EXPIRY)
    runs = int(os.environ.get("RUNS", "6"))
    rng = random.Random(int(os.environ.get("SEED", "0")))
    seen: Counter[str] = Counter()
    number, duration = 0, 1.0
    catalogue = edition(1)

    def new_feed() -> Reader:
        folder = tmp_path / f"feed{number}"
        return S3Reader(s3_url, folder) if destination == "s3" else DiskReader(folder)

    reader = new_feed()
    with Sandbox(catalogue, latency=0.005) as sandbox:
        client = make_client(sandbox)
        while seen["kills"] < runs:
            number += 1
            if rng.random() < 0.15:
                reader = new_feed()  # a snapshot
            edit(catalogue, rng)
            before, after = state(reader), served(catalogue)
            # Half of the kills come while files are written and get their names.
            step = rng.randrange(85) if rng.random() < 0.5 else None
            killed = kill(sandbox, reader.feed, number, duration * rng.uniform(0.1, 1.1), step)
            found = state(reader)
            assert found in (before, after)
            committed = found == after
            index = feed_index(reader.folder()) if committed else None

            sandbox.forget_requests()
            started = time.monotonic()
            result = reader.feed.update(client, sandbox.project_id, number)
            assert state(reader) == after
            folder = reader.folder()
            assert result["change_set"] == feed_index(folder)["latest"]
            if committed:
                assert feed_index(folder) == index
                assert sandbox.count() == 0
            elif destination != "s3":  # there, most of the time is that of an expiring lock
                duration = time.monotonic() - started
            # A killed process has no time to remove its checkpoint.
            assert not list(folder.rglob(".*.part"))
            assert not list(folder.rglob("*.lock"))
            seen["kills"] += killed
            seen[("after" if committed else "before") if killed else "not killed in time"] += 1
    if "RUNS" in os.environ:
        tell(request, f"{dict(seen)}: every retry succeeded, and no other state was seen")


def kill(sandbox: Sandbox, feed: Feed, number: int, moment: float, step: int | None) -> bool:
    """Start a run in another process and kill it; return whether it still ran.

    :param moment: after how many seconds.
    :param step: instead, after how many steps of the storage.
    """
    begun = PROCESSES.Event()
    process = PROCESSES.Process(
        target=export, args=(Service.of(sandbox), feed, number, begun, step), daemon=True
    )
    process.start()
    assert begun.wait(TIMEOUT)
    process.join(moment if step is None else TIMEOUT)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL
