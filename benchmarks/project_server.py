"""Serve a project of `projects.py` with the sandbox, until standard input closes.

The first line of output is the connection. Each line of input, a JSON object, may set `latency_ms`; it is
answered with the counters.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from airflow_provider_contensis.sandbox import Sandbox
from benchmarks.projects import PROJECTS


def main() -> None:
    """Serve, and print the connection."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", choices=PROJECTS)
    catalogue = PROJECTS[parser.parse_args().project]()
    with Sandbox(catalogue, gzip=False) as sandbox:
        _print(
            {
                "url": sandbox.url,
                "project_id": sandbox.project_id,
                "client_id": sandbox.client_id,
                "client_secret": sandbox.client_secret,
                "entries": len(catalogue),
            }
        )
        for line in sys.stdin:
            sandbox.latency = json.loads(line).get("latency_ms", sandbox.latency * 1000) / 1000
            _print(
                {
                    "connections": sandbox.connections,
                    "requests": sandbox.count(),
                    "cpu_seconds": time.process_time(),
                }
            )


def _print(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
