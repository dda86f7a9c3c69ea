"""A killed export leaves nothing under the destination's name; a retry cleans up and resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.kills import (
    TIMEOUT,
    LocalPlace,
    S3Place,
    Service,
    edition,
    kill_many,
    observe,
    run,
    table,
)
from tests.kills import start as start_one
from tests.searches import IN_FLIGHT
from tests.terminal import tell

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest

url, client_id, client_secret, project_id, destination = sys.argv[1:]
scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
client = ContensisClient(Credentials(url, client_id, client_secret, scopes))
request = ExportRequest.from_arguments(destination=destination, page_size=100)
export_entries(client, project_id, request, owner="the task")
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return synthetic_catalogue(10_000, body_bytes=200)


def start(sandbox: Sandbox, destination: Path) -> subprocess.Popen[bytes]:
    arguments = [sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id, str(destination)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])


def wait_until_part_is_written(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.stat().st_size > 0 for path in folder.glob(".*.part")):
            return
        time.sleep(0.005)
    pytest.fail("the export ended before it could be killed")


def test_exports_killed_at_random_moments_leave_no_partial_file_and_retry_succeeds(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`make kills RUNS=200` kills more exports; the moments depend on SEED."""
    runs = int(os.environ.get("RUNS", "6"))
    counts = kill_many(runs, int(os.environ.get("SEED", "0")), tmp_path)
    if "RUNS" in os.environ:
        tell(request, table(counts))
    total = sum(counts.values(), Counter[str]())
    assert (total["kills"], total["retries"], total["partial"]) == (runs, runs, 0)
    # Each of the six content types has a window for entries without a created time.
    assert max(each["again"] for each in counts.values()) <= IN_FLIGHT + 5
    assert counts["local file"]["left over"] == counts["local folder"]["left over"] == 0


@pytest.mark.parametrize("older", [None, "yesterday's export"])
def test_sigkill_leaves_destination_unchanged(
    catalogue: Catalogue, tmp_path: Path, older: str | None
) -> None:
    destination = tmp_path / "entries.jsonl"
    if older is not None:
        destination.write_text(older)
    with Sandbox(catalogue, latency=0.02) as sandbox:
        process = start(sandbox, destination)
        wait_until_part_is_written(tmp_path, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert (destination.read_text() if destination.exists() else None) == older
        assert len(list(tmp_path.glob(".*.part"))) == 1

        assert start(sandbox, destination).wait() == 0
    assert sorted(destination.read_bytes().splitlines()) == sorted(catalogue.entries("published"))
    assert [path.name for path in tmp_path.iterdir()] == ["entries.jsonl"]


@pytest.mark.parametrize("kind", ["folder", "S3"])
def test_kill_during_commit_of_folder_leaves_no_manifest_until_retry(
    tmp_path: Path, s3_url: str, kind: str
) -> None:
    url = s3_url if kind == "S3" else None
    place = S3Place(url, "killed", "") if url else LocalPlace(tmp_path / "folder", "")
    with Sandbox(edition(1)) as older, Sandbox(edition(2)) as newer:
        run(Service.of(newer, url), place.destination)
        new = place.files()
        run(Service.of(older, url), place.destination)
        old = place.files()
        process = start_one(Service.of(newer, url), place.destination, killed_before="kind3.jsonl")
        process.join(TIMEOUT)
        assert process.exitcode == -signal.SIGKILL
        assert observe(place.files(), old, new) == "nothing"
        if isinstance(place, S3Place):
            assert place.hidden() == {"._manifest.json.lock", "._manifest.json.retired"}
        run(Service.of(newer, url), place.destination)
        assert observe(place.files(), old, new) == "new"
        if isinstance(place, S3Place):
            assert place.hidden() == set()
