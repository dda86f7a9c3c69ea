"""An examination always ends with a verdict, and its advice follows from what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.doctor.examination import CHECKS, DoctorOptions, examine
from airflow_provider_contensis.doctor.speed import Measures
from airflow_provider_contensis.exceptions import AuthenticationError
from airflow_provider_contensis.sandbox import FAULTS, Mixture, Request, Response, Sandbox
from tests.doctor.conftest import ROW_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.doctor import Examination
    from airflow_provider_contensis.sandbox import Catalogue

SLOW = {"slow-first-byte", "slow-body", "429-seconds", "429-date"}


@pytest.mark.parametrize("seed", [1, 2])
def test_ends_with_verdict_under_ten_percent_faults(
    seed: int, doctor_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    faults = sorted(FAULTS.keys() - SLOW)
    mixture = Mixture(seed, dict.fromkeys(faults, 0.1 / len(faults)), outage=0.02)
    with Sandbox(doctor_catalogue, faults=mixture, row_limit=ROW_LIMIT) as sandbox:
        found = examine(make_client(sandbox), sandbox.project_id, DoctorOptions(row_limit=ROW_LIMIT))
    assert mixture.injected.total() > 5
    assert [finding.check.id for finding in found.findings] == [check.id for check in CHECKS]
    assert {finding.result for finding in found.findings} <= {"holds", "fails", "skipped"}


def test_network_faults_make_no_check_fail(
    doctor_catalogue: Catalogue, examined: Callable[[Sandbox], Examination]
) -> None:
    faults = dict.fromkeys(("500", "502", "504", "closed", "reset", "cut", "html", "broken-gzip"), 0.0125)
    with Sandbox(doctor_catalogue, faults=Mixture(3, faults), row_limit=ROW_LIMIT) as sandbox:
        assert examined(sandbox).failed == ()


def test_count_that_changes_once_does_not_fail_check(
    doctor_catalogue: Catalogue, examined: Callable[[Sandbox], Examination]
) -> None:
    lies: list[Response] = []

    def lie_once(request: Request) -> Response | None:
        if b"startsWith" not in request.body or lies:
            return None
        answer = request.answer()
        lies.append(answer)
        return replace(answer, body=answer.body.replace(b'"totalCount":', b'"totalCount":9'))

    with Sandbox(doctor_catalogue, faults=lie_once, row_limit=ROW_LIMIT) as sandbox:
        assert examined(sandbox).failed == ()
    assert lies


def test_empty_project_skips_what_needs_entries(
    doctor_catalogue: Catalogue, examined: Callable[[Sandbox], Examination]
) -> None:
    with Sandbox(doctor_catalogue, hidden_types=doctor_catalogue.content_types) as sandbox:
        found = examined(sandbox)
    details = {finding.check.id: finding.detail for finding in found.findings if finding.result == "skipped"}
    assert details["ids"] == "no published entry in the main language"
    assert [finding.check.id for finding in found.failed] == []


def test_refused_credentials_are_raised(
    doctor_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    with Sandbox(doctor_catalogue, client_enabled=False) as sandbox, pytest.raises(AuthenticationError):
        examine(make_client(sandbox), sandbox.project_id)


@pytest.mark.parametrize(
    ("page_seconds", "page_size"),
    [
        ({}, 500),
        ({100: 0.2}, 500),
        ({100: 0.2, 500: 0.4, 1_000: 0.5}, 1_000),
        ({100: 0.2, 500: 0.5, 1_000: 0.9}, 500),
        ({100: 0.1, 500: 0.5, 1_000: 1.0, 10_000: 0.1}, 100),
    ],
)
def test_page_size_is_smallest_that_is_nearly_quickest(
    page_seconds: dict[int, float], page_size: int
) -> None:
    assert Measures(page_seconds=page_seconds).page_size == page_size


@pytest.mark.parametrize(
    ("pages_a_second", "number"), [({}, 4), ({1: 5, 2: 8, 4: 11, 8: 11.2}, 4), ({1: 5, 2: 10, 4: 20}, 4)]
)
def test_requests_in_flight_are_fewest_that_are_nearly_quickest(
    pages_a_second: dict[int, float], number: int
) -> None:
    assert Measures(pages_a_second=pages_a_second).max_concurrent_requests == number


def test_checks_have_unique_ids_and_need_earlier_ones() -> None:
    seen: set[str] = set()
    for check in CHECKS:
        assert check.id not in seen
        assert seen.issuperset(check.needs), check.id
        seen.add(check.id)
