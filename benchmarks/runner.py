"""Runs one contender in a fresh process beside the server, and checks that it got all there is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from content import CONTENT_TYPE, ENTRY_BYTES, PROJECT
from environments import PeerUnavailable, python_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matrix import Cell, Contender

HERE = Path(__file__).parent


@dataclass
class Sample:
    """One run of one contender.

    :param error: why it does not count; None if it does.
    :param cpu_seconds: of the contender, of all its processors together.
    :param peak_mb: the most memory it had in use; None if it can't be told.
    :param baseline_mb: as much it had in use before it began to work.
    :param bytes: of its output.
    :param requests: that the server answered meanwhile.
    :param connections: that the server accepted meanwhile.
    :param server_cpu_seconds: what the server took meanwhile.
    :param more: what only this contender tells.
    """

    contender: str
    latency_ms: int
    page_size: int
    entries: int
    round: int
    error: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    rows: int | None = None
    bytes: int = 0
    peak_mb: float | None = None
    baseline_mb: float | None = None
    requests: int = 0
    connections: int = 0
    server_cpu_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class ServerHandle:
    """The server, seen from outside.

    :param url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._open = build_opener(ProxyHandler({})).open  # whatever proxy is set, this is our own machine

    def stats(self) -> dict[str, float]:
        """Return its counts."""
        return self._call("stats")

    def configure(self, entries: int, latency_ms: int) -> dict[str, float]:
        """Set how many entries there are and how long an answer waits; return its counts."""
        return self._call(f"configure?{urlencode({'entries': entries, 'latency_ms': latency_ms})}")

    def _call(self, what: str) -> dict[str, float]:
        with self._open(f"{self.url}/_bench/{what}") as answer:
            counts: dict[str, float] = json.load(answer)
            return counts


@contextmanager
def serving(entries: int) -> Iterator[ServerHandle]:
    """Run the server in a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), "--entries", str(entries)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit("The server did not start.")
            yield ServerHandle(json.loads(line)["url"])
        finally:
            process.terminate()


def available_suffixes() -> list[str]:
    """Return the file formats that this build of ours can write."""
    run = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(HERE / "contenders" / "ours.py"), "--formats"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment("http://127.0.0.1"),
    )
    suffixes: list[str] = json.loads(run.stdout.splitlines()[-1])
    return suffixes


def run(
    server: ServerHandle, contender: Contender, cell: Cell, entries: int, *, number: int, limit: float
) -> Sample:
    """Measure a contender once.

    :param number: of the round.
    :param limit: seconds after which it is given up.
    """
    sample = Sample(contender.key, cell.latency_ms, cell.page_size, entries, number)
    folder = _emptied(HERE / ".work" / "run")
    os.sync()  # what others wrote shall not be written while this one is measured
    before = server.configure(entries, cell.latency_ms)
    try:
        result = _child(server, contender, cell, entries, folder, limit)
    except (PeerUnavailable, ChildFailed) as failure:
        sample.error = str(failure)
        return sample
    finally:
        after = server.stats()
        _emptied(folder)
    for name in ("seconds", "cpu_seconds", "rows", "bytes", "peak_mb", "baseline_mb", "versions"):
        setattr(sample, name, result.pop(name))
    sample.more = result
    sample.requests = int(after["requests"] - before["requests"])
    sample.connections = int(after["connections"] - before["connections"])
    sample.server_cpu_seconds = after["cpu_seconds"] - before["cpu_seconds"]
    sample.error = _objection(sample, after["bytes"] - before["bytes"])
    return sample


def _objection(sample: Sample, served_bytes: float) -> str | None:
    """Return what is wrong with a run that seemed to succeed."""
    if sample.rows is not None and sample.rows != sample.entries:
        return f"invalid: {sample.rows:,} rows of {sample.entries:,}"
    if served_bytes < sample.entries * (ENTRY_BYTES - 1):
        return "invalid: it did not ask for all entries"
    return None


class ChildFailed(Exception):  # noqa: N818 - it did
    """A contender's process failed."""


def _child(
    server: ServerHandle, contender: Contender, cell: Cell, entries: int, folder: Path, limit: float
) -> dict[str, Any]:
    setting = {  # as in contenders/measure.py
        "url": server.url,
        "listing": f"{server.url}/api/management/projects/{PROJECT}/contenttypes/{CONTENT_TYPE}/entries",
        "entries": entries,
        "page_size": cell.page_size,
        "connections": contender.connections,
        "variant": contender.variant,
        "folder": str(folder),
    }
    command = [
        str(python_of(contender.environment)),
        str(HERE / "contenders" / f"{contender.script}.py"),
        json.dumps(setting),
    ]
    try:
        child = subprocess.run(  # noqa: S603 - our own program
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=folder,
            env=_environment(server.url),
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"not done after {limit:.0f} s") from None
    except OSError as error:
        raise ChildFailed(str(error.strerror)) from None
    if child.returncode:
        raise ChildFailed(_reason(child.stderr))
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def _reason(stderr: str) -> str:
    """Return the last thing a failed process said, without this machine's paths."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()] or ["no reason given"]
    text = lines[-1].replace(str(HERE.parent), ".").replace(sys.prefix, "…").replace(str(Path.home()), "~")
    return f"failed: {text[:200]}"


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _environment(url: str) -> dict[str, str]:
    """Return the variables that a contender runs with: its connection, and nobody else's settings."""
    home = HERE / ".work" / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    connection = {
        "conn_type": "contensis",
        "host": url,
        "login": "bench",
        "password": "bench",
        "extra": {"project_id": PROJECT},
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "DLT_"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_CONTENSIS_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
