"""A poll notices every change of a project, says each once, and asks little."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, NotFoundError, ServerError
from airflow_provider_contensis.export import poll as polls
from airflow_provider_contensis.export.model import MAX_COUNT
from airflow_provider_contensis.export.poll import Answer, Cursor, check, matching, poll
from airflow_provider_contensis.export.request import entry_query
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from tests.catalogues import catalogue_of

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient


def ids(catalogue: Catalogue, content_type_id: str = "film", *, status: Any = "published") -> list[str]:
    entries = catalogue.entries(content_type_id=content_type_id, version_status=status)
    return [json.loads(entry)["sys"]["id"] for entry in entries]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Watch:
    """Polls of a sandbox, each from where the one before ended."""

    def __init__(self, sandbox: Sandbox, client: ContensisClient, **arguments: Any) -> None:
        self.sandbox = sandbox
        self.catalogue = sandbox.catalogues[0]
        self.client = client
        self.query = entry_query(**arguments)
        self.cursor: Cursor | None = None

    def look(self) -> Answer:
        answer = poll(self.client, self.sandbox.project_id, self.query, self.cursor)
        # As a state store keeps it.
        self.cursor = Cursor.from_json(json.loads(json.dumps(answer.cursor.as_json())))
        assert self.cursor == answer.cursor
        return answer

    def is_quiet(self, polls: int = 3) -> bool:
        return not any(self.look().is_change for _ in range(polls))


@pytest.fixture
def watch(make_client: Callable[..., ContensisClient]) -> Iterator[Callable[..., Watch]]:
    """Watch a project of 20 films and 10 people, all changed long ago."""
    sandboxes: list[Sandbox] = []

    def make(*, options: dict[str, Any] | None = None, entries: int = 20, **arguments: Any) -> Watch:
        sandboxes.append(Sandbox(catalogue_of({"film": entries, "person": 10}), **(options or {})))
        sandboxes[-1].start()
        watch = Watch(sandboxes[-1], make_client(sandboxes[-1]), **arguments)
        assert watch.look().is_change
        return watch

    yield make
    for sandbox in sandboxes:
        sandbox.stop()


Edit = Callable[[Catalogue], Any]
EDITS: dict[str, Edit] = {
    "publish": lambda catalogue: catalogue.publish(ids(catalogue)[0]),
    "update": lambda catalogue: catalogue.update(ids(catalogue)[0], {"title": "changed"}),
    "add": lambda catalogue: catalogue.add("film", {"title": "new"}),
    "delete": lambda catalogue: catalogue.delete(ids(catalogue)[0]),
    "unpublish": lambda catalogue: catalogue.unpublish(ids(catalogue)[0]),
    "archive": lambda catalogue: catalogue.archive(ids(catalogue)[0]),
}


class TestChanges:
    def test_first_poll_cannot_know_what_changed(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        watching.cursor = None
        answer = watching.look()
        assert (answer.is_change, answer.changed, answer.entries, answer.entries_before) == (
            *(True, None),
            *(30, None),
        )

    @pytest.mark.parametrize("edit", EDITS)
    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_each_edit_is_said_once(
        self, watch: Callable[..., Watch], version_status: str, edit: str
    ) -> None:
        watching = watch(version_status=version_status)
        assert watching.is_quiet()
        EDITS[edit](watching.catalogue)
        assert watching.look().is_change
        assert watching.is_quiet()

    def test_entry_edited_twice_is_said_twice(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        for _ in range(2):
            EDITS["update"](watching.catalogue)
            assert watching.look().changed == 1

    def test_restored_entry_with_an_old_mark_is_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch(version_status="latest")
        [entry_id, *_] = ids(watching.catalogue)
        watching.catalogue.delete(entry_id)
        assert watching.look().entries == 29
        watching.catalogue.restore(entry_id, at="2020-01-01T00:00:00Z")
        answer = watching.look()
        assert (answer.is_change, answer.entries_before, answer.entries) == (True, 29, 30)

    def test_deletion_beside_a_new_entry_is_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        EDITS["delete"](watching.catalogue)
        EDITS["add"](watching.catalogue)
        answer = watching.look()
        assert (answer.is_change, answer.changed, answer.entries_before) == (True, 1, answer.entries)

    def test_other_entries_are_not_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch(content_type_id="person", where=[{"field": "sys.language", "equalTo": "en-GB"}])
        for edit in EDITS.values():
            edit(watching.catalogue)
        assert watching.is_quiet()
        watching.catalogue.publish(ids(watching.catalogue, "person")[0])
        assert watching.look().is_change

    def test_draft_is_noticed_among_the_latest_versions_only(self, watch: Callable[..., Watch]) -> None:
        latest, published = watch(version_status="latest"), watch()
        for watching in (latest, published):
            watching.catalogue.add("film", {"title": "draft"}, publish=False)
        assert latest.look().changed == 1
        assert published.is_quiet()

    def test_new_language_is_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        watching.catalogue.add_language("cy")
        assert watching.is_quiet()
        watching.catalogue.add("film", {"title": "newydd"}, language="cy")
        assert watching.look().changed == 1


class TestLateEntries:
    def test_entry_that_the_index_finds_late_is_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        watching.catalogue.publish(ids(watching.catalogue)[0], at=ago(1))
        assert watching.look().is_change
        # Published before what was seen already, and found only now.
        watching.catalogue.publish(ids(watching.catalogue)[1], at=ago(300))
        assert watching.look().changed == 1
        assert watching.is_quiet()

    def test_second_edit_that_the_index_finds_late_is_noticed(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        first, second, *_ = ids(watching.catalogue)
        watching.catalogue.publish(first, at=ago(400))
        watching.look()
        watching.catalogue.publish(second, at=ago(1))
        watching.look()
        watching.catalogue.publish(first, at=ago(300))  # neither the count nor the newest mark changes
        assert watching.look().changed == 1

    def test_publish_during_an_outage_is_noticed_after_it(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        assert watching.cursor is not None
        hours_ago = datetime.now(UTC) - timedelta(hours=5)
        watching.cursor = Cursor(
            **{**vars(watching.cursor), "changed_from": f"{hours_ago:%Y-%m-%dT%H:%M:%SZ}"}
        )
        watching.catalogue.publish(ids(watching.catalogue)[0], at=ago(4 * 3_600))
        assert watching.look().changed == 1
        assert watching.is_quiet()

    def test_without_the_services_time_the_marks_say_how_late_it_is(
        self, watch: Callable[..., Watch]
    ) -> None:
        def undated(request: Request) -> Response | None:
            response = request.answer()
            return Response(response.status, response.body, {**response.headers, "Date": ""})

        watching = watch(options={"faults": undated})
        assert watching.is_quiet()
        watching.catalogue.publish(ids(watching.catalogue)[0])
        assert watching.look().changed == 1
        EDITS["delete"](watching.catalogue)
        assert watching.look().is_change
        assert watching.is_quiet()


class TestManyChanges:
    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_more_than_a_page_is_said_once_more_when_it_is_past(
        self, watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch, version_status: Literal["latest"]
    ) -> None:
        monkeypatch.setattr(polls, "_PAGE_SIZE", 5)
        watching = watch(version_status=version_status)
        for entry_id in ids(watching.catalogue):
            watching.catalogue.publish(entry_id, at=ago(500))
        assert watching.look().is_change
        assert watching.is_quiet()
        watching.catalogue.publish(ids(watching.catalogue)[7], at=ago(1))
        assert watching.look().is_change
        assert watching.is_quiet()
        assert watching.cursor is not None
        watching.cursor = Cursor(**{**vars(watching.cursor), "changed_from": ago(100)})  # later
        assert watching.look().is_change
        assert watching.is_quiet()

    def test_cursor_stays_small(self, watch: Callable[..., Watch]) -> None:
        watching = watch(entries=300)
        for entry_id in ids(watching.catalogue):
            watching.catalogue.publish(entry_id)
        assert watching.look().is_change
        assert watching.cursor is not None
        assert len(json.dumps(watching.cursor.as_json())) < 4_000


class TestRequests:
    @pytest.mark.parametrize(
        ("arguments", "requests"),
        [
            ({"language": "en-GB"}, 2),
            ({}, 3),
            ({"language": "en-GB", "version_status": "latest"}, 3),
            ({"version_status": "latest"}, 4),
        ],
    )
    def test_poll_takes_few_requests(
        self, watch: Callable[..., Watch], arguments: dict[str, Any], requests: int
    ) -> None:
        watching = watch(**arguments)
        before = watching.client.requests_sent
        watching.look()
        assert watching.client.requests_sent - before == requests


class TestFailures:
    def test_hidden_change_marks_are_an_error(self, watch: Callable[..., Watch]) -> None:
        watching = watch(api="delivery")
        watching.catalogue.project["deliverySysExclusions"] = ["sys.version.*"]
        EDITS["publish"](watching.catalogue)
        with pytest.raises(ConfigurationError, match=r'hides its change mark .* Set api="management"'):
            watching.look()

    def test_service_that_is_down_is_an_error(self, watch: Callable[..., Watch]) -> None:
        watching = watch()
        watching.sandbox.error_rate = 1
        with pytest.raises(ServerError):
            watching.look()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"content_type_id": "fim"}, "content_type_id 'fim' is not in project"),
            ({"language": "fr"}, "language 'fr' is not in project"),
            ({"where": [{"field": "titel", "equalTo": "x"}]}, "Did you mean 'title'"),
        ],
    )
    def test_what_can_never_match_is_an_error(
        self, watch: Callable[..., Watch], arguments: dict[str, Any], message: str
    ) -> None:
        watching = watch()
        with pytest.raises(ConfigurationError, match=message):
            check(watching.client, watching.sandbox.project_id, entry_query(**arguments))

    def test_unknown_project_is_an_error(self, watch: Callable[..., Watch]) -> None:
        with pytest.raises(NotFoundError):
            poll(watch().client, "nothing", entry_query(), None)

    def test_capped_count_shows(self, watch: Callable[..., Watch]) -> None:
        answer = watch().look()
        assert not answer.is_capped
        assert Answer(**{**vars(answer), "entries": MAX_COUNT}).is_capped

    @pytest.mark.parametrize("stored", [None, 7, {}, {"seen": 3}, {"seen": [], "another": 1}])
    def test_unusable_cursor_is_none(self, stored: object) -> None:
        assert Cursor.from_json(stored) is None


def test_matching_entries_are_counted(watch: Callable[..., Watch]) -> None:
    watching = watch()
    project_id = watching.sandbox.project_id

    def count(**arguments: Any) -> int:
        return matching(watching.client, project_id, entry_query(**arguments))

    since = ago(1)
    assert (count(), count(content_type_id="person"), count(changed_from=since)) == (30, 10, 0)
    EDITS["publish"](watching.catalogue)
    assert (count(changed_from=since), count(changed_from=since, content_type_id="person")) == (1, 0)
