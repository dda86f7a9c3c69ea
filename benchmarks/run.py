"""The benchmark: this provider beside its peers, in one run, in rounds that take turns.

    python benchmarks/run.py --quick              # a smoke test of about two minutes
    python benchmarks/run.py --write docs/benchmarks.md

The peers get environments of their own, with uv, on the first run. Progress goes to standard error, the
report to standard output or to `--write`.
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
from environments import PeerUnavailable, python_of
from machine import describe
from matrix import Cell, Contender
from report import report
from runner import Sample, ServerHandle, available_suffixes, run, serving

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return 1 if a run of ours failed."""
    options = _options(argv)
    machine = describe()
    contenders = _chosen(matrix.contenders(available_suffixes()), options.only)
    cells = matrix.QUICK_CELLS if options.quick else matrix.CELLS
    growth: list[int] = options.growth
    missing = _install(contenders)
    _say(f"Preparing {max([options.entries, *growth]):,} entries")
    samples: list[Sample] = []
    grown: list[Sample] = []
    started = time.monotonic()
    with serving(max([options.entries, *growth])) as server:
        bench = _Bench(server, missing, options.limit)
        for number in range(options.rounds):
            for cell in cells:
                measured = _in(contenders, cell, quick=options.quick)
                if number >= cell.lone_rounds:
                    measured = [contender for contender in measured if contender.connections > 1]
                samples += bench.round(measured, cell, options.entries, number)
        for number in range(min(options.rounds, 3)):
            for entries in growth:
                grown += bench.round(_growing(contenders), matrix.CELLS[0], entries, number)
    _say(f"Done in {(time.monotonic() - started) / 60:.1f} minutes")
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
    """Runs rounds; a contender that failed once is not tried again in the same situation."""

    def __init__(self, server: ServerHandle, missing: dict[str, str], limit: float) -> None:
        self._server = server
        self._missing = missing
        self._limit = limit
        self._failed: set[tuple[str, Cell, int]] = set()

    def round(self, contenders: Sequence[Contender], cell: Cell, entries: int, number: int) -> list[Sample]:
        """Run each contender once, beginning with another one in each round."""
        samples = []
        turn = number % max(1, len(contenders))
        for contender in [*contenders[turn:], *contenders[:turn]]:
            case = (contender.key, cell, entries)
            if case in self._failed:
                continue
            sample = self._run(contender, cell, entries, number)
            if sample.error:
                self._failed.add(case)
            _say(
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
    parser.add_argument("--rounds", type=int, help="how often each is measured (default 5; quick: 1)")
    parser.add_argument("--entries", type=int, help="of the comparison (default 100000; quick: 10000)")
    parser.add_argument("--quick", action="store_true", help="small figures, large pages, no growth")
    parser.add_argument(
        "--growth",
        help=f"numbers of entries, or none (default {','.join(map(str, matrix.GROWTH))}; quick: none)",
    )
    parser.add_argument("--only", help="groups or keys of contenders, such as ours,curl or ours.jsonl.8,dlt")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which one run is given up")
    parser.add_argument("--write", type=Path, help="where the report goes (default: standard output)")
    parser.add_argument("--raw", type=Path, help="where every single measurement goes, as JSON")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.entries = options.entries or (10_000 if options.quick else 100_000)
    growth = options.growth or ("none" if options.quick else ",".join(map(str, matrix.GROWTH)))
    options.growth = [] if growth == "none" else [int(number) for number in growth.split(",")]
    return options


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same again, wherever its report goes."""
    parts = [f"--rounds {options.rounds}", f"--entries {options.entries}"]
    parts.append(f"--growth {','.join(map(str, options.growth)) or 'none'}")
    if options.quick:
        parts.append("--quick")
    if options.only:
        parts.append(f"--only {options.only}")
    return f'make bench BENCH="{" ".join(parts)}"'


def _chosen(contenders: Sequence[Contender], only: str | None) -> list[Contender]:
    wanted = only.split(",") if only else None
    chosen = [
        contender
        for contender in contenders
        if wanted is None or contender.group in wanted or contender.key in wanted
    ]
    if not chosen:
        keys = ", ".join(contender.key for contender in contenders)
        raise SystemExit(f"--only names none of the contenders: {keys}")
    return chosen


def _in(contenders: Sequence[Contender], cell: Cell, *, quick: bool) -> list[Contender]:
    """Return those that are measured in a cell: all where pages are large, else the chief ones."""
    has_all = cell == matrix.CELLS[0] if quick else cell.page_size == matrix.CELLS[0].page_size
    return [contender for contender in contenders if contender.everywhere or has_all]


def _growing(contenders: Sequence[Contender]) -> list[Contender]:
    keys = {f"ours.{suffix}.8" for suffix in matrix.GROWTH_SUFFIXES}
    return [contender for contender in contenders if contender.key in keys]


def _install(contenders: Sequence[Contender]) -> dict[str, str]:
    """Make the environments of the peers; return why those that are missing are."""
    missing = {}
    for name in dict.fromkeys(contender.environment for contender in contenders):
        _say(f"Environment {name}")
        try:
            python_of(name)
        except PeerUnavailable as failure:
            missing[name] = f"not installed: {failure}"
            _say(missing[name])
    return missing


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
