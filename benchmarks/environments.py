"""A Python environment for each peer, made once with uv and kept in `.envs/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / ".envs"
OURS = "ours"

# Major versions are pinned; the report tells which ones were installed.
REQUIREMENTS = {
    "dlt": ("dlt[parquet]>=1,<2",),
    "http": ("apache-airflow=={airflow}", "apache-airflow-providers-http>=6,<7"),
    "requests": ("requests>=2,<3",),
}


class PeerUnavailable(Exception):  # noqa: N818 - a state rather than an error
    """A peer's environment could not be made."""


def python_of(peer: str) -> Path:
    """Return the Python of a peer's environment, which is made if it is not there.

    :raises PeerUnavailable: it can't be made.
    """
    if peer == OURS:
        return Path(sys.executable)
    wanted = [line.format(airflow=version("apache-airflow")) for line in REQUIREMENTS[peer]]
    folder = FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / ".made-of"
    made_of = "\n".join([sys.version, *wanted])
    if stamp.is_file() and stamp.read_text() == made_of:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(python), *wanted)
    stamp.write_text(made_of)
    return python


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        raise PeerUnavailable("uv was not found")
    run = subprocess.run(  # noqa: S603 - uv with our own arguments
        [uv, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "VIRTUAL_ENV": ""},
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["no reason given"]
        raise PeerUnavailable(f"uv {arguments[0]} failed: {lines[-1].strip()}")
