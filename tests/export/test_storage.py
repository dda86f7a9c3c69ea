"""Files that appear whole or not at all, on this machine."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.formats.json import JsonLinesWriter
from airflow_provider_contensis.export.sinks.output import OutputFile
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.storage.object_store import ObjectStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_contensis.export.destination import Compression


def begin(path: Path, *, compression: Compression | None = None, owner: str = "task") -> OutputFile:
    return OutputFile(
        LocalStorage(), str(path), owner=owner, compression=compression, make_writer=JsonLinesWriter
    )


def write(
    path: Path, *rows: bytes, compression: Compression | None = None, owner: str = "task"
) -> OutputFile:
    file = begin(path, compression=compression, owner=owner)
    for row in rows:
        file.write([msgspec.Raw(row)], [])
    file.finish()
    return file


class TestAFile:
    def test_appears_with_its_content_size_and_hash(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "films.jsonl"
        written = write(path, b"one", b"two").commit()
        assert path.read_bytes() == b"one\ntwo\n"
        assert (written.rows, written.bytes) == (2, 8)
        assert written.sha256 == hashlib.sha256(b"one\ntwo\n").hexdigest()
        assert os.listdir(path.parent) == ["films.jsonl"]

    def test_replaces_an_older_one_only_when_committed(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        path.write_text("old")
        file = write(path, b"new")
        assert path.read_text() == "old"
        file.commit()
        assert path.read_text() == "new\n"

    def test_that_is_discarded_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        file = begin(path, compression="gzip")
        file.write([msgspec.Raw(b"half")], [])
        file.discard()
        file.discard()
        assert os.listdir(tmp_path) == []

    def test_that_was_committed_survives_discard(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        file = write(path, b"new")
        file.commit()
        file.discard()
        assert path.read_text() == "new\n"

    def test_compressed_twice_has_the_same_bytes(self, tmp_path: Path) -> None:
        files = []
        for name in ("a.jsonl.gz", "b.jsonl.gz"):
            written = write(tmp_path / name, b"one", b"two", compression="gzip").commit()
            content = (tmp_path / name).read_bytes()
            assert gzip.decompress(content) == b"one\ntwo\n"
            assert written.sha256 == hashlib.sha256(content).hexdigest()
            assert written.bytes == len(content)
            files.append(content)
        assert files[0] == files[1]

    @pytest.mark.parametrize("owner", ["task", "another"])
    def test_cleans_up_after_the_dead_and_after_nobody_who_lives(self, tmp_path: Path, owner: str) -> None:
        path = tmp_path / "films[1].jsonl"
        program = (
            "import os, signal, sys\n"
            "from airflow_provider_contensis.export.storage.local import LocalStorage\n"
            "LocalStorage().create(sys.argv[1], owner='task').write(b'half')\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        for _ in range(2):
            dead = subprocess.run([sys.executable, "-c", program, path], check=False)
            assert dead.returncode == -signal.SIGKILL
        assert len(os.listdir(tmp_path)) == 1  # the second cleaned up after the first
        living = begin(path)
        write(path, b"whole", owner=owner).commit()
        assert len(os.listdir(tmp_path)) == 2
        living.discard()
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_text() == "whole\n"

    def test_of_two_tries_at_once_is_that_of_the_last_to_finish(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        slow = write(path, b"slow")
        write(path, b"quick").commit()
        assert path.read_text() == "quick\n"
        slow.commit()
        assert path.read_text() == "slow\n"
        assert os.listdir(tmp_path) == ["films.jsonl"]

    def test_whose_share_has_no_locks_leaves_others_alone_for_a_day(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        path = tmp_path / "films.jsonl"
        for _ in range(2):
            begin(path)
        recent, old = sorted(tmp_path.iterdir())
        os.utime(old, (0, 0))
        write(path, b"whole").commit()
        assert set(tmp_path.iterdir()) == {recent, path}


class TestARefusalOfTheFileSystem:
    def test_names_the_path_and_the_reason(self, tmp_path: Path) -> None:
        (tmp_path / "films.jsonl").mkdir()
        with pytest.raises(DestinationError, match="it is a folder; end it in /") as failure:
            write(tmp_path / "films.jsonl", b"x")
        assert not failure.value.retryable

    def test_of_a_parent_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("")
        with pytest.raises(DestinationError, match=r"data/films.jsonl could not be written: .+\."):
            write(tmp_path / "data" / "films.jsonl", b"x")

    def test_for_want_of_space_may_pass_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = begin(tmp_path / "films.jsonl")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DestinationError, match="No space left on device") as failure:
            file.finish()
        assert failure.value.retryable
        file.discard()
        assert os.listdir(tmp_path) == []


class TestAnObjectStoreThatShowsUploadsAtOnce:
    """Any but S3 and Google's: the file is uploaded beside its name, and moved."""

    @pytest.fixture
    def store(self) -> Iterator[MemoryFileSystem]:
        store = MemoryFileSystem()
        yield store
        store.rm("/", recursive=True)

    def test_has_the_file_under_its_name_only_when_committed(self, store: MemoryFileSystem) -> None:
        store.pipe_file("/data/films.jsonl", b"old")
        file = ObjectStorage(store).create("/data/films.jsonl", owner="task")
        file.write(b"new")
        file.finish()
        assert store.cat_file("/data/films.jsonl") == b"old"
        file.commit()
        file.discard()
        assert store.cat_file("/data/films.jsonl") == b"new"
        assert store.ls("/data", detail=False) == ["/data/films.jsonl"]

    def test_keeps_nothing_of_what_was_discarded_or_of_a_dead_try(self, store: MemoryFileSystem) -> None:
        storage = ObjectStorage(store)
        dead = storage.create("/data/films.jsonl", owner="task")
        dead.write(b"half")
        dead.finish()
        assert len(store.ls("/data")) == 1
        file = storage.create("/data/films.jsonl", owner="task")
        file.discard()
        assert store.ls("/data") == []

    def test_has_no_lock(self, store: MemoryFileSystem) -> None:
        store.makedirs("/data")
        one, other = ObjectStorage(store), ObjectStorage(store)
        with one.exclusive("/data/", owner="one"), other.exclusive("/data/", owner="other"):
            assert store.ls("/data") == []

    def test_reads_and_removes(self, store: MemoryFileSystem) -> None:
        storage = ObjectStorage(store)
        assert storage.read("/data/films.jsonl") is None
        store.pipe_file("/data/films.jsonl", b"here")
        assert storage.read("/data/films.jsonl") == b"here"
        storage.remove("/data/films.jsonl")
        storage.remove("/data/films.jsonl")
        assert storage.read("/data/films.jsonl") is None
