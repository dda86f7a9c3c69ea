"""A feed in an object store: the same promises as on a disk, without its locks and its renames."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.storage import store_lock
from airflow_provider_contensis.export.storage.conditional import ChangedError, conditional_writes
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.export.storage.store_lock import StoreLock
from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.export.sinks.test_feed import edit, run_name
from tests.feeds import feed_index, load, manifests, served
from tests.object_stores import StoredFeed, gcs_filesystem, gcs_server, stored_feed

pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName

NO_CONDITIONS = "no conditional writes that the provider knows.*Use S3, Google Cloud Storage or a disk"


@pytest.fixture
def catalogue() -> Catalogue:
    return synthetic_catalogue(30, body_bytes=40)


@pytest.fixture(params=["s3", "gs"])
def feed(request: pytest.FixtureRequest, s3_url: str, tmp_path: Path) -> Iterator[StoredFeed]:
    with stored_feed(request.param, s3_url, tmp_path) as made:
        yield made


@pytest.fixture
def export(
    sandbox: Sandbox, make_client: Callable[..., ContensisClient], feed: StoredFeed
) -> Callable[..., ChangesSummary]:
    """A function that brings the feed up to date."""

    def run(
        name: RunName | None = None, storage: ObjectStorage | None = None, **arguments: Any
    ) -> ChangesSummary:
        request = ChangesRequest.from_arguments(destination=feed.url, **arguments)
        return export_changes(
            make_client(sandbox),
            sandbox.project_id,
            request,
            storage=storage or feed.storage(),
            root=feed.root,
            run=name,
        )

    return run


def test_copy_stays_in_step(
    export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed
) -> None:
    first = export(run_name(1))
    assert (first["destination"], first["upserts"]) == (feed.url, 30)
    edit(catalogue, 1)
    second = export(run_name(2))
    assert (second["upserts"], second["deletes"]) == (1, 1)
    assert export(run_name(2)) == second
    third = export(run_name(3))
    assert third["change_set"] is None
    assert load(feed.folder()) == served(catalogue)
    index = feed_index(feed.folder())
    used = {f"_ledger/{name}" for name in (*(each["path"] for each in index["ledger"]), index["runs_path"])}
    in_sets = {
        f"{path.name}/{name}"
        for path, manifest in manifests(feed.folder())
        for name in ("_manifest.json", *(file["path"] for file in manifest["files"]))
    }
    assert feed.files().keys() == {"_feed.json", *used, *in_sets}


def test_large_files_are_read_and_written_in_parts(
    make_client: Callable[..., ContensisClient], feed: StoredFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_contensis.export.storage.object_store._PART_BYTES", 5 << 20)
    monkeypatch.setattr("airflow_provider_contensis.export.sinks.feed_ledger_file._END_BYTES", 10)
    monkeypatch.setattr("airflow_provider_contensis.export.sinks.feed_ledger_file._READ_BYTES", 500)
    monkeypatch.setattr("airflow_provider_contensis.export.sinks.feed_ledger_file.BLOCK_ENTRIES", 10)
    catalogue = synthetic_catalogue(60, body_bytes=200_000)
    request = ChangesRequest.from_arguments(destination=feed.url, page_size=10)
    with Sandbox(catalogue) as sandbox:
        for number in range(2):
            client = make_client(sandbox)
            export_changes(client, sandbox.project_id, request, storage=feed.storage(), root=feed.root)
            edit(catalogue, number)
        export_changes(client, sandbox.project_id, request, storage=feed.storage(), root=feed.root)
    folder = feed.folder()
    assert load(folder) == served(catalogue)
    assert manifests(folder)[0][1]["files"][0]["bytes"] > 10 << 20


def test_old_change_sets_are_removed(
    export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed
) -> None:
    for number in range(3):
        export(keep_change_sets=1, write_snapshot=number == 2)
        edit(catalogue, number)
    assert {name.partition("-")[0] for name in feed.files() if name[0] == "0"} == {"000003"}


class TestTwoAtOnce:
    def test_second_run_fails_while_first_is_alive(
        self, export: Callable[..., ChangesSummary], feed: StoredFeed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_lock, "_EXPIRY", 1.2)
        with (
            feed.storage().exclusive(feed.root, owner="another", alone=True),
            pytest.raises(
                DestinationError, match="another run is writing to it.*max_active_runs=1"
            ) as failure,
        ):
            export()
        assert failure.value.retryable
        assert export()["sequence"] == 1

    def test_expired_lock_of_killed_run_is_taken_over(
        self, export: Callable[..., ChangesSummary], feed: StoredFeed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_lock, "_EXPIRY", 1.2)
        leave_lock(feed)
        started = time.monotonic()
        assert export()["sequence"] == 1
        assert time.monotonic() - started > 0.5
        assert "._manifest.json.lock" not in feed.files()

    def test_run_that_was_overtaken_changes_nothing(
        self,
        export: Callable[..., ChangesSummary],
        catalogue: Catalogue,
        feed: StoredFeed,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As if the run had been suspended before its last request, and its lock had expired."""
        export()
        edit(catalogue, 1)
        storage = feed.storage()
        replace = storage.replace
        nested: list[ChangesSummary] = []

        def overtaken(*args: Any, **kwargs: Any) -> Any:
            if not nested:
                feed.store.rm_file(f"{feed.root}._manifest.json.lock")
                nested.append(export(run_name(2)))
            return replace(*args, **kwargs)

        storage.replace = overtaken  # type: ignore[method-assign]  # on this instance only
        with pytest.raises(DestinationError, match="another run has updated it meanwhile"):
            export(run_name(1), storage=storage)
        assert load(feed.folder()) == served(catalogue)

    def test_two_of_many_runs_never_commit_the_same_sequence(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed
    ) -> None:
        """The feed is whole whichever run wins, and holds every run that succeeded."""
        export()
        edit(catalogue, 1)
        results: list[int] = []

        def run(number: int) -> None:
            with contextlib.suppress(DestinationError):
                results.append(export(run_name(number))["sequence"])

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results
        assert load(feed.folder()) == served(catalogue)


class TestLostConnections:
    def test_commit_that_arrived_although_its_answer_was_lost(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed
    ) -> None:
        """The library then repeats the request, and finds what it has written itself."""
        storage = feed.storage()
        assert storage._writes is not None
        write = storage._writes.write

        def write_twice(path: str, content: bytes, *, tag: str | None) -> str:
            if path.endswith("_feed.json"):
                write(path, content, tag=tag)
            return write(path, content, tag=tag)

        storage._writes.write = write_twice  # type: ignore[method-assign]  # on this instance only
        assert export(run_name(1), storage=storage)["sequence"] == 1
        assert load(feed.folder()) == served(catalogue)

    @pytest.mark.parametrize("runs_before", [0, 1])
    def test_commit_on_its_way_cannot_succeed_once_its_files_are_gone(
        self,
        export: Callable[..., ChangesSummary],
        catalogue: Catalogue,
        feed: StoredFeed,
        runs_before: int,
    ) -> None:
        """A store may execute a request long after the client has given up on it."""
        for _ in range(runs_before):
            export()
        edit(catalogue, 1)
        storage = feed.storage()
        assert storage._writes is not None
        write = storage._writes.write
        on_its_way: list[Callable[[], object]] = []

        def lose_commit(path: str, content: bytes, *, tag: str | None) -> str:
            if path.endswith("_feed.json"):
                on_its_way.append(lambda: write(path, content, tag=tag))
                raise TimeoutError("the connection was lost")
            return write(path, content, tag=tag)

        storage._writes.write = lose_commit  # type: ignore[method-assign]  # on this instance only
        with pytest.raises(DestinationError, match="the connection was lost") as failure:
            export(run_name(1), storage=storage)
        assert failure.value.retryable
        if runs_before:
            edit(catalogue, 2)
        export(run_name(2))
        for late in on_its_way:
            with pytest.raises(ChangedError):
                late()
        assert load(feed.folder()) == served(catalogue)

    def test_commit_that_arrives_late_is_found_by_the_retry(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed, sandbox: Sandbox
    ) -> None:
        storage = feed.storage()
        assert storage._writes is not None
        write = storage._writes.write

        def lose_answer(path: str, content: bytes, *, tag: str | None) -> str:
            written = write(path, content, tag=tag)
            if path.endswith("_feed.json"):
                raise TimeoutError("the connection was lost")
            return written

        storage._writes.write = lose_answer  # type: ignore[method-assign]  # on this instance only
        with pytest.raises(DestinationError, match="the connection was lost"):
            export(run_name(1), storage=storage)
        sandbox.forget_requests()
        assert export(run_name(1))["upserts"] == 30
        assert sandbox.count() == 0
        assert load(feed.folder()) == served(catalogue)

    def test_run_that_fails_leaves_the_feed_as_it_was(
        self, export: Callable[..., ChangesSummary], catalogue: Catalogue, feed: StoredFeed
    ) -> None:
        export()
        edit(catalogue, 1)
        before = feed.files()
        storage = feed.storage()
        create = storage.create

        def fail(path: str, *, owner: str) -> Any:
            if path.endswith("_manifest.json"):
                raise DestinationError("The connection was lost.")
            return create(path, owner=owner)

        storage.create = fail  # type: ignore[method-assign]  # on this instance only
        with pytest.raises(DestinationError, match="lost"):
            export(storage=storage)
        assert feed.files() == before

    def test_uploads_of_dead_runs_are_aborted(
        self, export: Callable[..., ChangesSummary], s3_url: str, tmp_path: Path, sandbox: Sandbox
    ) -> None:
        with stored_feed("s3", s3_url, tmp_path) as feed:
            key = "films/000001-20260101T000000Z/upserts/film.jsonl"
            feed.store.call_s3("create_multipart_upload", Bucket=feed.bucket, Key=key)
            feed.store.call_s3("create_multipart_upload", Bucket=feed.bucket, Key="elsewhere")
            with feed.storage().exclusive(feed.root, owner="task", alone=True):
                pass
            left = [each["Key"] for each in feed.store.list_multipart_uploads(feed.bucket)]
            assert left == ["elsewhere"]


class TestStoresWithoutConditions:
    def run(self, storage: ObjectStorage, root: str) -> DestinationError:
        with (
            pytest.raises(DestinationError, match=NO_CONDITIONS) as failure,
            storage.exclusive(root, owner="task", alone=True),
        ):
            pass
        assert not failure.value.retryable
        return failure.value

    def test_unknown_store_is_refused(self) -> None:
        error = self.run(ObjectStorage(MemoryFileSystem()), "/feed/")
        assert str(error).startswith("memory:///feed/ could not be written: its store has no conditional")

    def test_store_that_ignores_conditions_is_refused(self, tmp_path: Path) -> None:
        with gcs_server(has_conditions=False) as url:
            feed = StoredFeed("gs", gcs_filesystem(url), tmp_path)
            self.run(feed.storage(), feed.root)
            assert feed.files() == {}

    def test_store_that_refuses_conditions_is_refused(self, tmp_path: Path) -> None:
        from tests.export.storage.test_store_lock import server_without_conditional_writes
        from tests.kills import s3_filesystem

        with server_without_conditional_writes() as url:
            feed = StoredFeed("s3", s3_filesystem(url), tmp_path)
            self.run(feed.storage(), feed.root)
            assert feed.files() == {}


def leave_lock(feed: StoredFeed) -> None:
    """Leave the lock of a killed run."""
    writes = conditional_writes(feed.store)
    assert writes is not None
    killed = StoreLock(feed.store, writes, feed.root, "killed")
    killed.acquire()
    killed._released.set()
