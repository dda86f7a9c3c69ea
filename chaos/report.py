"""What many runs came to, as tables in Markdown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import EDITS, FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from chaos.run import Outcome

_WEATHER = ("none", "few", "many", "storm")
_BUSINESS = ("none", "few", "many")


def report(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the tables.

    :param seconds: that all runs took together.
    """
    return "\n".join(_lines(outcomes, seconds))


def _lines(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    failed = [outcome for outcome in outcomes if outcome.error]
    faults = sum((outcome.faults for outcome in outcomes), Counter[str]())
    edits = sum((outcome.edits for outcome in outcomes), Counter[str]())
    warnings = sum((outcome.warnings for outcome in outcomes), Counter[str]())
    yield from _table(
        ("", "in all"),
        [
            ("runs", len(outcomes)),
            ("exports that succeeded", len(outcomes) - len(failed)),
            ("exports that failed with one of our errors", len(failed)),
            ("entries exported", sum(outcome.entries for outcome in outcomes)),
            ("requests", sum(outcome.requests for outcome in outcomes)),
            ("faults met", faults.total()),
            ("calls repeated", warnings["retry"]),
            ("edits made meanwhile", edits.total()),
            ("retries that went on from what was read", sum(outcome.continued for outcome in outcomes)),
            ("parts found short, and read again", warnings["entries"]),
            ("seconds", round(seconds)),
            ("**violations**", sum(len(outcome.violations) for outcome in outcomes)),
        ],
    )
    yield "Exports that succeeded, of how many, by how many faults and edits there were:"
    yield ""
    yield from _table(
        ("faults", *(f"{business} edits".replace("none", "no") for business in _BUSINESS)),
        [(weather, *(_share(outcomes, weather, each) for each in _BUSINESS)) for weather in _WEATHER],
    )
    yield from _table(("fault", "met"), [(f"`{name}`", faults[name]) for name in FAULTS])
    yield from _table(("edit", "made"), [(f"`{name}`", edits[name]) for name in EDITS])
    yield from _table(
        ("failed with", "exports"), Counter(f"`{outcome.error}`" for outcome in failed).most_common()
    )


def _share(outcomes: Iterable[Outcome], weather: str, business: str) -> str:
    chosen = [outcome for outcome in outcomes if (outcome.weather, outcome.business) == (weather, business)]
    return f"{sum(outcome.error is None for outcome in chosen)} of {len(chosen)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |"
    yield ""
