"""A small run of the chaos suite, and proof that its oracle notices violations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import IncompleteReadError
from airflow_provider_contensis.export import page, search
from airflow_provider_contensis.export.batch import Batch
from airflow_provider_contensis.export.checkpoint import Checkpoint
from airflow_provider_contensis.export.formats.json import JsonLinesWriter
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.proof import Proof
from airflow_provider_contensis.export.read import WindowReader
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.export.storage.local import LocalStorage
from chaos.__main__ import main
from chaos.oracle import differing_files
from chaos.report import report
from chaos.run import run, run_scenario
from chaos.scenario import Kind, Scenario, draw_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.export.model import Cut

CALM = Scenario(
    seed=0,
    kinds=(Kind("article", 300, same_created=40, drafts=30, edited=30),),
    languages=("en-GB",),
    exclusions=(),
    unlisted=None,
    arguments={
        "version_status": "published",
        "api": "management",
        "content_type_id": None,
        "language": None,
        "page_size": 25,
        "max_concurrent_requests": 1,
    },
    destination="entries.jsonl",
    has_older=True,
    fault_level="none",
    faults={},
    edit_level="none",
    edit_rate=0,
    retry_after=0,
    slow=0.01,
    sandbox={},
)
BUSY = replace(
    CALM, fault_level="few", faults={"503": 0.03, "cut": 0.02, "401": 0.01}, edit_level="few", edit_rate=0.5
)
# Its content type is large enough for its pages to be read in windows of time.
SLICED = replace(CALM, kinds=(Kind("article", 900, same_created=40, drafts=30, edited=30),))
# Its seed draws one request at a time for the export with faults, so that the comparison can be repeated.
EDITED = replace(BUSY, seed=68)
IN_ORDER = "airflow_provider_contensis.export.read.in_order"


@pytest.mark.slow
def test_exports_under_random_faults_and_edits_keep_promises() -> None:
    outcomes = [run(seed) for seed in range(1, 61)]
    assert [(outcome.seed, outcome.violations) for outcome in outcomes if outcome.violations] == []
    assert sum(outcome.faults.total() for outcome in outcomes) > 40
    assert sum(outcome.edits.total() for outcome in outcomes) > 40
    assert sum(outcome.error is None for outcome in outcomes) > 12
    assert sum(outcome.continued for outcome in outcomes) > 2
    assert sum(outcome.comparisons for outcome in outcomes) > 10
    assert sum(outcome.warnings["proof"] + outcome.warnings["read"] for outcome in outcomes) > 0


def disable_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proof, "complete", lambda *_, **__: iter(()))
    monkeypatch.setattr(Proof, "conclude", lambda *_: None)
    monkeypatch.setattr(WindowReader, "_lacks_entries", lambda *_, **__: False)


class TestSeed:
    def test_determines_scenario(self) -> None:
        assert draw_scenario(7) == draw_scenario(7) != draw_scenario(8)

    def test_replay_repeats_faults_and_edits(self) -> None:
        first, second = run_scenario(BUSY), run_scenario(BUSY)
        assert first.faults == second.faults
        assert first.edits == second.edits
        assert (first.entries, first.requests) == (second.entries, second.requests)
        assert first.faults.total() > 0 < first.edits.total()

    def test_single_run_prints_scenario(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--runs", "1", "--seed", "7"]) == 0
        output = capsys.readouterr().out
        assert "Scenario(seed=7" in output
        assert "| runs | 1 |" in output


class TestOracle:
    """Nearly every test breaks the product, and checks that the oracle notices."""

    def test_accepts_undisturbed_export(self) -> None:
        outcome = run_scenario(CALM)
        assert (outcome.violations, outcome.error, outcome.entries) == ([], None, 270)

    @pytest.mark.parametrize(
        ("change", "violation"),
        [
            (lambda entries: entries[:-1], "matched throughout, but are not there"),
            (lambda entries: [*entries, *entries[:1]], "are there more than once"),
            (lambda entries: [bytes(entry).replace(b"e-7", b"e-8") for entry in entries], "in no version"),
            (
                lambda entries: [bytes(entry).replace(b'"id":"', b'"id":"9', 1) for entry in entries],
                "never matched",
            ),
        ],
        ids=["dropped", "duplicated", "digit changed", "invented"],
    )
    def test_notices_wrong_entry(
        self, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], violation: str
    ) -> None:
        write = JsonLinesWriter.write

        def write_changed(self: JsonLinesWriter, entries: Any, metas: Any) -> None:
            write(self, change(entries), metas)

        monkeypatch.setattr(JsonLinesWriter, "write", write_changed)
        assert violation in " ".join(run_scenario(CALM).violations)

    def test_accepts_retry_that_resumes(self) -> None:
        outcome = run_scenario(replace(CALM, broken_off=(10, 6)))
        assert (outcome.violations, outcome.error, outcome.entries, outcome.continued) == ([], None, 270, 2)

    def test_notices_entry_lost_between_attempts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replay = Checkpoint.replay

        def forget_one(self: Checkpoint, on_cut: Callable[[Cut], None]) -> Iterator[Any]:
            to_forget = 1
            for batch in replay(self, on_cut):
                kept = max(0, len(batch.entries) - to_forget)
                to_forget -= len(batch.entries) - kept
                yield batch.take(range(kept))

        monkeypatch.setattr(Checkpoint, "replay", forget_one)
        disable_proof(monkeypatch)
        outcome = run_scenario(replace(SLICED, broken_off=(8,)))
        assert "matched throughout, but are not there" in " ".join(outcome.violations)

    def test_notices_missing_proof(self, monkeypatch: pytest.MonkeyPatch) -> None:
        check = page.check_page

        def believe(raw: Any, window: Any, size: int, *rest: Any) -> Any:
            raw.total_count = min(raw.total_count, len(raw.items)) if size > 1 else raw.total_count
            return check(raw, window, size, *rest)

        monkeypatch.setattr(search, "check_page", believe)
        disable_proof(monkeypatch)
        outcome = run_scenario(replace(CALM, fault_level="few", faults={"short-page": 0.3}))
        assert "matched throughout, but are not there" in " ".join(outcome.violations)

    def test_notices_entries_outside_query(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scenario = replace(CALM, arguments={**CALM.arguments, "changed_from": "2023-01-01T00:00:00Z"})
        assert run_scenario(scenario).violations == []
        plan = Planner.plan

        def plan_more(self: Planner) -> Any:
            self._search.query = replace(self._search.query, changed_from=None)
            return plan(self)

        monkeypatch.setattr(Planner, "plan", plan_more)
        monkeypatch.setattr(page, "_wrong_version", lambda *_: None)
        assert "are there, but never matched" in " ".join(run_scenario(scenario).violations)

    @pytest.mark.parametrize("destination", ["entries.jsonl", "entries.csv.gz", "entries.parquet", "export/"])
    def test_compares_bytes_of_calm_run(self, destination: str) -> None:
        arguments = dict(CALM.arguments)
        if destination.endswith(".parquet"):
            pytest.importorskip("pyarrow")
            arguments["parquet_mode"] = "raw"
        outcome = run_scenario(replace(CALM, arguments=arguments, destination=destination))
        assert (outcome.violations, outcome.comparisons) == ([], 1)

    def test_compares_bytes_after_edits(self) -> None:
        outcome = run_scenario(EDITED)
        assert (outcome.error, outcome.violations, outcome.comparisons) == (None, [], 1)
        assert outcome.edits.total() > 0

    @pytest.mark.parametrize(
        ("destination", "file"), [("entries.jsonl", "entries.jsonl"), ("export/", "export/article.jsonl")]
    )
    def test_notices_order_that_depends_on_page_size(
        self, monkeypatch: pytest.MonkeyPatch, destination: str, file: str
    ) -> None:
        read = WindowReader._read

        def reverse_large_pages(self: WindowReader, window: Any, *args: Any, **options: Any) -> Any:
            result = read(self, window, *args, **options)
            if isinstance(result, Batch) and self._search.limits.page_size > 100:
                return result.take(reversed(range(len(result.entries))))
            return result

        monkeypatch.setattr(WindowReader, "_read", reverse_large_pages)
        named = {**CALM.arguments, "content_type_id": "article"}
        assert run_scenario(replace(CALM, arguments=named, destination=destination)).violations == [
            f"{file} differs between an export with page_size=25, max_concurrent_requests=1 "
            "and one with page_size=300, max_concurrent_requests=2"
        ]

    def test_notices_bulk_import_out_of_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(IN_ORDER, lambda batch: batch)
        assert "entries.jsonl differs between" in " ".join(run_scenario(EDITED).violations)

    def test_notices_leftovers_of_failed_export(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> Any:
            raise IncompleteReadError("Too few.", expected=2, found=1)

        monkeypatch.setattr(EntrySource, "read", fail)
        outcome = run_scenario(BUSY)
        assert (outcome.error, outcome.violations) == ("IncompleteReadError", [])
        create = LocalStorage.create

        def create_at_once(self: LocalStorage, path: str, *, owner: str) -> Any:
            file = create(self, path, owner=owner)
            file.commit()
            return file

        monkeypatch.setattr(LocalStorage, "create", create_at_once)
        assert "the destination changed" in " ".join(run_scenario(BUSY).violations)

    def test_notices_foreign_exception_and_failure_without_reason(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise KeyError("sys")

        monkeypatch.setattr(JsonLinesWriter, "write", fail)
        foreign, without_reason = run_scenario(CALM).violations
        assert "foreign exception, KeyError" in foreign
        assert "nothing was wrong" in without_reason


def test_only_files_of_manifest_are_compared() -> None:
    manifest = b'{"files": [{"path": "a.jsonl", "rows": 1}], "seconds": %d}'
    one = {"export/_manifest.json": manifest % 1, "export/a.jsonl": b"{}", "export/notes.txt": b"mine"}
    other = {"export/_manifest.json": manifest % 2, "export/a.jsonl": b"{}"}
    assert differing_files(one, other) == []
    other["export/_manifest.json"] = manifest.replace(b"1", b"2") % 2
    assert differing_files(one, other) == ["export/_manifest.json"]
    assert differing_files(one, {**other, "export/a.jsonl": b"[]"}) == ["export/a.jsonl"]
    del other["export/a.jsonl"]
    assert differing_files(one, other) == ["export/a.jsonl"]


def test_report_counts_runs_faults_edits_warnings_and_failures() -> None:
    good = replace(run_scenario(BUSY), warnings=Counter(retry=7, plan=5, proof=2), comparisons=1)
    bad = replace(good, error="ServerError", violations=["one", "two"])
    text = report([good, bad], 12)
    assert "| runs | 2 |" in text
    assert "| calls retried | 14 |" in text
    assert "| windows found incomplete and read again | 4 |" in text
    assert "| byte comparisons | 2 |" in text
    assert "| **violations** | 2 |" in text
    assert "| few | 0 of 0 | 1 of 2 | 0 of 0 |" in text
    assert f"| `503` | {2 * good.faults['503']} |" in text
    assert f"| `save` | {2 * good.edits['save']} |" in text
    assert "| `ServerError` | 1 |" in text
