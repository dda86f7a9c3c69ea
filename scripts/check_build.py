"""Check the wheel and the sdist in dist/, and try the wheel in a clean environment, as a new user would."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import ZipFile

from airflow_provider_contensis import __version__
from airflow_provider_contensis.sandbox import iso_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
PACKAGE = "airflow_provider_contensis"
NAME = f"{PACKAGE}-{__version__}"
WHEEL = ROOT / "dist" / f"{NAME}-py3-none-any.whl"
SDIST = ROOT / "dist" / f"{NAME}.tar.gz"


def main() -> int:
    """Run all checks; return 0 if they pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--airflow", required=True, metavar="VERSION", help="version to install with the wheel"
    )
    airflow_version = parser.parse_args().airflow
    log_step("Running twine and check-wheel-contents")
    run(UV, "tool", "run", "twine", "check", "--strict", WHEEL, SDIST)
    run(UV, "tool", "run", "check-wheel-contents", WHEEL)
    log_step("Comparing both with the files that git tracks")
    check_contents()
    log_step(f"Trying the wheel with Airflow {airflow_version} in a clean environment")
    with TemporaryDirectory(prefix="contensis-build-") as folder:
        check_use(Path(folder), airflow_version)
    return 0


def check_contents() -> None:
    """Compare the wheel and the sdist with what git tracks."""
    tracked = set(run("git", "ls-files").splitlines())
    package = {name for name in tracked if name.startswith(f"{PACKAGE}/")}
    with ZipFile(WHEEL) as wheel:
        in_wheel = set(wheel.namelist())
        examples = {
            f"{PACKAGE}/example_dags/{path.name}": path.read_bytes()
            for path in ROOT.glob("dags_examples/*.py")
        }
        expect(
            all(wheel.read(name) == content for name, content in examples.items() if name in in_wheel),
            "the examples in the wheel are those in dags_examples/",
        )
    about = f"{NAME}.dist-info"
    expect_files(
        in_wheel,
        package
        | set(examples)
        | {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
        | {f"{about}/licenses/LICENSE"},
    )
    expect(f"{PACKAGE}/py.typed" in in_wheel, "the wheel contains py.typed")
    with tarfile.open(SDIST) as sdist:
        in_sdist = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
    expect_files(in_sdist, {name for name in tracked if not name.startswith(".ci/")} | {"PKG-INFO"})


def check_use(folder: Path, airflow_version: str) -> None:
    """Install the wheel, and follow the first steps of the README."""
    python = folder / "venv/bin/python"
    run(UV, "venv", "--quiet", folder / "venv", "--python", sys.executable)
    requirements = [f"apache-airflow=={airflow_version}", f"{WHEEL}[sandbox]"]
    run(UV, "pip", "install", "--quiet", "--python", python, *requirements)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "NO_PROXY": "127.0.0.1",
    }

    def airflow(*words: str) -> str:
        return run(python, "-m", "airflow", *words, cwd=folder, env=environment)

    listed = airflow("providers", "list", "--output", "json")
    [provider] = [
        each
        for each in json.loads(listed[listed.index("[{") :])
        if each["package_name"] == "airflow-provider-contensis"
    ]
    expect(provider["version"] == __version__, f"airflow providers list shows {__version__}")

    text = readme_dag()
    dags = folder / "airflow/dags"
    dags.mkdir(parents=True)
    (dags / "first.py").write_text(text.replace("/data/contensis", str(folder / "data")))
    airflow("db", "migrate")
    with sandbox(python, folder, environment) as connection:
        environment["AIRFLOW_CONN_CONTENSIS_DEFAULT"] = connection
        output = airflow("connections", "test", "contensis_default")
        expect("Connection success!" in output, "airflow connections test succeeds")
        airflow("dags", "test", "contensis_to_files")
    written = gzip.decompress((folder / "data/entries.jsonl.gz").read_bytes()).splitlines()
    expect(
        sorted(written) == sorted(iso_catalogue().entries("published")),
        f"the README's first DAG exports all {len(written):,} entries, byte for byte as served",
    )


def readme_dag() -> str:
    """Return the README's first DAG."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return next(block for block in blocks if "def contensis_to_files" in block)


@contextmanager
def sandbox(python: Path, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Serve the sandbox from the installed wheel; yield its connection as JSON."""
    command = [str(python), "-m", f"{PACKAGE}.sandbox", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            expect(bool(line), "the sandbox starts")
            served = json.loads(line)
            yield json.dumps(
                {
                    "conn_type": "contensis",
                    "host": served["url"],
                    "login": served["client_id"],
                    "password": served["client_secret"],
                    "extra": {"project_id": served["project_id"]},
                }
            )
        finally:
            process.terminate()


def run(*words: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, exit and show all output."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}\n{' '.join(command)} failed")
    return done.stdout


def expect_files(found: set[str], expected: set[str]) -> None:
    """Exit unless a distribution contains exactly the expected files."""
    expect(found == expected, f"{len(expected)} files", f"missing or unexpected: {sorted(found ^ expected)}")


def expect(holds: bool, claim: str, details: str = "") -> None:
    """Print the claim if it holds; otherwise exit."""
    if not holds:
        raise SystemExit(f"    FAILED    {claim} {details}")
    print(f"    proven    {claim}", flush=True)


def log_step(text: str) -> None:
    """Print a progress line."""
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
