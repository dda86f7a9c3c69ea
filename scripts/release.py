"""Make a release: set the version, date the changelog, commit and tag. Nothing leaves this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

VERSION_FILE = Path("airflow_provider_contensis/__init__.py")
CHANGELOG = Path("CHANGELOG.md")


def main(arguments: list[str]) -> None:
    """Release the given version from the current folder, which must be a clean checkout."""
    version = arguments[0] if len(arguments) == 1 else ""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit("Give a version of three numbers: make release VERSION=1.2.3")
    if git("status", "--porcelain"):
        raise SystemExit("Some changes are not committed. Commit or stash them first.")
    released = [tuple(map(int, tag[1:].split("."))) for tag in git("tag", "--list", "v*.*.*").split()]
    if any(tuple(map(int, version.split("."))) <= earlier for earlier in released):
        raise SystemExit(f"{version} is not later than the released versions: {git('tag', '--list').split()}")
    changes = CHANGELOG.read_text()
    if not re.search(r"^## Unreleased\n\s*[^#\s]|^## Unreleased\n\s*###", changes, flags=re.MULTILINE):
        raise SystemExit(f"{CHANGELOG} has nothing unreleased. Describe the changes under '## Unreleased'.")

    dated = f"## Unreleased\n\n## {version} - {datetime.now(UTC):%Y-%m-%d}"
    CHANGELOG.write_text(changes.replace("## Unreleased", dated, 1))
    code = VERSION_FILE.read_text()
    VERSION_FILE.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', code))
    git("commit", "--all", "--message", f"Release {version}")
    git("tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    print(f"v{version} is tagged. To publish it: make build && uv publish && git push --follow-tags")


def git(*words: str) -> str:
    """Run git and return its output."""
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
