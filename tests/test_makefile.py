"""The commands of the Makefile: their errors, their documentation, and what CI runs."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def matrix() -> dict[str, Any]:
    """Return the names that the matrix script defines."""
    return runpy.run_path(str(ROOT / "scripts" / "airflow_matrix.py"), run_name="airflow_matrix")


def test_browser_tests_report_missing_browser_in_one_sentence() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "test-ui", "CHROMIUM=there-is-none"],
        cwd=ROOT,
        env={**os.environ, "MAKEFLAGS": ""},  # not those of the make that may run this test
        capture_output=True,
        text=True,
        check=False,
    )
    message, makes_own = done.stderr.splitlines()
    assert message == (
        "Chromium is missing: install the package chromium, or set its command with make test-ui CHROMIUM=..."
    )
    assert "***" in makes_own
    assert done.stdout == ""
    assert done.returncode != 0


def test_classifiers_name_the_pythons_that_the_matrix_runs(matrix: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    named = [line.removeprefix(prefix) for line in project["classifiers"] if line.startswith(prefix)]
    assert sorted(named) == sorted({python for _, python in matrix["PAIRS"]})
    assert project["requires-python"] == f">={named[0]}"


def test_matrix_fails_at_once_if_a_python_is_missing(matrix: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match=r"^Python 2\.0 and 9\.0 missing: .* uv python install 2\.0 9\.0$"):
        matrix["find_interpreters"]({"2.0", "9.0"})


def test_matrix_page_has_a_row_for_each_pair_and_lists_each_skip_once(matrix: dict[str, Any]) -> None:
    cells = [matrix["Cell"]("3.0.6", "3.11.7", 5), matrix["Cell"]("3.3.2", "3.13.0", 6)]
    for cell in cells:
        cell.skipped["no form in Flask"] = 2
    page = matrix["document"](cells, full=False)
    assert "| 3.0.6 | 3.11.7 | 5 | 2 | 0 |" in page
    assert "| 3.3.2 | 3.13.0 | 6 | 2 | 0 |" in page
    assert "- 3.0.6, 3.3.2: no form in Flask (2 tests)" in page


def test_contributing_lists_every_command() -> None:
    commands = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    documented = re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert set(documented) == set(commands) - {"help"}


def test_contributing_names_existing_files() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:airflow_provider_contensis|dags_examples|docs|scripts|tests)/[\w/.]*)`", text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
