"""Run the tests on every supported version of Airflow, each in an environment of its own.

Run it by `make matrix`; more options through MATRIX, such as `make matrix MATRIX="--full 3.1.8"`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")

# What each version needs beside itself: later releases of what it depends on have broken it.
PINS: dict[str, list[str]] = {
    "2.11.2": [],
    "3.0.6": [
        "fastapi<0.118",  # later ones fail to validate what its execution API answers
        "cadwyn<6",  # likewise
        "universal-pathlib<0.3",  # with later ones ObjectStoragePath refuses every URL
        "apache-airflow-providers-fab",  # no pin: only beside it does 3.0 serve a form's own fields
    ],
    "3.1.8": [],
    "3.2.2": [
        "fastapi<0.137",  # later ones break on a pydantic discriminator when a task starts
        "svcs<26",  # with later ones the API in `dag.test` finds no service registry
    ],
    "3.3.2": [],
}

# What leans on Airflow, and on the libraries that every version brings in a version of its own.
CHOICE = ["tests/provider", "tests/docs/test_code.py", "tests/test_secrets.py", "tests/api"]
CHOICE += [f"tests/export/test_{name}.py" for name in ("csv", "destination", "formats", "parquet", "storage")]


@dataclass
class Cell:
    """What the tests told on one version."""

    airflow: str
    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    processor: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the tests ran and none failed."""
        return self.passed > 0 and self.failed == 0


def main() -> int:
    """Run the matrix; return 0 if every version passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="version", help=f"of {', '.join(PINS)}; default: all")
    parser.add_argument("--full", action="store_true", help="run all tests, the slow ones too")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="versions at the same time; default: 1"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the result as Markdown")
    options = parser.parse_args()
    if unknown := set(options.versions) - set(PINS):
        parser.error(f"no pins are known for {', '.join(sorted(unknown))}")
    tests = ["tests"] if options.full else [*CHOICE, "-m", "not slow"]
    with ThreadPoolExecutor(options.jobs) as pool:
        cells = list(pool.map(lambda version: run(version, tests), options.versions or PINS))
    print(f"\n{table(cells)}")
    if options.write:
        options.write.write_text(document(cells, full=options.full))
    return 0 if all(cell.good for cell in cells) else 1


def run(version: str, tests: list[str]) -> Cell:
    """Make an environment for a version, run the tests there, and take it away again."""
    started = time.monotonic()
    with TemporaryDirectory(prefix=f"airflow-{version}-") as folder:
        python, report, output = (Path(folder, name) for name in ("venv/bin/python", "report.xml", "output"))
        wanted = [f"apache-airflow=={version}", *PINS[version], "--editable", ".[parquet,sandbox,zstd]"]
        command(UV, "venv", "--quiet", "--python", sys.executable, python.parents[1])
        command(UV, "pip", "install", "--quiet", "--python", python, "--group", "test", *wanted)
        pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings"]
        with output.open("w") as told:
            code, processor = command(*pytest, f"--junitxml={report}", *tests, stdout=told, check=False)
        print(f"\n==> Airflow {version}\n{output.read_text()}", flush=True)
        cell = read(version, report) if report.exists() else Cell(version)
    if code != 0:
        cell.failed = max(cell.failed, 1)  # even if no test could tell
    cell.seconds, cell.processor = time.monotonic() - started, processor
    return cell


def command(*words: object, stdout: IO[str] | None = None, check: bool = True) -> tuple[int, float]:
    """Run a command in the project's folder, away from the caller's own Airflow.

    :return: its exit status, and the processor time that it and all it started took.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    process = subprocess.Popen([str(word) for word in words], cwd=ROOT, env=environment, stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if check and process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return process.returncode, usage.ru_utime + usage.ru_stime


def read(version: str, report: Path) -> Cell:
    """Count what a JUnit report tells."""
    cell = Cell(version)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        if (skip := case.find("skipped")) is not None:
            cell.skipped[skip.get("message", "")] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            cell.failed += 1
        else:
            cell.passed += 1
    return cell


def table(cells: list[Cell]) -> str:
    """Return the result as a Markdown table."""
    rows = [
        f"| {cell.airflow} | {cell.passed} | {cell.skipped.total()} | {cell.failed} "
        f"| {cell.seconds:.0f} | {cell.processor:.0f} |"
        for cell in cells
    ]
    head = "| Airflow | passed | skipped | failed | seconds | of processor time |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows])


def document(cells: list[Cell], *, full: bool) -> str:
    """Return the page that tells the result."""
    skipped = [
        f"- {cell.airflow}: {reason}" + (f" ({count} tests)" if count > 1 else "")
        for cell in cells
        for reason, count in cell.skipped.items()
    ]
    pinned = [f"- {cell.airflow}: {', '.join(f'`{pin}`' for pin in PINS[cell.airflow])}" for cell in cells]
    told = "make matrix" + (" MATRIX=--full" if full else "")
    machine = f"Python {platform.python_version()} on {os.cpu_count()} cores"
    return f"""# Compatibility

`{told}` wrote this page on {datetime.now(UTC):%Y-%m-%d}, with {machine}.
On each version, in an environment of its own, the provider is discovered, its connection form is served and
tested, its operators run inside tasks, the README's DAGs run as it says, and no import or run causes a
warning of ours.

{table(cells)}

What was skipped, and why:

{chr(10).join(skipped) or "- nothing"}

What the tests install beside a version: `scripts/airflow_matrix.py` tells why.

{chr(10).join(line for line in pinned if "`" in line) or "- nothing"}
"""


if __name__ == "__main__":
    sys.exit(main())
