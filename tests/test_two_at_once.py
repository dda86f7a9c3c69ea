"""Two tasks that export to the same place at once: they never mix, and the last to finish wins whole."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.storage import s3_lock as lock
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.sandbox import Request, Sandbox
from tests.kills import (
    EXPIRY,
    PATIENCE,
    LocalPlace,
    S3Place,
    Service,
    edition,
    interrupt,
    run,
    s3_filesystem,
    start,
    what_is_seen,
)
from tests.provider.test_s3 import s3_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

__all__ = ["s3_url"]  # a fixture


@pytest.fixture
def slow() -> Iterator[Sandbox]:
    with Sandbox(edition(1)) as sandbox:
        yield sandbox


@pytest.fixture
def quick() -> Iterator[Sandbox]:
    with Sandbox(edition(2)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("kind", ["file", "folder", "S3"])
def test_the_last_to_finish_wins_whole(
    slow: Sandbox, quick: Sandbox, tmp_path: Path, s3_url: str, kind: str
) -> None:
    place = (
        S3Place(s3_url, f"two{random.getrandbits(40)}", "entries.jsonl")
        if kind == "S3"
        else LocalPlace(tmp_path / "here", "entries.jsonl" if kind == "file" else "")
    )
    url = s3_url if kind == "S3" else None
    run(Service.of(quick, url), place.destination)
    quicks = place.files()
    run(Service.of(slow, url), place.destination)
    slows = place.files()

    quick_is_done = threading.Event()
    begun = slow.count()

    def hold(request: Request) -> None:
        if request.number > begun + 20:  # in the middle of its pages
            quick_is_done.wait(PATIENCE)

    slow.faults = hold
    first = start(Service.of(slow, url), place.destination)
    while slow.count() < begun + 20:
        time.sleep(0.01)
    second = start(Service.of(quick, url), place.destination)
    second.join(PATIENCE)
    assert what_is_seen(place.files(), quicks, slows) == "old"
    quick_is_done.set()
    first.join(PATIENCE)
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert what_is_seen(place.files(), quicks, slows) == "new"
    assert place.leftovers() == 0


@pytest.mark.parametrize("kind", ["folder", "S3"])
def test_of_a_folder_wins_whole_though_both_replace_its_files_at_once(
    slow: Sandbox, quick: Sandbox, tmp_path: Path, s3_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second to come waits until the first has replaced all of its files."""
    url = s3_url if kind == "S3" else None
    place = S3Place(url, f"two{random.getrandbits(40)}", "") if url else LocalPlace(tmp_path / "here", "")
    run(Service.of(quick, url), place.destination)
    quicks = place.files()
    run(Service.of(slow, url), place.destination)
    slows = place.files()
    others: list[ForkServerProcess] = []
    monkeypatch.setattr(lock, "_EXPIRY", EXPIRY)  # as in the other's process

    def another_comes() -> None:
        others.append(start(Service.of(quick, url), place.destination))
        others[0].join(2)
        assert others[0].is_alive()

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    credentials = Credentials(slow.url, slow.client_id, slow.client_secret, scopes)
    storage = ObjectStorage(s3_filesystem(url)) if url else LocalStorage()
    interrupt(storage, "kind3.jsonl", another_comes)
    with closing(ContensisClient(credentials, tokens=TokenCache())) as client:
        request = ExportRequest.from_arguments(destination=place.destination)
        root = place.destination.removeprefix("s3://")
        export_entries(client, slow.project_id, request, storage=storage, root=root)
    others[0].join(PATIENCE)
    assert others[0].exitcode == 0
    assert what_is_seen(place.files(), slows, quicks) == "new"
    assert place.leftovers() == 0
