"""Two concurrent exports to one destination: they never mix, and the last to finish replaces all of it."""

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
from airflow_provider_contensis.export.storage import store_lock as lock
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.sandbox import Request, Sandbox
from tests.kills import (
    EXPIRY,
    TIMEOUT,
    LocalPlace,
    S3Place,
    Service,
    before_commit,
    edition,
    observe,
    run,
    s3_filesystem,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def slow() -> Iterator[Sandbox]:
    with Sandbox(edition(1)) as sandbox:
        yield sandbox


@pytest.fixture
def quick() -> Iterator[Sandbox]:
    with Sandbox(edition(2)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("kind", ["file", "folder", "S3"])
def test_last_to_finish_replaces_all(
    slow: Sandbox, quick: Sandbox, tmp_path: Path, s3_url: str, kind: str
) -> None:
    place = (
        S3Place(s3_url, f"two{random.getrandbits(40)}", "entries.jsonl")
        if kind == "S3"
        else LocalPlace(tmp_path / "folder", "entries.jsonl" if kind == "file" else "")
    )
    url = s3_url if kind == "S3" else None
    run(Service.of(quick, url), place.destination)
    quick_files = place.files()
    run(Service.of(slow, url), place.destination)
    slow_files = place.files()

    quick_is_done = threading.Event()
    begun = slow.count()

    def hold(request: Request) -> None:
        if request.number > begun + 6:  # in the middle of the export
            quick_is_done.wait(TIMEOUT)

    slow.faults = hold
    first = start(Service.of(slow, url), place.destination)
    while slow.count() < begun + 6:
        time.sleep(0.01)
    second = start(Service.of(quick, url), place.destination)
    second.join(TIMEOUT)
    assert observe(place.files(), quick_files, slow_files) == "old"
    quick_is_done.set()
    first.join(TIMEOUT)
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert observe(place.files(), quick_files, slow_files) == "new"
    assert place.leftovers() == 0


@pytest.mark.parametrize("kind", ["folder", "S3"])
def test_concurrent_commits_of_folder_do_not_mix(
    slow: Sandbox, quick: Sandbox, tmp_path: Path, s3_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second export waits until the first has replaced all files."""
    url = s3_url if kind == "S3" else None
    place = S3Place(url, f"two{random.getrandbits(40)}", "") if url else LocalPlace(tmp_path / "folder", "")
    run(Service.of(quick, url), place.destination)
    quick_files = place.files()
    run(Service.of(slow, url), place.destination)
    slow_files = place.files()
    others: list[ForkServerProcess] = []
    monkeypatch.setattr(lock, "_EXPIRY", EXPIRY)  # as in the other process

    def start_other() -> None:
        others.append(start(Service.of(quick, url), place.destination))
        others[0].join(2)
        assert others[0].is_alive()

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    credentials = Credentials(slow.url, slow.client_id, slow.client_secret, scopes)
    storage = ObjectStorage(s3_filesystem(url)) if url else LocalStorage()
    before_commit(storage, "kind3.jsonl", start_other)
    with closing(ContensisClient(credentials, tokens=TokenCache())) as client:
        request = ExportRequest.from_arguments(destination=place.destination)
        root = place.destination.removeprefix("s3://")
        export_entries(client, slow.project_id, request, storage=storage, root=root)
    others[0].join(TIMEOUT)
    assert others[0].exitcode == 0
    assert observe(place.files(), slow_files, quick_files) == "new"
    assert place.leftovers() == 0
