"""Run the tests on every supported Airflow and Python, each pair in its own environment.

Use `make matrix`. Pass options in MATRIX, such as `make matrix MATRIX="--full 3.1.8"`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")

# The versions of Airflow, with pins for the dependencies whose later releases broke them.
PINS: dict[str, list[str]] = {
    "2.11.2": [],
    "3.0.6": [
        "fastapi<0.118",  # later releases cannot validate the answers of its execution API
        "cadwyn<6",  # likewise
        "universal-pathlib<0.3",  # with later releases ObjectStoragePath refuses every URL
        "apache-airflow-providers-fab",  # not a pin: without it, 3.0 does not serve a form's custom fields
    ],
    "3.1.8": [],
    "3.2.2": [
        "fastapi<0.137",  # later releases break on a pydantic discriminator when a task starts
        "svcs<26",  # with later releases the API in `dag.test` finds no service registry
    ],
    "3.3.2": [],
}

# Every Airflow on the oldest Python, and the newest Airflow on every Python that the classifiers name.
PAIRS = [(airflow, "3.11") for airflow in PINS]
PAIRS += [(list(PINS)[-1], python) for python in ("3.12", "3.13")]

# The tests of what depends on Airflow, or on libraries that come with it.
CHOICE = ["tests/provider", "tests/docs/test_code.py", "tests/test_secrets.py", "tests/api"]
CHOICE += ["tests/export/formats", "tests/export/storage", "tests/export/test_destination.py"]


@dataclass
class Cell:
    """The result on one Airflow and one Python."""

    airflow: str
    python: str
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
    """Run the matrix; return 0 if every pair passes."""
    pythons = sorted({python for _, python in PAIRS})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "versions", nargs="*", metavar="version", help=f"Airflow: {', '.join(PINS)}; default: all"
    )
    parser.add_argument("--python", choices=pythons, help="default: all")
    parser.add_argument("--full", action="store_true", help="run all tests, including the slow ones")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="pairs at the same time; default: 1")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the result as Markdown")
    options = parser.parse_args()
    if unknown := set(options.versions) - set(PINS):
        parser.error(f"unknown Airflow {', '.join(sorted(unknown))}; available: {', '.join(PINS)}")
    pairs = [
        (airflow, python)
        for airflow, python in PAIRS
        if airflow in (options.versions or PINS) and python == (options.python or python)
    ]
    if not pairs:
        parser.error(f"Python {options.python} is tested with Airflow {PAIRS[-1][0]} only")
    interpreters = find_interpreters({python for _, python in pairs})
    tests = ["tests"] if options.full else [*CHOICE, "-m", "not slow"]
    with ThreadPoolExecutor(options.jobs) as pool:
        cells = list(pool.map(lambda pair: run(pair[0], interpreters[pair[1]], tests), pairs))
    print(f"\n{table(cells)}")
    if options.write:
        options.write.write_text(document(cells, full=options.full))
    return 0 if all(cell.good for cell in cells) else 1


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine; the version is complete, such as 3.12.1."""

    path: str
    version: str


def find_interpreters(versions: set[str]) -> dict[str, Interpreter]:
    """Return an interpreter for each minor version of Python.

    :raises SystemExit: this machine lacks one; the message says which.
    """
    found = {version: find_interpreter(version) for version in sorted(versions)}
    if missing := [version for version, interpreter in found.items() if interpreter is None]:
        raise SystemExit(
            f"Python {' and '.join(missing)} missing: not on PATH (python{missing[0]}), not in pyenv, "
            f"not in uv. Install it, for example: uv python install {' '.join(missing)}"
        )
    return {version: interpreter for version, interpreter in found.items() if interpreter is not None}


def find_interpreter(version: str) -> Interpreter | None:
    """Return the first interpreter of a minor version that runs: a shim on PATH may lead nowhere."""
    code = "import platform, sys; print(platform.python_version(), sys.executable)"
    for candidate in candidates(version):
        found = output(candidate, "-c", code)
        if found.startswith(f"{version}."):
            full, _, path = found.partition(" ")
            return Interpreter(path, full)
    return None


def candidates(version: str) -> Iterator[str]:
    """Yield the commands that may run a minor version of Python."""
    yield sys.executable
    yield f"python{version}"
    root = os.environ.get("PYENV_ROOT") or output("pyenv", "root")
    if root:
        installed = Path(root, "versions").glob(f"{version}.*/bin/python{version}")
        # By number: 3.12.10 is newer than 3.12.9.
        yield from sorted(
            map(str, installed),
            key=lambda path: [int(part) for part in re.findall(r"\d+", path)],
            reverse=True,
        )
    yield output(UV, "python", "find", "--managed-python", version)


def output(*words: object) -> str:
    """Return what a command prints; nothing if it fails or does not exist."""
    command = [str(word) for word in words]
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run(airflow: str, python: Interpreter, tests: list[str]) -> Cell:
    """Create an environment, run the tests in it, and remove it."""
    started = time.monotonic()
    with TemporaryDirectory(prefix=f"airflow-{airflow}-") as folder:
        venv, report, log = (Path(folder, name) for name in ("venv", "report.xml", "log"))
        wanted = [
            f"apache-airflow=={airflow}",
            *PINS[airflow],
            "--editable",
            ".[parquet,postgres,sandbox,zstd]",
        ]
        command(UV, "venv", "--quiet", "--python", python.path, venv)
        command(UV, "pip", "install", "--quiet", "--python", venv, "--group", "test", *wanted)
        pytest = [venv / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings"]
        with log.open("w") as stdout:
            code, processor = command(*pytest, f"--junitxml={report}", *tests, stdout=stdout, check=False)
        print(f"\n==> Airflow {airflow} on Python {python.version}\n{log.read_text()}", flush=True)
        cell = Cell(airflow, python.version)
        if report.exists():
            count(cell, report)
    if code != 0:
        cell.failed = max(cell.failed, 1)  # pytest may fail without a failed test
    cell.seconds, cell.processor = time.monotonic() - started, processor
    return cell


def command(*words: object, stdout: IO[str] | None = None, check: bool = True) -> tuple[int, float]:
    """Run a command in the project's folder, without the caller's Airflow settings.

    :return: its exit status, and the processor time of the command and its children.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    process = subprocess.Popen([str(word) for word in words], cwd=ROOT, env=environment, stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if check and process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return process.returncode, usage.ru_utime + usage.ru_stime


def count(cell: Cell, report: Path) -> None:
    """Count the outcomes in a JUnit report."""
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        if (skip := case.find("skipped")) is not None:
            cell.skipped[skip.get("message", "")] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            cell.failed += 1
        else:
            cell.passed += 1


def table(cells: list[Cell]) -> str:
    """Return the result as a Markdown table."""
    rows = [
        f"| {cell.airflow} | {cell.python} | {cell.passed} | {cell.skipped.total()} | {cell.failed} "
        f"| {cell.seconds:.0f} | {cell.processor:.0f} |"
        for cell in cells
    ]
    head = "| Airflow | Python | passed | skipped | failed | seconds | processor seconds |"
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])


def document(cells: list[Cell], *, full: bool) -> str:
    """Return the page that shows the result."""
    skips: dict[str, list[str]] = {}
    for cell in cells:
        for reason, times in cell.skipped.items():
            versions = skips.setdefault(reason + (f" ({times} tests)" if times > 1 else ""), [])
            if cell.airflow not in versions:
                versions.append(cell.airflow)
    skipped = [f"- {', '.join(versions)}: {reason}" for reason, versions in skips.items()]
    tested = dict.fromkeys(cell.airflow for cell in cells)
    pinned = [f"- {airflow}: {', '.join(f'`{pin}`' for pin in PINS[airflow])}" for airflow in tested]
    command = "make matrix" + (" MATRIX=--full" if full else "")
    return f"""# Compatibility

`{command}` wrote this page on {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores.
With each pair of versions, in its own environment, Airflow discovers the provider, serves its connection
form, tests a connection, and runs the operators in tasks and the README's DAGs as shown. No import and no
run causes a warning of ours.

{table(cells)}

Skipped tests:

{chr(10).join(skipped) or "- none"}

Installed beside a version of Airflow, for the reasons in `scripts/airflow_matrix.py`:

{chr(10).join(line for line in pinned if "`" in line) or "- nothing"}
"""


if __name__ == "__main__":
    sys.exit(main())
