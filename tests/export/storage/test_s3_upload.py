"""The memory of uploads to S3, which depends neither on the size nor on the number of files."""

from __future__ import annotations

import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

s3fs = pytest.importorskip("s3fs")

if TYPE_CHECKING:
    from airflow_provider_contensis.export.storage.base import PendingFile

_UPLOAD = """
import re, sys
from pathlib import Path
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

url, bucket = sys.argv[1:]
store = s3_filesystem(url)
store.pipe_file(f"{bucket}/first", b"x")
storage, before = ObjectStorage(store), memory("VmRSS")
files = [storage.create(f"{bucket}/{number}", owner="task") for number in range(4)]
for file in files:
    for _ in range(32):
        file.write(bytes(1 << 20))
    file.finish()
print(memory("VmHWM") - before)
"""


@pytest.fixture
def bucket(s3_url: str) -> str:
    name = f"upload{secrets.token_hex(8)}"
    s3_filesystem(s3_url).call_s3("create_bucket", Bucket=name)
    return name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_depends_on_parts_rather_than_files(s3_url: str, bucket: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _UPLOAD, s3_url, bucket], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < 64  # MiB, for 128 MiB in four files


def test_finished_file_keeps_nothing_in_memory_even_if_s3fs_does(
    s3_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As s3fs did until 2024."""
    send = s3fs.S3File._upload_chunk

    def send_and_keep(file: Any, final: bool = False) -> Any:
        buffer = file.buffer
        sent = send(file, final)
        if final:
            file.buffer = buffer
        return sent

    monkeypatch.setattr(s3fs.S3File, "_upload_chunk", send_and_keep)
    store = s3_filesystem(s3_url)
    file: PendingFile = ObjectStorage(store).create(f"{bucket}/films.jsonl", owner="task")
    file.write(b"film\n" * 1000)
    file.finish()
    assert file._file.buffer.getbuffer().nbytes == 0  # type: ignore[attr-defined]  # what s3fs holds
    assert store.find(bucket) == []
    file.commit()
    assert store.cat_file(f"{bucket}/films.jsonl") == b"film\n" * 1000
