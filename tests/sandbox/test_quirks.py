"""Quirks of the sandbox, as a client sees them; that each has its effect, the doctor's tests show."""

from __future__ import annotations

import pytest

from airflow_provider_contensis.sandbox import QUIRKS, Sandbox
from airflow_provider_contensis.sandbox.quirks import RefusedError, change_where

STATUS = {"field": "sys.versionStatus", "equalTo": "published"}
RANGE = {"field": "sys.version.created", "lessThan": "2031-04-02T00:00:00.75Z"}


def test_unknown_quirk_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"Unknown quirk 'no-luck'. Available: no-range, "):
        Sandbox(quirks=["no-luck"])


@pytest.mark.parametrize("name", QUIRKS)
def test_every_quirk_is_described_in_a_sentence(name: str) -> None:
    assert QUIRKS[name].endswith(".")


@pytest.mark.parametrize(
    ("quirk", "clause", "expected"),
    [
        ("no-range", RANGE, []),
        ("no-range", {"not": RANGE}, []),
        ("no-range", {"or": [RANGE, STATUS]}, [{"or": [STATUS]}]),
        ("no-range", {"or": [RANGE]}, []),
        ("no-in", RANGE, [RANGE]),
        ("coarse-times", RANGE, [{**RANGE, "lessThan": "2031-04-02T00:00:00Z"}]),
        ("coarse-times", STATUS, [STATUS]),
        ("no-version-status", {"field": "sys.versionStatus", "in": ["latest"]}, []),
        ("no-id", {"field": "sys.id", "exists": True}, [{"field": "sys.id", "exists": True}]),
    ],
)
def test_clauses_that_service_looks_at(quirk: str, clause: object, expected: list[object]) -> None:
    assert change_where([clause], {quirk}) == expected


def test_refusal_names_operator() -> None:
    with pytest.raises(RefusedError, match="The operator 'lessThan' is not known"):
        change_where([STATUS, {"not": RANGE}], {"refused-range"})
