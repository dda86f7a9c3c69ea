"""Exports of changes that are killed at random moments: a reader sees the feed before or after."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.storage import local
from airflow_provider_contensis.sandbox import Sandbox
from tests.feeds import feed_index, load, served
from tests.file_pointer import FilePointer
from tests.kills import KINDS, PROCESSES, TIMEOUT, Service, edition
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.sandbox import Catalogue
    from tests.feeds import Key

pytestmark = pytest.mark.slow


def run_name(number: int) -> RunName:
    return {"dag_id": "d", "task_id": "t", "run_id": str(number), "map_index": -1}


def export(service: Service, folder: str, number: int, begun: Event, step: int | None) -> None:
    """Bring a feed up to date, in a process that will be killed.

    :param step: after how many steps of the storage the process kills itself; None to leave it to others.
    """
    begun.set()
    if step is not None:
        die_after(step)
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    request = ChangesRequest.from_arguments(destination=folder, page_size=30)
    pointer = FilePointer(pointer_of(folder))
    export_changes(client, service.project_id, request, run=run_name(number), owner="t", pointer=pointer)


def die_after(step: int) -> None:
    """Make this process kill itself after some steps of the storage, each of which a reader might see."""
    remaining = itertools.count(step, -1)

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if next(remaining) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for kind, names in ((local._LocalFile, ("finish", "commit")), (local.LocalStorage, ("create", "remove"))):
        for name in names:
            setattr(kind, name, counted(getattr(kind, name)))


def pointer_of(folder: str) -> Path:
    return Path(folder).with_suffix(".pointer")


def state(folder: Path) -> dict[Key, bytes]:
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


def test_runs_killed_at_random_moments_leave_the_feed_before_or_after(
    tmp_path: Path, make_client: Callable[..., ContensisClient], request: pytest.FixtureRequest
) -> None:
    """`make kills-sync RUNS=100` kills more runs; the moments depend on SEED."""
    runs = int(os.environ.get("RUNS", "6"))
    rng = random.Random(int(os.environ.get("SEED", "0")))
    seen: Counter[str] = Counter()
    number, duration = 0, 1.0
    folder, catalogue = tmp_path / "feed0", edition(1)
    with Sandbox(catalogue, latency=0.005) as sandbox:
        client = make_client(sandbox)
        while seen["kills"] < runs:
            number += 1
            if rng.random() < 0.15:
                folder = tmp_path / f"feed{number}"  # a snapshot
            edit(catalogue, rng)
            before, after = state(folder), served(catalogue)
            # Half of the kills come while files are written and get their names.
            step = rng.randrange(85) if rng.random() < 0.5 else None
            killed = kill(sandbox, folder, number, duration * rng.uniform(0.1, 1.1), step)
            found = state(folder)
            assert found in (before, after)
            committed = found == after
            index = feed_index(folder) if committed else None

            sandbox.forget_requests()
            started = time.monotonic()
            settings = ChangesRequest.from_arguments(destination=f"{folder}/", page_size=30)
            result = export_changes(
                client,
                sandbox.project_id,
                settings,
                run=run_name(number),
                owner="t",
                pointer=FilePointer(pointer_of(f"{folder}/")),
            )
            assert state(folder) == after
            assert result["change_set"] == feed_index(folder)["latest"]
            if committed:
                assert feed_index(folder) == index
                assert sandbox.count() == 0
            else:
                duration = time.monotonic() - started
            # A killed process has no time to remove its checkpoint.
            assert not list(folder.rglob(".*.part"))
            seen["kills"] += killed
            seen[("after" if committed else "before") if killed else "not killed in time"] += 1
    if "RUNS" in os.environ:
        tell(request, f"{dict(seen)}: every retry succeeded, and no other state was seen")


def kill(sandbox: Sandbox, folder: Path, number: int, moment: float, step: int | None) -> bool:
    """Start a run in another process and kill it; return whether it still ran.

    :param moment: after how many seconds.
    :param step: instead, after how many steps of the storage.
    """
    begun = PROCESSES.Event()
    process = PROCESSES.Process(
        target=export, args=(Service.of(sandbox), f"{folder}/", number, begun, step), daemon=True
    )
    process.start()
    assert begun.wait(TIMEOUT)
    process.join(moment if step is None else TIMEOUT)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL
