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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
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
CHOICE = ["tests/provider", "tests/test_readme.py", "tests/test_secrets.py", "tests/api"]
CHOICE += [f"tests/export/test_{name}.py" for name in ("csv", "destination", "formats", "parquet", "storage")]


@dataclass
class Cell:
    """What the tests told on one version."""

    airflow: str
    passed: int = 0
    failed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    whole: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the tests ran and none failed."""
        return self.passed > 0 and self.failed == 0


def main() -> int:
    """Run the matrix; return 0 if every version passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="version", help=f"of {', '.join(PINS)}; default: all")
    parser.add_argument("--full", action="store_true", help="run all tests, the slow ones too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the result as Markdown")
    options = parser.parse_args()
    if unknown := set(options.versions) - set(PINS):
        parser.error(f"no pins are known for {', '.join(sorted(unknown))}")
    tests = ["tests"] if options.full else [*CHOICE, "-m", "not slow"]
    cells = [run(version, tests) for version in options.versions or PINS]
    print(f"\n{table(cells)}")
    if options.write:
        options.write.write_text(document(cells, full=options.full))
    return 0 if all(cell.good for cell in cells) else 1


def run(version: str, tests: list[str]) -> Cell:
    """Make an environment for a version, run the tests there, and take it away again."""
    print(f"\n==> Airflow {version}", flush=True)
    started = time.monotonic()
    with TemporaryDirectory(prefix=f"airflow-{version}-") as folder:
        python, report = Path(folder, "venv/bin/python"), Path(folder, "report.xml")
        wanted = [f"apache-airflow=={version}", *PINS[version], "--editable", ".[parquet,sandbox,zstd]"]
        command(UV, "venv", "--quiet", "--python", sys.executable, python.parents[1])
        command(UV, "pip", "install", "--quiet", "--python", python, "--group", "test", *wanted)
        pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--disable-warnings"]
        command(*pytest, f"--junitxml={report}", *tests, check=False)
        cell = read(version, report)
    cell.whole = time.monotonic() - started
    return cell


def command(*words: object, check: bool = True) -> None:
    """Run a command in the project's folder, away from the caller's own Airflow."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    subprocess.run([str(word) for word in words], cwd=ROOT, env=environment, check=check)


def read(version: str, report: Path) -> Cell:
    """Count what a JUnit report tells."""
    cell = Cell(version)
    if not report.exists():
        cell.failed = 1
        return cell
    for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 - our own pytest wrote it
        cell.seconds += float(suite.get("time", 0))
        for case in suite.iter("testcase"):
            if (skip := case.find("skipped")) is not None:
                reason = skip.get("message", "")
                cell.skipped[reason] = cell.skipped.get(reason, 0) + 1
            elif case.find("failure") is not None or case.find("error") is not None:
                cell.failed += 1
            else:
                cell.passed += 1
    return cell


def table(cells: list[Cell]) -> str:
    """Return the result as a Markdown table."""
    rows = [
        f"| {cell.airflow} | {cell.passed} | {sum(cell.skipped.values())} | {cell.failed} "
        f"| {cell.seconds:.0f} | {cell.whole:.0f} |"
        for cell in cells
    ]
    head = (
        "| Airflow | passed | skipped | failed | seconds | with its environment |\n|---|---|---|---|---|---|"
    )
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

What the tests install beside a version, because later releases of what it depends on have broken it
([airflow_matrix.py](../scripts/airflow_matrix.py) tells how). Airflow's constraints files pin these, too:

{chr(10).join(line for line in pinned if "`" in line) or "- nothing"}
"""


if __name__ == "__main__":
    sys.exit(main())
