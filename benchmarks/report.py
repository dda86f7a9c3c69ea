"""Render the measurements as a Markdown report."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from content import ENTRY_BYTES
from matrix import OURS_KEY, Cell, Contender

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner import Sample

_NOT_MEASURED = "-"


def report(
    samples: Sequence[Sample],
    growth: Sequence[Sample],
    contenders: Sequence[Contender],
    cells: Sequence[Cell],
    machine: Sequence[tuple[str, str]],
    command: str,
) -> str:
    """Return the whole report.

    :param samples: the samples of the comparison.
    :param growth: the samples of this provider with growing numbers of entries.
    :param contenders: in the order of the tables.
    :param cells: in the order of the tables.
    :param machine: (name, value) pairs that describe the machine.
    :param command: the command that repeats this run.
    """
    entries = samples[0].entries if samples else 0
    sections = [
        "# Benchmarks",
        _introduction(entries),
        *_goals(samples, growth),
        *_comparison(samples, contenders, cells),
        *_growth(growth, contenders),
        *_bottleneck(samples, contenders, cells),
        *_notes(samples, growth),
        "## Machine and versions",
        _table(["", ""], [list(line) for line in [*machine, *_versions([*samples, *growth])]]),
        "## Reproduce",
        f"```bash\n{command}\n```\n\n"
        "`make bench` runs the whole benchmark; `make bench BENCH=--quick` takes about two minutes. "
        "Apart from the development environment it needs only curl. It installs each peer into its own "
        "environment under `benchmarks/.envs/` and prepares the content under `benchmarks/.cache/` "
        "(2.2 GB for a million entries).",
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(entries: int) -> str:
    return (
        f"Each contender exports {entries:,} entries of {ENTRY_BYTES:,} bytes "
        f"({entries * ENTRY_BYTES / 1e6:,.0f} MB), all of one content type. A server on the same machine "
        "serves prepared pages and waits a fixed time before each answer. Each run is a fresh process. "
        "*Seconds* exclude imports. For this provider they cover the operator's whole `execute`: token, "
        "planning, reading, proof, writing, fsync and rename. The others read one plain list of pages "
        "without a token; they neither prove that it is complete nor sync the file. Contenders take "
        "turns, in several rounds. Figures are medians, with the minimum and maximum in brackets. *Times "
        "ours* is the median of the ratios within each round, relative to this provider writing the same "
        "kind of file over 8 connections. The rows of every run were counted. "
        "[Where the time goes](internals.md#where-the-time-goes) breaks down the seconds of this provider."
    )


def _goals(samples: Sequence[Sample], growth: Sequence[Sample]) -> list[str]:
    """Return the project's goals, with the figures of this run."""
    large, waiting, small = Cell(0, 1000), Cell(100, 1000), Cell(100, 100)
    good = [sample for sample in samples if sample.error is None]
    here = {cell: [sample for sample in good if _is_in(sample, cell)] for cell in (large, waiting, small)}

    def times(cell: Cell, key: str, than: str) -> str:
        return _ratio(_samples_of(here[cell], key), _samples_of(here[cell], than))

    parquet, curl = "ours.parquet.8", "curl.8"
    goals = [
        (f"JSON Lines, {large}: speedup over HttpOperator", "12", times(large, "http", OURS_KEY)),
        (f"JSON Lines, {large}: speedup over the loop of requests", "6", times(large, "requests", OURS_KEY)),
        *(
            (
                f"JSON Lines, {cell}: seconds relative to curl, 8 connections each",
                goal,
                times(cell, OURS_KEY, curl),
            )
            for cell, goal in ((waiting, "1.25"), (small, "1.10"))
        ),
        (f"Parquet, {large}: speedup over dlt", "5", times(large, "dlt.parquet", parquet)),
        (f"JSON Lines, {large}: peak MB above imports", "60", _megabytes(_samples_of(here[large], OURS_KEY))),
        (f"JSON Lines, {large}: additional peak MB at 1,000,000 entries", "10", _additional_memory(growth)),
        (f"Parquet, {large}: peak MB above imports", "60", _megabytes(_samples_of(here[large], parquet))),
        (
            "TCP connections with 8 concurrent requests",
            "9",
            str(max((sample.connections for sample in _samples_of(good, OURS_KEY)), default=_NOT_MEASURED)),
        ),
    ]
    rows = [list(goal) for goal in goals if goal[2] != _NOT_MEASURED]
    return ["## Goals", _table(["", "goal", "measured"], rows)] if rows else []


def _megabytes(good: Sequence[Sample]) -> str:
    return f"{_peak_above_imports(good):,.0f}" if good else _NOT_MEASURED


def _additional_memory(growth: Sequence[Sample]) -> str:
    good = [sample for sample in _samples_of(growth, OURS_KEY) if sample.error is None]
    some, many = ([sample for sample in good if sample.entries == number] for number in (100_000, 1_000_000))
    return f"{_peak_above_imports(many) - _peak_above_imports(some):,.0f}" if some and many else _NOT_MEASURED


def _comparison(
    samples: Sequence[Sample], contenders: Sequence[Contender], cells: Sequence[Cell]
) -> list[str]:
    sections = ["## Comparison"]
    for cell in cells:
        here = [sample for sample in samples if _is_in(sample, cell)]
        rows = [_row(contender, here) for contender in contenders if _samples_of(here, contender.key)]
        if rows:
            sections += [f"### {cell}", _table(_COLUMNS, rows)]
    return sections


_COLUMNS = [
    "",
    "seconds",
    "times ours",
    "CPU seconds",
    "peak MB above imports (imports)",
    "requests",
    "TCP connections",
    "rounds",
]


def _row(contender: Contender, here: Sequence[Sample]) -> list[str]:
    mine = _samples_of(here, contender.key)
    good = [sample for sample in mine if sample.error is None]
    if not good:
        return [contender.title, mine[-1].error or "", *["-"] * (len(_COLUMNS) - 2)]
    return [
        contender.title,
        _spread(sample.seconds for sample in good),
        _ratio(good, _samples_of(here, contender.compared_to)),
        _number(median(sample.cpu_seconds for sample in good)),
        _memory(good),
        f"{median(sample.requests for sample in good):,.0f}",
        f"{median(sample.connections for sample in good):,.0f}",
        f"{len(good)}" if len(good) == len(mine) else f"{len(good)} of {len(mine)}",
    ]


def _growth(samples: Sequence[Sample], contenders: Sequence[Contender]) -> list[str]:
    if not samples:
        return []
    rows = []
    for contender in contenders:
        mine = _samples_of(samples, contender.key)
        for entries in sorted({sample.entries for sample in mine}):
            good = [sample for sample in mine if sample.entries == entries and sample.error is None]
            if not good:
                rows.append([contender.title, f"{entries:,}", mine[-1].error or "", "-", "-", "-"])
                continue
            seconds = median(sample.seconds for sample in good)
            rows.append(
                [
                    contender.title,
                    f"{entries:,}",
                    _spread(sample.seconds for sample in good),
                    f"{entries / seconds:,.0f}",
                    _memory(good),
                    f"{median(sample.bytes for sample in good) / 1e6:,.0f}",
                ]
            )
    columns = [
        "",
        "entries",
        "seconds",
        "entries per second",
        "peak MB above imports (imports)",
        "MB written",
    ]
    return ["## How it scales", "0 ms, 1,000 per page.", _table(columns, rows)]


def _bottleneck(
    samples: Sequence[Sample], contenders: Sequence[Contender], cells: Sequence[Cell]
) -> list[str]:
    """Show that the server is not the bottleneck."""
    sections = [
        "## Is the server the bottleneck?",
        "The server is one thread that hands slices of prepared bytes to the kernel. It is the bottleneck "
        "only if it uses nearly a whole core while a contender runs. The *server's share* is its CPU time "
        "divided by the contender's seconds. curl shows how fast the server can deliver: only its share, "
        "without latency, may come near 100%.",
    ]
    for cell in cells:
        if cell.latency_ms:
            continue
        rows = []
        for contender in contenders:
            good = [s for s in _samples_of(samples, contender.key) if _is_in(s, cell) and s.error is None]
            if good:
                rate = median(sample.entries * ENTRY_BYTES / 1e6 / sample.seconds for sample in good)
                share = median(sample.server_cpu_seconds / sample.seconds for sample in good)
                rows.append([contender.title, f"{rate:,.0f}", f"{share:.0%}"])
        if rows:
            sections += [f"### {cell}", _table(["", "MB per second", "server's share of a core"], rows)]
    return sections


def _notes(samples: Sequence[Sample], growth: Sequence[Sample]) -> list[str]:
    lines = [
        "With a checkpoint: as on Airflow 3.3 and later, while the task has retries left.",
        "curl is given the number of pages, discards the bytes and does nothing else; its seconds include "
        "its startup, and its memory is not measured.",
        "dlt runs with its defaults, but without gzip and telemetry; its rows are those of the main table.",
        "HttpOperator's response filter writes the file and returns its path; without a filter, "
        "its XCom would be the text of all pages.",
        "Peak memory is that of one process, as recorded by the kernel (VmHWM on Linux).",
    ]
    ours = [sample for sample in [*samples, *growth] if sample.contender == OURS_KEY and sample.error is None]
    if ours:
        xcom = max(sample.more["xcom_bytes"] for sample in ours)
        connections = sorted({sample.connections for sample in ours})
        lines.append(
            f"This provider's XCom took at most {xcom:,} bytes. With `max_concurrent_requests=8` it opened "
            f"{' to '.join(map(str, sorted({connections[0], connections[-1]})))} TCP connections."
        )
    return ["## Notes", "\n".join(f"- {line}" for line in lines)]


def _versions(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    versions: dict[str, set[str]] = {}
    for sample in samples:
        for name, version in sample.versions.items():
            versions.setdefault(name, set()).add(version)
    return [(name, " and ".join(sorted(found))) for name, found in sorted(versions.items())]


def _is_in(sample: Sample, cell: Cell) -> bool:
    return (sample.latency_ms, sample.page_size) == (cell.latency_ms, cell.page_size)


def _samples_of(samples: Iterable[Sample], key: str) -> list[Sample]:
    return [sample for sample in samples if sample.contender == key]


def _ratio(good: Sequence[Sample], ours: Sequence[Sample]) -> str:
    """Return the median of the ratios within each round, because a machine's speed drifts between rounds."""
    by_round = {sample.round: sample.seconds for sample in ours if sample.error is None}
    ratios = [sample.seconds / by_round[sample.round] for sample in good if sample.round in by_round]
    return _number(median(ratios)) if ratios else _NOT_MEASURED


def _memory(good: Sequence[Sample]) -> str:
    if good[0].peak_mb is None:
        return _NOT_MEASURED
    return f"{_peak_above_imports(good):,.0f} ({median(sample.baseline_mb or 0.0 for sample in good):,.0f})"


def _peak_above_imports(good: Sequence[Sample]) -> float:
    return median((sample.peak_mb or 0.0) - (sample.baseline_mb or 0.0) for sample in good)


def _spread(values: Iterable[float]) -> str:
    figures = sorted(values)
    if len(figures) == 1:
        return _number(figures[0])
    return f"{_number(median(figures))} ({_number(figures[0])} to {_number(figures[-1])})"


def _number(value: float) -> str:
    """Return a number with about two significant digits."""
    return f"{value:,.2f}" if value < 2 else f"{value:,.1f}" if value < 20 else f"{value:,.0f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
