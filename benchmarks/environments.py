"""A Python environment for each peer, created once with uv and kept in `.envs/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / ".envs"
OURS = "ours"

# Only major versions are pinned; the report lists the installed versions.
REQUIREMENTS = {
    "dlt": ("dlt[parquet]>=1,<2",),
    "http": ("apache-airflow=={airflow}", "apache-airflow-providers-http>=6,<7"),
    "requests": ("requests>=2,<3",),
}


class PeerUnavailable(Exception):  # noqa: N818 - a state rather than an error
    """A peer's environment could not be created."""


def peer_python(peer: str) -> Path:
    """Return the Python of a peer's environment; create the environment if it is missing.

    :raises PeerUnavailable: the environment cannot be created.
    """
    if peer == OURS:
        return Path(sys.executable)
    requirements = [line.format(airflow=version("apache-airflow")) for line in REQUIREMENTS[peer]]
    folder = FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / ".requirements"
    recipe = "\n".join([sys.version, *requirements])
    if stamp.is_file() and stamp.read_text() == recipe:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(python), *requirements)
    stamp.write_text(recipe)
    return python


def _uv(*arguments: str) -> None:
    sibling = Path(sys.executable).with_name("uv")
    uv = str(sibling) if sibling.is_file() else shutil.which("uv")
    if uv is None:
        raise PeerUnavailable("uv not found")
    run = subprocess.run(  # noqa: S603 - uv with our own arguments
        [uv, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "VIRTUAL_ENV": ""},
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no error output"]
        raise PeerUnavailable(f"uv {arguments[0]} failed: {lines[-1].strip()}")
