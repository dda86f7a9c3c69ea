"""docs/doctor.md lists every check and every quirk, with the results that the tests have seen."""

from __future__ import annotations

from airflow_provider_contensis.doctor.examination import CHECKS
from airflow_provider_contensis.sandbox import QUIRKS
from tests.docs.pages import DOCS, rows
from tests.doctor.test_quirks import FAILING
from tests.export.test_quirks import FAILS, FEED_FAILS

PAGE = DOCS / "doctor.md"


def checks() -> list[list[str]]:
    """Return the table of checks as it should be."""
    return [[f"`{check.id}`", check.claim, check.impact, check.advice] for check in CHECKS]


def quirks() -> list[list[str]]:
    """Return the table of quirks as it should be."""
    return [
        [
            f"`{name}`",
            description,
            ", ".join(f"`{check.id}`" for check in CHECKS if check.id in FAILING[name]),
            "fails" if name in FAILS else "is complete",
            _feed(*FEED_FAILS.get(name, (None, None))),
        ]
        for name, description in QUIRKS.items()
    ]


def _feed(published: str | None, latest: str | None) -> str:
    if published is None:
        return "is complete" if latest is None else "of latest versions: fails"
    return "fails" if latest is not None else "of published versions: fails"


def test_page_lists_checks() -> None:
    assert rows(PAGE.read_text(), "check") == checks()


def test_page_lists_quirks_and_what_they_cause() -> None:
    assert rows(PAGE.read_text(), "quirk") == quirks()
