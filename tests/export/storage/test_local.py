"""Files on this machine: they appear whole or not at all."""

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

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.formats.json import JsonLinesWriter
from airflow_provider_contensis.export.sinks.output import OutputFile, writer_thread
from airflow_provider_contensis.export.storage.local import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_contensis.export.destination import Compression


def begin(path: Path, *, compression: Compression | None = None, owner: str = "task") -> OutputFile:
    return OutputFile(
        LocalStorage(),
        str(path),
        owner=owner,
        thread=writer_thread(),
        compression=compression,
        make_writer=JsonLinesWriter,
    )


def write(
    path: Path, *rows: bytes, compression: Compression | None = None, owner: str = "task"
) -> OutputFile:
    file = begin(path, compression=compression, owner=owner)
    for row in rows:
        file.write([msgspec.Raw(row)], [])
    file.finish()
    return file


class TestFile:
    def test_commit_gives_file_its_content_and_returns_size_and_hash(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "films.jsonl"
        written = write(path, b"one", b"two").commit()
        assert path.read_bytes() == b"one\ntwo\n"
        assert (written.rows, written.bytes) == (2, 8)
        assert written.sha256 == hashlib.sha256(b"one\ntwo\n").hexdigest()
        assert os.listdir(path.parent) == ["films.jsonl"]

    def test_older_file_is_replaced_on_commit(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        path.write_text("old")
        file = write(path, b"new")
        assert path.read_text() == "old"
        file.commit()
        assert path.read_text() == "new\n"

    def test_discard_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        file = begin(path, compression="gzip")
        file.write([msgspec.Raw(b"half")], [])
        file.discard()
        file.discard()
        assert os.listdir(tmp_path) == []

    def test_discard_after_commit_keeps_file(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        file = write(path, b"new")
        file.commit()
        file.discard()
        assert path.read_text() == "new\n"

    def test_compression_is_reproducible(self, tmp_path: Path) -> None:
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
    def test_leftovers_of_killed_processes_are_removed_and_files_in_use_stay(
        self, tmp_path: Path, owner: str
    ) -> None:
        path = tmp_path / "films[1].jsonl"
        program = (
            "import os, signal, sys\n"
            "from airflow_provider_contensis.export.storage.local import LocalStorage\n"
            "LocalStorage().create(sys.argv[1], owner='task').write(b'half')\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        for _ in range(2):
            killed = subprocess.run([sys.executable, "-c", program, path], check=False)
            assert killed.returncode == -signal.SIGKILL
        assert len(os.listdir(tmp_path)) == 2  # file and lock: the second cleaned up after the first
        in_use = begin(path)
        write(path, b"whole", owner=owner).commit()
        assert len(os.listdir(tmp_path)) == 3
        in_use.discard()
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_text() == "whole\n"

    def test_last_of_two_concurrent_attempts_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        slow = write(path, b"slow")
        write(path, b"quick").commit()
        assert path.read_text() == "quick\n"
        slow.commit()
        assert path.read_text() == "slow\n"
        assert os.listdir(tmp_path) == ["films.jsonl"]

    def test_without_locks_leftovers_are_removed_after_a_day(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        path = tmp_path / "films.jsonl"
        unlocked = [begin(path) for _ in range(2)]
        recent, old = sorted(tmp_path.glob("*.part"))
        os.utime(old, (0, 0))
        write(path, b"whole").commit()
        assert {recent, path} == {file for file in tmp_path.iterdir() if file.suffix != ".lock"}
        for file in unlocked:
            file.discard()


class TestFileSystemError:
    def test_folder_at_path_is_not_retryable(self, tmp_path: Path) -> None:
        (tmp_path / "films.jsonl").mkdir()
        with pytest.raises(DestinationError, match="it is a folder; end it in /") as failure:
            write(tmp_path / "films.jsonl", b"x")
        assert not failure.value.retryable

    def test_file_as_parent_folder_is_named_in_error(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("")
        with pytest.raises(DestinationError, match=r"data/films.jsonl could not be written: .+\."):
            write(tmp_path / "data" / "films.jsonl", b"x")

    def test_full_disk_is_retryable_and_leaves_nothing(
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


class TestReplacedFile:
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
    def test_keeps_its_mode(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "films.jsonl"
        path.write_text("old")
        path.chmod(mode)
        file = write(path, b"new")
        assert [each.stat().st_mode & 0o777 for each in tmp_path.glob(".*.part")] == [0o600]
        file.commit()
        assert path.read_text() == "new\n"
        assert path.stat().st_mode & 0o777 == mode

    def test_keeps_its_extended_attributes(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        path.write_text("old")
        try:
            os.setxattr(path, "user.origin", b"contensis")
        except OSError:
            pytest.skip("no extended attributes here")
        write(path, b"new").commit()
        assert os.getxattr(path, "user.origin") == b"contensis"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
    def test_keeps_its_owner(self, tmp_path: Path) -> None:
        path = tmp_path / "films.jsonl"
        path.write_text("old")
        os.chown(path, 12_345, 23_456)
        write(path, b"new").commit()
        assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)

    def test_new_file_has_the_mode_of_any_new_file(self, tmp_path: Path) -> None:
        file = write(tmp_path / "films.jsonl", b"new")
        assert [each.stat().st_mode & 0o777 for each in tmp_path.glob(".*.part")] == [0o600]
        file.commit()
        (tmp_path / "other").touch()
        assert (tmp_path / "films.jsonl").stat().st_mode == (tmp_path / "other").stat().st_mode


class TestLink:
    def test_is_written_through(self, tmp_path: Path) -> None:
        target = tmp_path / "releases" / "films.jsonl"
        target.parent.mkdir()
        target.write_text("old")
        target.chmod(0o640)
        link = tmp_path / "films.jsonl"
        link.symlink_to("releases/films.jsonl")
        write(link, b"new").commit()
        assert link.is_symlink()
        assert target.read_text() == "new\n"
        assert target.stat().st_mode & 0o777 == 0o640
        assert os.listdir(target.parent) == ["films.jsonl"]
        assert os.listdir(tmp_path) in (["releases", "films.jsonl"], ["films.jsonl", "releases"])

    def test_to_nothing_gets_a_file(self, tmp_path: Path) -> None:
        link = tmp_path / "films.jsonl"
        link.symlink_to("later.jsonl")
        write(link, b"new").commit()
        assert link.is_symlink()
        assert (tmp_path / "later.jsonl").read_text() == "new\n"

    def test_to_itself_is_refused(self, tmp_path: Path) -> None:
        link = tmp_path / "films.jsonl"
        link.symlink_to("films.jsonl")
        with pytest.raises(DestinationError, match="could not be written") as failure:
            begin(link)
        assert not failure.value.retryable


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "films.jsonl"
    if kind == "device":
        path = type(path)("/dev/null")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe") if kind == "link to a pipe" else (tmp_path / "pipe").rename(path)
    with pytest.raises(
        DestinationError, match="not a regular file but a pipe, a socket or a device"
    ) as failure:
        begin(path)
    assert not failure.value.retryable
    assert path.exists()
    assert not path.is_file()


def test_no_file_is_open_when_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network mounts refuse to rename a file that is open."""
    open_files: list[Path] = []
    replace = type(tmp_path).replace

    def replace_and_look(self: Path, target: Path) -> Path:
        open_files.extend(each.readlink() for each in type(self)("/proc/self/fd").iterdir() if each.exists())
        return replace(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", replace_and_look)
    write(tmp_path / "films.jsonl", b"new").commit()
    assert open_files
    assert not [path for path in open_files if path.suffix == ".part"]
