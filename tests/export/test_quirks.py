"""Exports where an assumption does not hold: complete, or failed with a message that names the check."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.sandbox import QUIRKS, Sandbox
from chaos.run import run_scenario
from chaos.scenario import CAPPED, Kind, Scenario
from tests.feeds import load, served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

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
# What an export of published entries does not look at, or does without.
UNUSED = frozenset(
    {
        *("no-id", "no-date", "wrong-clock", "latest-by-id", "html-404", "refused-include-deleted"),
        *("no-delivery-bearer", "no-link-depth", "no-asset-properties", "no-gzip", "no-expires-in"),
        *("opaque-token", "unsteady-count", "empty-past-window", "wrong-aggregations", "one-at-a-time"),
    }
)
# The checks that the message names, if a feed fails, for published and for latest versions.
FEED_FAILS = {
    **dict.fromkeys(FAILS, ("", "")),
    "no-version-status": ("version-status", None),
    "no-change-marks": ("change-marks", None),
    "no-starts-with": ("starts-with", "starts-with"),
    "refused-starts-with": ("starts-with", "starts-with"),
    "refused-not": ("not", "not"),
    "no-or": (None, "changed-ranges"),
    "no-exists": (None, "exists"),
    "refused-or": (None, "or"),
    "refused-exists": (None, "exists"),
}


def scenario(*quirks: str, **arguments: Any) -> Scenario:
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
        sandbox=CAPPED if "capped-count" in quirks else {},
        quirks=quirks,
    )


@pytest.mark.parametrize("quirk", [name for name in QUIRKS if name not in UNUSED])
def test_export_is_complete_or_names_check(quirk: str) -> None:
    outcome = run_scenario(scenario(quirk))
    assert outcome.violations == []
    message = outcome.message or ""
    assert (quirk in FAILS) == bool(message), message
    assert FAILS.get(quirk, "") in message


def test_export_is_complete_with_all_quirks_that_it_does_without() -> None:
    outcome = run_scenario(scenario(*sorted(UNUSED)))
    assert (outcome.violations, outcome.message) == ([], None)


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
    outcome = run_scenario(scenario("unlisted-type", "refused-not"))
    assert (outcome.error, outcome.violations) == ("IncompleteReadError", [])


def follow(
    client: ContensisClient, sandbox: Sandbox, folder: Path, version_status: str
) -> ContensisError | None:
    """Export to a feed twice, with edits in between; return the failure, if there is one."""
    request = ChangesRequest.from_arguments(
        destination=f"{folder}/", page_size=20, version_status=version_status
    )
    catalogue = sandbox.catalogue
    try:
        export_changes(client, sandbox.project_id, request)
        held = load(folder)
        assert held.keys() == served(catalogue, version_status).keys()
        entries = [id_ for kind, language, id_ in sorted(held) if (kind, language) == ("article", "en-GB")]
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.delete(entries[1], language="cy")
        catalogue.delete(entries[2])
        catalogue.add("event", {"title": "new"}, language="cy")
        export_changes(client, sandbox.project_id, request)
    except ContensisError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("quirk", "version_status"),
    [
        *((quirk, version_status) for quirk in FEED_FAILS for version_status in ("published", "latest")),
        *((quirk, "published") for quirk in QUIRKS if quirk not in UNUSED | FEED_FAILS.keys()),
    ],
)
def test_feed_is_complete_or_names_check(
    quirk: str, version_status: str, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    with Sandbox(scenario(quirk).catalogue(), quirks=[quirk]) as sandbox:
        error = follow(make_client(sandbox), sandbox, tmp_path / "feed", version_status)
        check = FEED_FAILS.get(quirk, (None, None))[version_status == "latest"]
        assert (error is None) == (check is None), error
        if error is None:
            assert load(tmp_path / "feed").keys() == served(sandbox.catalogue, version_status).keys()
        else:
            assert f"{check}" in str(error).partition("airflow_provider_contensis.doctor (")[2], error


@pytest.mark.parametrize("version_status", ["published", "latest"])
def test_feed_is_complete_with_all_quirks_that_it_does_without(
    version_status: str, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    with Sandbox(scenario().catalogue(), quirks=UNUSED - {"html-404"}) as sandbox:
        assert follow(make_client(sandbox), sandbox, tmp_path / "feed", version_status) is None
        assert load(tmp_path / "feed").keys() == served(sandbox.catalogue, version_status).keys()


def test_feed_says_that_a_deletion_is_not_confirmed(
    make_client: Callable[..., ContensisClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Sandbox(scenario("html-404").catalogue(), quirks=["html-404"]) as sandbox,
        caplog.at_level(logging.WARNING),
    ):
        assert follow(make_client(sandbox), sandbox, tmp_path / "feed", "published") is None
        extra = load(tmp_path / "feed").keys() - served(sandbox.catalogue).keys()
        request = ChangesRequest.from_arguments(destination=f"{tmp_path}/feed/", full_refresh=True)
        result = export_changes(make_client(sandbox), sandbox.project_id, request)
        assert result["unconfirmed"] == len(extra)  # and not once more, as a full refresh looks twice
    assert f"{len(extra)} entries were not found by a search" in caplog.text
    assert "airflow_provider_contensis.doctor (checks get-by-id, missing-entry)" in caplog.text


class TestUnpublished:
    """No count shows that an entry was unpublished, if the service counts drafts, too."""

    @staticmethod
    def follow(
        make_client: Callable[..., ContensisClient], folder: Path, quirks: set[str], version_status: str
    ) -> None:
        """Follow a service that changes, and in which an entry is unpublished then."""
        with Sandbox(scenario().catalogue()) as sandbox:
            catalogue, client = sandbox.catalogue, make_client(sandbox)
            request = ChangesRequest.from_arguments(
                destination=f"{folder}/", page_size=20, version_status=version_status
            )
            export_changes(client, sandbox.project_id, request)
            sandbox.api.quirks = frozenset(quirks)
            # Not the first of its slice, at which every count looks.
            _, _, entry_id = sorted(load(folder))[5]
            catalogue.unpublish(entry_id)
            export_changes(client, sandbox.project_id, request)

    def test_feed_names_check_if_version_status_is_ignored(
        self, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        with pytest.raises(ContensisError, match=r"doctor \(checks version-status"):
            self.follow(make_client, tmp_path, {"no-version-status"}, "published")

    def test_feed_of_latest_versions_names_check_if_exists_is_ignored(
        self, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        with pytest.raises(ContensisError, match=r"doctor \(check exists\)"):
            self.follow(make_client, tmp_path, {"no-exists"}, "latest")

    def test_feed_names_check_if_another_entry_is_found_by_id(
        self, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        with pytest.raises(ContensisError, match=r"doctor \(check ids\)"):
            self.follow(make_client, tmp_path, {"no-id", "latest-by-id"}, "published")


@pytest.mark.parametrize(
    ("quirk", "check"),
    [("no-delivery-bearer", "delivery"), ("refused-in", "in"), ("refused-exists", "exists")],
)
def test_feed_from_delivery_api_names_check(
    quirk: str, check: str, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    with Sandbox(scenario().catalogue(), quirks=[quirk]) as sandbox:
        request = ChangesRequest.from_arguments(destination=f"{tmp_path}/feed/", api="delivery")
        with pytest.raises(ContensisError, match=rf"doctor \(checks? .*\b{check}\b"):
            export_changes(make_client(sandbox), sandbox.project_id, request)
