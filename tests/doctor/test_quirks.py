"""The doctor finds each quirk, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import QUIRKS, Sandbox
from tests.doctor.conftest import ROW_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.doctor import Examination
    from airflow_provider_contensis.sandbox import Catalogue

# The checks that rest on what each quirk switches off.
FAILING = {
    "no-range": {"created-ranges", "changed-ranges"},
    "refused-range": {"created-ranges", "changed-ranges"},
    "no-in": {"in"},
    "refused-in": {"in"},
    "no-or": {"or"},
    "refused-or": {"or"},
    "no-not": {"not"},
    "refused-not": {"not"},
    "no-exists": {"exists"},
    "refused-exists": {"exists"},
    "no-starts-with": {"starts-with"},
    "refused-starts-with": {"starts-with"},
    "no-version-status": {"version-status"},
    "no-language": {"language-clause"},
    "no-content-type": {"content-type-clause"},
    "no-data-format": {"data-format-clause"},
    "no-id": {"ids"},
    "no-order": {"order", "id-order"},
    "no-id-order": {"id-order"},
    "coarse-times": {"time-precision"},
    "capped-count": {"count-limit"},
    "unsteady-count": {"total-count"},
    "small-pages": {"page-size"},
    "short-pages": {"page-size"},
    "empty-past-window": {"row-limit"},
    "no-change-marks": {"change-marks"},
    "no-date": {"date-header"},
    "wrong-clock": {"date-header"},
    "latest-by-id": {"get-by-id"},
    "html-404": {"missing-entry"},
    "no-aggregations": {"aggregations"},
    "refused-aggregations": {"aggregations"},
    "wrong-aggregations": {"aggregations"},
    "refused-include-deleted": {"include-deleted"},
    "no-delivery-bearer": {"delivery"},
    "no-link-depth": {"delivery-links"},
    "no-asset-properties": {"assets"},
    "no-gzip": {"gzip"},
    "one-at-a-time": {"concurrency"},
    "unlisted-type": {"content-types"},
    "no-languages": {"languages"},
    "no-expires-in": {"token-life"},
    "opaque-token": {"token-claims"},
}


def results(examination: Examination, result: str) -> set[str]:
    return {finding.check.id for finding in examination.findings if finding.result == result}


def test_every_check_holds_in_plain_environment(
    doctor_catalogue: Catalogue, examined: Callable[[Sandbox], Examination]
) -> None:
    with Sandbox(doctor_catalogue, row_limit=ROW_LIMIT) as sandbox:
        found = examined(sandbox)
        assert sandbox.count() == found.environment["requests"] < 200
    assert {finding.check.id: finding.detail for finding in found.findings if finding.result != "holds"} == {}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_doctor_finds_quirk_and_nothing_else(
    quirk: str, doctor_catalogue: Catalogue, examined: Callable[[Sandbox], Examination]
) -> None:
    with Sandbox(doctor_catalogue, quirks=[quirk], row_limit=ROW_LIMIT) as sandbox:
        found = examined(sandbox)
    assert results(found, "fails") == FAILING[quirk]
    # What a failed check leaves open is skipped, for a reason that names it.
    for finding in found.findings:
        assert finding.result != "skipped" or finding.detail.startswith("needs "), finding.check.id
