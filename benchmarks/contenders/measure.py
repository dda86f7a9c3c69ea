"""Shared by all contenders: parse the settings, time the work, count the rows, print the result.

This module runs in each contender's own Python, so it needs only the standard library. The libraries that
count rows are imported after the measurement.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The variable with the Airflow connection to where a contender writes, if it does not write files.
DESTINATION = "AIRFLOW_CONN_STORE"

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Setting:
    """A contender's settings.

    :param url: the server's base URL.
    :param listing: the URL of the plain paged list of all entries; empty if there is none.
    :param project_id: the project to export.
    :param client_id: the client id of the API key.
    :param client_secret: its secret.
    :param entries: the number of entries.
    :param page_size: entries per page.
    :param connections: the maximum number of concurrent requests.
    :param variant: specific to the contender, such as a file format.
    :param folder: an empty folder for output and state.
    """

    url: str
    listing: str
    project_id: str
    client_id: str
    client_secret: str
    entries: int
    page_size: int
    connections: int
    variant: str
    folder: Path

    @property
    def pages(self) -> int:
        """The number of pages that the entries fill."""
        return -(-self.entries // self.page_size)


@dataclass(frozen=True)
class Outcome:
    """A contender's result.

    :param files: its output; empty if it discards the bytes.
    :param more: other values to report.
    :param check: called after the measurement; its values are reported, too.
    """

    files: Iterable[Path] = ()
    more: dict[str, Any] = field(default_factory=dict)
    check: Callable[[], dict[str, Any]] = dict


def measure(prepare: Callable[[Setting], Callable[[], Outcome]], *distributions: str) -> None:
    """Measure a contender and print the result as one line of JSON.

    :param prepare: imports everything the work needs, and returns the function that does the work.
    :param distributions: packages whose versions are reported.
    """
    given = json.loads(sys.argv[1])
    setting = Setting(**{**given, "folder": Path(given["folder"])})
    work = prepare(setting)
    baseline, cpu_before, started = peak_mb(), cpu_seconds(), time.perf_counter()
    outcome = work()
    seconds, cpu, peak = time.perf_counter() - started, cpu_seconds() - cpu_before, peak_mb()
    files = list(outcome.files)
    result = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "rows": sum(map(count_rows, files)) if files else None,
        "bytes": sum(file.stat().st_size for file in files),
        "peak_mb": peak,
        "baseline_mb": baseline,
        "versions": {name: importlib.metadata.version(name) for name in distributions},
        **outcome.more,
        **outcome.check(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def peak_mb() -> float:
    """Return the peak memory of this process.

    Linux keeps it in VmHWM. The fallback, getrusage, is less exact there: it includes the parent process as
    it was when it started this one.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1024
    )


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished child processes."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def count_rows(path: Path) -> int:
    """Count the rows of a file; its suffix decides how."""
    match [suffix for suffix in path.suffixes if suffix in _COUNTERS or suffix in {".gz", ".zst"}]:
        case [".parquet"]:
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
        case [suffix]:
            with path.open("rb") as file:
                return _COUNTERS[suffix](file)
        case [suffix, ".gz"]:
            with gzip.open(path, "rb") as unzipped:
                return _COUNTERS[suffix](unzipped)  # type: ignore[arg-type]  # GzipFile reads like any binary file
        case [suffix, ".zst"]:
            import pyarrow

            with pyarrow.input_stream(str(path), compression="zstd") as stream:
                return _COUNTERS[suffix](stream)
    raise ValueError(f"Cannot count the rows of {path.name}")


def _count_lines(file: IO[bytes]) -> int:
    rows, last = 0, b"\n"
    while chunk := file.read(_CHUNK_BYTES):
        rows += chunk.count(b"\n")
        last = chunk[-1:]
    return rows + (last != b"\n")  # the last line may lack a line end


def _count_items(file: IO[bytes]) -> int:
    return len(json.loads(file.read()))


def _count_records(file: IO[bytes]) -> int:
    """Count the records of a CSV file, without the header; quoted cells may contain line ends."""
    outside = b"".join(file.read().split(b'"')[::2])
    return outside.count(b"\n") + (not outside.endswith(b"\n")) - 1


_COUNTERS: dict[str, Callable[[IO[bytes]], int]] = {
    ".jsonl": _count_lines,
    ".json": _count_items,
    ".csv": _count_records,
    ".parquet": lambda _: 0,
}
