"""What `make` says when it can't do what it is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_browser_tests_say_in_one_sentence_that_a_browser_is_missing() -> None:
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
