"""Summarize many runs as Markdown tables."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import EDITS, FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chaos.run import Outcome

_FAULT_LEVELS = ("none", "few", "many", "storm")
_EDIT_LEVELS = ("none", "few", "many")


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the tables.

    :param seconds: the duration of all runs together.
    """
    return "\n".join(_lines(outcomes, seconds))


def _lines(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    failed = [outcome for outcome in outcomes if outcome.error]
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    edits = sum((outcome.edits for outcome in outcomes), Counter[str]())
    warnings = sum((outcome.warnings for outcome in outcomes), Counter[str]())
    yield from table(
        ("", "total"),
        [
            ("runs", len(outcomes)),
            ("exports that succeeded", len(outcomes) - len(failed)),
            ("exports that failed with a `ContensisError`", len(failed)),
            ("entries exported", sum(outcome.entries for outcome in outcomes)),
            ("requests", sum(outcome.requests for outcome in outcomes)),
            ("faults injected", faults.total()),
            ("calls retried", warnings["retry"]),
            ("edits made during the exports", edits.total()),
            ("retries that continued from a checkpoint", sum(outcome.continued for outcome in outcomes)),
            ("windows found incomplete and read again", warnings["proof"] + warnings["read"]),
            ("byte comparisons", sum(outcome.comparisons for outcome in outcomes)),
            ("seconds", round(seconds)),
            ("**violations**", sum(len(outcome.violations) for outcome in outcomes)),
        ],
    )
    yield "Exports that succeeded, by number of faults and edits:"
    yield ""
    yield from table(
        ("faults", *(f"{level} edits".replace("none", "no") for level in _EDIT_LEVELS)),
        [(level, *(_share(outcomes, level, edits) for edits in _EDIT_LEVELS)) for level in _FAULT_LEVELS],
    )
    yield from table(("fault", "count"), [(f"`{name}`", faults[name]) for name in FAULTS])
    yield from table(("edit", "count"), [(f"`{name}`", edits[name]) for name in EDITS])
    yield from table(
        ("exception", "exports"), Counter(f"`{outcome.error}`" for outcome in failed).most_common()
    )


def _share(outcomes: Iterable[Outcome], fault_level: str, edit_level: str) -> str:
    levels = (fault_level, edit_level)
    chosen = [outcome for outcome in outcomes if (outcome.fault_level, outcome.edit_level) == levels]
    return f"{sum(outcome.error is None for outcome in chosen)} of {len(chosen)}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |"
    yield ""
