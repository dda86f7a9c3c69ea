"""A check: what it claims, what rests on it, and what to do if it does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.doctor.probe import Probe


class FailedError(Exception):
    """The assumption does not hold.

    :param detail: what was seen, in figures: no content, name, id or secret.
    """


class SkippedError(Exception):
    """The assumption cannot be checked in this environment.

    :param detail: why not.
    """


@dataclass(frozen=True)
class Check:
    """A check of one assumption.

    :param id: stable: messages, reports and the documentation name it.
    :param claim: what should hold.
    :param impact: what it means for exports and copies if it does not.
    :param advice: what to do then.
    :param run: returns what was seen if it holds; raises `FailedError` or `SkippedError` if not.
    :param needs: checks without which this one would show nothing.
    """

    id: str
    claim: str
    impact: str
    advice: str
    run: Callable[[Probe], str]
    needs: tuple[str, ...] = ()


class Checklist:
    """Checks in the order in which they run."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def add(
        self, id_: str, claim: str, *, impact: str, advice: str, needs: tuple[str, ...] = ()
    ) -> Callable[[Callable[[Probe], str]], Callable[[Probe], str]]:
        """Return a decorator that adds a function as a check; the arguments are those of `Check`."""

        def register(run: Callable[[Probe], str]) -> Callable[[Probe], str]:
            self.checks.append(Check(id_, claim, impact, advice, run, needs))
            return run

        return register


REPORT = "Attach the JSON report to an issue of this package."
EXPORTS_FAIL = "Exports that need it fail, and say so; none is wrong in silence."
