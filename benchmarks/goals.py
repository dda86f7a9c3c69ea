"""The project's goals, with what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import good, of_case, of_cell, of_contender, peak_above_imports, times
from benchmarks.matrix import (
    COMPARE,
    GROWTH,
    OURS_KEY,
    PARQUET_KEY,
    POSTGRES,
    POSTGRES_KEY,
    REALISTIC,
    REALISTIC_KEY,
    S3,
    S3_KEY,
    Cell,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.samples import Sample


ENTRIES = 100_000  # what the goals compare


@dataclass(frozen=True)
class Goal:
    """One goal.

    :param title: what is measured.
    :param bound: the goal.
    :param measured: None if it was not measured.
    :param at_least: whether the bound is the least that is good enough, not the most.
    """

    title: str
    bound: float
    measured: float | None
    at_least: bool = False

    @property
    def aim(self) -> str:
        """The goal in words."""
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    @property
    def figure(self) -> str:
        """The measured figure, exact enough to compare with the goal."""
        return "not measured" if self.measured is None else f"{self.measured:,.4g}"

    @property
    def reached(self) -> str:
        """Whether the goal is reached."""
        if self.measured is None:
            return "-"
        return (
            "yes" if (self.measured >= self.bound if self.at_least else self.measured <= self.bound) else "no"
        )


def goals(samples: Sequence[Sample]) -> list[Goal]:
    """Return all goals.

    :param samples: the samples of all cases.
    """
    compared = [sample for sample in of_case(samples, COMPARE) if sample.entries == ENTRIES]
    fast, waiting, small = (
        of_cell(compared, cell) for cell in (Cell(0, 1000), Cell(100, 1000), Cell(100, 100))
    )
    real = good(of_contender(of_case(samples, REALISTIC, Cell(100, 500)), REALISTIC_KEY))
    growth = good(of_contender(of_case(samples, GROWTH), OURS_KEY))
    s3 = good(of_contender(of_case(samples, S3), S3_KEY))
    tables = of_case(samples, POSTGRES, Cell(0, 1000))
    eight = [sample.connections for sample in good(of_contender(compared, OURS_KEY))]

    def at_entries(entries: int) -> list[Sample]:
        return [sample for sample in growth if sample.entries == entries]

    return [
        Goal("Realistic project: requests", 45, _median([sample.requests for sample in real])),
        Goal(
            "Realistic project, 100 ms, 4 connections: seconds",
            1.5,
            _median([sample.seconds for sample in real]),
        ),
        Goal(
            "JSON Lines, 100 ms, 1,000 per page: times curl, 8 connections each",
            1.20,
            times(waiting, OURS_KEY, "curl.8"),
        ),
        Goal(
            "JSON Lines, 100 ms, 100 per page: times curl, 8 connections each",
            1.07,
            times(small, OURS_KEY, "curl.8"),
        ),
        Goal("JSON Lines, 0 ms: speedup over HttpOperator", 14, times(fast, "http", OURS_KEY), at_least=True),
        Goal(
            "JSON Lines, 0 ms: speedup over the loop of requests",
            6,
            times(fast, "requests", OURS_KEY),
            at_least=True,
        ),
        Goal(
            "JSON Lines, 0 ms: speedup over the vendor's client",
            4,
            times(fast, "vendor", OURS_KEY),
            at_least=True,
        ),
        Goal("Parquet, 0 ms: speedup over dlt", 14, times(fast, "dlt.parquet", PARQUET_KEY), at_least=True),
        Goal("Parquet: peak MB above imports", 80, peak_above_imports(good(of_contender(fast, PARQUET_KEY)))),
        Goal(
            "JSON Lines, 100,000 entries: peak MB above imports", 60, peak_above_imports(at_entries(ENTRIES))
        ),
        Goal(
            "JSON Lines, 1,000,000 entries: peak MB above imports",
            65,
            peak_above_imports(at_entries(1_000_000)),
        ),
        Goal("Folder of 60 content types to S3: peak MB above imports", 120, peak_above_imports(s3)),
        Goal(
            "PostgreSQL, 0 ms: speedup over dlt",
            5,
            times(tables, "dlt.postgres", POSTGRES_KEY),
            at_least=True,
        ),
        Goal(
            "PostgreSQL, 0 ms: speedup over the loop with execute_values, same columns",
            2,
            times(tables, "requests.postgres", POSTGRES_KEY),
            at_least=True,
        ),
        Goal("TCP connections with 8 concurrent requests", 9, max(eight, default=None)),
    ]


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
