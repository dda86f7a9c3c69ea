"""The result of one history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """The result of one history, in plain values that another process can return.

    :param violations: the promises that were broken.
    :param counts: what happened, by name.
    :param errors: how often a run failed, by the class of the exception.
    :param happened: what happened to the service, by name.
    :param faults: counts of injected faults, by name.
    :param quirk: the assumption about the service that did not hold; None if all did.
    :param has_failed: whether, once all had settled, that failed a run.
    """

    seed: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    quirk: str | None = None
    has_failed: bool = False
