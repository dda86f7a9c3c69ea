"""Exports where an assumption does not hold: complete, or failed with a message that names the check."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_contensis.sandbox import QUIRKS
from chaos.run import run_scenario
from chaos.scenario import CAPPED, Kind, Scenario

ARGUMENTS: dict[str, Any] = {
    "version_status": "published",
    "api": "management",
    "content_type_id": None,
    "language": None,
    "page_size": 20,
    "max_concurrent_requests": 2,
}
# No entry was never published: a draft has to be recognized by its version.
KINDS = (
    Kind("article", 80, same_created=15, drafts=0, edited=8),
    Kind("event", 25, same_created=0, drafts=0, edited=3),
)
# The checks that the message names, if the export of published entries of the Management API fails.
FAILS = {
    "no-range": "created-ranges, time-precision, order",
    "refused-range": "created-ranges",
    "refused-in": "in",
    "no-language": "language-clause",
    "no-content-type": "content-type-clause",
    "no-version-status": "version-status",
    "no-change-marks": "version-status, change-marks",
    "no-languages": "languages",
}


def scenario(quirk: str, **arguments: Any) -> Scenario:
    return Scenario(
        seed=0,
        kinds=KINDS,
        languages=("en-GB", "cy"),
        exclusions=(),
        unlisted=None,
        arguments={**ARGUMENTS, **arguments},
        destination="entries.jsonl",
        has_older=True,
        fault_level="none",
        faults={},
        edit_level="none",
        edit_rate=0,
        retry_after=0,
        slow=0.01,
        sandbox=CAPPED if quirk == "capped-count" else {},
        quirks=(quirk,),
    )


@pytest.mark.parametrize("quirk", QUIRKS)
def test_export_is_complete_or_names_check(quirk: str) -> None:
    outcome = run_scenario(scenario(quirk))
    assert outcome.violations == []
    message = outcome.message or ""
    assert (quirk in FAILS) == bool(message), message
    assert FAILS.get(quirk, "") in message


@pytest.mark.parametrize(
    ("quirk", "arguments", "check"),
    [
        ("no-version-status", {"version_status": "latest", "api": "delivery"}, "version-status"),
        ("no-delivery-bearer", {"api": "delivery"}, "delivery"),
        ("no-range", {"changed_from": "2022-01-01T00:00:00Z"}, "changed-ranges"),
        ("refused-range", {"changed_from": "2022-01-01T00:00:00Z"}, "changed-ranges"),
    ],
)
def test_other_exports_name_check(quirk: str, arguments: dict[str, Any], check: str) -> None:
    outcome = run_scenario(scenario(quirk, **arguments))
    assert (outcome.violations, check in (outcome.message or "")) == ([], True), outcome.message


def test_export_warns_if_search_for_unlisted_content_types_is_refused() -> None:
    outcome = run_scenario(scenario("refused-not"))
    assert (outcome.error, outcome.warnings["plan"]) == (None, 1)


def test_unlisted_content_type_fails_export_if_search_for_it_is_refused() -> None:
    two = scenario("unlisted-type")
    outcome = run_scenario(Scenario(**{**vars(two), "quirks": ("unlisted-type", "refused-not")}))
    assert (outcome.error, outcome.violations) == ("IncompleteReadError", [])
