"""Render the measurements as a Markdown report."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.chart import alternative
from benchmarks.content import ENTRY_BYTES
from benchmarks.figures import good, memory, number, of_case, of_cell, of_contender, spread, times
from benchmarks.goals import goals
from benchmarks.matrix import (
    CELLS,
    COMPARE,
    GROWTH,
    OURS_KEY,
    POSTGRES,
    POSTGRES_CELLS,
    POSTGRES_KEY,
    PROJECT_CELLS,
    REALISTIC,
    REALISTIC_KEY,
    S3,
    S3_KEY,
    contenders,
    postgres_contenders,
    project_contenders,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.matrix import Cell, Contender
    from benchmarks.samples import Machine, Sample


def report(samples: Sequence[Sample], machine: Machine, command: str, figure: str | None) -> str:
    """Return the whole report.

    :param samples: the samples of all cases.
    :param machine: (name, value) pairs that describe the machine.
    :param command: the command that repeats this run.
    :param figure: the name of the chart's file, beside the report; None if there is none.
    """
    sections = [
        "# Benchmarks",
        *_chart(samples, figure),
        *_goals(samples),
        *_comparison(samples),
        *_projects(samples),
        *_postgres(samples),
        *_growth(samples),
        *_bottleneck(samples),
        *_notes(samples),
        "## Machine and versions",
        _table(["", ""], [list(line) for line in [*machine, *_versions(samples)]]),
        "## Reproduce",
        f"```bash\n{command}\n```\n\n"
        "`make bench` runs the whole benchmark; `make bench BENCH=--quick` takes a few minutes. "
        "`--case realistic` runs one case, and with `--merge` the report keeps the figures of the others. "
        "Apart from the development environment it needs only curl and, for the vendor's client, Node. It "
        "installs each peer into its own environment under `benchmarks/.envs/` and prepares the content "
        "under `benchmarks/.cache/` (2.2 GB for a million entries).",
    ]
    return "\n\n".join(sections) + "\n"


def _chart(samples: Sequence[Sample], figure: str | None) -> list[str]:
    words = alternative(samples)
    return [f"![{words}]({figure})"] if figure and words else []


def _goals(samples: Sequence[Sample]) -> list[str]:
    """Return the project's goals, with the figures of this run."""
    rows = [[goal.title, goal.aim, goal.figure, goal.reached] for goal in goals(samples)]
    return ["## Goals", _table(["", "goal", "measured", "reached"], rows)]


def _comparison(samples: Sequence[Sample]) -> list[str]:
    here = of_case(samples, COMPARE)
    if not here:
        return []
    entries = here[0].entries
    introduction = (
        f"Each contender exports {entries:,} entries of {ENTRY_BYTES:,} bytes "
        f"({entries * ENTRY_BYTES / 1e6:,.0f} MB), all of one content type. A server on the same machine "
        "serves prepared pages and waits a fixed time before each answer. Each run is a fresh process. "
        "*Seconds* exclude imports. For this provider they cover the operator's whole `execute`: token, "
        "planning, reading, proof, writing, fsync and rename. The others read one plain list of pages; "
        "they neither prove that it is complete nor sync the file. Contenders take turns, in several "
        "rounds. Figures are medians, with the minimum and maximum in brackets. *Times ours* is the median "
        "of the ratios within each round, relative to this provider writing the same kind of file over 8 "
        "connections. The rows of every run were counted. "
        "[Where the time goes](internals.md#where-the-time-goes) breaks down the seconds of this provider."
    )
    return ["## Comparison", introduction, *_cells(here, contenders(), CELLS)]


def _projects(samples: Sequence[Sample]) -> list[str]:
    sections: list[str] = []
    real = of_case(samples, REALISTIC)
    if real:
        served = good(of_contender(of_cell(real, PROJECT_CELLS[REALISTIC][0]), REALISTIC_KEY))
        share = (
            f" Without latency, the sandbox computes for "
            f"{median(sample.server_cpu_seconds for sample in served):.2f} s while this provider runs."
            if served
            else ""
        )
        sections += [
            "## A realistic project",
            f"80 content types in two languages, {real[0].entries:,} entries of about 2.2 kB: like the "
            "project of a university, where most content types hold a few dozen entries (their sizes are "
            "log-normal). The [sandbox](sandbox.md) serves it. With latency, requests are the cost. Both "
            "contenders request a token, read all content types in all languages and keep up to 4 requests "
            "in flight; dlt lists the entries of each content type in each language, and does not prove that "
            f"none is missing.{share}",
            *_cells(real, project_contenders(REALISTIC), PROJECT_CELLS[REALISTIC]),
        ]
    stored = of_case(samples, S3)
    if stored:
        whole = good(of_contender(stored, S3_KEY))
        size = f"{median(sample.bytes for sample in whole) / (1 << 20):,.0f} MiB" if whole else "all entries"
        sections += [
            "## A folder on S3",
            f"60 content types of one size, {stored[0].entries:,} entries: a folder of 60 files ({size} in "
            "all) on an S3 server on the same machine, in a process of its own and new for each run. What "
            "matters here is the memory that uploads take.",
            *_cells(stored, project_contenders(S3), PROJECT_CELLS[S3]),
        ]
    return sections


def _postgres(samples: Sequence[Sample]) -> list[str]:
    here = of_case(samples, POSTGRES)
    if not here:
        return []
    sizes = good(of_contender(here, POSTGRES_KEY))
    size = f" ({median(sample.bytes for sample in sizes) / (1 << 20):,.0f} MiB with indexes)" if sizes else ""
    return [
        "## A first load into PostgreSQL",
        f"Each contender loads {here[0].entries:,} entries of {ENTRY_BYTES:,} bytes into an empty PostgreSQL "
        f"18 on the same machine{size}, with the server's defaults. This provider commits once, with the "
        "table's key and indexes. The loop inserts each page with psycopg2's `execute_values`, in one "
        "transaction, too: the same columns as this provider or, in the last line, only the key and the "
        "entry. dlt writes its normalised columns, without the entry. The seconds include what PostgreSQL "
        "computes, the CPU seconds do not.",
        *_cells(here, postgres_contenders(), POSTGRES_CELLS),
    ]


def _cells(here: Sequence[Sample], known: Sequence[Contender], cells: Sequence[Cell]) -> list[str]:
    """Return a table for each cell."""
    sections = []
    for cell in cells:
        measured = of_cell(here, cell)
        rows = [_row(contender, measured) for contender in known if of_contender(measured, contender.key)]
        if rows:
            sections += [f"### {cell}", _table(_COLUMNS, rows)]
    return sections


_COLUMNS = [
    "",
    "seconds",
    "requests",
    "TCP connections",
    "times ours",
    "CPU seconds",
    "peak MB above imports (imports)",
    "rounds",
]


def _row(contender: Contender, here: Sequence[Sample]) -> list[str]:
    mine = of_contender(here, contender.key)
    counted = good(mine)
    if not counted:
        return [contender.title, mine[-1].error or "", *["-"] * (len(_COLUMNS) - 2)]
    return [
        contender.title,
        spread(sample.seconds for sample in counted),
        f"{median(sample.requests for sample in counted):,.0f}",
        f"{median(sample.connections for sample in counted):,.0f}",
        number(times(here, contender.key, contender.compared_to)),
        number(median(sample.cpu_seconds for sample in counted)),
        memory(counted),
        f"{len(counted)}" if len(counted) == len(mine) else f"{len(counted)} of {len(mine)}",
    ]


def _growth(samples: Sequence[Sample]) -> list[str]:
    here = of_case(samples, GROWTH)
    rows = []
    for contender in contenders():
        mine = of_contender(here, contender.key)
        for entries in sorted({sample.entries for sample in mine}):
            counted = good(sample for sample in mine if sample.entries == entries)
            if not counted:
                rows.append([contender.title, f"{entries:,}", mine[-1].error or "", "-", "-", "-", "-"])
                continue
            rows.append(
                [
                    contender.title,
                    f"{entries:,}",
                    spread(sample.seconds for sample in counted),
                    f"{entries / median(sample.seconds for sample in counted):,.0f}",
                    number(median(sample.cpu_seconds for sample in counted)),
                    memory(counted),
                    f"{median(sample.bytes for sample in counted) / 1e6:,.0f}",
                ]
            )
    columns = [
        "",
        "entries",
        "seconds",
        "entries per second",
        "CPU seconds",
        "peak MB above imports (imports)",
        "MB written",
    ]
    return ["## How it scales", f"{CELLS[0]}.", _table(columns, rows)] if rows else []


def _bottleneck(samples: Sequence[Sample]) -> list[str]:
    """Show that the server is not the bottleneck."""
    sections = []
    for cell in CELLS:
        if cell.latency_ms:
            continue
        rows = []
        for contender in contenders():
            counted = good(of_contender(of_case(samples, COMPARE, cell), contender.key))
            if counted:
                rate = median(sample.entries * ENTRY_BYTES / 1e6 / sample.seconds for sample in counted)
                share = median(sample.server_cpu_seconds / sample.seconds for sample in counted)
                rows.append([contender.title, f"{rate:,.0f}", f"{share:.0%}"])
        if rows:
            sections += [f"### {cell}", _table(["", "MB per second", "server's share of a core"], rows)]
    if not sections:
        return []
    return [
        "## Is the server the bottleneck?",
        "The server is one thread that hands slices of prepared bytes to the kernel. It is the bottleneck "
        "only if it uses nearly a whole core while a contender runs. The *server's share* is its CPU time "
        "divided by the contender's seconds. curl shows how fast the server can deliver: only its share, "
        "without latency, may come near 100%.",
        *sections,
    ]


def _notes(samples: Sequence[Sample]) -> list[str]:
    lines = [
        "With a checkpoint: as on Airflow 3.3 and later, while the task has retries left.",
        "curl is given the number of pages, discards the bytes and does nothing else; its seconds include "
        "its startup, and its memory is not measured.",
        "dlt runs with its defaults, but without gzip and telemetry; its rows are those of the main tables.",
        "HttpOperator's response filter writes the file and returns its path; without a filter, "
        "its XCom would be the text of all pages.",
        "The vendor's client is `contensis-management-api`; its script lists the pages of the content type "
        "and writes each entry with `JSON.stringify`.",
        "With latency, contenders with one connection run once: they spend their time waiting.",
        "Peak memory is that of one process, as recorded by the kernel (VmHWM on Linux).",
        "PyArrow imports pandas for its first array, where it is installed, as here: with the other imports, "
        "it is measured neither in seconds nor in memory.",
    ]
    ours = good(
        sample for sample in samples if sample.contender == OURS_KEY and sample.case in {COMPARE, GROWTH}
    )
    if ours:
        xcom = max(sample.more["xcom_bytes"] for sample in ours)
        lines.append(f"This provider's XCom took at most {xcom:,} bytes.")
    return ["## Notes", "\n".join(f"- {line}" for line in lines)]


def _versions(samples: Iterable[Sample]) -> list[tuple[str, str]]:
    versions: dict[str, set[str]] = {}
    for sample in samples:
        for name, version in sample.versions.items():
            versions.setdefault(name, set()).add(version)
    return [(name, " and ".join(sorted(found))) for name, found in sorted(versions.items())]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
