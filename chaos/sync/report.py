"""Summarize many histories as Markdown tables."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import EDITS, FAULTS, QUIRKS
from chaos.report import table
from chaos.sync.scenario import HAPPENINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chaos.sync.outcome import Outcome

_COUNTS = (
    *("runs", "full refreshes", "change sets", "upserts", "deletions", "deletions: unpublished"),
    *("deletions: deleted", "deletions: not_visible", "deletions: not_matching", "interrupted"),
    *(
        "killed at a search",
        "killed at a file",
        "connection lost",
        "retries of committed runs",
        "cleared runs",
    ),
    *("cleared runs", "stopped by the guard", "swaps left to a rotation", "swaps left to a full refresh"),
)


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the tables.

    :param seconds: the duration of all histories together.
    """
    return "\n".join(_lines(outcomes, seconds))


def _lines(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    counts, errors, happened, faults = (
        sum((getattr(outcome, name) for outcome in outcomes), Counter[str]())
        for name in ("counts", "errors", "happened", "faults")
    )
    yield from table(
        ("", "total"),
        [
            ("histories", len(outcomes)),
            *((name, counts[name]) for name in _COUNTS),
            ("histories with a quirk", sum(outcome.quirk is not None for outcome in outcomes)),
            ("faults injected", faults.total()),
            ("seconds", round(seconds)),
            ("**violations**", sum(len(outcome.violations) for outcome in outcomes)),
        ],
    )
    names = dict.fromkeys([*EDITS, *HAPPENINGS])
    yield from table(
        ("happened", "count"), [(f"`{name}`", happened[name]) for name in names if name != "edit"]
    )
    yield from table(("fault", "count"), [(f"`{name}`", faults[name]) for name in FAULTS])
    yield from table(
        ("quirk", "histories", "complete", "failed"),
        [(f"`{name}`", *_ends(outcomes, name)) for name in QUIRKS if any(_ends(outcomes, name))],
    )
    yield from table(("exception", "runs"), [(f"`{name}`", number) for name, number in errors.most_common()])


def _ends(outcomes: Sequence[Outcome], quirk: str) -> tuple[int, int, int]:
    """Return how many histories had a quirk, how many of them ended complete, and how many failed."""
    failed = [outcome.has_failed for outcome in outcomes if outcome.quirk == quirk]
    return len(failed), failed.count(False), failed.count(True)
