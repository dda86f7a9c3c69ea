"""The lock of a folder in an object store, which keeps concurrent commits apart."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.storage import store_lock as lock
from airflow_provider_contensis.export.storage.conditional import conditional_writes
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.export.storage.store_lock import StoreLock
from tests.kills import s3_filesystem

moto_s3 = pytest.importorskip("moto.s3.models")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Sandbox


class Folder:
    """A folder in a bucket of its own."""

    def __init__(self, s3_url: str) -> None:
        self.bucket = f"lock{secrets.token_hex(8)}"
        self.path = f"{self.bucket}/films/"
        self.lock = f"{self.path}._manifest.json.lock"
        self.store = s3_filesystem(s3_url)
        self.store.call_s3("create_bucket", Bucket=self.bucket)

    def storage(self) -> ObjectStorage:
        return ObjectStorage(self.store)

    def new_lock(self, owner: str) -> StoreLock:
        writes = conditional_writes(self.store)
        assert writes is not None
        return StoreLock(self.store, writes, self.path, owner)

    def files(self) -> dict[str, bytes]:
        return {path: self.store.cat_file(path) for path in self.store.find(self.bucket)}

    def leave_lock(self, *, age: timedelta) -> bytes:
        """Leave the lock of a killed holder; return its content."""
        killed = self.new_lock("killed")
        killed.acquire()
        killed._released.set()
        self.age_lock(age)
        content: bytes = self.store.cat_file(self.lock)
        return content

    def age_lock(self, age: timedelta) -> None:
        """Make the lock older, in the memory of the server."""
        [buckets] = [
            backend.buckets
            for account in moto_s3.s3_backends.values()
            for backend in account.values()
            if self.bucket in backend.buckets
        ]
        key = buckets[self.bucket].keys["films/._manifest.json.lock"]
        key.last_modified -= age


@pytest.fixture
def folder(s3_url: str) -> Folder:
    return Folder(s3_url)


def test_lock_names_owner_and_is_removed_afterwards(folder: Folder) -> None:
    with folder.storage().exclusive(folder.path, owner="dag/task/run/-1"):
        assert folder.store.cat_file(folder.lock).startswith(b"dag/task/run/-1\n")
    assert folder.files() == {}
    with pytest.raises(KeyError), folder.storage().exclusive(folder.path, owner="task"):
        raise KeyError
    assert folder.files() == {}


def test_second_holder_waits_for_first(folder: Folder) -> None:
    order = []

    def hold_second() -> None:
        with folder.storage().exclusive(folder.path, owner="second"):
            order.append("second")

    second = threading.Thread(target=hold_second)
    with folder.storage().exclusive(folder.path, owner="first"):
        second.start()
        second.join(1)
        order.append("first")
    second.join(30)
    assert order == ["first", "second"]
    assert folder.files() == {}


def test_expired_lock_of_killed_holder_is_taken_over(folder: Folder) -> None:
    folder.leave_lock(age=timedelta(seconds=61))
    with folder.storage().exclusive(folder.path, owner="waiter"):
        assert folder.store.cat_file(folder.lock).startswith(b"waiter\n")
    assert folder.files() == {}


def test_holder_renews_lock_while_it_works(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as short_expiry:
        short_expiry.setattr(lock, "_EXPIRY", 0.6)
        with folder.storage().exclusive(folder.path, owner="task"):
            seen = {folder.store.cat_file(folder.lock)}
            folder.age_lock(timedelta(hours=1))
            deadline = time.monotonic() + 30
            while len(seen) < 3 and time.monotonic() < deadline:
                seen.add(folder.store.cat_file(folder.lock))
            short_expiry.undo()
            monkeypatch.setattr(lock, "_TIMEOUT", 0.5)
            with pytest.raises(DestinationError), folder.storage().exclusive(folder.path, owner="other"):
                pass
    assert len(seen) == 3


def test_waiting_too_long_fails_and_changes_nothing(
    folder: Folder,
    iso_sandbox: Sandbox,
    make_client: Callable[..., ContensisClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def export(content_type_id: str) -> None:
        url = f"s3://{folder.path}"
        request = ExportRequest.from_arguments(destination=url, content_type_id=content_type_id)
        client, storage = make_client(iso_sandbox), folder.storage()
        export_entries(client, iso_sandbox.project_id, request, storage=storage, root=folder.path)

    export("currency")
    folder.leave_lock(age=timedelta(seconds=30))
    before = folder.files()
    monkeypatch.setattr(lock, "_TIMEOUT", 0.5)
    with pytest.raises(DestinationError) as failure:
        export("country")
    assert str(failure.value) == (
        f"s3://{folder.path} could not be written: other exports have been replacing its files for "
        "0 minutes. ._manifest.json.lock in it names the task that holds the lock."
    )
    assert failure.value.retryable
    assert folder.files() == before
    assert folder.store.list_multipart_uploads(folder.bucket) == []


def test_holder_that_lost_lock_cannot_change_files(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.store.pipe_file(f"{folder.path}film.jsonl", b"other's")
    sleeper, other = folder.storage(), folder.storage()
    file = sleeper.create(f"{folder.path}film.jsonl", owner="sleeper")
    file.write(b"sleeper's")
    file.finish()
    with sleeper.exclusive(folder.path, owner="sleeper"):
        folder.age_lock(timedelta(seconds=61))
        with other.exclusive(folder.path, owner="other"):
            before = folder.files()
            monkeypatch.setattr(lock, "_EXPIRY", 0.0)  # so that each change has to renew the lock first
            lost = "did not renew its lock in time, and another one has taken it over"
            with pytest.raises(DestinationError, match=lost):
                file.commit()
            with pytest.raises(DestinationError, match=lost):
                sleeper.remove(f"{folder.path}film.jsonl")
            monkeypatch.undo()
            assert folder.files() == before
            sleeper.read(f"{folder.path}film.jsonl")
    file.discard()
    assert folder.files() == {f"{folder.path}film.jsonl": b"other's"}


def test_holder_that_lost_lock_does_not_release_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder.storage().exclusive(folder.path, owner="other")
    with folder.storage().exclusive(folder.path, owner="sleeper"):
        folder.age_lock(timedelta(seconds=61))
        other.__enter__()
        monkeypatch.setattr(lock, "_EXPIRY", 0.0)
    monkeypatch.undo()
    assert folder.store.cat_file(folder.lock).startswith(b"other\n")
    other.__exit__(None, None, None)
    assert folder.files() == {}


def test_only_one_of_two_waiters_takes_over_expired_lock(folder: Folder) -> None:
    folder.leave_lock(age=timedelta(hours=1))
    first, second = (folder.new_lock(name) for name in ("first", "second"))
    look = second._writes.look

    def look_before_first_acquires(path: str) -> Any:
        found = look(path)
        second._writes.look = look  # type: ignore[method-assign]  # on this instance only
        first.acquire()
        return found

    second._writes.look = look_before_first_acquires  # type: ignore[method-assign]  # on this instance only
    assert not second._take_over()
    assert folder.store.cat_file(folder.lock).startswith(b"first\n")
    first.release()


def test_lost_answer_does_not_lose_lock(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library then repeats the request, and finds the lock that it has written itself."""
    call = folder.store.call_s3

    def lose_first_answer(method: str, **arguments: Any) -> Any:
        if method == "put_object" and "IfNoneMatch" in arguments:
            call(method, **arguments)
        return call(method, **arguments)

    monkeypatch.setattr(folder.store, "call_s3", lose_first_answer)
    monkeypatch.setattr(lock, "_TIMEOUT", 0.0)
    with folder.storage().exclusive(folder.path, owner="task"):
        assert folder.store.cat_file(folder.lock).startswith(b"task\n")
    assert folder.files() == {}


def test_missing_bucket_fails_at_once(folder: Folder) -> None:
    with (
        pytest.raises(DestinationError, match="bucket does not exist"),
        folder.storage().exclusive("no-such-bucket/films/", owner="task"),
    ):
        pass


@contextmanager
def server_without_conditional_writes() -> Iterator[str]:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], respond: Callable[..., object]) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" in environ:
            respond("501 Not Implemented", [("content-type", "application/xml")])
            return [b"<Error><Code>NotImplemented</Code><Message>No such thing</Message></Error>"]
        answer: Iterable[bytes] = server(environ, respond)
        return answer

    http_server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http_server.server_port}"
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def test_store_without_conditional_writes_is_used_without_lock() -> None:
    with server_without_conditional_writes() as url:
        folder = Folder(url)
        first, second = folder.storage(), folder.storage()
        with first.exclusive(folder.path, owner="first"), second.exclusive(folder.path, owner="second"):
            folder.store.pipe_file(f"{folder.path}film.jsonl", b"x")
            first.remove(f"{folder.path}film.jsonl")
            assert folder.files() == {}
