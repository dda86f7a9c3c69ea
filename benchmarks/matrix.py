"""The benchmark matrix: the cases, the contenders of each, and the cells they are measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARE, GROWTH, REALISTIC, S3, POSTGRES = CASES = ("compare", "growth", "realistic", "s3", "postgres")

SUFFIXES = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet")

OURS_KEY = "ours.jsonl.8"
PARQUET_KEY = "ours.parquet.8"
REALISTIC_KEY = "ours.realistic.4"
S3_KEY = "ours.s3.8"
POSTGRES_KEY = "ours.postgres.8"


@dataclass(frozen=True)
class Contender:
    """One way to export all entries.

    :param key: unique; its first part is the group that `--only` selects.
    :param title: shown in the report.
    :param script: its program in `contenders/`.
    :param environment: the environment whose interpreter runs it.
    :param variant: passed to its program, such as a file format.
    :param connections: concurrent requests.
    :param compared_to: the key of this provider's contender that writes the same kind of file.
    :param in_every_cell: measured in every cell, not only in those with large pages.
    """

    key: str
    title: str
    script: str
    environment: str
    variant: str = ""
    connections: int = 1
    compared_to: str = OURS_KEY
    in_every_cell: bool = True

    @property
    def group(self) -> str:
        """The group that `--only` selects."""
        return self.key.partition(".")[0]


@dataclass(frozen=True)
class Cell:
    """One latency and page size that contenders are measured with.

    :param latency_ms: delay before each answer.
    :param page_size: entries per page.
    :param single_connection_rounds: the most rounds for contenders with one connection: their figures hardly
        vary if they spend nearly all of their time waiting.
    """

    latency_ms: int
    page_size: int
    single_connection_rounds: int = 1_000

    def __str__(self) -> str:
        return f"{self.latency_ms} ms, {self.page_size:,} per page"


CELLS = (
    Cell(0, 1000),
    Cell(100, 1000, single_connection_rounds=1),
    Cell(0, 100),
    Cell(100, 100, single_connection_rounds=1),
)
QUICK_CELLS = (Cell(0, 1000), Cell(100, 1000))
GROWTH_SIZES = (10_000, 100_000, 1_000_000)
GROWTH_KEYS = (OURS_KEY, PARQUET_KEY)
PROJECT_CELLS = {REALISTIC: (Cell(0, 500), Cell(100, 500)), S3: (Cell(0, 500),)}
POSTGRES_CELLS = (Cell(0, 1000), Cell(100, 1000, single_connection_rounds=1))
PROJECT_NAMES = {REALISTIC: "university", S3: "folder"}


def contenders(suffixes: Sequence[str] = SUFFIXES) -> list[Contender]:
    """Return the contenders that export one content type.

    :param suffixes: the file formats that this provider can write here.
    """
    ours = [_ours(suffix, 8, in_every_cell=suffix == "jsonl") for suffix in suffixes]
    ours += [_ours("jsonl", connections, in_every_cell=False) for connections in (4, 1)]
    ours.append(
        Contender(
            key="ours.jsonl-checkpoint.8",
            title="**this provider to .jsonl, 8 connections, with a checkpoint**",
            script="ours",
            environment="ours",
            variant="jsonl checkpoint",
            connections=8,
            in_every_cell=False,
        )
    )
    return [
        *ours,
        Contender("dlt.jsonl", "dlt rest_api to .jsonl, defaults", "dlt_rest_api", "dlt", "jsonl"),
        Contender(
            "dlt.jsonl-flat",
            "dlt rest_api to .jsonl, one table",
            "dlt_rest_api",
            "dlt",
            "jsonl-flat",
            in_every_cell=False,
        ),
        Contender(
            "dlt.parquet",
            "dlt rest_api to .parquet",
            "dlt_rest_api",
            "dlt",
            "parquet",
            compared_to=PARQUET_KEY,
            in_every_cell=False,
        ),
        Contender("http", "Airflow's HttpOperator to .jsonl", "http_operator", "http"),
        Contender(
            "vendor",
            "the vendor's JavaScript client to .jsonl",
            "vendor_client.js",
            "vendor",
            in_every_cell=False,
        ),
        Contender("requests", "loop of requests and json to .jsonl", "requests_loop", "requests"),
        *(
            Contender(
                f"curl.{connections}",
                f"floor: curl, {_connection_count(connections)}",
                "curl_floor",
                "ours",
                "",
                connections,
                in_every_cell=connections > 1,
            )
            for connections in (1, 4, 8)
        ),
    ]


def project_contenders(case: str) -> list[Contender]:
    """Return the contenders that export a project of many content types."""
    if case == S3:
        title = "**this provider to a folder on S3, 8 connections**"
        return [Contender(S3_KEY, title, "ours", "ours", "s3", 8, compared_to=S3_KEY)]
    return [
        Contender(
            REALISTIC_KEY,
            "**this provider to .jsonl, 4 connections**",
            "ours",
            "ours",
            "jsonl",
            4,
            compared_to=REALISTIC_KEY,
        ),
        Contender(
            "dlt.realistic",
            "dlt rest_api to .jsonl, a resource for each content type and language, 4 in parallel",
            "dlt_project",
            "dlt",
            "",
            4,
            compared_to=REALISTIC_KEY,
        ),
    ]


def postgres_contenders() -> list[Contender]:
    """Return the contenders that load one content type into PostgreSQL."""
    return [
        Contender(
            POSTGRES_KEY,
            "**this provider to PostgreSQL, 8 connections**",
            "ours_postgres",
            "ours",
            connections=8,
            compared_to=POSTGRES_KEY,
        ),
        *(
            Contender(key, title, script, key.partition(".")[0], variant, compared_to=POSTGRES_KEY)
            for key, title, script, variant in (
                ("dlt.postgres", "dlt rest_api to PostgreSQL, defaults", "dlt_rest_api", "postgres"),
                (
                    "requests.postgres",
                    "loop of requests and execute_values, the same columns",
                    "requests_postgres",
                    "columns",
                ),
                (
                    "requests.postgres-json",
                    "loop of requests and execute_values, the entry as JSON only",
                    "requests_postgres",
                    "json",
                ),
            )
        ),
    ]


def measured_in(contenders: Sequence[Contender], cell: Cell, *, quick: bool, number: int) -> list[Contender]:
    """Return the contenders to measure in a cell: all of them if its pages are large, else the main ones.

    :param quick: measure only the main ones with latency, too.
    :param number: of the round, from 0.
    """
    has_all = cell == CELLS[0] if quick else cell.page_size == CELLS[0].page_size
    return [
        contender
        for contender in contenders
        if (contender.in_every_cell or has_all)
        and (contender.connections > 1 or number < cell.single_connection_rounds)
    ]


def _ours(suffix: str, connections: int, *, in_every_cell: bool) -> Contender:
    return Contender(
        key=f"ours.{suffix}.{connections}",
        title=f"**this provider to .{suffix}, {_connection_count(connections)}**",
        script="ours",
        environment="ours",
        variant=suffix,
        connections=connections,
        in_every_cell=in_every_cell,
    )


def _connection_count(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"
