"""The memory of exports and feeds on S3, which does not depend on the number of content types."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import Sandbox
from benchmarks.projects import folder
from tests.kills import s3_filesystem
from tests.object_stores import StoredFeed

if TYPE_CHECKING:
    from pathlib import Path

_RUN = """
import re, sys
from pathlib import Path
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

kind, service, client_id, client_secret, project_id, s3_url, url = sys.argv[1:]
store = s3_filesystem(s3_url)
root = url.removeprefix("s3://")
store.pipe_file(f"{root.partition('/')[0]}/first", b"x")
client = ContensisClient(
    Credentials(service, client_id, client_secret, ("Entry_Read", "ContentType_Read", "Project_Read"))
)
run, requests = {"feed": (export_changes, ChangesRequest), "export": (export_entries, ExportRequest)}[kind]
request = requests.from_arguments(destination=url, page_size=500, max_concurrent_requests=8)
before = memory("VmRSS")
run(client, project_id, request, storage=ObjectStorage(store), root=root)
print(sum(path.endswith(".jsonl") for path in store.find(root)), memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["export", "feed"])
def test_peak_memory_does_not_grow_with_content_types(kind: str, s3_url: str, tmp_path: Path) -> None:
    feed = StoredFeed("s3", s3_filesystem(s3_url), tmp_path)
    with Sandbox(folder(types=30)) as sandbox:
        arguments = (sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id)
        run = subprocess.run(
            [sys.executable, "-c", _RUN, kind, *arguments, s3_url, feed.url],
            check=True,
            capture_output=True,
            text=True,
        )
    files, peak = map(int, run.stdout.split())
    assert files == 30
    assert peak < 150  # MiB, for 240 MB; windows of large entries, and a thread for each file, took over 330
