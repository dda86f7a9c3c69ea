"""The memory of a feed on S3, which does not depend on the number of content types."""

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
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

service, client_id, client_secret, project_id, s3_url, url = sys.argv[1:]
store = s3_filesystem(s3_url)
root = url.removeprefix("s3://")
store.pipe_file(f"{root.partition('/')[0]}/first", b"x")
client = ContensisClient(
    Credentials(service, client_id, client_secret, ("Entry_Read", "ContentType_Read", "Project_Read"))
)
request = ChangesRequest.from_arguments(destination=url, page_size=500, max_concurrent_requests=8)
before = memory("VmRSS")
result = export_changes(client, project_id, request, storage=ObjectStorage(store), root=root)
print(len(result["content_types"]), memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_does_not_grow_with_content_types(s3_url: str, tmp_path: Path) -> None:
    feed = StoredFeed("s3", s3_filesystem(s3_url), tmp_path)
    with Sandbox(folder(types=30)) as sandbox:
        arguments = (sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id)
        run = subprocess.run(
            [sys.executable, "-c", _RUN, *arguments, s3_url, feed.url],
            check=True,
            capture_output=True,
            text=True,
        )
    types, peak = map(int, run.stdout.split())
    assert types == 30
    assert peak < 260  # MiB, for 240 MB in 30 files; with a thread for each of them it took more than 330
