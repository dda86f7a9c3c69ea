"""Full disks, read-only file systems and folders without write permission: real ones, mounted privately."""

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

# Exits with 75 (temporary failure) or 77 (no permission), as in sysexits.h. The imports come before setuid:
# the other user may not be able to read the packages.
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
    """Export in another process; return exit code, stderr, and all files in the folder, hidden ones too."""
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


needs_mounts = pytest.mark.skipif(not mounts_allowed(), reason="this machine does not allow private mounts")


@needs_mounts
@pytest.mark.parametrize("name", ["x.jsonl", "x.json.gz", "x.csv", "x.parquet", ""])
def test_full_disk_is_retryable_and_leaves_only_older_export(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    mount = (
        f'mount -t tmpfs -o size=128k tmpfs "{tmp_path}" && echo old > "{tmp_path}/{name or "article.jsonl"}"'
    )
    code, stderr, files = export(sandbox, f"{tmp_path}/{name}", prepare=mount)
    assert code == 75, stderr
    assert "could not be written: No space left on device." in stderr
    assert files == [name or "article.jsonl"]


@needs_mounts
def test_read_only_file_system_is_not_retryable(sandbox: Sandbox, tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o ro tmpfs "{tmp_path}"'
    code, stderr, files = export(sandbox, f"{tmp_path}/x.jsonl", prepare=mount)
    assert code == 77, stderr
    assert "x.jsonl could not be written: Read-only file system." in stderr
    assert files == []


@pytest.mark.parametrize("name", ["x.jsonl", ""])
def test_folder_without_write_permission_is_not_retryable(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    # Everybody may enter the folder and nobody may write to it; pytest's own folders are closed to others.
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    code, stderr, files = export(sandbox, f"{folder}/{name}", user="nobody")
    assert code == 77, stderr
    assert "could not be written: Permission denied." in stderr
    assert files == []
