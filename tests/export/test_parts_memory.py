"""A million entries: plan and commit take few requests and little memory, however many entries there are."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from benchmarks.content import PROJECT, entry
from benchmarks.server import Server
from tests.conftest import SCOPES
from tests.parts import LocalPlace, Workers
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.server import Buffer

pytestmark = pytest.mark.slow

ENTRIES = 1_000_000
MAX_REQUESTS = 40
MAX_MB = 60
# In a process of its own, which has imported everything before its memory is looked at.
PROGRAM = """
import json, re, sys
from pathlib import Path
import airflow_provider_contensis.export.parts, airflow_provider_contensis.export.parts_commit
from tests.parts import LocalPlace, Workers
from tests.export.test_parts_memory import client_of

def memory():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

url, folder, address, parts = sys.argv[1:]
before = memory()
place = LocalPlace(Path(folder))
workers = Workers(lambda: client_of(url), "filmArchive", place, parts=int(parts), fields="runtime")
result = workers.plan() if address == "plan" else workers.commit(json.loads(address))
print(json.dumps([result, workers.client.requests_sent, memory() - before]))
"""


class Service(Server):
    """The benchmark's server, with entries made when they are asked for."""

    def __init__(self) -> None:
        super().__init__(memoryview(b""))
        self._entries = ENTRIES

    def _slice(self, page: range) -> Buffer:
        return b"".join(map(entry, page))[:-1]


def client_of(url: str) -> ContensisClient:
    return ContensisClient(Credentials(url, "bench", "bench", SCOPES))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setblocking(False)
    loop = asyncio.new_event_loop()
    task = loop.create_task(Service().run(listener))
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([task]),))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()
    listener.close()


def in_a_process(url: str, folder: Path, what: str, parts: int) -> tuple[Any, int, float]:
    """Plan, or commit the plan with an address; return the result, and how many requests and MB it took."""
    arguments = [sys.executable, "-c", PROGRAM, url, str(folder), what, str(parts)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    result, requests, mb = json.loads(done.stdout)
    return result, requests, mb


def test_plan_and_commit_of_a_million_entries_are_small(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    addresses, plan_requests, plan_mb = in_a_process(url, tmp_path, "plan", 16)
    workers = Workers(lambda: client_of(url), PROJECT, LocalPlace(tmp_path), page_size=1_000)
    with closing(workers.client):
        sizes = [workers.read(address)["entries"] for address in addresses]
    summary, commit_requests, commit_mb = in_a_process(url, tmp_path, json.dumps(addresses[0]), 16)
    tell(
        request,
        f"{ENTRIES:,} entries in 16 parts of {min(sizes):,} to {max(sizes):,}: plan and commit took "
        f"{plan_requests} and {commit_requests} requests, {plan_mb:.0f} and {commit_mb:.0f} MB",
    )
    assert (len(sizes), sum(sizes), summary["entries"]) == (16, ENTRIES, ENTRIES)
    assert max(sizes) <= 1.3 * ENTRIES / 16
    assert plan_requests + commit_requests <= MAX_REQUESTS
    assert max(plan_mb, commit_mb) <= MAX_MB


def test_plan_of_64_parts_takes_few_requests(url: str, tmp_path: Path) -> None:
    addresses, requests, mb = in_a_process(url, tmp_path, "plan", 64)
    assert len(addresses) == 64
    assert requests + 5 <= MAX_REQUESTS  # the commit takes five at most, whatever the number of parts
    assert mb <= MAX_MB
