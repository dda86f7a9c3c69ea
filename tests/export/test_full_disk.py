"""A disk that is full and folders that may not be written to: real ones, in a namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Ends with 75 (try again later) or 77 (not permitted), as sysexits.h has it.
PROGRAM = """
import os, sys
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.formats import csv, json, parquet
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.sinks import file, folder

url, client_id, client_secret, project_id, destination, user = sys.argv[1:]
if os.getuid() == 0 and user == "nobody":
    os.setuid(65534)
scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
client = ContensisClient(Credentials(url, client_id, client_secret, scopes))
request = ExportRequest.from_arguments(destination=destination, on_type_mismatch="raw")
try:
    export_entries(client, project_id, request)
except DestinationError as error:
    print(error, file=sys.stderr)
    sys.exit(75 if error.retryable else 77)
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(synthetic_catalogue(1_000, body_bytes=400)) as sandbox:
        yield sandbox


def export(
    sandbox: Sandbox, destination: str, *, user: str = "root", prepare: str = "true"
) -> tuple[int, str, list[str]]:
    """Return an export's exit code, what it said, and what it left in the folder, hidden files included."""
    folder = destination.rpartition("/")[0]
    arguments = [sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id, destination, user]
    script = f'{prepare} && {{ "$@"; code=$?; ls -A "{folder}"; exit $code; }}'
    shell = ["sh", "-c", script, "sh", sys.executable, "-c", PROGRAM, *arguments]
    namespace = ["unshare", "--map-root-user", "--mount"] if prepare != "true" else []
    done = subprocess.run([*namespace, *shell], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, done.stdout.splitlines()


def mounts_allowed() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(
    not mounts_allowed(), reason="this machine allows no mounts, not even private ones"
)


@needs_mounts
@pytest.mark.parametrize("name", ["x.jsonl", "x.json.gz", "x.csv", "x.parquet", ""])
def test_a_full_disk_is_told_may_pass_and_keeps_only_what_was_there(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    small = (
        f'mount -t tmpfs -o size=128k tmpfs "{tmp_path}" && echo old > "{tmp_path}/{name or "article.jsonl"}"'
    )
    code, told, left = export(sandbox, f"{tmp_path}/{name}", prepare=small)
    assert code == 75, told
    assert "could not be written: No space left on device." in told
    assert left == [name or "article.jsonl"]


@needs_mounts
def test_a_file_system_that_is_read_only_is_told_and_no_retry_mends_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    read_only = f'mount -t tmpfs -o ro tmpfs "{tmp_path}"'
    code, told, left = export(sandbox, f"{tmp_path}/x.jsonl", prepare=read_only)
    assert code == 77, told
    assert "x.jsonl could not be written: Read-only file system." in told
    assert left == []


@pytest.mark.parametrize("name", ["x.jsonl", ""])
def test_a_folder_that_may_not_be_written_to_is_told_and_no_retry_mends_it(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    # Reached by anybody, written to by nobody; pytest's own folder is closed to others.
    folder = tmp_path / "here"
    folder.mkdir(mode=0o555)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    code, told, left = export(sandbox, f"{folder}/{name}", user="nobody")
    assert code == 77, told
    assert "could not be written: Permission denied." in told
    assert left == []
