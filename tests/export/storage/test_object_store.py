"""Files in an object store that shows an upload at once, unlike S3 and Google Cloud Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_contensis.export.storage.object_store import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    store = MemoryFileSystem()
    yield store
    store.rm("/", recursive=True)


def test_file_gets_its_name_on_commit(store: MemoryFileSystem) -> None:
    store.pipe_file("/data/films.jsonl", b"old")
    file = ObjectStorage(store).create("/data/films.jsonl", owner="task")
    file.write(b"new")
    file.finish()
    assert store.cat_file("/data/films.jsonl") == b"old"
    file.commit()
    file.discard()
    assert store.cat_file("/data/films.jsonl") == b"new"
    assert store.ls("/data", detail=False) == ["/data/films.jsonl"]


def test_discarded_files_and_files_of_dead_attempts_are_removed(store: MemoryFileSystem) -> None:
    storage = ObjectStorage(store)
    dead = storage.create("/data/films.jsonl", owner="task")
    dead.write(b"half")
    dead.finish()
    assert len(store.ls("/data")) == 1
    file = storage.create("/data/films.jsonl", owner="task")
    file.discard()
    assert store.ls("/data") == []


def test_exclusive_takes_no_lock(store: MemoryFileSystem) -> None:
    store.makedirs("/data")
    first, second = ObjectStorage(store), ObjectStorage(store)
    with first.exclusive("/data/", owner="first"), second.exclusive("/data/", owner="second"):
        assert store.ls("/data") == []


def test_read_and_remove(store: MemoryFileSystem) -> None:
    storage = ObjectStorage(store)
    assert storage.read("/data/films.jsonl") is None
    store.pipe_file("/data/films.jsonl", b"here")
    assert storage.read("/data/films.jsonl") == b"here"
    storage.remove("/data/films.jsonl")
    storage.remove("/data/films.jsonl")
    assert storage.read("/data/films.jsonl") is None
