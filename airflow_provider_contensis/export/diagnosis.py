"""From a failure to the doctor: which of its checks look for the cause (docs/doctor.md)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import UnauthorizedError
from airflow_provider_contensis.export.model import CREATED, nested_clauses
from airflow_provider_contensis.utils.text import single_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.api.resources import Api
    from airflow_provider_contensis.exceptions import ContensisError

_OPERATORS = {"in": "in", "or": "or", "not": "not", "exists": "exists", "startsWith": "starts-with"}
_BOUNDS = frozenset({"greaterThanOrEqualTo", "lessThan"})


def hint(*checks: str) -> str:
    """Return a sentence that names the checks which look for the cause of a failure.

    :param checks: their ids.
    """
    named = f"{'check' if len(checks) == 1 else 'checks'} {', '.join(checks)}"
    return f"To find the cause, run python -m airflow_provider_contensis.doctor ({named})."


def add_hint(error: ContensisError, *checks: str) -> None:
    """Add that sentence to an error; nothing if there are no checks."""
    if checks:
        error.message = single_line(f"{error.message} {hint(*checks)}")
        error.args = (error.message,)


@contextmanager
def explain_refusal(api: Api) -> Iterator[None]:
    """Add that sentence to the refusal of a token, if only the Delivery API may refuse it."""
    try:
        yield
    except UnauthorizedError as error:
        if api == "delivery":
            add_hint(error, "delivery")
        raise


def checks_of(clauses: object) -> list[str]:
    """Return the ids of the checks that try what search clauses use, beyond `equalTo`."""
    return list(dict.fromkeys(_checks(clauses)))


def _checks(clauses: object) -> Iterator[str]:
    for clause in nested_clauses(clauses):
        for operator in clause:
            if operator in _OPERATORS:
                yield _OPERATORS[operator]
            elif operator in _BOUNDS:
                yield f"{'created' if clause.get('field') == CREATED else 'changed'}-ranges"
