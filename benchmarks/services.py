"""The services that contenders use, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from benchmarks.content import CONTENT_TYPE, ENTRY_BYTES, PROJECT
from benchmarks.object_store import KEY, REGION, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Access:
    """How a contender reaches a service.

    :param url: the base URL.
    :param project_id: the project to export.
    :param listing: the URL of a plain paged list of all entries; empty if there is none.
    """

    url: str
    project_id: str
    client_id: str
    client_secret: str
    listing: str = ""

    @property
    def connection(self) -> str:
        """The Airflow connection, as JSON."""
        return json.dumps(
            {
                "conn_type": "contensis",
                "host": self.url,
                "login": self.client_id,
                "password": self.client_secret,
                "extra": {"project_id": self.project_id},
            }
        )


class Service(Protocol):
    """A Contensis to export from."""

    access: Access

    def configure(self, entries: int, latency_ms: int) -> dict[str, float]:
        """Set what the next contender finds; return the counters."""

    def stats(self) -> dict[str, float]:
        """Return the counters."""

    def least_bytes(self, entries: int) -> int:
        """Return how many bytes the service sends to a contender that reads all entries, at least."""


class PageServer:
    """The benchmark server: prepared pages of one content type.

    :param url: its base URL.
    """

    def __init__(self, url: str) -> None:
        listing = f"{url}/api/management/projects/{PROJECT}/contenttypes/{CONTENT_TYPE}/entries"
        self.access = Access(url, PROJECT, "bench", "bench", listing)
        self._open = build_opener(ProxyHandler({})).open  # a local server needs no proxy

    def stats(self) -> dict[str, float]:
        """Return the server's counters."""
        return self._call("stats")

    def configure(self, entries: int, latency_ms: int) -> dict[str, float]:
        """Set the number of entries and the latency; return the server's counters."""
        return self._call(f"configure?{urlencode({'entries': entries, 'latency_ms': latency_ms})}")

    def least_bytes(self, entries: int) -> int:
        """Return the bytes of all entries."""
        return entries * (ENTRY_BYTES - 1)

    def _call(self, endpoint: str) -> dict[str, float]:
        with self._open(f"{self.access.url}/_bench/{endpoint}") as answer:
            counts: dict[str, float] = json.load(answer)
            return counts


class ProjectServer:
    """The sandbox with a project of many content types.

    :param process: a `project_server`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        started = json.loads(_first_line(process))
        self.entries = int(started.pop("entries"))
        self.access = Access(**started)

    def stats(self) -> dict[str, float]:
        """Return the counters."""
        return self._call({})

    def configure(self, entries: int, latency_ms: int) -> dict[str, float]:
        """Set the latency; return the counters. The number of entries is the project's."""
        if entries != self.entries:
            raise ValueError(f"The project has {self.entries:,} entries, not {entries:,}")
        return self._call({"latency_ms": latency_ms})

    def least_bytes(self, _entries: int) -> int:
        """Return 0: the rows of every contender are counted here."""
        return 0

    def _call(self, settings: dict[str, Any]) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("The process has no pipes")
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        counts: dict[str, float] = json.loads(self._process.stdout.readline())
        return counts


@contextmanager
def page_server(entries: int) -> Iterator[PageServer]:
    """Run the benchmark server."""
    with _process("benchmarks.server", "--entries", str(entries)) as process:
        yield PageServer(json.loads(_first_line(process))["url"])


@contextmanager
def project_server(project: str) -> Iterator[ProjectServer]:
    """Run the sandbox with a project.

    :param project: its name in `projects.PROJECTS`.
    """
    with _process("benchmarks.project_server", project) as process:
        yield ProjectServer(process)


@contextmanager
def object_store() -> Iterator[str]:
    """Run an S3 server with an empty bucket; yield an Airflow connection to it, as JSON."""
    with _process("benchmarks.object_store") as process:
        extra = {"endpoint_url": _first_line(process), "region_name": REGION}
        yield json.dumps({"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra})


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run an empty PostgreSQL; yield its URL."""
    with _process("benchmarks.postgres_server") as process:
        yield _first_line(process)


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _first_line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit("A service of the benchmark did not start.")
    return line.strip()
