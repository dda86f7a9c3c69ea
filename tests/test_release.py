"""`make release`: the version, the changelog and the tag, in a repository made for the test."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "release.py"
CHANGES = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@example.org")
    package = tmp_path / "airflow_provider_contensis"
    package.mkdir()
    (package / "__init__.py").write_text('"""Docs."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGES)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Work")


def release(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_release_sets_version_dates_changelog_commits_and_tags(checkout: Path) -> None:
    done = release(checkout, "0.2.0")
    assert done.returncode == 0, done.stderr
    assert '__version__ = "0.2.0"' in (checkout / "airflow_provider_contensis" / "__init__.py").read_text()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    expected = CHANGES.replace("## Unreleased", f"## Unreleased\n\n## 0.2.0 - {today}")
    assert (checkout / "CHANGELOG.md").read_text() == expected
    assert git(checkout, "tag", "--points-at", "HEAD").split() == ["v0.2.0"]
    assert git(checkout, "status", "--porcelain") == ""


def test_first_release_may_keep_current_version(checkout: Path) -> None:
    assert release(checkout, "0.1.0").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["next"], ["1.2"], ["v1.2.3"]])
def test_version_must_have_three_numbers(checkout: Path, arguments: list[str]) -> None:
    assert "three numbers" in release(checkout, *arguments).stderr


def test_uncommitted_changes_are_refused(checkout: Path) -> None:
    (checkout / "new.txt").write_text("")
    assert "not committed" in release(checkout, "0.2.0").stderr


def test_older_version_and_empty_release_are_refused(checkout: Path) -> None:
    assert release(checkout, "0.10.0").returncode == 0
    assert "nothing unreleased" in release(checkout, "0.11.0").stderr
    (checkout / "CHANGELOG.md").write_text(CHANGES)
    commit(checkout)
    for version in ("0.10.0", "0.9.0"):
        assert "not later" in release(checkout, version).stderr
    assert release(checkout, "0.11.0").returncode == 0
