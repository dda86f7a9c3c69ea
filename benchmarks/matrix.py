"""The benchmark matrix: the contenders, and the cells they are measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OURS_KEY = "ours.jsonl.8"


@dataclass(frozen=True)
class Contender:
    """One way to export all entries.

    :param key: unique; its first part is the group that `--only` selects.
    :param title: shown in the report.
    :param script: its program in `contenders/`.
    :param environment: the environment whose Python runs it.
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


CELLS = (Cell(0, 1000), Cell(100, 1000), Cell(0, 100), Cell(100, 100, single_connection_rounds=1))
QUICK_CELLS = (Cell(0, 1000), Cell(100, 1000))
GROWTH = (10_000, 100_000, 1_000_000)
GROWTH_SUFFIXES = ("jsonl", "parquet")


def contenders(suffixes: Iterable[str]) -> list[Contender]:
    """Return all contenders.

    :param suffixes: the file formats that this provider can write here.
    """
    formats = list(suffixes)
    ours = [_ours(suffix, 8, in_every_cell=suffix == "jsonl") for suffix in formats]
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
    parquet = "ours.parquet.8" if "parquet" in formats else ""
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
            compared_to=parquet,
            in_every_cell=False,
        ),
        Contender("http", "Airflow's HttpOperator to .jsonl", "http_operator", "http"),
        Contender("requests", "loop of requests and json to .jsonl", "requests_loop", "requests"),
        *(
            Contender(
                f"curl.{connections}",
                f"floor: curl, {_connection_count(connections)}",
                "curl_floor",
                "ours",
                "",
                connections,
            )
            for connections in (1, 4, 8)
        ),
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
