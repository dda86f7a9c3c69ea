"""Measure an export by several workers against one by one task.

    python -m benchmarks.workers                                 # 200,000 entries: about three minutes
    python -m benchmarks.workers --entries 2000 --latency-ms 10 --rounds 1              # a smoke test

Workers are processes that have imported everything before the clock starts, as Airflow's own start of a task
is not measured: the clock runs from the beginning of the plan to the end of the commit. Each part has a new
client and a new token, as a task has. One task and each worker make as many requests at once as
`--connections`. The server adds a latency to each answer, and orders by created time whatever it is asked,
so that the plan cannot sample. Plan and commit run in a process of their own, whose memory is measured.
Every round compares the bytes. The report goes to standard output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.measure import peak_mb
from benchmarks.machine import describe
from benchmarks.services import ROOT, PageServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.queues import Queue

    from airflow_provider_contensis.api.client import ContensisClient
    from benchmarks.services import Access

# New processes fork from one that has imported everything.
_PROCESSES = multiprocessing.get_context("forkserver")
_PRELOADED = (
    "airflow_provider_contensis.api.client",
    "airflow_provider_contensis.export.pipeline",
    "airflow_provider_contensis.export.parts",
    "airflow_provider_contensis.export.parts_commit",
    "airflow_provider_contensis.export.parts_request",
    "airflow_provider_contensis.export.storage.local",
)
_SCOPES = ("Entry_Read", "ContentType_Read", "Project_Read")


@dataclass(frozen=True)
class Setting:
    """What each process has to know.

    :param arguments: of the export.
    """

    access: Access
    arguments: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return 1 if the bytes differ."""
    options = _options(argv)
    _PROCESSES.set_forkserver_preload(list(_PRELOADED))
    command = [sys.executable, "-m", "benchmarks.server", "--entries", str(options.entries)]
    work = Path(tempfile.mkdtemp(prefix="contensis-workers-", dir=options.folder))
    try:
        with subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                line = process.stdout.readline() if process.stdout is not None else ""
                lines, is_right = _measure(PageServer(json.loads(line)["url"]), work, options)
            finally:
                process.terminate()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if is_right else 1


def _measure(server: PageServer, work: Path, options: argparse.Namespace) -> tuple[list[str], bool]:
    """Run everything; return the report, and whether the bytes were the same in every round."""
    arguments = {"page_size": options.page_size, "max_concurrent_requests": options.connections}
    shared = Setting(server.access, {**arguments, "destination": f"{work}/many/", "parts": options.parts})
    alone = Setting(server.access, {**arguments, "destination": f"{work}/one/"})
    server.configure(options.entries, options.latency_ms)
    runs: list[tuple[float, float, dict[str, Any]]] = []
    is_same = True
    for number in range(options.rounds):
        sys.stderr.write(f"round {number + 1}\n")
        one = _alone(alone)
        many, found = _together(shared, options.workers)
        runs.append((one, many, found))
        is_same &= _digest(work / "one") == _digest(work / "many")
        for folder in ("one", "many"):
            shutil.rmtree(work / folder)
    one = statistics.median(run[0] for run in runs)
    many = statistics.median(run[1] for run in runs)
    found = runs[-1][2]
    lines = [f"{name}: {value}" for name, value in describe()]
    lines += [
        "",
        f"{options.entries:,} entries, {options.latency_ms} ms, {options.page_size} per page, "
        f"{options.connections} requests at once in each task, {options.rounds} rounds",
        "",
        "| | seconds (median) | times one task |",
        "|---|---|---|",
        f"| one task | {one:.1f} | 1.00 |",
        f"| {options.workers} workers, {found['parts']} parts | {many:.1f} | {one / many:.2f} |",
        "",
        f"Plan: {found['plan']['seconds']:.1f} s, {found['plan']['requests']} requests, "
        f"{found['plan']['mb']:.0f} MB above imports",
        f"Commit: {found['commit']['seconds']:.1f} s, {found['commit']['requests']} requests, "
        f"{found['commit']['mb']:.0f} MB above imports",
        f"All requests: {found['requests']:,}, of which pages of entries at least "
        f"{-(-options.entries // options.page_size):,}",
        f"Bytes: {'the same in every round' if is_same else 'DIFFERENT'}",
    ]
    return lines, is_same


def _alone(setting: Setting) -> float:
    """Export with one task; return the seconds."""
    return float(_in_process(_export_alone, setting)["seconds"])


def _together(setting: Setting, workers: int) -> tuple[float, dict[str, Any]]:
    """Export with many tasks; return the seconds, and what plan and commit took."""
    addresses, results = _PROCESSES.Queue(), _PROCESSES.Queue()
    processes = [_PROCESSES.Process(target=_work, args=(setting, addresses, results)) for _ in range(workers)]
    for process in processes:
        process.start()
    for _ in processes:
        _next(results, processes)  # it is ready
    started = time.perf_counter()
    plan = _in_process(_plan, setting)
    for address in plan["result"]:
        addresses.put(address)
    for _ in plan["result"]:
        _next(results, processes)
    commit = _in_process(_commit, setting, plan["result"][0])
    seconds = time.perf_counter() - started
    for _ in processes:
        addresses.put(None)
    for process in processes:
        process.join()
    summary = commit["result"]
    found = {"plan": plan, "commit": commit, "parts": summary["parts"], "requests": summary["requests"]}
    return seconds, found


def _digest(folder: Path) -> str:
    """Return the hash of an export's files, one after the other."""
    digest = hashlib.sha256()
    for file in json.loads((folder / "_manifest.json").read_bytes())["files"]:
        digest.update((folder / file["path"]).read_bytes())
    return digest.hexdigest()


# --- in processes of their own ----------------------------------------------------------------------------


def _in_process(work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Run a function in a process of its own; return its result, seconds, requests and memory."""
    result = _PROCESSES.Queue()
    process = _PROCESSES.Process(target=_observe, args=(result, work, *arguments))
    process.start()
    found: dict[str, Any] = _next(result, [process])
    process.join()
    return found


def _next(results: Queue[Any], processes: Sequence[Any]) -> Any:
    """Return the next result of processes; end if one of them has failed."""
    while not any(process.exitcode for process in processes):
        with suppress(Empty):
            return results.get(timeout=1)
    raise SystemExit("A process has failed.")


def _observe(answer: Queue[Any], work: Callable[..., Any], setting: Setting, *arguments: Any) -> None:
    baseline, started = peak_mb(), time.perf_counter()
    with closing(_client(setting)) as client:
        result = work(client, setting, *arguments)
        requests = client.requests_sent
    seconds, mb = time.perf_counter() - started, peak_mb() - baseline
    answer.put({"result": result, "seconds": seconds, "requests": requests, "mb": mb})


def _export_alone(client: ContensisClient, setting: Setting) -> Any:
    from airflow_provider_contensis.export.pipeline import export_entries
    from airflow_provider_contensis.export.request import ExportRequest

    request = ExportRequest.from_arguments(**setting.arguments)
    return export_entries(client, setting.access.project_id, request).as_dict()


def _plan(client: ContensisClient, setting: Setting) -> Any:
    from airflow_provider_contensis.export.parts import plan_parts
    from airflow_provider_contensis.export.parts_request import PartsRequest

    request = PartsRequest.from_arguments(**setting.arguments)
    return plan_parts(client, setting.access.project_id, request, _folder(setting))


def _commit(client: ContensisClient, setting: Setting, address: Any) -> Any:
    from airflow_provider_contensis.export.parts import load_plan
    from airflow_provider_contensis.export.parts_commit import commit_parts

    folder = _folder(setting)
    plan = load_plan(client, setting.access.project_id, address["plan"], folder)
    return commit_parts(client, plan, folder, plan.request.options)


def _work(setting: Setting, addresses: Queue[Any], results: Queue[Any]) -> None:
    """Read parts until there are no more."""
    from airflow_provider_contensis.api.auth import SHARED_TOKENS
    from airflow_provider_contensis.export.parts import export_part
    from airflow_provider_contensis.export.request import ReadOptions

    names = ("page_size", "max_concurrent_requests")
    options = ReadOptions(**{name: setting.arguments[name] for name in names})
    results.put(None)
    while (address := addresses.get()) is not None:
        SHARED_TOKENS.clear()  # each task is a new process
        with closing(_client(setting)) as client:
            results.put(export_part(client, setting.access.project_id, address, _folder(setting), options))


def _client(setting: Setting) -> ContensisClient:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials

    access = setting.access
    return ContensisClient(Credentials(access.url, access.client_id, access.client_secret, _SCOPES))


def _folder(setting: Setting) -> Any:
    from airflow_provider_contensis.export.sinks.parts import SharedFolder
    from airflow_provider_contensis.export.storage.local import LocalStorage

    return SharedFolder(LocalStorage(), setting.arguments["destination"], "bench")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=200_000, help="entries to export")
    parser.add_argument("--latency-ms", type=int, default=100, help="delay before each answer")
    parser.add_argument("--page-size", type=int, default=100, help="entries a page")
    parser.add_argument("--connections", type=int, default=8, help="requests at once, in each task")
    parser.add_argument("--workers", type=int, default=4, help="tasks that run at once")
    parser.add_argument("--parts", type=int, default=16, help="parts of the export")
    parser.add_argument("--rounds", type=int, default=3, help="how often each export is measured")
    parser.add_argument("--folder", type=Path, help="where files are written; None for temporary files")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
