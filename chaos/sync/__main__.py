"""Run the chaos suite for copies: `make chaos-sync RUNS=200 SEED=1`."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from chaos.command import Suite, run_suite
from chaos.sync.report import report
from chaos.sync.run import FEED, POSTGRES, S3, draw, run, run_scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.sync.outcome import Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow histories; return 0 if no promise was broken."""
    description = "Follow a service with a feed through random histories, and judge each run."
    name, destination = "chaos-sync", os.environ.get("DESTINATION") or FEED
    if destination == POSTGRES:
        name += " DESTINATION=postgres"
        description = description.replace("with a feed", "with tables in PostgreSQL")
    elif destination == S3:
        name += " DESTINATION=s3"
        description = description.replace("a feed", "a feed on S3")
    elif destination != FEED:
        raise SystemExit(f"DESTINATION must be {FEED}, {S3} or {POSTGRES}, not {destination}.")
    draw_one, run_one, replay = (partial(each, destination=destination) for each in (draw, run, run_scenario))
    suite = Suite(name, description, draw_one, run_one, replay, _describe, report)
    return run_suite(suite, arguments)


def _describe(outcome: Outcome) -> str:
    return f"{outcome.counts['runs']} runs, {outcome.counts['change sets']} change sets"


if __name__ == "__main__":
    sys.exit(main())
