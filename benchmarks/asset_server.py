"""Serve assets and their files with the sandbox, until standard input closes.

The first line of output is the connection. Each line of input, a JSON object, may set `latency_ms` and the
share of requests for files that get a fault, `faults`; it is answered with the counters since the last line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from airflow_provider_contensis.sandbox import Mixture, Sandbox
from benchmarks.asset_files import catalogue, sizes

FAULTS = ("cut", "reset", "503", "html", "wrong-length", "elsewhere")


def main() -> None:
    """Serve, and print the connection."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, required=True)
    parser.add_argument("--megabytes", type=int, required=True)
    options = parser.parse_args()
    with Sandbox(catalogue(sizes(options.assets, options.megabytes << 20))) as sandbox:
        connection = {
            "url": sandbox.url,
            "project_id": sandbox.project_id,
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        }
        _print(connection)
        for line in sys.stdin:
            settings = json.loads(line)
            counters = {
                "files": sandbox.count("file"),
                "requests": sandbox.count(),
                "injected": dict(sandbox.faults.injected) if isinstance(sandbox.faults, _Faults) else {},
                "cpu_seconds": time.process_time(),
            }
            sandbox.latency = settings.get("latency_ms", sandbox.latency * 1000) / 1000
            sandbox.faults = _Faults(settings["faults"]) if settings.get("faults") else None
            sandbox.forget_requests()
            _print(counters)


class _Faults(Mixture):
    """Faults of every kind, in requests for files only."""

    def __init__(self, share: float) -> None:
        super().__init__(3, dict.fromkeys(FAULTS, share / len(FAULTS)))

    def __call__(self, request: Any) -> Any:
        return super().__call__(request) if request.kind == "file" else None


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
