"""Run the chaos suite: `make chaos RUNS=200 SEED=1`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pprint import pformat
from typing import TYPE_CHECKING

from chaos.report import report
from chaos.run import Outcome, run, run_scenario
from chaos.scenario import draw_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROGRESS_EVERY = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the exports; return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="concurrent runs (default: %(default)s)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    outcomes = []
    for outcome in _outcomes(range(options.seed, options.seed + options.runs), options.jobs):
        outcomes.append(outcome)
        for violation in outcome.violations:
            print(f"VIOLATION (replay: make chaos RUNS=1 SEED={outcome.seed}): {violation}", flush=True)
        if len(outcomes) % _PROGRESS_EVERY == 0:
            print(f"{len(outcomes)} runs, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(report(outcomes, time.monotonic() - started))
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def _outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    if len(seeds) == 1:
        # A single run is usually a replay: show its scenario and log.
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        scenario = draw_scenario(seeds[0])
        print(pformat(scenario, width=100, sort_dicts=False))
        outcome = run_scenario(scenario)
        print(f"{outcome.error or 'exported'}: {outcome.message or f'{outcome.entries} entries'}")
        yield outcome
    elif jobs == 1:
        yield from map(run, seeds)
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as executor:
            yield from executor.map(run, seeds)


if __name__ == "__main__":
    sys.exit(main())
