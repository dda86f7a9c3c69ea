"""Measure the export of assets: speed against a loop of `requests.get`, memory, faults and a second run.

    python -m benchmarks.assets                                     # 10,000 files, 2 GB: about half an hour
    python -m benchmarks.assets --assets 500 --megabytes 100 --rounds 1    # a smoke test

The loop reads each file with `requests.get` and writes it, one after the other or four at a time: it has the
URLs already, checks nothing and hashes nothing. Each contender runs in a process of its own, in interleaved
rounds. Then a run with faults in a share of the requests for files, and a second run. Every file of every run
is compared by SHA-256. The report goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from benchmarks.asset_files import sha256, sizes
from benchmarks.asset_server import FAULTS
from benchmarks.contenders.measure import cpu_seconds, peak_mb
from benchmarks.machine import describe
from benchmarks.services import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AT_A_TIME = {"loop": 1, "loop, 4 at a time": 4, "export, 4 in flight": 4, "export, 8 in flight": 8}
_MB = 1 << 20
# Without a limit, a stall would be waited for until somebody looks.
_LONGEST_RUN = 3600


class Run(NamedTuple):
    """What one process measured."""

    seconds: float
    cpu_seconds: float
    above_imports_mb: float
    result: dict[str, Any]


class Server:
    """The server's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._input, self._output = process.stdin, process.stdout
        self.connection = self._read()

    def configure(self, **settings: Any) -> dict[str, Any]:
        """Set what the next run finds; return the counters of the last one."""
        _pipe(self._input).write(json.dumps(settings) + "\n")
        _pipe(self._input).flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = _pipe(self._output).readline()
        if not line:
            raise SystemExit("The server did not start.")
        found: dict[str, Any] = json.loads(line)
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return 1 if a file was wrong or a run failed."""
    options = _options(argv)
    if options.contender:
        _contend(options.contender, json.loads(options.setting))
        return 0
    all_sizes = sizes(options.assets, options.megabytes << 20)
    command = [sys.executable, "-m", "benchmarks.asset_server"]
    command += ["--assets", str(options.assets), "--megabytes", str(options.megabytes)]
    work = Path(tempfile.mkdtemp(prefix="contensis-assets-", dir=options.folder))
    try:
        with subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                lines, is_right = _measure(Server(process), work, all_sizes, options)
            finally:
                process.terminate()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if is_right else 1


def _measure(
    server: Server, work: Path, all_sizes: Sequence[int], options: argparse.Namespace
) -> tuple[list[str], bool]:
    """Run everything; return the report, and whether every file was right."""
    expected = sorted(sha256(number, size) for number, size in enumerate(all_sizes))
    runs: dict[str, list[Run]] = {name: [] for name in _AT_A_TIME}
    wrong: list[str] = []
    for number in range(options.rounds):
        for name, found in runs.items():
            if name.startswith("loop") and number >= options.loop_rounds:
                continue
            _tell(f"round {number + 1}: {name}")
            server.configure(latency_ms=options.latency_ms)
            folder = work / "out"
            found.append(_run(server, name, folder, options))
            if name.startswith("export"):
                wrong += _differences(name, folder, expected)
            shutil.rmtree(folder)

    _tell("with faults")
    server.configure(latency_ms=options.latency_ms, faults=options.faults)
    folder = work / "faults"
    faulty = _run(server, "export, 8 in flight", folder, options)
    counters = server.configure(latency_ms=options.latency_ms)
    wrong += _differences("with faults", folder, expected)
    _tell("second run")
    second = _run(server, "export, 8 in flight", folder, options)
    asked = server.configure()["files"]

    fastest = {name: statistics.median(run.seconds for run in found) for name, found in runs.items()}
    lines = [f"{name}: {value}" for name, value in describe()]
    lines += [
        "",
        f"{len(all_sizes):,} files, {sum(all_sizes) / _MB:,.0f} MiB, {options.latency_ms} ms, "
        f"{options.rounds} rounds",
        "",
        "| contender | seconds (median) | processor seconds | MB above imports | times the loop |",
        "|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        lines.append(
            f"| {name} | {fastest[name]:.1f} | {statistics.median(run.cpu_seconds for run in found):.1f} "
            f"| {max(run.above_imports_mb for run in found):.0f} | {fastest['loop'] / fastest[name]:.2f} |"
        )
    injected = ", ".join(f"{name} {counters['injected'].get(name, 0)}" for name in FAULTS)
    lines += [
        "",
        f"With faults: {faulty.seconds:.1f} s, {faulty.above_imports_mb:.0f} MB above imports, "
        f"{counters['files']:,} requests for files; {injected}",
        f"Second run: {second.seconds:.1f} s, {asked} requests for files",
        f"Wrong: {'; '.join(wrong) or 'nothing, every file of every export is right by SHA-256'}",
    ]
    return lines, not wrong and asked == 0


def _run(server: Server, name: str, folder: Path, options: argparse.Namespace) -> Run:
    folder.mkdir(exist_ok=True)
    setting = {
        **server.connection,
        "folder": str(folder),
        "at_a_time": _AT_A_TIME[name],
        "assets": options.assets,
    }
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "benchmarks.assets"),
            *("--contender", name.partition(",")[0], "--setting", json.dumps(setting)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_LONGEST_RUN,
    )
    return Run(**json.loads(done.stdout))


def _differences(name: str, folder: Path, expected: Sequence[str]) -> list[str]:
    """Return what is wrong in a folder: every asset has a file, and every file its hash."""
    import hashlib

    records = [json.loads(line) for line in (folder / "assets.jsonl").read_text().splitlines()]
    found = sorted(hashlib.sha256((folder / record["path"]).read_bytes()).hexdigest() for record in records)
    return [] if found == list(expected) else [f"{name}: the files are not those of the service"]


# --- in a process of its own ------------------------------------------------------------------------------


def _contend(name: str, setting: dict[str, Any]) -> None:
    """Run one contender, and print what it took."""
    work = {"loop": _loop, "export": _export}[name](setting)
    baseline, cpu, started = peak_mb(), cpu_seconds(), time.perf_counter()
    result = work()
    taken = time.perf_counter() - started
    run = Run(taken, cpu_seconds() - cpu, peak_mb() - baseline, result)
    sys.stdout.write(json.dumps(run._asdict()) + "\n")


def _loop(setting: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import requests

    folder = Path(setting["folder"])

    def read(number: int) -> None:
        answer = requests.get(f"{setting['url']}/library/{number}.jpg", timeout=60)
        answer.raise_for_status()
        (folder / f"{number}.jpg").write_bytes(answer.content)

    def work() -> dict[str, Any]:
        if setting["at_a_time"] == 1:
            for number in range(setting["assets"]):
                read(number)
        else:
            with ThreadPoolExecutor(setting["at_a_time"]) as executor:
                list(executor.map(read, range(setting["assets"])))
        return {}

    return work


def _export(setting: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials
    from airflow_provider_contensis.export.assets import export_assets
    from airflow_provider_contensis.export.assets_request import AssetsRequest

    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(
        Credentials(setting["url"], setting["client_id"], setting["client_secret"], scopes)
    )
    request = AssetsRequest.from_arguments(
        destination=f"{setting['folder']}/", max_concurrent_requests=setting["at_a_time"]
    )
    return lambda: dict(export_assets(client, setting["project_id"], request))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--assets", type=int, default=10_000, help="files to serve")
    parser.add_argument("--megabytes", type=int, default=2_000, help="size of all files")
    parser.add_argument("--latency-ms", type=int, default=20, help="delay before each answer")
    parser.add_argument("--faults", type=float, default=0.05, help="share of the requests with a fault")
    parser.add_argument("--rounds", type=int, default=3, help="how often each export is measured")
    parser.add_argument("--loop-rounds", type=int, default=1, help="how often each loop is measured")
    parser.add_argument("--folder", type=Path, help="where files are written; None for temporary files")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("The process has no pipes")
    return pipe


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
