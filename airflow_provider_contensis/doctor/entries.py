"""Checks of entries: their versions and times, one by one, counted by value, and deleted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.doctor.check import REPORT, Checklist, FailedError, SkippedError
from airflow_provider_contensis.exceptions import APIError, NotFoundError
from airflow_provider_contensis.utils.json import loads_json
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.doctor.probe import Probe, Sys

CHANGE_MARKS, VERSIONS, ENTRIES = Checklist(), Checklist(), Checklist()

_CHOSEN = 3
_MANY_VALUES = 1_000


@CHANGE_MARKS.add(
    "change-marks",
    "Entries show when they were created, saved and published",
    impact="Exports of published entries fail; incremental exports and copies have no watermark.",
    advice='Use api="management". If it is that API that lacks them: ' + REPORT,
)
def change_marks(probe: Probe) -> str:
    """Look at `sys.version` of some entries."""
    for name in ("created", "modified", "published"):
        lacking = sum(not getattr(entry.version, name) for entry in probe.sample)
        # A draft among published entries has no `published`: that is another check's business.
        if lacking == len(probe.sample) or (lacking and name != "published"):
            raise FailedError(f"{name} is missing on {lacking:,} of {len(probe.sample):,} entries")
    return f"seen on {count(len(probe.sample), 'entry', 'entries')}"


@VERSIONS.add(
    "version-status",
    "Published and latest versions are kept apart",
    impact="Exports of published entries recognize drafts among them, and fail.",
    advice='Use api="delivery", which serves published versions by default.',
    needs=("change-marks", "ids"),
)
def version_status(probe: Probe) -> str:
    """Search for drafts, and for entries saved since they were published, among published versions."""
    wrong = sum(
        not entry.version.published or (entry.is_edited and not _is_major(entry)) for entry in probe.sample
    )
    if wrong:
        raise FailedError(f"{wrong:,} of {len(probe.sample):,} published versions look like drafts")
    drafts = [entry for entry in probe.latest if not entry.version.published][:_CHOSEN]
    edited = [entry for entry in probe.latest if entry.is_edited][:_CHOSEN]
    if not drafts and not edited:
        raise SkippedError(
            f"none of the {count(len(probe.latest), 'entry', 'entries')} saved last is a draft"
        )
    for entry in drafts:
        if _published(probe, entry):
            raise FailedError("a draft is among the published entries")
    for entry in edited:
        found = _published(probe, entry)
        if [each.version.modified for each in found] == [entry.version.modified]:
            raise FailedError("a draft is served as the published version")
    return f"{count(len(drafts), 'draft')}, {count(len(edited), 'entry', 'entries')} with a newer draft"


@ENTRIES.add(
    "get-by-id",
    "A get by id gives the entry that a search finds",
    impact="The hook's get_entry returns another version; copies cannot confirm deletions.",
    advice="Use search_entries with a clause on sys.id instead of get_entry.",
    needs=("version-status",),
)
def get_by_id(probe: Probe) -> str:
    """Compare some entries, with `sys.workflow` left out, which depends on who asks."""
    edited = [entry for entry in probe.latest if entry.is_edited]
    chosen = [*edited[:_CHOSEN], *probe.sample[:_CHOSEN]]
    for entry in chosen:
        clause = {"field": "sys.id", "equalTo": entry.id}
        query = {"where": [*probe.slice, clause], "pageIndex": 0, "pageSize": 1}
        searched = loads_json(probe.search(query).body)["items"]
        if not searched:
            raise FailedError("a search for an id finds nothing")
        got = probe.client.get_entry(probe.project_id, entry.id, language=entry.language)
        if _comparable(got) != _comparable(searched[0]):
            raise FailedError("an entry differs between the get and the search")
    return count(len(chosen), "entry", "entries")


@ENTRIES.add(
    "missing-entry",
    "A get of an unknown id gives a 404 of Contensis's own",
    impact="Copies cannot confirm deletions: they keep what is gone, and count it in `unconfirmed`.",
    advice="Look for a proxy that replaces error pages. " + REPORT,
)
def missing_entry(probe: Probe) -> str:
    """Ask for an id that nobody has."""
    try:
        probe.client.get_entry(probe.project_id, str(uuid.uuid4()))
    except NotFoundError as error:
        if not (error.detail and error.error_type):
            raise FailedError("a 404 without Contensis's message and type") from None
        return "404 with message and type"
    except APIError as error:
        raise FailedError(f"status {error.status_code} instead of 404") from None
    raise FailedError("an entry came")


@ENTRIES.add(
    "aggregations",
    "Searches count entries by content type",
    impact="Exports estimate how many entries a content type has, and take a few more requests.",
    advice="Nothing to do.",
    needs=("content-type-clause",),
)
def aggregations(probe: Probe) -> str:
    """Compare counts by content type with the count of all, and that of one content type."""
    query = {
        "where": probe.everything,
        "pageIndex": 0,
        "pageSize": 1,
        "aggregations": {"sizes": {"field": "sys.contentTypeId", "size": _MANY_VALUES}},
    }
    page = probe.search(query).page
    sizes: Any = page.aggregations.get("sizes") if isinstance(page.aggregations, dict) else None
    if not isinstance(sizes, dict) or not all(type(size) is int for size in sizes.values()):
        raise FailedError("none came")
    if (found := sum(sizes.values())) < page.total_count:
        raise FailedError(f"{found:,} of {page.total_count:,} entries are counted")
    if probe.content_type_id is not None and sizes.get(probe.content_type_id.lower()) != probe.count(
        base=probe.slice
    ):
        raise FailedError("a content type has another number of entries")
    return f"{count(len(sizes), 'content type')}, {count(found, 'entry', 'entries')}"


@ENTRIES.add(
    "include-deleted",
    "Searches accept includeDeleted",
    impact="Copies cannot name the reason of a deletion. Deletions are found all the same.",
    advice="Nothing to do.",
)
def include_deleted(probe: Probe) -> str:
    """Count with and without deleted entries."""
    latest = probe.of_type(probe.content_type_id, "latest")
    query = {"where": latest, "pageIndex": 0, "pageSize": 1}
    deleted = probe.search({**query, "includeDeleted": True}).page.total_count - probe.count(base=latest)
    if deleted < 0:
        raise FailedError("fewer entries with deleted ones than without")
    if not deleted:
        raise SkippedError("accepted; but no deleted entry came")
    return count(deleted, "deleted entry", "deleted entries")


def _published(probe: Probe, entry: Sys) -> list[Sys]:
    return probe.page({"field": "sys.id", "equalTo": entry.id}, base=probe.slice, size=2).entries


def _is_major(entry: Sys) -> bool:
    """Return whether a version has no minor number, as publishing leaves it."""
    return (entry.version.version_no or "").rpartition(".")[2] in {"", "0"}


def _comparable(entry: dict[str, Any]) -> dict[str, Any]:
    sys = {name: value for name, value in entry.get("sys", {}).items() if name != "workflow"}
    return {**entry, "sys": sys}
