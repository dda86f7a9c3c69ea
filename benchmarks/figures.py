"""Figures from samples: medians, ratios and memory, as numbers and as text."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.matrix import Cell
    from benchmarks.samples import Sample

NOT_MEASURED = "-"


def of_case(samples: Iterable[Sample], case: str, cell: Cell | None = None) -> list[Sample]:
    """Return the samples of a case, in one cell or in all."""
    here = [sample for sample in samples if sample.case == case]
    return of_cell(here, cell) if cell else here


def of_cell(samples: Iterable[Sample], cell: Cell) -> list[Sample]:
    """Return the samples of a latency and page size."""
    wanted = (cell.latency_ms, cell.page_size)
    return [sample for sample in samples if (sample.latency_ms, sample.page_size) == wanted]


def of_contender(samples: Iterable[Sample], key: str) -> list[Sample]:
    """Return the samples of a contender."""
    return [sample for sample in samples if sample.contender == key]


def good(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples that count."""
    return [sample for sample in samples if sample.error is None]


def times(samples: Iterable[Sample], key: str, than: str) -> float | None:
    """Return how many times as long a contender takes as another; None if either was not measured.

    It is the median of the ratios within each round, because a machine's speed drifts between rounds.
    """
    counted = good(samples)
    by_round = {sample.round: sample.seconds for sample in of_contender(counted, than)}
    ratios = [
        sample.seconds / by_round[sample.round]
        for sample in of_contender(counted, key)
        if sample.round in by_round
    ]
    return median(ratios) if ratios else None


def peak_above_imports(samples: Iterable[Sample]) -> float | None:
    """Return the median of peak memory above imports, in MB; None if it was not measured."""
    peaks = [sample.peak_mb - (sample.baseline_mb or 0.0) for sample in samples if sample.peak_mb is not None]
    return median(peaks) if peaks else None


def memory(samples: Sequence[Sample]) -> str:
    """Return the peak memory above imports, and that of the imports in brackets."""
    peak = peak_above_imports(samples)
    if peak is None:
        return NOT_MEASURED
    return f"{peak:,.0f} ({median(sample.baseline_mb or 0.0 for sample in samples):,.0f})"


def spread(values: Iterable[float]) -> str:
    """Return the median, and the minimum and maximum in brackets."""
    figures = sorted(values)
    if len(figures) == 1:
        return number(figures[0])
    return f"{number(median(figures))} ({number(figures[0])} to {number(figures[-1])})"


def number(value: float | None) -> str:
    """Return a number with about two significant digits."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.2f}" if value < 2 else f"{value:,.1f}" if value < 20 else f"{value:,.0f}"
