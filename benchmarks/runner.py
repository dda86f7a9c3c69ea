"""Run one contender in a fresh process beside its service, and check that it read every entry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.measure import DESTINATION
from benchmarks.environments import OURS, PeerUnavailable, peer_command
from benchmarks.matrix import POSTGRES, S3, SUFFIXES
from benchmarks.samples import Sample
from benchmarks.services import ROOT, object_store, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from benchmarks.matrix import Cell, Contender
    from benchmarks.services import Service

HERE = Path(__file__).parent


def available_suffixes() -> list[str]:
    """Return the file formats that this provider can write here."""
    run = subprocess.run(  # noqa: S603 - our own program
        [*_command(OURS, "ours"), "--formats", *SUFFIXES],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment("", None),
    )
    suffixes: list[str] = json.loads(run.stdout.splitlines()[-1])
    return suffixes


def run(
    service: Service, case: str, contender: Contender, cell: Cell, entries: int, *, number: int, limit: float
) -> Sample:
    """Measure a contender once.

    :param number: of the round.
    :param limit: timeout in seconds.
    """
    sample = Sample(case, contender.key, cell.latency_ms, cell.page_size, entries, number)
    folder = _empty_folder(HERE / ".work" / "run")
    os.sync()  # flush earlier writes, which would slow this run down
    # A destination of its own for each run, because a full one is slower.
    with _DESTINATIONS.get(case, nullcontext)() as destination:
        before = service.configure(entries, cell.latency_ms)
        try:
            result = _run_contender(service, destination, contender, cell, entries, folder, limit)
        except (PeerUnavailable, ContenderError) as failure:
            sample.error = str(failure)
            return sample
        finally:
            after = service.stats()
            _empty_folder(folder)
    for name in ("seconds", "cpu_seconds", "rows", "bytes", "peak_mb", "baseline_mb", "versions"):
        setattr(sample, name, result.pop(name))
    sample.more = result
    sample.requests = int(after["requests"] - before["requests"])
    sample.connections = int(after["connections"] - before["connections"])
    sample.server_cpu_seconds = after["cpu_seconds"] - before["cpu_seconds"]
    served = after.get("bytes", 0) - before.get("bytes", 0)
    sample.error = invalid_reason(sample, served, service.least_bytes(entries))
    return sample


_DESTINATIONS: dict[str, Callable[[], AbstractContextManager[str | None]]] = {
    S3: object_store,
    POSTGRES: postgres_server,
}


def invalid_reason(sample: Sample, served_bytes: float, least_bytes: int) -> str | None:
    """Return why a run that seemed to succeed does not count."""
    if sample.rows is not None and sample.rows != sample.entries:
        return f"invalid: wrote {sample.rows:,} of {sample.entries:,} rows"
    if served_bytes < least_bytes:
        return "invalid: did not request every entry"
    return None


class ContenderError(Exception):
    """A contender's process failed."""


def _run_contender(
    service: Service,
    destination: str | None,
    contender: Contender,
    cell: Cell,
    entries: int,
    folder: Path,
    limit: float,
) -> dict[str, Any]:
    access = service.access
    setting = {  # the fields of Setting in contenders/measure.py
        "url": access.url,
        "listing": access.listing,
        "project_id": access.project_id,
        "client_id": access.client_id,
        "client_secret": access.client_secret,
        "entries": entries,
        "page_size": cell.page_size,
        "connections": contender.connections,
        "variant": contender.variant,
        "folder": str(folder),
    }
    command = [
        *_command(contender.environment, contender.script),
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
            env=_environment(access.connection, destination),
        )
    except subprocess.TimeoutExpired:
        raise ContenderError(f"timed out after {limit:.0f} s") from None
    except OSError as error:
        raise ContenderError(str(error.strerror)) from None
    if child.returncode:
        raise ContenderError(_last_error_line(child.stderr))
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def _command(environment: str, script: str) -> list[str]:
    if script.endswith(".js"):
        return [*peer_command(environment), str(HERE / "contenders" / script)]
    return [*peer_command(environment), "-m", f"benchmarks.contenders.{script}"]


def _last_error_line(stderr: str) -> str:
    """Return the last line that a failed process printed, without this machine's paths."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()] or ["no error output"]
    text = lines[-1].replace(str(ROOT), ".").replace(sys.prefix, "…").replace(str(Path.home()), "~")
    return f"failed: {text[:200]}"


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _environment(connection: str, destination: str | None) -> dict[str, str]:
    """Return a contender's environment: its connections, and none of the caller's Airflow or dlt settings."""
    home = HERE / ".work" / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "DLT_"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_CONTENSIS_DEFAULT": connection,
        **({DESTINATION: destination} if destination else {}),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
