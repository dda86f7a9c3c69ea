"""An environment for each peer, created once with uv or npm and kept in `.envs/`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / ".envs"
OURS, VENDOR = "ours", "vendor"

# Only major versions are pinned; the report lists the installed versions.
REQUIREMENTS = {
    "dlt": ("dlt[parquet,postgres]>=1,<2",),
    "http": ("apache-airflow=={airflow}", "apache-airflow-providers-http>=6,<7"),
    "requests": ("requests>=2,<3", "psycopg2-binary>=2.9,<3"),
}
NPM_REQUIREMENT = "contensis-management-api@2"


class PeerUnavailable(Exception):  # noqa: N818 - a state rather than an error
    """A peer's environment could not be created."""


def peer_command(peer: str) -> list[str]:
    """Return the command that runs a peer's programs; create its environment if it is missing.

    :raises PeerUnavailable: the environment cannot be created.
    """
    if peer == OURS:
        return [sys.executable]
    if peer == VENDOR:
        return [_node()]
    requirements = [line.format(airflow=version("apache-airflow")) for line in REQUIREMENTS[peer]]
    folder = FOLDER / peer
    python = folder / "bin" / "python"
    recipe = "\n".join([sys.version, *requirements])
    if not _is_ready(folder, recipe):
        uv = _found("uv", str(Path(sys.executable).with_name("uv")))
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *requirements)
        _mark_ready(folder, recipe)
    return [str(python)]


def _node() -> str:
    """Return Node's path, with the vendor's client installed where `vendor_client.js` looks for it."""
    node, npm = _found("node"), _found("npm")
    folder = FOLDER / VENDOR
    if not _is_ready(folder, NPM_REQUIREMENT):
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"private": True}))
        _run(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), NPM_REQUIREMENT)
        _mark_ready(folder, NPM_REQUIREMENT)
    return node


def _is_ready(folder: Path, recipe: str) -> bool:
    """Return whether an environment was completed with this recipe; remove it if not."""
    stamp = folder / ".requirements"
    if stamp.is_file() and stamp.read_text() == recipe:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _mark_ready(folder: Path, recipe: str) -> None:
    (folder / ".requirements").write_text(recipe)


def _found(tool: str, sibling: str = "") -> str:
    path = sibling if sibling and Path(sibling).is_file() else shutil.which(tool)
    if path is None:
        raise PeerUnavailable(f"{tool} not found")
    return path


def _run(tool: str, *arguments: str) -> None:
    run = subprocess.run(  # noqa: S603 - uv or npm with our own arguments
        [tool, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "VIRTUAL_ENV": ""},
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no error output"]
        raise PeerUnavailable(f"{Path(tool).name} {arguments[0]} failed: {lines[-1].strip()}")
