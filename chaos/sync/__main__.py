"""Run the chaos suite for copies: `make chaos-sync RUNS=200 SEED=1`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chaos.command import Suite, run_suite
from chaos.sync.report import report
from chaos.sync.run import Outcome, run, run_scenario
from chaos.sync.scenario import draw_scenario

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow histories; return 0 if no promise was broken."""
    description = "Follow a service with a feed through random histories, and judge each run."
    return run_suite(
        Suite("chaos-sync", description, draw_scenario, run, run_scenario, _describe, report), arguments
    )


def _describe(outcome: Outcome) -> str:
    return f"{outcome.counts['runs']} runs, {outcome.counts['change sets']} change sets"


if __name__ == "__main__":
    sys.exit(main())
