"""Benchmark this provider against its peers, in interleaved rounds.

    python benchmarks/run.py --quick              # a smoke test of about two minutes
    python benchmarks/run.py --write docs/benchmarks.md

The first run creates an environment for each peer with uv. Progress goes to standard error; the report
goes to standard output or to the `--write` file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import matrix
from environments import PeerUnavailable, peer_python
from machine import describe
from matrix import Cell, Contender
from report import report
from runner import Sample, ServerHandle, available_suffixes, run, serving

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return 1 if one of this provider's runs failed."""
    options = _options(argv)
    machine = describe()
    contenders = _select(matrix.contenders(available_suffixes()), options.only)
    cells = matrix.QUICK_CELLS if options.quick else matrix.CELLS
    growth: list[int] = options.growth
    missing = _install(contenders)
    _log(f"Preparing {max([options.entries, *growth]):,} entries")
    samples: list[Sample] = []
    grown: list[Sample] = []
    started = time.monotonic()
    with serving(max([options.entries, *growth])) as server:
        bench = _Bench(server, missing, options.limit)
        for number in range(options.rounds):
            for cell in cells:
                measured = _measured_in(contenders, cell, quick=options.quick)
                if number >= cell.single_connection_rounds:
                    measured = [contender for contender in measured if contender.connections > 1]
                samples += bench.round(measured, cell, options.entries, number)
        for number in range(min(options.rounds, 3)):
            for entries in growth:
                grown += bench.round(_growth_contenders(contenders), matrix.CELLS[0], entries, number)
    _log(f"Done in {(time.monotonic() - started) / 60:.1f} minutes")
    if options.raw:
        options.raw.write_text(json.dumps([asdict(sample) for sample in samples + grown], indent=1) + "\n")
    text = report(samples, grown, contenders, cells, machine, _command(options))
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text)
    else:
        sys.stdout.write(text)
    return int(any(sample.error and sample.contender.startswith("ours.") for sample in samples + grown))


class _Bench:
    """Runs rounds; a contender that failed in a cell is not run there again."""

    def __init__(self, server: ServerHandle, missing: dict[str, str], limit: float) -> None:
        self._server = server
        self._missing = missing
        self._limit = limit
        self._failed: set[tuple[str, Cell, int]] = set()

    def round(self, contenders: Sequence[Contender], cell: Cell, entries: int, number: int) -> list[Sample]:
        """Run each contender once; each round starts with a different one."""
        samples = []
        first = number % max(1, len(contenders))
        for contender in [*contenders[first:], *contenders[:first]]:
            case = (contender.key, cell, entries)
            if case in self._failed:
                continue
            sample = self._run(contender, cell, entries, number)
            if sample.error:
                self._failed.add(case)
            _log(
                f"round {number + 1}, {cell}, {entries:,} entries, {contender.key}: "
                + (sample.error or f"{sample.seconds:.2f} s")
            )
            samples.append(sample)
        return samples

    def _run(self, contender: Contender, cell: Cell, entries: int, number: int) -> Sample:
        if contender.environment in self._missing:
            reason = self._missing[contender.environment]
            return Sample(contender.key, cell.latency_ms, cell.page_size, entries, number, error=reason)
        return run(self._server, contender, cell, entries, number=number, limit=self._limit)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 5; quick: 1)")
    parser.add_argument("--entries", type=int, help="entries to compare (default: 100000; quick: 10000)")
    parser.add_argument("--quick", action="store_true", help="few entries, large pages, no growth runs")
    parser.add_argument(
        "--growth",
        help=f"numbers of entries, or none (default: {','.join(map(str, matrix.GROWTH))}; quick: none)",
    )
    parser.add_argument("--only", help="groups or keys of contenders, such as ours,curl or ours.jsonl.8,dlt")
    parser.add_argument("--limit", type=float, default=1800, help="timeout of each run, in seconds")
    parser.add_argument("--write", type=Path, help="file for the report (default: standard output)")
    parser.add_argument("--raw", type=Path, help="file for all measurements, as JSON")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.entries = options.entries or (10_000 if options.quick else 100_000)
    growth = options.growth or ("none" if options.quick else ",".join(map(str, matrix.GROWTH)))
    options.growth = [] if growth == "none" else [int(number) for number in growth.split(",")]
    return options


def _command(options: argparse.Namespace) -> str:
    """Return the command that repeats these measurements, without the output options."""
    parts = [f"--rounds {options.rounds}", f"--entries {options.entries}"]
    parts.append(f"--growth {','.join(map(str, options.growth)) or 'none'}")
    if options.quick:
        parts.append("--quick")
    if options.only:
        parts.append(f"--only {options.only}")
    return f'make bench BENCH="{" ".join(parts)}"'


def _select(contenders: Sequence[Contender], only: str | None) -> list[Contender]:
    wanted = only.split(",") if only else None
    chosen = [
        contender
        for contender in contenders
        if wanted is None or contender.group in wanted or contender.key in wanted
    ]
    if not chosen:
        keys = ", ".join(contender.key for contender in contenders)
        raise SystemExit(f"--only matches no contender. Available: {keys}")
    return chosen


def _measured_in(contenders: Sequence[Contender], cell: Cell, *, quick: bool) -> list[Contender]:
    """Return the contenders to measure in a cell: all of them if its pages are large, else the main ones."""
    has_all = cell == matrix.CELLS[0] if quick else cell.page_size == matrix.CELLS[0].page_size
    return [contender for contender in contenders if contender.in_every_cell or has_all]


def _growth_contenders(contenders: Sequence[Contender]) -> list[Contender]:
    keys = {f"ours.{suffix}.8" for suffix in matrix.GROWTH_SUFFIXES}
    return [contender for contender in contenders if contender.key in keys]


def _install(contenders: Sequence[Contender]) -> dict[str, str]:
    """Create the peers' environments; return the reason for each that is missing."""
    missing = {}
    for name in dict.fromkeys(contender.environment for contender in contenders):
        _log(f"Preparing environment {name}")
        try:
            peer_python(name)
        except PeerUnavailable as failure:
            missing[name] = f"not installed: {failure}"
            _log(missing[name])
    return missing


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
