"""What a feed says after edits is what the service has, and says no more than it has to."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError, ExportError
from airflow_provider_contensis.export import differences
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, synthetic_catalogue
from tests.feeds import feed_index, load, manifests, rows, served
from tests.file_pointer import FilePointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Clause
    from airflow_provider_contensis.export.results import ChangesSummary

LANGUAGES = ("en-GB", "cy")


def several_types(count: int = 40, types: int = 3, **options: Any) -> Catalogue:
    """Return a project of several content types, each with as many entries in two languages."""
    catalogues = [
        synthetic_catalogue(
            count, languages=LANGUAGES, content_type_id=f"kind{number}", seed=number, body_bytes=40, **options
        )
        for number in range(types)
    ]
    return Catalogue(
        catalogues[0].project,
        [item for catalogue in catalogues for item in catalogue.content_types.values()],
        [document for catalogue in catalogues for document in catalogue.select(lambda _: True)[1]],
    )


def ids(catalogue: Catalogue, content_type_id: str = "kind0", language: str = "en-GB") -> list[str]:
    entries = catalogue.entries(content_type_id=content_type_id, language=language)
    return [json.loads(entry)["sys"]["id"] for entry in entries]


def restore(catalogue: Catalogue, entry_id: str) -> None:
    """Restore an entry, published long ago."""
    catalogue.restore(entry_id, language="en-GB")
    if catalogue.find(entry_id, "en-GB", "published") is None:  # restored as a draft
        catalogue.publish(entry_id, language="en-GB", at="2020-01-01T00:00:00Z")


class Copy:
    """A sandbox, and a feed that follows it."""

    def __init__(self, catalogue: Catalogue, client: ContensisClient, sandbox: Sandbox, folder: Path) -> None:
        self.catalogue = catalogue
        self.client = client
        self.sandbox = sandbox
        self.folder = folder

    def run(self, run: Any = None, **arguments: Any) -> ChangesSummary:
        request = ChangesRequest.from_arguments(
            destination=f"{self.folder}/", **{"page_size": 20, **arguments}
        )
        return export_changes(self.client, self.sandbox.project_id, request, run=run)

    def deletions(self) -> Counter[str]:
        """Return the deletions in the last change set, by reason."""
        change_set, manifest = manifests(self.folder)[-1]
        return Counter(json.loads(line)["reason"] for line in rows(change_set, manifest, "delete"))


@pytest.fixture
def follow(
    make_client: Callable[..., ContensisClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Copy]]:
    """Follow a catalogue, counted in parts of 30 entries."""
    monkeypatch.setattr(differences, "PART_ENTRIES", 30)
    sandboxes: list[Sandbox] = []

    def make(catalogue: Catalogue, **options: Any) -> Copy:
        sandboxes.append(Sandbox(catalogue, **options))
        sandboxes[-1].start()
        return Copy(catalogue, make_client(sandboxes[-1]), sandboxes[-1], tmp_path / "feed")

    yield make
    for sandbox in sandboxes:
        sandbox.stop()


class TestFollowing:
    def test_first_run_writes_everything(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        result = copy.run()
        assert load(copy.folder) == served(copy.catalogue)
        assert (result["upserts"], result["deletes"], result["sequence"]) == (240, 0, 1)
        assert result["content_types"]["kind1"] == {"upserts": 80, "deletes": 0}
        [(_, manifest)] = manifests(copy.folder)
        assert (manifest["kind"], manifest["previous"], manifest["changed_from"]) == ("snapshot", None, None)

    def test_run_that_finds_nothing_writes_nothing_and_moves_the_horizon(
        self, follow: Callable[..., Copy]
    ) -> None:
        copy = follow(several_types())
        first = copy.run(overlap=5)
        second = copy.run(overlap=0)
        assert (second["change_set"], second["upserts"], second["deletes"]) == (None, 0, 0)
        assert second["changed_from"] == first["horizon"]
        assert feed_index(copy.folder)["horizon"] == second["horizon"]
        assert (second["horizon"] or "") > (first["horizon"] or "")
        assert len(manifests(copy.folder)) == 1

    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_all_edits_arrive(self, follow: Callable[..., Copy], version_status: str) -> None:
        copy = follow(several_types(drafts=5, edited=5))
        copy.run(version_status=version_status)
        entries = ids(copy.catalogue)
        copy.catalogue.update(entries[0], {"title": "changed"})
        copy.catalogue.update(entries[1], {"title": "a draft"}, publish=False)
        copy.catalogue.publish(entries[-1])
        copy.catalogue.delete(entries[2], language="cy")
        copy.catalogue.delete(entries[3])
        copy.catalogue.unpublish(entries[4])
        copy.catalogue.add("kind2", {"title": "new"}, language="cy")
        result = copy.run(version_status=version_status)
        assert result["unconfirmed"] == 0
        expected = served(copy.catalogue, version_status)
        # A deleted language changes another one's list of languages, but not its change mark.
        loaded = load(copy.folder)
        assert loaded.keys() == expected.keys()
        stale = {key for key in expected if loaded[key] != expected[key]}
        assert stale <= {("kind0", language, entries[2]) for language in LANGUAGES}
        assert copy.run(version_status=version_status)["change_set"] is None

    @pytest.mark.parametrize("count", [1, 25, 60])
    def test_deletions_anywhere_are_found(self, follow: Callable[..., Copy], count: int) -> None:
        copy = follow(several_types(100))
        copy.run()
        for entry_id in ids(copy.catalogue)[10 : 10 + count]:
            copy.catalogue.delete(entry_id, language="en-GB")
        result = copy.run()
        assert (result["upserts"], result["deletes"]) == (0, count)
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_entry_that_comes_back_with_an_old_mark_is_found(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        entry_id = ids(copy.catalogue)[7]
        copy.run()
        copy.catalogue.delete(entry_id, language="en-GB")
        copy.run()
        restore(copy.catalogue, entry_id)
        assert copy.run()["upserts"] == 1
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_swap_in_one_part_is_found_by_the_digits_within_16_runs(
        self, follow: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(differences, "PART_ENTRIES", 5_000)
        copy = follow(synthetic_catalogue(60, body_bytes=40))
        left, came = ids(copy.catalogue, "article")[3], "0d3f6a7e-2b19-4c77-9d5e-3a1b2c3d4e5f"
        copy.run(deletes="ignore")
        copy.catalogue.add("article", {"title": "old"}, entry_id=came, at="2020-01-01T00:00:00Z")
        copy.catalogue.delete(left)
        while served(copy.catalogue).keys() != load(copy.folder).keys():
            copy.run()
            assert feed_index(copy.folder)["runs"] <= 17
        assert left[0] != came[0]
        assert feed_index(copy.folder)["runs"] > 1

    def test_full_refresh_counts_what_earlier_runs_missed(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        copy.run(deletes="ignore")
        entries = ids(copy.catalogue)
        copy.catalogue.update(entries[0], {"title": "changed"})
        copy.catalogue.delete(entries[1])
        normal = copy.run(full_refresh=True)
        assert (normal["upserts"], normal["deletes"], normal["drift"], normal["refreshed"]) == (1, 2, 0, 0)
        copy.catalogue.update(entries[2], {"title": "with an old mark"}, at="2020-01-01T00:00:00Z")
        assert copy.run()["change_set"] is None
        result = copy.run(full_refresh="True")
        assert (result["upserts"], result["drift"]) == (1, 1)
        assert load(copy.folder) == served(copy.catalogue)

    def test_deletes_ignored_are_neither_counted_nor_written(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        copy.run(deletes="ignore")
        copy.catalogue.delete(ids(copy.catalogue)[0])
        copy.sandbox.forget_requests()
        assert copy.run(deletes="ignore")["change_set"] is None
        ignored = copy.sandbox.count()
        copy.sandbox.forget_requests()
        assert copy.run()["deletes"] == 2
        assert copy.sandbox.count() > ignored

    def test_new_content_type_and_new_language_are_followed(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(types=2))
        late = several_types(types=3)
        copy.run()
        copy.catalogue.content_types["kind2"] = late.content_types["kind2"]
        copy.catalogue.project["supportedLanguages"].append("fr")
        # As if a role had been given to the API key: the entries are old.
        copy.catalogue.add("kind2", {"title": "old"}, language="cy", at="2020-01-01T00:00:00Z")
        copy.catalogue.add("kind1", {"title": "old"}, language="fr", at="2020-01-01T00:00:00Z")
        result = copy.run()
        assert result["upserts"] == 2
        assert load(copy.folder) == served(copy.catalogue)

    def test_content_type_that_is_gone_is_an_empty_slice(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(6))
        copy.run()
        for entry_id in ids(copy.catalogue):
            copy.catalogue.delete(entry_id)
        del copy.catalogue.content_types["kind0"]
        result = copy.run()
        assert result["content_types"] == {"kind0": {"upserts": 0, "deletes": 12}}
        assert load(copy.folder) == served(copy.catalogue)

    def test_changed_definition_is_read_in_full(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        copy.run()
        changed = copy.catalogue.content_types["kind1"]
        copy.catalogue.content_types["kind1"] = {**changed, "fields": changed["fields"][:-1]}
        for entry_id in ids(copy.catalogue, "kind1"):
            copy.catalogue.update(entry_id, {"title": "other"}, at="2020-01-01T00:00:00Z")
        assert copy.run()["content_types"] == {"kind1": {"upserts": 40, "deletes": 0}}
        assert load(copy.folder) == served(copy.catalogue)
        assert copy.run()["change_set"] is None

    def test_changed_definition_is_read_again_while_the_index_may_lag(
        self, follow: Callable[..., Copy]
    ) -> None:
        copy = follow(several_types())
        copy.run()
        copy.catalogue.index_lag = math.inf
        fields = copy.catalogue.content_types["kind1"]["fields"]
        copy.catalogue.update_content_type("kind1", fields[:-1])
        assert copy.run()["change_set"] is None
        copy.catalogue.refresh_index()
        assert copy.run(overlap=0)["content_types"] == {"kind1": {"upserts": 80, "deletes": 0}}
        assert load(copy.folder) == served(copy.catalogue)

    @pytest.mark.parametrize("number", range(6))
    def test_wrong_count_costs_a_few_requests(self, follow: Callable[..., Copy], number: int) -> None:
        copy = follow(several_types(10, 1))
        copy.run()
        counts = itertools.count()

        def miscount(request: Request) -> Response | None:
            is_count = request.kind == "search" and json.loads(request.body)["pageSize"] == 1
            if not is_count or next(counts) != number:
                return None
            page = json.loads(request.answer().body)
            return Response.json({**page, "totalCount": page["totalCount"] + 1_000})

        copy.sandbox.faults = miscount
        copy.sandbox.forget_requests()
        assert copy.run(max_concurrent_requests=1)["change_set"] is None
        assert next(counts) > number
        assert copy.sandbox.count() < 60

    def test_half_that_a_wrong_count_empties_is_not_taken_for_gone(self, follow: Callable[..., Copy]) -> None:
        copy = follow(synthetic_catalogue(60, body_bytes=40))
        copy.run()
        copy.catalogue.delete(ids(copy.catalogue, "article")[0])
        halves: list[Request] = []

        def miscount(request: Request) -> Response | None:
            """Count all of the first half in its own first half, so that the other one seems to hold none."""
            is_count = request.kind == "search" and json.loads(request.body)["pageSize"] == 1
            if is_count and b'"lessThan"' in request.body:
                halves.append(request)
                if len(halves) == 2:
                    return Response.json({**json.loads(request.answer().body), "totalCount": 29})
            return None

        copy.sandbox.faults = miscount
        copy.sandbox.forget_requests()
        assert copy.run(page_size=10, max_concurrent_requests=1)["deletes"] == 1
        assert len(halves) > 2
        assert copy.sandbox.count("entry") == 1
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_query_is_followed_and_nothing_else(self, follow: Callable[..., Copy]) -> None:
        query: dict[str, Any] = {"content_type_id": ["kind0", "kind1"], "language": "en-GB"}
        query["where"] = [{"field": "title", "exists": True}]
        copy = follow(several_types())
        copy.run(**query)
        entries = ids(copy.catalogue)
        copy.catalogue.update(entries[0], {"title": None}, at="2020-01-01T00:00:00Z")
        copy.catalogue.update(entries[1], {"title": "x"}, language="cy")
        copy.catalogue.add("kind2", {"title": "x"})
        result = copy.run(**query)
        assert (result["upserts"], result["deletes"]) == (0, 1)
        assert copy.deletions() == {"not_matching": 1}

    def test_entries_created_in_one_millisecond_and_without_created_time(
        self, follow: Callable[..., Copy]
    ) -> None:
        copy = follow(synthetic_catalogue(150, same_created=120, body_bytes=40))
        copy.run()
        for entry_id in ids(copy.catalogue, "article")[5:8]:
            copy.catalogue.delete(entry_id)
        assert copy.run()["deletes"] == 3
        assert load(copy.folder) == served(copy.catalogue)

    def test_count_that_stops_at_a_page_is_not_taken_for_all(
        self, follow: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(differences, "MAX_COUNT", 20)
        copy = follow(synthetic_catalogue(60, body_bytes=40), row_limit=20, cap_total_count=True)
        copy.run(page_size=10)
        entries = ids(copy.catalogue, "article")[:30]
        for entry_id in entries:
            copy.catalogue.delete(entry_id)
        copy.run(page_size=10, max_delete_share=None)
        for entry_id in entries:
            restore(copy.catalogue, entry_id)
        copy.run(page_size=20)
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_delivery_that_hides_all_times_is_followed(self, follow: Callable[..., Copy]) -> None:
        catalogue = synthetic_catalogue(90, body_bytes=40)
        catalogue.project["deliverySysExclusions"] = ["sys.version.*"]
        copy = follow(catalogue)
        copy.run(api="delivery")
        entries = ids(catalogue, "article")
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.delete(entries[1])
        result = copy.run(api="delivery")
        assert (result["upserts"], result["deletes"]) == (1, 1)
        assert load(copy.folder).keys() == served(catalogue).keys()


class TestHorizon:
    def test_is_the_services_clock_less_the_overlap(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(3))
        early = datetime.now(UTC) - timedelta(hours=2)

        def behind(request: Request) -> Response:
            response = request.answer()
            return replace(
                response, headers={**response.headers, "Date": f"{early:%a, %d %b %Y %H:%M:%S} GMT"}
            )

        copy.sandbox.faults = behind
        assert copy.run(overlap=60)["horizon"] == f"{early - timedelta(seconds=60):%Y-%m-%dT%H:%M:%S}.000Z"

    def test_retry_starts_over_without_the_services_clock(
        self, follow: Callable[..., Copy], tmp_path: Path
    ) -> None:
        copy = follow(several_types(150, 1))

        def no_date(request: Request) -> Response | None:
            answer = request.answer() if request.kind == "project" else None
            return answer and replace(answer, headers={**answer.headers, "date": ""})

        def fail_late(request: Request) -> Response | None:
            late = request.kind == "search" and copy.sandbox.count("search") > 20
            return Response(500, b"{}") if late else no_date(request)

        def attempt() -> ChangesSummary:
            request = ChangesRequest.from_arguments(
                destination=f"{copy.folder}/", page_size=5, max_concurrent_requests=1
            )
            pointer = FilePointer(tmp_path / "pointer.json")
            return export_changes(copy.client, copy.sandbox.project_id, request, pointer=pointer)

        copy.sandbox.faults = no_date
        copy.run()
        entries = ids(copy.catalogue)
        for entry_id in entries:
            copy.catalogue.update(entry_id, {"title": "one"}, at="2026-06-01T10:00:00Z")
        copy.sandbox.forget_requests()
        copy.sandbox.faults = fail_late
        with pytest.raises(ContensisError):
            attempt()
        copy.catalogue.update(entries[0], {"title": "two"}, at="2026-06-01T10:01:00Z")
        copy.catalogue.update(entries[-1], {"title": "two"}, at="2026-06-01T12:00:00Z")
        copy.sandbox.faults = no_date
        attempt()
        copy.run()
        assert load(copy.folder) == served(copy.catalogue)

    @pytest.mark.parametrize(("api", "least"), [("management", 7), ("delivery", 3_900)])
    def test_overlaps_more_with_the_delivery_api(
        self, follow: Callable[..., Copy], api: str, least: int
    ) -> None:
        copy = follow(several_types(3))
        before = datetime.now(UTC)
        horizon = datetime.fromisoformat(copy.run(api=api, overlap=7)["horizon"] or "")
        assert timedelta(seconds=least - 1) <= before - horizon <= timedelta(seconds=least + 2)

    def test_entry_found_late_within_the_overlap_is_read(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(3))
        copy.run()
        late = datetime.now(UTC) - timedelta(seconds=300)
        copy.catalogue.add("kind0", {"title": "late"}, at=late.isoformat().replace("+00:00", "Z"))
        assert copy.run(deletes="ignore")["upserts"] == 1
        assert copy.run(deletes="ignore")["upserts"] == 0


class TestGuard:
    def test_lost_role_fails_before_anything_is_confirmed(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types())
        copy.run()
        before = load(copy.folder)
        for entry_id in ids(copy.catalogue):
            copy.catalogue.delete(entry_id, language="en-GB")
        copy.sandbox.forget_requests()
        with pytest.raises(
            ExportError, match="all 40 entries of kind0/en-GB are gone.*max_delete_share"
        ) as error:
            copy.run()
        assert not error.value.retryable
        assert copy.sandbox.count("entry") == 0
        assert load(copy.folder) == before
        assert len(list(copy.folder.glob("0*"))) == 1
        assert copy.run(max_delete_share=None)["deletes"] == 40
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_more_than_the_share_fails(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(100))
        copy.run()
        for number in range(3):
            for entry_id in ids(copy.catalogue, f"kind{number}")[:21]:
                copy.catalogue.delete(entry_id)
        with pytest.raises(
            ExportError, match="Too many deletions: 126 of 600 entries.*max_delete_share is 0.2"
        ):
            copy.run()
        assert copy.run(max_delete_share="0.21")["deletes"] == 126


class TestConfirmation:
    @pytest.fixture
    def copy(self, follow: Callable[..., Copy]) -> Copy:
        copy = follow(several_types(6))
        copy.run()
        return copy

    def test_entry_that_a_search_finds_after_all_stays(self, copy: Copy) -> None:
        entry_id = ids(copy.catalogue)[0]
        copy.catalogue.delete(entry_id, language="en-GB")

        def come_back(request: Request) -> None:
            if request.kind == "entry":
                restore(copy.catalogue, entry_id)

        copy.sandbox.faults = come_back
        result = copy.run()
        assert (result["deletes"], result["unconfirmed"] + result["upserts"]) == (0, 1)
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    def test_entry_that_comes_back_after_its_deletion_is_left_to_the_next_run(self, copy: Copy) -> None:
        entry_id = ids(copy.catalogue)[0]
        copy.catalogue.delete(entry_id, language="en-GB")

        def come_back(request: Request) -> None:
            if b"includeDeleted" in request.body:  # asks for the reason of a deletion that is confirmed
                restore(copy.catalogue, entry_id)

        copy.sandbox.faults = come_back
        result = copy.run(full_refresh=True)
        assert (result["deletes"], result["upserts"]) == (1, 1)  # its other language lists its languages
        copy.sandbox.faults = None
        assert copy.run()["upserts"] == 1
        assert load(copy.folder).keys() == served(copy.catalogue).keys()

    @pytest.mark.parametrize(
        "answer",
        [
            Response(403, b'{"message":"No","type":"Error"}', {"content-type": "application/json"}),
            Response(404, b"<html>Not Found</html>", {"content-type": "text/html"}),
            Response(404),
        ],
    )
    def test_only_contensis_own_404_confirms(
        self, copy: Copy, answer: Response, caplog: pytest.LogCaptureFixture
    ) -> None:
        copy.catalogue.delete(ids(copy.catalogue)[0], language="en-GB")
        copy.sandbox.faults = lambda request: answer if request.kind == "entry" else None
        with caplog.at_level(logging.WARNING):
            result = copy.run()
        assert (result["deletes"], result["unconfirmed"]) == (0, 1)
        assert "1 entry was not found by a search but by id" in caplog.text
        copy.sandbox.faults = None
        assert copy.run()["deletes"] == 1

    def test_index_that_lags_delays_a_deletion_and_loses_nothing(self, copy: Copy) -> None:
        entries = ids(copy.catalogue)
        copy.catalogue.index_lag = math.inf
        copy.catalogue.delete(entries[0])
        copy.catalogue.update(entries[1], {"title": "changed"})
        assert copy.run()["change_set"] is None
        copy.catalogue.refresh_index()
        copy.catalogue.index_lag = 0.0
        result = copy.run()
        assert (result["upserts"], result["deletes"], result["unconfirmed"]) == (1, 2, 0)

    @pytest.mark.parametrize(("status", "deletes"), [(404, 12), (403, 0)])
    def test_lost_role_is_told_from_deletions_if_the_service_says_so(
        self, copy: Copy, status: Literal[403, 404], deletes: int
    ) -> None:
        copy.sandbox.api.hidden_types = ["kind0"]
        copy.sandbox.api.hidden_status = status
        result = copy.run()
        assert (result["deletes"], result["unconfirmed"]) == (deletes, 12 - deletes)
        assert deletes == 0 or copy.deletions() == {"not_visible": deletes}
        copy.sandbox.api.hidden_types = []
        assert copy.run()["upserts"] == deletes
        assert load(copy.folder) == served(copy.catalogue)

    def test_failing_get_fails_the_run(self, copy: Copy) -> None:
        copy.catalogue.delete(ids(copy.catalogue)[0], language="en-GB")
        copy.sandbox.faults = lambda request: Response(500, b"{}") if request.kind == "entry" else None
        with pytest.raises(ContensisError) as error:
            copy.run()
        assert error.value.retryable
        copy.sandbox.faults = None
        assert copy.run()["deletes"] == 1

    def test_reasons(self, copy: Copy) -> None:
        first, second, third, fourth, *_ = ids(copy.catalogue)
        copy.catalogue.unpublish(first)
        copy.catalogue.delete(second)
        copy.catalogue.archive(third)
        copy.catalogue.delete(fourth, permanent=True)
        copy.run()
        assert copy.deletions() == {"unpublished": 1, "deleted": 4, "not_visible": 2}

    def test_reason_is_optional(self, copy: Copy) -> None:
        copy.catalogue.delete(ids(copy.catalogue)[0])
        forbidden = Response(403, b'{"message":"No","type":"Error"}')
        copy.sandbox.faults = lambda request: forbidden if b"includeDeleted" in request.body else None
        assert copy.run()["deletes"] == 2
        assert copy.deletions() == {"not_visible": 2}


class TestRefusals:
    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"language": "cy"}, "holds a feed with language=None, and this task has language=\\['cy'\\]"),
            ({"version_status": "latest"}, "version_status"),
            ({"where": [{"field": "title", "exists": True}]}, "where"),
            ({"api": "delivery"}, "api"),
            ({"content_type_id": "kind0"}, "content_type_id"),
        ],
    )
    def test_another_query_is_refused(
        self, follow: Callable[..., Copy], other: dict[str, Any], message: str
    ) -> None:
        copy = follow(several_types(3))
        copy.run()
        with pytest.raises(ConfigurationError, match=message):
            copy.run(**other)

    def test_another_project_is_refused(self, follow: Callable[..., Copy]) -> None:
        copy = follow(several_types(3))
        copy.run()
        request = ChangesRequest.from_arguments(destination=f"{copy.folder}/")
        with pytest.raises(ConfigurationError, match="project_id='synthetic', and this task has"):
            export_changes(copy.client, "another", request)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"destination": "/data/x.jsonl"}, "must be a folder and end in /"),
            ({"file_format": "xml"}, "file_format must be one of"),
            ({"file_format": "parquet", "compression": "gzip"}, "Parquet is compressed already"),
            ({"parquet_mode": "loose"}, "parquet_mode must be one of typed, raw"),
            ({"where": [{"field": "d", "greaterThan": "now()"}]}, "relative time 'now\\(\\)'"),
            ({"where": [{"field": "d", "lessThan": "-1M 1w"}]}, "relative time"),
            ({"where": [{"not": {"field": "d", "between": ["2031-01-01", "startOfDay(-1w)"]}}]}, "relative"),
            ({"where": [{"or": [{"field": "d", "equalTo": "startOfDay()"}]}]}, "relative"),
            ({"overlap": -1}, "overlap must be a whole number"),
            ({"deletes": "perhaps"}, "deletes must be one of detect, ignore"),
            ({"max_delete_share": 1.5}, "max_delete_share must be a number from 0 to 1"),
            ({"max_delete_share": "half"}, "max_delete_share must be a number from 0 to 1"),
            ({"keep_change_sets": 0}, "keep_change_sets must be a whole number from 1"),
        ],
    )
    def test_wrong_argument_is_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            ChangesRequest.from_arguments(**{"destination": "/data/feed/", **arguments})

    def test_text_that_only_looks_like_a_period_is_accepted(self) -> None:
        where: list[Clause] = [{"field": "code", "equalTo": "3d"}, {"field": "code", "in": ["1m", "2h"]}]
        request = ChangesRequest.from_arguments(destination="/data/feed/", where=where)
        assert request.query.where == tuple(where)

    def test_many_entries_without_a_change_mark_are_refused(
        self, follow: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_contensis.export.changes._MAX_UNMARKED", 5)
        copy = follow(several_types(6))
        entry = json.loads(copy.catalogue.entries()[0])

        def unmarked(request: Request) -> Response | None:
            if request.kind == "search" and b'"exists": false' in request.body:
                return Response.json(
                    {"pageIndex": 0, "pageSize": 1, "totalCount": 9, "pageCount": 9, "items": [entry]}
                )
            return None

        copy.sandbox.faults = unmarked
        with pytest.raises(ConfigurationError, match='Set api="management"'):
            copy.run(api="delivery")


def test_where_may_name_a_field_that_a_redefined_content_type_lacks(
    make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    """Only the content types together have to have it."""
    catalogue = several_types(4, types=2)
    catalogue.content_types["kind0"]["fields"].append(
        {"id": "only", "dataType": "string", "dataFormat": None, "validations": {}}
    )
    with Sandbox(catalogue) as sandbox:
        copy = Copy(catalogue, make_client(sandbox), sandbox, tmp_path)
        where: list[Clause] = [{"field": "only", "exists": False}]
        assert copy.run(where=where)["upserts"] == 16
        catalogue.content_types["kind1"]["fields"].append(
            {"id": "new", "dataType": "string", "dataFormat": None, "validations": {}}
        )
        assert copy.run(where=where)["upserts"] == 0
