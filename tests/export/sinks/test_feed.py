"""A feed as a folder: what a reader finds while runs write, fail and repeat."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.sinks.feed import FeedSink
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, synthetic_catalogue
from tests.feeds import feed_index, load, manifests, served
from tests.file_pointer import FilePointer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName

FIXED_KEYS = {"feed_version", "sequence", "oldest_sequence", "latest", "horizon", "source", "query", "ledger"}
MANIFEST_KEYS = {"kind", "sequence", "previous", "changed_from", "horizon", "run", "files"}


def run_name(number: int) -> RunName:
    return {"dag_id": "d", "task_id": "t", "run_id": f"run {number}", "map_index": -1}


@pytest.fixture
def catalogue() -> Catalogue:
    return synthetic_catalogue(30, body_bytes=40)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return tmp_path / "feed"


@pytest.fixture
def export(
    sandbox: Sandbox, make_client: Callable[..., ContensisClient], feed: Path
) -> Callable[..., ChangesSummary]:
    """A function that brings the feed up to date."""

    def run(name: RunName | None = None, pointer: Any = None, **arguments: Any) -> ChangesSummary:
        request = ChangesRequest.from_arguments(destination=f"{feed}/", **arguments)
        client = make_client(sandbox)
        return export_changes(client, sandbox.project_id, request, run=name, pointer=pointer)

    return run


def edit(catalogue: Catalogue, number: int) -> None:
    """Change one entry and delete another."""
    entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
    catalogue.update(entries[0], {"title": f"edit {number}"})
    catalogue.delete(entries[-1])


def test_layout(export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path) -> None:
    export(run_name(1))
    edit(catalogue, 1)
    result = export(run_name(2))
    index = feed_index(feed)
    assert index.keys() >= FIXED_KEYS | {"entries"}
    assert (index["feed_version"], index["sequence"], index["oldest_sequence"]) == (1, 2, 1)
    assert index["latest"] == result["change_set"]
    assert index["source"]["project_id"] == "synthetic"
    assert [slice_["entries"] for slice_ in index["ledger"]] == [29]
    (first, snapshot), (second, changes) = manifests(feed)
    assert snapshot.keys() >= MANIFEST_KEYS
    assert (changes["kind"], changes["previous"]) == ("changes", f"{first.name}/")
    assert changes["run"] == run_name(2)
    assert changes["changed_from"] == snapshot["horizon"]
    names = sorted(str(path.relative_to(second)) for path in second.rglob("*") if path.is_file())
    assert names == ["_manifest.json", "deletes/article.jsonl", "upserts/article.jsonl"]
    [deletion] = map(json.loads, (second / "deletes" / "article.jsonl").read_text().splitlines())
    assert deletion.keys() == {"sys", "reason", "detected"}
    assert deletion["sys"].keys() == {"id", "language", "contentTypeId"}
    assert not list(feed.rglob(".*"))


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_upserts_may_be_compressed(
    export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path, compression: str, suffix: str
) -> None:
    if compression == "zstd":
        zstandard = pytest.importorskip("zstandard")
    for number in range(2):
        export(compression=compression)
        edit(catalogue, number)
    [(first, _)] = manifests(feed)[:1]
    content = (first / "upserts" / f"article.jsonl{suffix}").read_bytes()
    lines = (
        gzip.decompress(content)
        if compression == "gzip"
        else zstandard.ZstdDecompressor().decompressobj().decompress(content)
    )
    assert len(lines.splitlines()) == 30


def test_missing_library_is_reported_before_anything_is_asked(
    export: Callable[..., ChangesSummary], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match="compression zstd needs zstandard"):
        export(compression="zstd")
    assert sandbox.count() == 0


@pytest.mark.parametrize("concurrency", [1, 4])
def test_change_set_does_not_depend_on_how_it_was_read(
    export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path, tmp_path: Path, concurrency: int
) -> None:
    export()
    shutil.copytree(feed, tmp_path / "before")
    entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
    for number, entry_id in enumerate(entries):
        if number % 3 == 0:
            catalogue.delete(entry_id)
        elif number % 3 == 1:
            catalogue.update(entry_id, {"title": "changed"})
    files = []
    for page_size in (2, 7, 100):
        shutil.rmtree(feed)
        shutil.copytree(tmp_path / "before", feed)
        export(max_delete_share=None, page_size=page_size, max_concurrent_requests=concurrency)
        folder, _ = manifests(feed)[-1]
        lines = (folder / "deletes/article.jsonl").read_bytes().splitlines()
        deleted = [json.loads(line) for line in lines]
        files.append(
            ((folder / "upserts/article.jsonl").read_bytes(), [each["sys"]["id"] for each in deleted])
        )
    assert files[0] == files[1] == files[2]
    assert len(files[0][1]) == 10


class TestRunAgain:
    def test_committed_run_returns_the_same_and_reads_nothing(
        self, export: Callable[..., ChangesSummary], sandbox: Sandbox, catalogue: Catalogue, feed: Path
    ) -> None:
        results = []
        for number in range(4):
            results.append(export(run_name(number)))
            if number != 1:
                edit(catalogue, number)
        assert results[3]["change_set"] is not None
        before = feed_index(feed)
        sandbox.forget_requests()
        for number in (3, 0, 2, 1):
            assert export(run_name(number)) == results[number]
        assert sandbox.count() == 0
        assert feed_index(feed) == before

    def test_run_that_found_nothing_returns_that_again(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue
    ) -> None:
        export(run_name(1))
        nothing = export(run_name(2))
        edit(catalogue, 1)
        assert export(run_name(2)) == nothing
        assert export(run_name(3))["change_set"] is not None

    def test_retry_continues_from_the_checkpoint_with_its_horizon(
        self, export: Callable[..., ChangesSummary], sandbox: Sandbox, catalogue: Catalogue, feed: Path
    ) -> None:
        """An entry that changed after the first attempt had read it is not older than its horizon."""
        pointer = FilePointer(feed.with_name("pointer.json"))
        moments: list[datetime] = []

        def set_clock(request: Request) -> Response:
            moments.append(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=len(moments)))
            response = request.answer()
            date = format_datetime(moments[-1], usegmt=True)
            return replace(response, headers={**response.headers, "Date": date})

        def fail(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        sandbox.faults = set_clock
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("airflow_provider_contensis.export.feed.FeedSink.prepare", fail)
            with pytest.raises(KeyboardInterrupt):
                export(run_name(1), pointer, overlap=0)
        first = len(moments)
        result = export(run_name(1), pointer, overlap=0)
        horizon = datetime.fromisoformat(result["horizon"] or "")
        assert moments[0] <= horizon < moments[first]
        assert load(feed) == served(catalogue)


class TestTwoAtOnce:
    def test_second_run_fails_with_a_sentence(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        edit(catalogue, 1)
        message = "another run is writing to it.*max_active_runs=1"
        with (
            LocalStorage().exclusive(f"{feed}/", owner="another"),
            pytest.raises(DestinationError, match=message),
        ):
            export()
        assert export()["sequence"] == 2

    def test_run_that_was_overtaken_without_locks_changes_nothing(
        self,
        export: Callable[..., ChangesSummary],
        catalogue: Catalogue,
        feed: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        export()
        edit(catalogue, 1)
        monkeypatch.setattr(LocalStorage, "exclusive", lambda *_, **__: contextlib.nullcontext())
        create = LocalStorage.create
        nested: list[str] = []

        def overtaken(storage: LocalStorage, path: str, *, owner: str) -> Any:
            if path.endswith("_feed.json") and not nested:
                nested.append(path)
                export()
            return create(storage, path, owner=owner)

        monkeypatch.setattr(LocalStorage, "create", overtaken)
        with pytest.raises(DestinationError, match="another run has updated it"):
            export()
        monkeypatch.undo()
        assert load(feed) == served(catalogue)


class TestSnapshots:
    def test_snapshot_holds_everything_and_what_left(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        edit(catalogue, 1)
        result = export(write_snapshot=True)
        assert (result["upserts"], result["deletes"], result["drift"]) == (1, 1, 0)
        folder, manifest = manifests(feed)[-1]
        assert manifest["kind"] == "snapshot"
        files = {file["operation"]: file["rows"] for file in manifest["files"]}
        assert files == {"upsert": 29, "delete": 1}
        lines = (folder / "upserts" / "article.jsonl").read_bytes().splitlines()
        assert sorted(lines) == sorted(catalogue.entries())

    def test_snapshot_is_written_even_if_nothing_changed(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        result = export(write_snapshot=True)
        assert (result["upserts"], result["sequence"]) == (0, 2)
        assert feed_index(feed)["snapshots"] == [1, 2]
        assert export()["change_set"] is None

    def test_snapshot_is_in_order(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        export(write_snapshot=True)
        first, second = (folder / "upserts" / "article.jsonl" for folder, _ in manifests(feed))
        assert first.read_bytes() == second.read_bytes()

    def test_entry_that_changes_meanwhile_comes_once(
        self, export: Callable[..., ChangesSummary], sandbox: Sandbox, catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]

        def interfere(request: Request) -> None:
            if request.kind == "search" and len(entries) > 20:
                entry_id = entries.pop()
                if len(entries) % 2:
                    catalogue.delete(entry_id)
                else:
                    catalogue.update(entry_id, {"title": "meanwhile"})

        sandbox.faults = interfere
        export(write_snapshot=True, page_size=5)
        sandbox.faults = None
        load(feed)
        export()
        assert load(feed) == served(catalogue)

    def test_incomplete_snapshot_is_not_called_one(
        self,
        export: Callable[..., ChangesSummary],
        catalogue: Catalogue,
        feed: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        export()
        edit(catalogue, 1)
        keep = FeedSink.keep

        def lose_one(self: FeedSink, held_slice: Any, entries: Any, held: Any) -> None:
            keep(self, held_slice, entries[1:], held[1:])

        monkeypatch.setattr(FeedSink, "keep", lose_one)
        export(write_snapshot=True)
        assert manifests(feed)[-1][1]["kind"] == "changes"
        assert "No snapshot was written, only what changed" in caplog.text
        assert load(feed) == served(catalogue)

    def test_feed_of_an_early_version_can_start_at_its_first_change_set(
        self, export: Callable[..., ChangesSummary], feed: Path
    ) -> None:
        export()
        index = feed_index(feed)
        del index["snapshots"]
        (feed / "_feed.json").write_text(json.dumps(index))
        export(write_snapshot=True)
        assert feed_index(feed)["snapshots"] == [1, 2]


class TestLeftovers:
    def test_of_dead_runs_are_removed(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        dead = feed / "000002-20260101T000000Z" / "upserts"
        dead.mkdir(parents=True)
        (dead / ".article.part").write_text("half")
        (feed / "_ledger" / "dead.ledger").write_text("half")
        (feed / "notes.txt").write_text("a person's")
        edit(catalogue, 1)
        result = export()
        kept = {"_feed.json", "_ledger", "notes.txt", *(path.name for path, _ in manifests(feed))}
        assert {path.name for path in feed.iterdir()} == kept
        assert result["sequence"] == 2
        index = feed_index(feed)
        used = {*(each["path"] for each in index["ledger"]), index["runs_path"]} - {None}
        assert {path.name for path in (feed / "_ledger").iterdir()} == used

    def test_change_sets_that_no_snapshot_replaces_stay(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        for number in range(4):
            export(keep_change_sets="2")
            edit(catalogue, number)
        assert [path.name[:6] for path in sorted(feed.glob("0*"))] == ["000001", "000002", "000003", "000004"]
        assert feed_index(feed)["oldest_sequence"] == 1

    def test_change_sets_that_a_snapshot_replaces_are_removed(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        for number in range(5):
            export(keep_change_sets=2, write_snapshot=number == 2)
            assert load(feed) == served(catalogue)
            edit(catalogue, number)
            left = [path.name[:6] for path in sorted(feed.glob("0*"))]
            assert left[0] == ("000001" if number < 3 else "000003")
        assert (feed_index(feed)["oldest_sequence"], feed_index(feed)["snapshots"]) == (3, [3])
        export(keep_change_sets=1, write_snapshot="True")
        assert [path.name[:6] for path in sorted(feed.glob("0*"))] == ["000006"]
        export(keep_change_sets=1)
        assert load(feed) == served(catalogue)

    @pytest.mark.parametrize("runs_before", [0, 1])
    def test_failed_run_leaves_the_feed_as_it_was(
        self,
        export: Callable[..., ChangesSummary],
        sandbox: Sandbox,
        catalogue: Catalogue,
        feed: Path,
        runs_before: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for _ in range(runs_before):
            export()
        edit(catalogue, 1)
        before = {path: path.read_bytes() for path in feed.rglob("*") if path.is_file()}
        create = LocalStorage.create

        def full_disk(storage: LocalStorage, path: str, *, owner: str) -> Any:
            if path.endswith("_manifest.json"):
                raise DestinationError("No space left.")
            return create(storage, path, owner=owner)

        monkeypatch.setattr(LocalStorage, "create", full_disk)
        with pytest.raises(DestinationError, match="No space left"):
            export()
        assert {path: path.read_bytes() for path in feed.rglob("*") if path.is_file()} == before

    def test_full_temporary_folder_fails_with_a_sentence(
        self,
        export: Callable[..., ChangesSummary],
        catalogue: Catalogue,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        export()
        edit(catalogue, 1)
        connect = sqlite3.connect

        def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
            database: sqlite3.Connection = connect(*arguments, **options)
            database.execute("PRAGMA max_page_count = 2")
            return database

        monkeypatch.setattr(sqlite3, "connect", small)
        with pytest.raises(
            DestinationError, match="folder for temporary files, could not be written"
        ) as error:
            export()
        assert error.value.retryable
        monkeypatch.undo()
        assert export()["sequence"] == 2


class TestForeignFolder:
    def test_damaged_index_is_refused(self, export: Callable[..., ChangesSummary], feed: Path) -> None:
        export()
        index = feed_index(feed)
        wrong: dict[str, Any] = {"source": [], "ledger": [{}], "runs": "x", "sequence": None, "latest": 3}
        damages = [json.dumps({**index, name: value}).encode() for name, value in wrong.items()]
        for damage in (b"{", b"[]", b"\xff", b'{"feed_version": 1}', *damages):
            (feed / "_feed.json").write_bytes(damage)
            with pytest.raises(DestinationError, match="is damaged"):
                export()

    def test_index_that_is_no_file_is_refused(
        self, export: Callable[..., ChangesSummary], feed: Path
    ) -> None:
        feed.mkdir()
        os.mkfifo(feed / "_feed.json")
        with pytest.raises(DestinationError, match="not a regular file"):
            export()

    def test_later_version_is_refused(self, export: Callable[..., ChangesSummary], feed: Path) -> None:
        export()
        (feed / "_feed.json").write_text(json.dumps({**feed_index(feed), "feed_version": 2}))
        with pytest.raises(ConfigurationError, match="has feed_version 2, and this version"):
            export()

    def test_lost_ledger_fails_and_removes_nothing(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: Path
    ) -> None:
        export()
        shutil.rmtree(feed / "_ledger")
        edit(catalogue, 1)
        with pytest.raises(DestinationError, match="could not be|damaged"):
            export()
        assert len(manifests(feed)) == 1
