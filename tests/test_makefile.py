"""What `make` prints if something that it needs is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_browser_tests_report_missing_browser_in_one_sentence() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "test-ui", "CHROMIUM=there-is-none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said, makes_own = done.stderr.splitlines()
    assert said == (
        "Chromium is needed: install the package chromium, or name yours with make test-ui CHROMIUM=..."
    )
    assert "***" in makes_own
    assert done.stdout == ""
    assert done.returncode != 0
