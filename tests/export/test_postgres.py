"""What a copy in PostgreSQL holds after edits is what the service has, in one step or not at all."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError, ExportError
from airflow_provider_contensis.sandbox import Catalogue, synthetic_catalogue
from tests.export.test_changes import LANGUAGES, ids, restore, several_types
from tests.feeds import served
from tests.postgres import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.export.copies import Copy


class TestFollowing:
    @pytest.mark.parametrize("driver", DRIVERS)
    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_all_edits_arrive(self, copy_of: Callable[..., Copy], version_status: str, driver: str) -> None:
        copy = copy_of(several_types(drafts=5, edited=5))
        copy.connect = DRIVERS[driver]
        first = copy.run(version_status=version_status)
        assert copy.postgres.load() == served(copy.catalogue, version_status)
        assert first["upserts"] == len(served(copy.catalogue, version_status))
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
        expected, loaded = served(copy.catalogue, version_status), copy.postgres.load()
        # A deleted language changes another one's list of languages, but not its change mark.
        assert loaded.keys() == expected.keys()
        stale = {key for key in expected if loaded[key] != expected[key]}
        assert stale <= {("kind0", language, entries[2]) for language in LANGUAGES}
        assert result["content_types"]["kind2"] == {"table": "kind2", "upserts": 1, "deletes": 0}
        assert copy.run(version_status=version_status)["content_types"] == {}

    def test_deletions_anywhere_are_found(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(100))
        copy.run()
        for entry_id in ids(copy.catalogue)[10:35]:
            copy.catalogue.delete(entry_id, language="en-GB")
        result = copy.run()
        assert (result["upserts"], result["deletes"]) == (0, 25)
        assert copy.postgres.load().keys() == served(copy.catalogue).keys()

    def test_entries_of_one_millisecond_are_found(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(synthetic_catalogue(150, same_created=120, body_bytes=40))
        copy.run()
        for entry_id in ids(copy.catalogue, "article")[5:8]:
            copy.catalogue.delete(entry_id)
        assert copy.run()["deletes"] == 3
        assert copy.is_exact

    def test_delivery_that_hides_all_times_is_followed(self, copy_of: Callable[..., Copy]) -> None:
        catalogue = synthetic_catalogue(90, body_bytes=40)
        catalogue.project["deliverySysExclusions"] = ["sys.version.*"]
        copy = copy_of(catalogue)
        copy.run(api="delivery")
        entries = ids(catalogue, "article")
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.delete(entries[1])
        result = copy.run(api="delivery")
        assert (result["upserts"], result["deletes"]) == (1, 1)
        assert copy.postgres.load().keys() == served(catalogue).keys()
        assert copy.rows("SELECT count(*) FROM contensis.article WHERE _created IS NULL") == [(89,)]

    def test_content_type_that_is_gone_leaves_an_empty_table(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run()
        for entry_id in ids(copy.catalogue):
            copy.catalogue.delete(entry_id)
        del copy.catalogue.content_types["kind0"]
        assert copy.run()["content_types"] == {"kind0": {"table": "kind0", "upserts": 0, "deletes": 12}}
        assert copy.rows("SELECT count(*) FROM contensis.kind0") == [(0,)]
        assert copy.is_exact

    def test_project_without_content_types_is_followed(self, copy_of: Callable[..., Copy]) -> None:
        catalogue = several_types(6)
        copy = copy_of(Catalogue(catalogue.project, []))
        assert copy.run()["content_types"] == {}
        copy.catalogue.content_types |= catalogue.content_types
        copy.catalogue.add("kind0", {"title": "first"})
        assert copy.run()["content_types"] == {"kind0": {"table": "kind0", "upserts": 1, "deletes": 0}}
        assert copy.is_exact

    def test_table_that_somebody_dropped_is_loaded_again(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run()
        copy.rows("DROP TABLE contensis.kind1")
        assert copy.run()["content_types"] == {"kind1": {"table": "kind1", "upserts": 12, "deletes": 0}}
        assert copy.is_exact

    def test_full_refresh_counts_what_earlier_runs_missed(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types())
        copy.run()
        entries = ids(copy.catalogue)
        copy.catalogue.update(entries[2], {"title": "with an old mark"}, at="2020-01-01T00:00:00Z")
        assert copy.run()["content_types"] == {}
        copy.rows(f"DELETE FROM contensis.kind1 WHERE _id = '{ids(copy.catalogue, 'kind1')[0]}'")
        result = copy.run(full_refresh=True)
        assert (result["upserts"], result["drift"]) == (3, 1)
        assert copy.is_exact

    def test_lost_role_changes_nothing(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types())
        copy.run()
        before = copy.postgres.load()
        for entry_id in ids(copy.catalogue):
            copy.catalogue.delete(entry_id, language="en-GB")
        with pytest.raises(ExportError, match="all 40 entries of kind0/en-GB are gone.*max_delete_share"):
            copy.run()
        assert copy.postgres.load() == before
        assert copy.run(max_delete_share=None)["deletes"] == 40

    def test_run_that_finds_nothing_moves_the_horizon_only(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types())
        first = copy.run(overlap=5)
        [before] = copy.rows("SELECT pg_current_xact_id()::text::bigint")
        second = copy.run(overlap=0)
        assert (second["changed_from"], second["content_types"]) == (first["horizon"], {})
        written = f"SELECT count(*) FROM contensis.kind0 WHERE xmin::text::bigint > {before[0]}"
        assert copy.rows(written) == [(0,)]
        [(horizon,)] = copy.rows("SELECT horizon FROM contensis._contensis_sync")
        assert horizon == datetime.fromisoformat(second["horizon"] or "")
        assert horizon > datetime.fromisoformat(first["horizon"] or "")


class TestMarks:
    def test_marked_rows_keep_their_content_and_say_why(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run(deletes="mark")
        entries = ids(copy.catalogue)
        copy.catalogue.delete(entries[0], language="en-GB")
        copy.catalogue.unpublish(entries[1], language="en-GB")
        assert copy.run(deletes="mark")["deletes"] == 2
        marked = copy.rows(
            "SELECT _id, _deleted_reason, _deleted_at, title, _entry->>'title' FROM contensis.kind0 "
            "WHERE _deleted_at IS NOT NULL ORDER BY 2"
        )
        assert [row[:2] for row in marked] == [(entries[0], "deleted"), (entries[1], "unpublished")]
        assert all(row[3] == row[4] for row in marked)
        assert all(abs((datetime.now(UTC) - row[2]).total_seconds()) < 60 for row in marked)
        assert copy.run(deletes="mark")["content_types"] == {}

    def test_mark_goes_if_the_entry_returns(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run(deletes="mark")
        entry_id = ids(copy.catalogue)[0]
        copy.catalogue.delete(entry_id, language="en-GB")
        copy.run(deletes="mark")
        restore(copy.catalogue, entry_id)
        assert copy.run(deletes="mark")["upserts"] == 1
        marked = "_deleted_at IS NOT NULL OR _deleted_reason IS NOT NULL"
        assert copy.rows(f"SELECT count(*) FROM contensis.kind0 WHERE {marked}") == [(0,)]
        assert copy.postgres.load().keys() == served(copy.catalogue).keys()

    def test_copy_that_deleted_so_far_can_mark_from_now_on(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run()
        copy.catalogue.delete(ids(copy.catalogue)[0])
        assert copy.run(deletes="mark")["deletes"] == 2
        assert copy.rows("SELECT count(*) FROM contensis.kind0 WHERE _deleted_at IS NULL") == [(10,)]
        assert copy.run()["content_types"] == {}  # a marked row counts as absent, whatever `deletes` says


class TestRuns:
    def test_run_that_has_committed_returns_the_same_result_and_reads_nothing(
        self, copy_of: Callable[..., Copy], caplog: pytest.LogCaptureFixture
    ) -> None:
        copy = copy_of(several_types(6))
        name = {"dag_id": "d", "task_id": "t", "run_id": "1", "map_index": -1}
        first = copy.run(name)
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        copy.sandbox.forget_requests()
        with caplog.at_level(logging.INFO):
            assert copy.run(name) == first
        assert "This run has already updated schema contensis" in caplog.text
        assert copy.sandbox.count() == 0
        assert copy.run({**name, "map_index": 0})["upserts"] == 1

    def test_two_runs_of_one_copy_do_not_mix(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))

        def second_run(request: Any) -> Any:
            copy.sandbox.faults = None
            with pytest.raises(DestinationError, match="Another run is updating.*max_active_runs") as error:
                copy.run()
            assert error.value.retryable
            return request.answer()

        copy.sandbox.faults = second_run
        assert copy.run()["upserts"] == 36
        assert copy.is_exact

    def test_two_copies_share_a_schema_by_prefixes(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run(table_prefix="cms_", content_type_id="kind0")
        copy.run(table_prefix="site_", content_type_id=["kind0", "kind1"])
        names = copy.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%kind%' ORDER BY 1")
        assert names == [("cms_kind0",), ("site_kind0",), ("site_kind1",)]
        assert copy.rows("SELECT table_prefix, runs FROM contensis._contensis_sync ORDER BY 1") == [
            ("cms_", 1),
            ("site_", 1),
        ]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"language": "cy"}, r"a copy with language=None, and this task has language=\['cy'\]"),
            ({"version_status": "latest"}, "version_status='published', and this task has"),
        ],
    )
    def test_another_query_is_refused(
        self, copy_of: Callable[..., Copy], changed: dict[str, Any], message: str
    ) -> None:
        copy = copy_of(several_types(3))
        copy.run()
        with pytest.raises(ConfigurationError, match=f"{message}.*another schema or table_prefix"):
            copy.run(**changed)
        copy.run(schema="other", **changed)
        assert len(copy.postgres.tables("other")) == 3

    def test_reader_sees_the_copy_of_before_until_the_commit(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run()
        before = copy.postgres.load()
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        seen = []

        def look(request: Any) -> Any:
            seen.append(copy.postgres.load() == before)
            return request.answer()

        copy.sandbox.faults = look
        copy.run()
        assert all(seen)
        assert len(seen) > 3
        assert copy.is_exact
        assert json.loads(copy.rows("SELECT tables::text FROM contensis._contensis_sync")[0][0]).keys() == {
            "kind0",
            "kind1",
            "kind2",
        }
