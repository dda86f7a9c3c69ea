"""The command line of a suite: many runs, or the replay of one."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pprint import pformat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PROGRESS_EVERY = 100


class _Outcome(Protocol):
    @property
    def seed(self) -> int: ...
    @property
    def violations(self) -> Sequence[str]: ...


class Suite(NamedTuple):
    """A suite.

    :param name: its make command.
    :param description: one line for its help.
    :param draw: returns the scenario of a seed.
    :param run: runs the scenario of a seed; called in other processes.
    :param run_scenario: runs a scenario.
    :param describe: returns the end of a run in a line.
    :param report: returns the summary of all runs, which took some seconds.
    """

    name: str
    description: str
    draw: Callable[[int], Any]
    run: Callable[[int], Any]
    run_scenario: Callable[[Any], Any]
    describe: Callable[[Any], str]
    report: Callable[[Sequence[Any], float], str]


def run_suite(suite: Suite, arguments: Sequence[str] | None = None) -> int:
    """Run a suite; return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(description=suite.description)
    parser.add_argument("--runs", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="concurrent runs (default: %(default)s)")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    outcomes: list[_Outcome] = []
    for outcome in _outcomes(suite, range(options.seed, options.seed + options.runs), options.jobs):
        outcomes.append(outcome)
        for violation in outcome.violations:
            replay = f"make {suite.name} RUNS=1 SEED={outcome.seed}"
            print(f"VIOLATION (replay: {replay}): {violation}", flush=True)
        if len(outcomes) % _PROGRESS_EVERY == 0:
            print(f"{len(outcomes)} runs, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(suite.report(outcomes, time.monotonic() - started))
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def _outcomes(suite: Suite, seeds: range, jobs: int) -> Iterator[_Outcome]:
    if len(seeds) == 1:
        # A single run is usually a replay: show its scenario and log.
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        scenario = suite.draw(seeds[0])
        print(pformat(scenario, width=100, sort_dicts=False))
        outcome = suite.run_scenario(scenario)
        print(suite.describe(outcome))
        yield outcome
    elif jobs == 1:
        yield from map(suite.run, seeds)
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as executor:
            yield from executor.map(suite.run, seeds)
