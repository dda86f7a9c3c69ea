"""Files on this machine, written beside their final name and renamed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_contensis.export.storage.base import LONG_IDLE, hidden_name, translate_storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.export.storage.base import PendingFile

_FLUSH_BYTES = 1 << 24


class LocalStorage:
    """Files on this machine, written beside their final name and renamed."""

    def create(self, path: str, *, owner: str) -> PendingFile:  # noqa: ARG002 - locks show who is dead
        """Begin a file; its folder is created if it does not exist."""
        with translate_storage_errors(path):
            return _LocalFile(Path(path))

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""
        with translate_storage_errors(path):
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                return None

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        with translate_storage_errors(path):
            Path(path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, folder: str, *, owner: str) -> Iterator[None]:  # noqa: ARG002 - the system has the names
        """Lock the folder; the system releases the lock of a process that dies."""
        with translate_storage_errors(folder):
            descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # not every network share has locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _LocalFile:
    """A file beside its final name, locked while it is written, so that dead ones can be recognised."""

    def __init__(self, path: Path) -> None:
        self._path = path
        prefix = hidden_name(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError
        for part in path.parent.glob(f"{glob.escape(prefix)}.*.part"):
            _remove_if_dead(part)
        # A name for each attempt: another one may still be running.
        self._part = path.with_name(f"{prefix}.{secrets.token_hex(4)}.part")
        self._file = _open_locked(self._part)
        self._written = self._flushing = 0

    def write(self, data: bytes) -> None:
        with translate_storage_errors(self._path):
            self._file.write(data)
            self._written += len(data)
            if self._written - self._flushing >= _FLUSH_BYTES and hasattr(os, "posix_fadvise"):
                # Linux starts to write them to the disk, so that the final fsync is short.
                portion = self._flushing, self._written - self._flushing
                os.posix_fadvise(self._file.fileno(), *portion, os.POSIX_FADV_DONTNEED)
                self._flushing = self._written

    def finish(self) -> None:
        with translate_storage_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def commit(self) -> None:
        with translate_storage_errors(self._path):
            self._part.replace(self._path)
            self._file.close()
            _sync_folder(self._path.parent)

    def discard(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _open_locked(part: Path) -> IO[bytes]:
    """Return a new file, locked before another process could take it for dead."""
    while True:
        file = part.open("xb")
        with contextlib.suppress(OSError):  # not every network share has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_if_dead(part: Path) -> None:
    """Remove the file of a killed process: its lock died with it."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if time.time() - os.fstat(file.fileno()).st_mtime < LONG_IDLE.total_seconds():
                return
        part.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a crash of the machine, if the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
