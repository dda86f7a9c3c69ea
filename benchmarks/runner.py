"""Run one contender in a fresh process beside the server, and check that it read every entry."""

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
from environments import PeerUnavailable, peer_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matrix import Cell, Contender

HERE = Path(__file__).parent


@dataclass
class Sample:
    """One run of one contender.

    :param error: why the run does not count; None if it does.
    :param cpu_seconds: CPU time of the contender, summed over all cores.
    :param peak_mb: its peak memory; None if unknown.
    :param baseline_mb: its peak memory before it started to work.
    :param bytes: size of its output.
    :param requests: requests that the server answered during the run.
    :param connections: connections that the server accepted during the run.
    :param server_cpu_seconds: CPU time that the server used during the run.
    :param more: values that only this contender reports.
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
    """A client for the server's control endpoints.

    :param url: the server's base URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._open = build_opener(ProxyHandler({})).open  # a local server needs no proxy

    def stats(self) -> dict[str, float]:
        """Return the server's counters."""
        return self._call("stats")

    def configure(self, entries: int, latency_ms: int) -> dict[str, float]:
        """Set the number of entries and the latency; return the server's counters."""
        return self._call(f"configure?{urlencode({'entries': entries, 'latency_ms': latency_ms})}")

    def _call(self, endpoint: str) -> dict[str, float]:
        with self._open(f"{self.url}/_bench/{endpoint}") as answer:
            counts: dict[str, float] = json.load(answer)
            return counts


@contextmanager
def serving(entries: int) -> Iterator[ServerHandle]:
    """Run the server in its own process."""
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
    """Return the file formats that this provider can write here."""
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
    :param limit: timeout in seconds.
    """
    sample = Sample(contender.key, cell.latency_ms, cell.page_size, entries, number)
    folder = _empty_folder(HERE / ".work" / "run")
    os.sync()  # flush earlier writes, which would slow this run down
    before = server.configure(entries, cell.latency_ms)
    try:
        result = _run_contender(server, contender, cell, entries, folder, limit)
    except (PeerUnavailable, ContenderError) as failure:
        sample.error = str(failure)
        return sample
    finally:
        after = server.stats()
        _empty_folder(folder)
    for name in ("seconds", "cpu_seconds", "rows", "bytes", "peak_mb", "baseline_mb", "versions"):
        setattr(sample, name, result.pop(name))
    sample.more = result
    sample.requests = int(after["requests"] - before["requests"])
    sample.connections = int(after["connections"] - before["connections"])
    sample.server_cpu_seconds = after["cpu_seconds"] - before["cpu_seconds"]
    sample.error = _invalid_reason(sample, after["bytes"] - before["bytes"])
    return sample


def _invalid_reason(sample: Sample, served_bytes: float) -> str | None:
    """Return why a run that seemed to succeed does not count."""
    if sample.rows is not None and sample.rows != sample.entries:
        return f"invalid: wrote {sample.rows:,} of {sample.entries:,} rows"
    if served_bytes < sample.entries * (ENTRY_BYTES - 1):
        return "invalid: did not request every entry"
    return None


class ContenderError(Exception):
    """A contender's process failed."""


def _run_contender(
    server: ServerHandle, contender: Contender, cell: Cell, entries: int, folder: Path, limit: float
) -> dict[str, Any]:
    setting = {  # the fields of Setting in contenders/measure.py
        "url": server.url,
        "listing": f"{server.url}/api/management/projects/{PROJECT}/contenttypes/{CONTENT_TYPE}/entries",
        "entries": entries,
        "page_size": cell.page_size,
        "connections": contender.connections,
        "variant": contender.variant,
        "folder": str(folder),
    }
    command = [
        str(peer_python(contender.environment)),
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
        raise ContenderError(f"timed out after {limit:.0f} s") from None
    except OSError as error:
        raise ContenderError(str(error.strerror)) from None
    if child.returncode:
        raise ContenderError(_last_error_line(child.stderr))
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def _last_error_line(stderr: str) -> str:
    """Return the last line that a failed process printed, without this machine's paths."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()] or ["no error output"]
    text = lines[-1].replace(str(HERE.parent), ".").replace(sys.prefix, "…").replace(str(Path.home()), "~")
    return f"failed: {text[:200]}"


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _environment(url: str) -> dict[str, str]:
    """Return a contender's environment: its connection, and none of the caller's Airflow or dlt settings."""
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
