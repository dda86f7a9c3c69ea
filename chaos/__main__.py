"""Run the chaos suite: `make chaos RUNS=200 SEED=1`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chaos.command import Suite, run_suite
from chaos.report import report
from chaos.run import Outcome, run, run_scenario
from chaos.scenario import draw_scenario

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exports; return 0 if no promise was broken."""
    description = "Export under random faults and edits, and judge each export."
    return run_suite(
        Suite("chaos", description, draw_scenario, run, run_scenario, _describe, report), arguments
    )


def _describe(outcome: Outcome) -> str:
    return f"{outcome.error or 'exported'}: {outcome.message or f'{outcome.entries} entries'}"


if __name__ == "__main__":
    sys.exit(main())
