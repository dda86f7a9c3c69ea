"""Benchmark this provider against its peers, in interleaved rounds.

    python -m benchmarks --quick                    # a smoke test of a few minutes
    python -m benchmarks --write docs/benchmarks.md
    python -m benchmarks --case realistic --merge --write docs/benchmarks.md

The first run creates an environment for each peer with uv or npm. Progress goes to standard error; the report
goes to standard output or to the `--write` file, with its chart beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import matrix
from benchmarks.chart import chart
from benchmarks.environments import PeerUnavailable, peer_command
from benchmarks.machine import describe
from benchmarks.matrix import (
    COMPARE,
    GROWTH,
    POSTGRES,
    POSTGRES_CELLS,
    PROJECT_CELLS,
    PROJECT_NAMES,
    Cell,
    Contender,
)
from benchmarks.report import report
from benchmarks.runner import available_suffixes, run
from benchmarks.samples import Sample, load, merge, save
from benchmarks.services import page_server, project_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.services import Service

_SAMPLES = Path(__file__).parent / ".cache" / "samples.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; return 1 if one of this provider's runs failed."""
    options = _options(argv)
    machine = describe()
    try:
        earlier = load(options.samples, machine) if options.merge else []
    except ValueError as error:
        raise SystemExit(str(error)) from None
    started = time.monotonic()
    measured: list[Sample] = []
    for part in _measure(options):
        measured += part
        save(options.samples, machine, merge(earlier, measured))  # a failure later on loses none of it
    if not measured:
        raise SystemExit("--only matches no contender of the cases.")
    minutes = (time.monotonic() - started) / 60
    _log(f"Done in {minutes:.0f} minutes")
    samples = merge(earlier, measured)
    figure = options.write.with_suffix(".svg") if options.write else None
    text = report(samples, machine, _command(options), figure.name if figure else None)
    if options.write and figure:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(text)
        figure.write_text(chart(samples))
    else:
        sys.stdout.write(text)
    return int(any(sample.error and sample.contender.startswith("ours.") for sample in measured))


def _measure(options: argparse.Namespace) -> Iterator[list[Sample]]:
    """Run the chosen cases. The comparison and the growth share a server and take turns, round by round."""
    growth: list[int] = options.growth if GROWTH in options.case else []
    compared = [options.entries] if COMPARE in options.case else []
    if compared or growth:
        contenders = _select(matrix.contenders(available_suffixes()), options.only)
        missing = _install(contenders)
        _log(f"Preparing {max(compared + growth):,} entries")
        samples: list[Sample] = []
        with page_server(max(compared + growth)) as server:
            bench = _Bench(server, missing, options.limit)
            for number in range(options.rounds):
                for entries in compared:
                    for cell in matrix.QUICK_CELLS if options.quick else matrix.CELLS:
                        chosen = matrix.measured_in(contenders, cell, quick=options.quick, number=number)
                        samples += bench.round(COMPARE, chosen, cell, entries, number)
                grown = [contender for contender in contenders if contender.key in matrix.GROWTH_KEYS]
                for entries in growth:
                    samples += bench.round(GROWTH, grown, matrix.CELLS[0], entries, number)
        yield samples
    if POSTGRES in options.case:
        contenders = _select(matrix.postgres_contenders(), options.only)
        missing = _install(contenders)
        samples = []
        with page_server(options.entries) as server:
            bench = _Bench(server, missing, options.limit)
            for number in range(options.rounds):
                for cell in POSTGRES_CELLS:
                    chosen = matrix.measured_in(contenders, cell, quick=False, number=number)
                    samples += bench.round(POSTGRES, chosen, cell, options.entries, number)
        yield samples
    for case, cells in PROJECT_CELLS.items():
        if case not in options.case:
            continue
        contenders = _select(matrix.project_contenders(case), options.only)
        if not contenders:
            continue
        missing = _install(contenders)
        _log(f"Preparing the project of the case {case}")
        samples = []
        with project_server(PROJECT_NAMES[case]) as project:
            bench = _Bench(project, missing, options.limit)
            for number in range(options.rounds):
                for cell in cells:
                    samples += bench.round(case, contenders, cell, project.entries, number)
        yield samples


class _Bench:
    """Runs rounds; a contender that failed in a cell is not run there again."""

    def __init__(self, service: Service, missing: dict[str, str], limit: float) -> None:
        self._service = service
        self._missing = missing
        self._limit = limit
        self._failed: set[tuple[str, Cell, int]] = set()

    def round(
        self, case: str, contenders: Sequence[Contender], cell: Cell, entries: int, number: int
    ) -> list[Sample]:
        """Run each contender once; each round starts with a different one."""
        samples = []
        first = number % max(1, len(contenders))
        for contender in [*contenders[first:], *contenders[:first]]:
            what = (contender.key, cell, entries)
            if what in self._failed:
                continue
            sample = self._run(case, contender, cell, entries, number)
            if sample.error:
                self._failed.add(what)
            _log(
                f"round {number + 1}, {case}, {cell}, {entries:,} entries, {contender.key}: "
                + (sample.error or f"{sample.seconds:.2f} s, {sample.requests:,} requests")
            )
            samples.append(sample)
        return samples

    def _run(self, case: str, contender: Contender, cell: Cell, entries: int, number: int) -> Sample:
        if contender.environment in self._missing:
            reason = self._missing[contender.environment]
            return Sample(case, contender.key, cell.latency_ms, cell.page_size, entries, number, reason)
        return run(self._service, case, contender, cell, entries, number=number, limit=self._limit)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--case", help=f"cases to run (default: {','.join(matrix.CASES)}; quick: no growth)")
    parser.add_argument("--only", help="groups or keys of contenders, such as ours,curl or ours.jsonl.8,dlt")
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 3; quick: 1)")
    parser.add_argument("--entries", type=int, help="entries to compare (default: 100000; quick: 10000)")
    parser.add_argument("--quick", action="store_true", help="few entries, large pages, no growth, no S3")
    parser.add_argument(
        "--growth", help=f"numbers of entries (default: {','.join(map(str, matrix.GROWTH_SIZES))})"
    )
    parser.add_argument("--limit", type=float, default=1800, help="timeout of each run, in seconds")
    parser.add_argument("--write", type=Path, help="file for the report (default: standard output)")
    parser.add_argument(
        "--samples", type=Path, default=_SAMPLES, help="file that keeps all measurements, as JSON"
    )
    parser.add_argument(
        "--merge", action="store_true", help="keep the measurements of cases that this run does not repeat"
    )
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.entries = options.entries or (10_000 if options.quick else 100_000)
    sizes = options.growth or ",".join(map(str, matrix.GROWTH_SIZES))
    options.growth = [int(size) for size in sizes.split(",")]
    default = (COMPARE, matrix.REALISTIC) if options.quick else matrix.CASES
    options.case = options.case.split(",") if options.case else list(default)
    if unknown := set(options.case) - set(matrix.CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}. Available: {', '.join(matrix.CASES)}")
    return options


def _command(options: argparse.Namespace) -> str:
    """Return the command that repeats these measurements, without the output options."""
    if options.merge:
        return "make bench"
    parts = [f"--case {','.join(options.case)}", f"--rounds {options.rounds}", f"--entries {options.entries}"]
    if GROWTH in options.case:
        parts.append(f"--growth {','.join(map(str, options.growth))}")
    if options.quick:
        parts.append("--quick")
    if options.only:
        parts.append(f"--only {options.only}")
    return f'make bench BENCH="{" ".join(parts)}"'


def _select(contenders: Sequence[Contender], only: str | None) -> list[Contender]:
    wanted = only.split(",") if only else None
    return [
        contender
        for contender in contenders
        if wanted is None or contender.group in wanted or contender.key in wanted
    ]


def _install(contenders: Sequence[Contender]) -> dict[str, str]:
    """Create the peers' environments; return the reason for each that is missing."""
    missing = {}
    for name in dict.fromkeys(contender.environment for contender in contenders):
        _log(f"Preparing environment {name}")
        try:
            peer_command(name)
        except PeerUnavailable as failure:
            missing[name] = f"skipped: {failure}"
            _log(missing[name])
    return missing


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
