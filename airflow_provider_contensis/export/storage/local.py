"""Files on this machine, written beside their final name and renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_contensis.export.storage.base import (
    LONG_IDLE,
    Stored,
    another_writer,
    hidden_name,
    replaced_meanwhile,
    translate_storage_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.export.storage.base import PendingFile

log = logging.getLogger(__name__)

_FLUSH_BYTES = 1 << 24
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR


class LocalStorage:
    """Files on this machine, written beside their final name and renamed.

    A link is written through, and a file that is replaced keeps its mode, owner and extended attributes.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, _AttemptLock] = {}

    def create(self, path: str, *, owner: str) -> PendingFile:  # noqa: ARG002 - locks show who is dead
        """Begin a file; its folder is created if it does not exist."""
        with translate_storage_errors(path):
            target = _target(Path(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = self._locks.setdefault(target.parent, _AttemptLock(target.parent))
            return _LocalFile(target, lock)

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""
        with translate_storage_errors(path):
            try:
                return _target(Path(path)).read_bytes()
            except FileNotFoundError:
                return None

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the path in a folder and the size of each file in it, also below; none if it is missing."""
        with translate_storage_errors(folder):
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                return
            for entry in entries:
                if entry.is_dir():
                    for path, size in self.files(f"{folder}{entry.name}/"):
                        yield f"{entry.name}/{path}", size
                else:
                    yield entry.name, entry.stat(follow_symlinks=False).st_size

    def open(self, path: str) -> IO[bytes]:
        """Return a file, open for reading at any place."""
        with translate_storage_errors(path):
            return Path(path).open("rb")

    def load(self, path: str) -> Stored:
        """Return a small file together with the tag of its content, which `replace` compares."""
        return Stored(self.read(path))

    def replace(self, path: str, content: bytes, known: Stored, *, owner: str) -> Stored:
        """Replace a small file in one step, if it is as it was read."""
        file = self.create(path, owner=owner)
        try:
            file.write(content)
            file.finish()
            if self.read(path) != known.content:  # where the folder has no locks
                raise replaced_meanwhile(path)
            file.commit()
        finally:
            file.discard()
        return Stored(content)

    def supersede(self, path: str, known: Stored, initial: bytes, *, owner: str) -> Stored:  # noqa: ARG002 - as every storage
        """Do no more than look: a file is replaced at once."""
        if self.read(path) != known.content:
            raise replaced_meanwhile(path)
        return known

    def read_part(self, path: str, start: int, length: int) -> bytes:
        """Return a part of a file, or less if the file is shorter."""
        with translate_storage_errors(path), Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(start if start >= 0 else max(size + start, 0))
            return file.read(length)

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder, hidden ones included; none if there is no folder."""
        with translate_storage_errors(folder):
            try:
                return [path.name for path in Path(folder).iterdir()]
            except FileNotFoundError:
                return []

    def remove(self, path: str, *, keep_link: bool = False) -> None:
        """Remove a file or, if the path ends in `/`, a folder with everything in it, if there is one."""
        with translate_storage_errors(path):
            if path.endswith("/"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)
            else:
                (_target(Path(path)) if keep_link else Path(path)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, folder: str, *, owner: str, alone: bool = False) -> Iterator[None]:  # noqa: ARG002 - the system has the names
        """Lock the folder; the system releases the lock of a process that dies."""
        with translate_storage_errors(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if alone:
                    raise another_writer(folder) from None
                log.info("Waiting: another export is writing to %s", folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                pass  # not every network share has locks
            yield
        finally:
            os.close(descriptor)


class _AttemptLock:
    """The lock of one attempt in a folder: pending files are dead once nobody holds the lock in their name.

    One lock serves all files of the attempt, so that none of them has to stay open. Several threads may write
    at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._users = 0
        self._turn = threading.Lock()
        self.token = secrets.token_hex(4)

    @property
    def mode(self) -> int:
        """The mode of a file that this process creates in the folder; the lock, which is empty, has it."""
        with self._turn:
            return stat.S_IMODE(os.fstat(self._file.fileno()).st_mode) if self._file else _PRIVATE

    def acquire(self) -> None:
        """Hold the lock for one more file."""
        with self._turn:
            if self._file is None:
                for other in self._folder.glob(".contensis.*.lock"):
                    with contextlib.suppress(OSError):
                        if _is_dead(other, other):
                            other.unlink()
                self._file = _create_locked(_lock_path(self._folder, self.token))
            self._users += 1

    def release(self) -> None:
        """Hold the lock for one file less."""
        with self._turn:
            self._users -= 1
            if self._users == 0 and self._file is not None:
                with contextlib.suppress(OSError):
                    _lock_path(self._folder, self.token).unlink(missing_ok=True)
                self._file.close()
                self._file = None


class _LocalFile:
    """A file beside its final name, private until it gets that name."""

    def __init__(self, target: Path, lock: _AttemptLock) -> None:
        self._target = target
        self._lock = lock
        prefix = hidden_name(target.name)
        self._part = target.with_name(f"{prefix}.{lock.token}.part")
        lock.acquire()
        self._is_pending = True
        try:
            # Not by glob, which takes longer to compile a pattern than to store a small file.
            for part in target.parent.iterdir():
                if part.name.startswith(f"{prefix}.") and part.suffix == ".part" and part != self._part:
                    _remove_if_dead(part)
            self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb")
            mode = _copy_attributes(target, self._file.fileno())
            self._mode = lock.mode if mode is None else mode
        except BaseException:
            self._is_pending = False
            lock.release()
            raise
        self._written = self._flushing = 0

    def write(self, data: bytes) -> None:
        with translate_storage_errors(self._target):
            self._file.write(data)
            self._written += len(data)
            if self._written - self._flushing >= _FLUSH_BYTES and hasattr(os, "posix_fadvise"):
                # Linux starts to write them to the disk, so that the final fsync is short.
                portion = self._flushing, self._written - self._flushing
                os.posix_fadvise(self._file.fileno(), *portion, os.POSIX_FADV_DONTNEED)
                self._flushing = self._written

    def finish(self) -> None:
        with translate_storage_errors(self._target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()  # some network mounts refuse to rename a file that is open

    def commit(self) -> None:
        with translate_storage_errors(self._target):
            with contextlib.suppress(OSError):  # not every network share has modes
                self._part.chmod(self._mode)
            self._part.replace(self._target)
            _sync_folder(self._target.parent)
        self._end()

    def discard(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        if self._is_pending:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)
        self._end()

    def _end(self) -> None:
        if self._is_pending:
            self._is_pending = False
            self._lock.release()


def _target(path: Path) -> Path:
    """Return the file that a path leads to.

    :raises OSError: it is not a regular file.
    """
    if path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            path.stat()  # refuses a loop, which not every version of Python does when it resolves
        path = path.resolve()
    if path.is_dir():
        raise IsADirectoryError
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is not a regular file but a pipe, a socket or a device")
    return path


def _copy_attributes(source: Path, descriptor: int) -> int | None:
    """Give a file the owner and the extended attributes of the one that it will replace.

    :return: the mode that it should get, too; None if there is nothing to replace.
    """
    try:
        status = source.stat()
    except OSError:
        return None
    for owner, group in ((status.st_uid, status.st_gid), (-1, status.st_gid)):
        with contextlib.suppress(OSError):  # only root may give files away
            os.fchown(descriptor, owner, group)
            break
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # access control lists, among others
            for name in os.listxattr(source):
                with contextlib.suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(source, name))
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, _PRIVATE)  # an access control list may have opened it
    return stat.S_IMODE(status.st_mode)


def _lock_path(folder: Path, token: str) -> Path:
    return folder / f".contensis.{token}.lock"


def _create_locked(path: Path) -> IO[bytes]:
    """Return a new file, locked before another process could take it for dead."""
    while True:
        file = path.open("xb")
        with contextlib.suppress(OSError):  # not every network share has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _is_dead(lock: Path, file: Path) -> bool:
    """Return whether the attempt that writes a file has ended.

    :param lock: of the attempt.
    :param file: shows when the attempt last wrote, where there are no locks.
    """
    try:
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    except OSError:
        return time.time() - file.stat().st_mtime > LONG_IDLE.total_seconds()
    return True


def _remove_if_dead(part: Path) -> None:
    """Remove the file of an attempt that was killed."""
    token = part.name.split(".")[-2]
    with contextlib.suppress(OSError):
        if _is_dead(_lock_path(part.parent, token), part):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a crash of the machine, if the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
