"""Exports of assets that are killed at random moments: no file under a final name is partial."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.export import downloads
from airflow_provider_contensis.sandbox import Sandbox
from tests.assets import Folder, asset_catalogue, content_of, fill
from tests.kills import PROCESSES, TIMEOUT, S3Place, Service, s3_filesystem
from tests.terminal import tell
from tests.test_kill_sync import die_after

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue

pytestmark = pytest.mark.slow

NUMBER = 120


def export(service: Service, destination: str, begun: Event | None, step: int | None) -> None:
    """Export assets; runs in a process that may be killed.

    :param step: after how many steps of the storage the process kills itself; None to leave it to others.
    """
    if begun is not None:
        begun.set()
    if step is not None:
        die_after(step)
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials
    from airflow_provider_contensis.export.assets import export_assets
    from airflow_provider_contensis.export.assets_request import AssetsRequest
    from airflow_provider_contensis.export.storage import store_lock
    from airflow_provider_contensis.export.storage.local import LocalStorage
    from airflow_provider_contensis.export.storage.object_store import ObjectStorage

    store_lock._EXPIRY = 5.0
    downloads._SAVE_SECONDS = 0.05
    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    storage = ObjectStorage(s3_filesystem(service.s3_url)) if service.s3_url else LocalStorage()
    export_assets(
        client,
        service.project_id,
        AssetsRequest.from_arguments(destination=destination),
        storage=storage,
        root=destination.removeprefix("s3://"),
        owner="t",
    )
    client.close()


def kill(service: Service, destination: str, moment: float, step: int | None) -> bool:
    """Start an export in another process and kill it; return whether it still ran."""
    begun = PROCESSES.Event()
    process = PROCESSES.Process(target=export, args=(service, destination, begun, step), daemon=True)
    process.start()
    assert begun.wait(TIMEOUT)
    process.join(moment if step is None else TIMEOUT)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def edit(catalogue: Catalogue, contents: dict[str, bytes], chance: random.Random) -> None:
    """Replace, delete and add some files."""
    for asset in chance.sample(list(contents), 20):
        contents[asset] = content_of(chance.randrange(1 << 30), chance.randrange(60_000))
        catalogue.replace_file(asset, contents[asset])
    for asset in chance.sample(list(contents), 3):
        catalogue.delete(asset)
        del contents[asset]
    for _ in range(3):
        content = content_of(chance.randrange(1 << 30), chance.randrange(60_000))
        contents[catalogue.add_asset("image", f"{chance.random()}.jpg", content)] = content


def test_exports_killed_at_random_moments_leave_no_partial_file(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`make kills-assets RUNS=100` kills more exports; the moments depend on SEED."""
    runs = int(os.environ.get("RUNS", "6"))
    chance = random.Random(int(os.environ.get("SEED", "0")))
    seen: Counter[str] = Counter()
    number, duration = 0, 1.0
    folder, catalogue = Folder(tmp_path / "assets0"), asset_catalogue()
    contents = fill(catalogue, NUMBER, largest=400_000)
    with Sandbox(catalogue, latency=0.005) as sandbox:
        service = Service.of(sandbox)
        while seen["kills"] < runs:
            number += 1
            if chance.random() < 0.3:
                folder = Folder(tmp_path / f"assets{number}")
            before = folder.contents() if folder.path.exists() else None
            edit(catalogue, contents, chance)
            # Half of the kills come while files are written and get their names.
            steps = 130 if before else 3 * NUMBER + 60
            step = chance.randrange(steps) if chance.random() < 0.5 else None
            killed = kill(service, f"{folder.path}/", duration * chance.uniform(0.1, 1.1), step)
            folder.check_whole()
            is_committed = (folder.path / "_manifest.json").exists()
            found = folder.contents() if is_committed else None
            assert found in (before, contents, None)
            stored = {name for name in folder.stored if "/." not in name}

            sandbox.forget_requests()
            started = time.monotonic()
            export(service, f"{folder.path}/", None, None)
            duration = time.monotonic() - started
            assert folder.contents() == contents
            assert folder.stored == {record["path"] for record in folder.records}
            assert not list(folder.path.rglob(".*"))
            seen["kills"] += killed
            seen["after" if found == contents else "before"] += killed
            # What was stored but not remembered is at most what 0.05 s and the threads had in hand.
            again = sandbox.count("file")
            seen["files stored when killed"] += len(stored) * killed
            seen["files asked for by retries"] += again * killed
    if "RUNS" in os.environ:
        tell(request, f"{dict(seen)}: every retry succeeded, and every file was whole")


def test_export_to_s3_killed_at_random_moments_leaves_no_partial_file(tmp_path: Path, s3_url: str) -> None:
    runs = max(2, int(os.environ.get("RUNS", "4")) // 4)
    chance = random.Random(int(os.environ.get("SEED", "0")))
    catalogue = asset_catalogue()
    contents = fill(catalogue, 40, largest=400_000)
    place = S3Place(s3_url, "killed-assets", "")
    with Sandbox(catalogue, latency=0.005) as sandbox:
        service = Service.of(sandbox, s3_url)
        kills = 0
        while kills < runs:
            edit(catalogue, contents, chance)
            kills += kill(service, place.destination, chance.uniform(0.3, 2), None)
            check_names(place)
            export(service, place.destination, None, None)
            files = check_names(place)
            records = [json.loads(line) for line in files["assets.jsonl"].splitlines()]
            assert {record["id"]: files[record["path"].rpartition("/")[2]] for record in records} == contents
            assert files.keys() - {record["path"].rpartition("/")[2] for record in records} == {
                "assets.jsonl",
                "_manifest.json",
            }


def check_names(place: S3Place) -> dict[str, bytes]:
    """Check that each file holds what its name says; return all files by name."""
    files = place.files()
    for name, content in files.items():
        if not name.endswith((".json", ".jsonl")):
            assert name.partition(".")[0] == hashlib.sha256(content).hexdigest()
    return files
