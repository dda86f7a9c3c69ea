"""A small run of the chaos suite for copies, and proof that its oracle notices violations."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export import changes, feed, ledger
from airflow_provider_contensis.export.changes import Follower
from airflow_provider_contensis.export.deletions import Confirmation
from airflow_provider_contensis.export.differences import Differences
from airflow_provider_contensis.export.sinks import feed as feed_sink
from airflow_provider_contensis.export.sinks.feed import FeedSink
from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
from airflow_provider_contensis.export.sinks.postgres import PostgresSink
from airflow_provider_contensis.export.sinks.postgres_database import Database
from airflow_provider_contensis.export.storage.base import write_whole
from chaos.scenario import Kind
from chaos.sync.__main__ import main
from chaos.sync.report import report
from chaos.sync.run import S3, follow, run, run_scenario
from chaos.sync.scenario import Attempt, End, Happening, Phase, Scenario, draw_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_contensis.export.ledger import Held
    from airflow_provider_contensis.export.sinks.feed_index import FeedIndex
    from tests.postgres import Postgres

pytestmark = pytest.mark.slow

FIRST = Phase(happenings=(), seconds=3_600)
EDITED = Phase(
    happenings=(Happening("edit", 12), Happening("discard", 3), Happening("import", 10)), seconds=3_600
)
CALM = Scenario(
    seed=0,
    kinds=(Kind("article", 30, same_created=5, drafts=5, edited=5), Kind("event", 15, 0, 0, 0)),
    languages=("en-GB",),
    arguments={
        "version_status": "published",
        "api": "management",
        "content_type_id": None,
        "language": None,
        "data_format": "entry",
        "page_size": 10,
        "max_concurrent_requests": 1,
        "overlap": 600,
    },
    phases=(FIRST, EDITED),
    part_entries=10,
    faults={},
)
HIDDEN = replace(CALM, phases=(FIRST, Phase(happenings=(Happening("hide", 1),), seconds=3_600)))


def violations(scenario: Scenario) -> str:
    return " ".join(run_scenario(scenario).violations)


def test_copies_stay_in_step_through_random_histories() -> None:
    outcomes = [run(seed) for seed in range(7, 13)]
    assert [(outcome.seed, outcome.violations) for outcome in outcomes if outcome.violations] == []
    counts = sum((outcome.counts for outcome in outcomes), Counter[str]())
    assert counts["change sets"] > 12
    assert counts["upserts"] > 200
    assert counts["deletions"] > 10
    assert counts["killed at a file"] + counts["killed at a search"] > 0 < counts["interrupted"]
    assert sum(outcome.faults.total() for outcome in outcomes) > 10


class TestSeed:
    def test_determines_scenario(self) -> None:
        assert draw_scenario(7) == draw_scenario(7) != draw_scenario(8)

    def test_replay_repeats_history(self) -> None:
        scenario = replace(CALM, faults={"503": 0.05, "reset": 0.02}, lag=300.0)
        first, second = run_scenario(scenario), run_scenario(scenario)
        assert first == second
        assert first.faults.total() > 0 < first.counts["deletions"]

    def test_single_run_prints_scenario(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--runs", "1", "--seed", "3"]) == 0
        output = capsys.readouterr().out
        assert "Scenario(seed=3" in output
        assert "| histories | 1 |" in output


class TestQuirk:
    def test_is_drawn_in_one_history_of_ten(self) -> None:
        scenarios = [draw_scenario(seed) for seed in range(300)]
        drawn = [scenario for scenario in scenarios if scenario.quirk is not None]
        assert 15 <= len(drawn) <= 45
        assert len({scenario.quirk for scenario in drawn}) > 10
        assert any(scenario.quirk_since for scenario in drawn)

    def test_leaves_no_difference_that_nobody_can_notice(self) -> None:
        ignored = [draw_scenario(seed, "no-exists") for seed in range(50)]
        assert not any("where" in scenario.arguments for scenario in ignored)
        unlisted = [draw_scenario(seed, "unlisted-type") for seed in range(50)]
        assert {scenario.arguments["content_type_id"] for scenario in unlisted} == {None}

    @pytest.mark.parametrize("since", [0, 1])
    def test_history_is_complete_or_fails(self, since: int) -> None:
        complete = run_scenario(replace(CALM, quirk="no-order", quirk_since=since))
        assert (complete.violations, complete.errors, complete.has_failed) == ([], {}, False)
        # Once the service is as it should be again, the copy follows it again.
        failed = run_scenario(replace(CALM, quirk="no-starts-with", quirk_since=since))
        assert (failed.violations, failed.has_failed) == ([], True)
        assert failed.counts["change sets"] > 0
        text = report([complete, failed], 1)
        assert "| `no-order` | 1 | 1 | 0 |" in text
        assert "| `no-starts-with` | 1 | 0 | 1 |" in text

    def test_oracle_notices_what_is_lost_in_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Differences, "_differing", lambda *_: [])
        assert "run 2: entries that are in the copy, but not in the service" in violations(
            replace(CALM, quirk="no-aggregations")
        )

    def test_oracle_notices_failure_that_names_no_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_contensis.export.search.add_hint", lambda *_: None)
        assert "named no check of the doctor" in violations(replace(CALM, quirk="refused-in"))


class TestOracle:
    """Nearly every test breaks the product, and checks that the oracle notices."""

    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_accepts_calm_history(self, version_status: str) -> None:
        arguments = {**CALM.arguments, "version_status": version_status}
        outcome = run_scenario(replace(CALM, arguments=arguments))
        assert (outcome.violations, outcome.errors) == ([], {})
        assert outcome.counts["runs"] == 5
        assert outcome.counts["deletions"] >= 3

    @pytest.mark.parametrize(
        "attempt",
        [Attempt("interrupted", 5), Attempt("killed at a search", 5), Attempt("killed at a file", 9)],
    )
    def test_accepts_attempts_that_end_early(self, attempt: Attempt) -> None:
        outcome = run_scenario(replace(CALM, phases=(FIRST, replace(EDITED, attempts=(attempt,)))))
        assert (outcome.violations, outcome.counts[attempt.end]) == ([], 1)

    def test_accepts_kill_right_after_commit_and_cleared_run(self) -> None:
        phases = [
            replace(EDITED, attempts=(Attempt("killed at a file", at),), is_cleared=True) for at in (95, 99)
        ]
        outcome = run_scenario(replace(CALM, phases=(FIRST, *phases)))
        assert (outcome.violations, outcome.counts["cleared runs"]) == ([], 2)

    def test_leaves_swap_to_rotation_or_full_refresh(self) -> None:
        swap = Phase(happenings=(Happening("swap", 1),), seconds=3_600)
        discard = Phase(happenings=(Happening("discard", 1),), seconds=3_600)
        outcome = run_scenario(replace(CALM, phases=(FIRST, discard, swap), part_entries=5_000))
        assert (outcome.violations, outcome.happened["swap"]) == ([], 1)
        assert outcome.counts["swaps left to a rotation"] == 1

    def test_notices_slice_that_is_not_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        differing = Differences._differing

        def skip(self: Differences, parts: Any, served: Any) -> Any:
            found = differing(self, parts, served)
            return [each for each in found if "article" not in each.part.content_type_ids]

        monkeypatch.setattr(Differences, "_differing", skip)
        assert "are in the copy, but not in the service" in violations(CALM)

    def test_notices_deletion_that_nobody_asked_about(self, monkeypatch: pytest.MonkeyPatch) -> None:
        role_lost = replace(HIDDEN.phases[1], is_guarded=False)
        scenario = replace(HIDDEN, phases=(FIRST, role_lost), hidden_status=403)
        assert violations(scenario) == ""
        monkeypatch.setattr(Confirmation, "_look", lambda *_: True)
        assert "left, but matched throughout" in violations(scenario)

    def test_notices_missing_guard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = run_scenario(HIDDEN)
        assert (outcome.violations, outcome.counts["stopped by the guard"]) == ([], 1)
        monkeypatch.setattr(changes, "check_deletions", lambda *_: None)
        assert "left, and nothing stopped it" in violations(HIDDEN)

    def test_notices_lost_upsert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        upsert = FeedSink.upsert

        def lose_one(self: FeedSink, held_slice: Any, entries: Any, *args: Any, **kwargs: Any) -> None:
            upsert(self, held_slice, entries[1:], *args, **kwargs)

        monkeypatch.setattr(FeedSink, "upsert", lose_one)
        assert "but its change sets say" in violations(CALM)

    def test_notices_lost_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = FeedLedger.find

        def take_for_known(self: FeedLedger, held_slice: Any, ids: Any) -> dict[str, Held]:
            return {id_: held._replace(is_fresh=True) for id_, held in find(self, held_slice, ids).items()}

        monkeypatch.setattr(FeedLedger, "find", take_for_known)
        assert "have other content than in the service" in violations(CALM)

    def test_notices_horizon_without_overlap(self) -> None:
        edited = Phase(happenings=(Happening("edit", 12),), seconds=1)
        scenario = replace(CALM, lag=300.0, phases=(FIRST, edited))
        assert violations(scenario) == ""
        without = {**CALM.arguments, "overlap": 0}
        assert "have other content than in the service" in violations(replace(scenario, arguments=without))

    def test_notices_entry_that_comes_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:

        def differ(entries: Any, metas: Any) -> list[Held]:
            return [held._replace(digest=secrets.token_bytes(8)) for held in ledger.holdings(entries, metas)]

        monkeypatch.setattr(changes, "holdings", differ)
        assert "came as they were" in violations(CALM)

    def test_notices_entry_that_was_never_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        upsert = FeedSink.upsert

        def invent(self: FeedSink, held_slice: Any, entries: Any, *args: Any, **kwargs: Any) -> None:
            changed = [type(entry)(bytes(entry).replace(b"e-7", b"e-8")) for entry in entries]
            upsert(self, held_slice, changed, *args, **kwargs)

        monkeypatch.setattr(FeedSink, "upsert", invent)
        assert "came in no version that was served and matched" in violations(CALM)

    def test_notices_feed_that_is_torn_for_a_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waiting: list[Any] = []

        def write_later(*args: Any, **kwargs: Any) -> None:
            waiting.append((args, kwargs))

        commit = FeedSink.commit

        def commit_early(self: FeedSink, *args: Any, **kwargs: Any) -> None:
            commit(self, *args, **kwargs)
            while waiting:
                early, named = waiting.pop()
                write_whole(*early, **named)

        monkeypatch.setattr(feed_sink, "write_whole", write_later)
        monkeypatch.setattr(FeedSink, "commit", commit_early)
        assert "_manifest.json, which is not there" in violations(CALM)

    def test_notices_second_commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = FeedSink.commit

        def commit_twice(self: FeedSink, index: FeedIndex, *args: Any, **kwargs: Any) -> None:
            early = index.copy()
            early["horizon"] = "2000-01-01T00:00:00.000Z"
            commit(self, early, *args, **kwargs)
            late, self.files = self._index.copy(), []
            late["horizon"] = index["horizon"]
            commit(self, late, *args, **kwargs)

        monkeypatch.setattr(FeedSink, "commit", commit_twice)
        assert "neither that before the run nor that after it" in violations(CALM)

    def test_notices_cleared_run_that_runs_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scenario = replace(CALM, phases=(FIRST, replace(EDITED, is_cleared=True)))
        assert violations(scenario) == ""
        monkeypatch.setattr(feed, "read_runs", lambda *_: [])
        assert "cleared run" in violations(scenario)

    def test_notices_ledger_that_holds_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put = FeedLedger.put

        def put_changed(self: FeedLedger, held_slice: Any, entries: Any, *, replaced: Any) -> None:
            changed = [held._replace(digest=bytes(8)) for held in entries[:1]]
            put(self, held_slice, [*changed, *entries[1:]], replaced=replaced)

        monkeypatch.setattr(FeedLedger, "put", put_changed)
        assert "the ledger holds something else than the change sets" in violations(CALM)

    def test_notices_snapshot_that_lacks_an_entry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refreshed = replace(CALM, phases=(FIRST, replace(EDITED, is_full=True)))
        assert violations(refreshed) == ""

        def complete_anyway(self: FeedSink) -> None:
            self._is_snapshot = True

        monkeypatch.setattr(FeedSink, "_complete_snapshot", complete_anyway)
        assert "is a snapshot, but does not hold everything" in violations(refreshed)

    def test_notices_leftovers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed_sink, "remove_leftovers", lambda *_, **__: None)
        monkeypatch.setattr(feed_sink, "unused", lambda *_: [])
        assert "behind" in violations(CALM)

    def test_notices_failure_without_reason_and_foreign_exception(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(error: Exception) -> Iterator[None]:
            raise error

        monkeypatch.setattr(Follower, "run", lambda *_: fail(ExportError("No.")))
        assert "it failed although nothing was wrong: No." in violations(CALM)
        monkeypatch.setattr(Follower, "run", lambda *_: fail(KeyError("sys")))
        assert "foreign exception, KeyError" in violations(CALM)


class TestS3:
    """The same histories, followed by a feed on S3."""

    def test_accepts_calm_history(self) -> None:
        outcome = run_scenario(CALM, S3)
        assert (outcome.violations, outcome.errors) == ([], {})
        assert outcome.counts["deletions"] >= 3

    @pytest.mark.parametrize("end", ["killed at a file", "connection lost"])
    @pytest.mark.parametrize("at", [10, 21, 34])
    def test_accepts_run_that_ends_at_a_request(self, end: End, at: int) -> None:
        outcome = run_scenario(
            replace(CALM, phases=(FIRST, replace(EDITED, attempts=(Attempt(end, at),)))), S3
        )
        assert (outcome.violations, outcome.counts[end]) == ([], 1)

    def test_notices_commit_whose_files_are_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = FeedSink.commit

        def commit_then_lose(self: FeedSink, *args: Any, **kwargs: Any) -> None:
            commit(self, *args, **kwargs)
            self._place.storage.remove(f"{self._folder}_manifest.json")

        monkeypatch.setattr(FeedSink, "commit", commit_then_lose)
        assert "_manifest.json, which is not there" in " ".join(run_scenario(CALM, S3).violations)


class TestPostgres:
    """The same histories, followed by tables in PostgreSQL."""

    @pytest.mark.parametrize("version_status", ["published", "latest"])
    def test_accepts_calm_history(self, postgres: Postgres, version_status: str) -> None:
        arguments = {**CALM.arguments, "version_status": version_status, "compression": "gzip"}
        outcome = follow(replace(CALM, arguments=arguments), postgres.url)
        assert (outcome.violations, outcome.errors) == ([], {})
        assert outcome.counts["deletions"] >= 3

    @pytest.mark.parametrize("at", [20, 60])
    def test_accepts_run_that_is_killed_at_a_statement(self, postgres: Postgres, at: int) -> None:
        phase = replace(EDITED, attempts=(Attempt("killed at a file", at),))
        outcome = follow(replace(CALM, phases=(FIRST, phase)), postgres.url)
        assert (outcome.violations, outcome.counts["killed at a file"]) == ([], 1)

    def test_notices_lost_deletion(self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
        delete = PostgresSink.delete

        def lose_one(self: PostgresSink, deletions: Sequence[Any]) -> None:
            delete(self, deletions[1:])

        monkeypatch.setattr(PostgresSink, "delete", lose_one)
        found = " ".join(follow(CALM, postgres.url).violations)
        assert "upserts and deletes, but did" in found
        assert "are in the copy, but not in the service" in found

    def test_notices_second_commit(self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = Database.execute

        def commit_early(self: Database, sql: str, *values: Any) -> int:
            if "INTO" in sql and "_contensis_sync" in sql:
                self.commit()
            return execute(self, sql, *values)

        monkeypatch.setattr(Database, "execute", commit_early)
        found = " ".join(follow(CALM, postgres.url).violations)
        assert "neither that before the run nor that after it" in found


def test_report_counts_histories_runs_and_violations() -> None:
    good = run_scenario(CALM)
    bad = replace(good, violations=["one", "two"], errors=Counter(ExportError=1))
    text = report([good, bad], 12)
    assert "| histories | 2 |" in text
    assert "| runs | 10 |" in text
    assert "| **violations** | 2 |" in text
    assert f"| `delete` | {2 * good.happened['delete']} |" in text
    assert "| `ExportError` | 1 |" in text
