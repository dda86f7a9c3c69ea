"""Describe the machine that the figures were measured on, without names or paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def describe() -> list[tuple[str, str]]:
    """Return a description of this machine as (name, value) pairs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("processor", _find(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.processor() or "unknown"),
        ("cores", str(cores)),
        ("memory", _memory()),
        ("kernel", f"{platform.system()} {platform.release()} ({platform.machine()})"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("curl", _curl()),
        ("load average before the first run", f"{os.getloadavg()[0]:.1f}"),
    ]


def _memory() -> str:
    kilobytes = _find(r"MemTotal:\s*(\d+) kB", "/proc/meminfo")
    return f"{int(kilobytes) / (1 << 20):.0f} GiB" if kilobytes else "unknown"


def _curl() -> str:
    try:
        text = subprocess.run(["curl", "--version"], check=False, capture_output=True, text=True).stdout  # noqa: S607  # the curl on PATH is the one measured
    except OSError:
        return "not installed"
    return " ".join(text.split()[1:2]) or "unknown"


def _find(pattern: str, path: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return found.group(1).strip() if found else None
