"""Who is measured, and where: the contenders and the cells of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OURS_KEY = "ours.jsonl.8"


@dataclass(frozen=True)
class Contender:
    """One way to get all entries.

    :param key: unique; its first part is the group that `--only` names.
    :param title: for the report.
    :param script: its program in `contenders/`.
    :param environment: whose Python runs it.
    :param variant: what its program makes of it.
    :param connections: requests at the same time.
    :param against: the key of the run of ours that it is compared with: the same kind of file.
    :param everywhere: measured in all cells, not only in those with large pages.
    """

    key: str
    title: str
    script: str
    environment: str
    variant: str = ""
    connections: int = 1
    against: str = OURS_KEY
    everywhere: bool = True

    @property
    def group(self) -> str:
        """The name that `--only` takes."""
        return self.key.partition(".")[0]


@dataclass(frozen=True)
class Cell:
    """One situation that contenders are measured in.

    :param latency_ms: before each answer.
    :param page_size: entries a page.
    :param lone_rounds: at the most, of those with one connection: where waiting takes nearly all of their
        time, their figures hardly vary.
    """

    latency_ms: int
    page_size: int
    lone_rounds: int = 1_000

    def __str__(self) -> str:
        return f"{self.latency_ms} ms, {self.page_size:,} a page"


CELLS = (Cell(0, 1000), Cell(100, 1000), Cell(0, 100), Cell(100, 100, lone_rounds=1))
QUICK_CELLS = (Cell(0, 1000), Cell(100, 1000))
GROWTH = (10_000, 100_000, 1_000_000)
GROWTH_SUFFIXES = ("jsonl", "parquet")


def contenders(suffixes: Iterable[str]) -> list[Contender]:
    """Return all contenders.

    :param suffixes: the file formats that this build of ours can write.
    """
    formats = list(suffixes)
    ours = [_ours(suffix, 8, everywhere=suffix == "jsonl") for suffix in formats]
    ours += [_ours("jsonl", connections, everywhere=False) for connections in (4, 1)]
    ours.append(
        Contender(
            key="ours.jsonl-kept.8",
            title="**the same to .jsonl, with retries left on Airflow 3.3: it keeps a spool**",
            script="ours",
            environment="ours",
            variant="jsonl kept",
            connections=8,
            everywhere=False,
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
            everywhere=False,
        ),
        Contender(
            "dlt.parquet",
            "dlt rest_api to .parquet",
            "dlt_rest_api",
            "dlt",
            "parquet",
            against=parquet,
            everywhere=False,
        ),
        Contender("http", "Airflow's HttpOperator to .jsonl", "http_operator", "http"),
        Contender("requests", "loop of requests and json to .jsonl", "requests_loop", "requests"),
        *(
            Contender(
                f"curl.{connections}",
                f"floor: curl, {_many(connections)}",
                "curl_floor",
                "ours",
                "",
                connections,
            )
            for connections in (1, 4, 8)
        ),
    ]


def _ours(suffix: str, connections: int, *, everywhere: bool) -> Contender:
    return Contender(
        key=f"ours.{suffix}.{connections}",
        title=f"**this provider to .{suffix}, {_many(connections)}**",
        script="ours",
        environment="ours",
        variant=suffix,
        connections=connections,
        everywhere=everywhere,
    )


def _many(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"
