"""Files that appear under their name whole or not at all, also when the process is killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from airflow_provider_contensis.api.errors import DestinationError
from airflow_provider_contensis.export.lock import S3Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


# Where no lock tells the living from the dead: nobody lets a file wait for so long.
_LONG_IDLE = timedelta(days=1)
_PORTION_BYTES = 1 << 24
# A name may hold a null byte: that is the ValueError.
_LASTING = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError)


class PendingFile(Protocol):
    """A file being written. Nothing under its name changes before `commit`."""

    def write(self, data: bytes) -> object:
        """Append bytes."""

    def finish(self) -> None:
        """Put everything where it will stay, but not yet under the name."""

    def commit(self) -> None:
        """Give the finished file its name, in one step."""

    def discard(self) -> None:
        """Remove what was written, unless it was committed; never raises."""


class Storage(Protocol):
    """Where files go. Every method raises `DestinationError` where it can't do its work."""

    def create(self, path: str, *, owner: str) -> PendingFile:
        """Begin a file.

        What dead tries left is removed; a living one, of the same task or another, is left alone.

        :param owner: names the task, the same for all its tries, where nothing else tells who is dead.
        """

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""

    def exclusive(self, folder: str, *, owner: str) -> AbstractContextManager[None]:
        """Keep others from changing a folder meanwhile, where the storage can.

        Where it turns out that it could not, changes raise `DestinationError`.

        :param owner: names the task, to whoever wonders what keeps others waiting.
        """


def write_whole(storage: Storage, path: str, content: bytes, *, owner: str) -> None:
    """Write a file that is small.

    :param owner: as in `Storage.create`.
    """
    file = storage.create(path, owner=owner)
    try:
        file.write(content)
        file.finish()
        file.commit()
    finally:
        file.discard()


class LocalStorage:
    """Files on this machine, written beside their final name and renamed."""

    def create(self, path: str, *, owner: str) -> PendingFile:  # noqa: ARG002 - locks tell who is dead
        """Begin a file; its folder is made if it is not there."""
        with told(path):
            return _LocalFile(Path(path))

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""
        with told(path):
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                return None

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        with told(path):
            Path(path).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, folder: str, *, owner: str) -> Iterator[None]:  # noqa: ARG002 - the system knows who waits
        """Hold the folder's lock, which the system takes back from a process that dies."""
        with told(folder):
            descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # not every network share has locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _LocalFile:
    """A file beside its final name, locked for as long as somebody writes it: so the dead are told apart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        prefix = hidden_name(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError
        for part in path.parent.glob(f"{glob.escape(prefix)}.*.part"):
            _remove_if_dead(part)
        # A name of its own for each try: another one may be running somewhere.
        self._part = path.with_name(f"{prefix}.{secrets.token_hex(4)}.part")
        self._file = _locked(self._part)
        self._written = self._on_their_way = 0

    def write(self, data: bytes) -> None:
        with told(self._path):
            self._file.write(data)
            self._written += len(data)
            if self._written - self._on_their_way >= _PORTION_BYTES and hasattr(os, "posix_fadvise"):
                # Linux begins to bring them to the disk, so that little is left to wait for in the end.
                portion = self._on_their_way, self._written - self._on_their_way
                os.posix_fadvise(self._file.fileno(), *portion, os.POSIX_FADV_DONTNEED)
                self._on_their_way = self._written

    def finish(self) -> None:
        with told(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def commit(self) -> None:
        with told(self._path):
            self._part.replace(self._path)
            self._file.close()
            _sync_folder(self._path.parent)

    def discard(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _locked(part: Path) -> IO[bytes]:
    """Return a new file, locked before anybody could take it for dead."""
    while True:
        file = part.open("xb")
        with contextlib.suppress(OSError):  # not every network share has locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_if_dead(part: Path) -> None:
    """Remove what a killed process left: its lock died with it."""
    with contextlib.suppress(OSError), part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if time.time() - os.fstat(file.fileno()).st_mtime < _LONG_IDLE.total_seconds():
                return
        part.unlink()


class ObjectStorage:
    """Files in an object store, through fsspec.

    S3 and Google Cloud Storage show nothing of an upload before it is completed, so a file is uploaded under
    its own name and completed by `commit`. Elsewhere it is uploaded beside its name and moved.

    :param filesystem: an fsspec filesystem.
    """

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        self._lock: S3Lock | None = None

    def create(self, path: str, *, owner: str) -> PendingFile:
        """Begin a file."""
        protocols = self._filesystem.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        with told(path):
            if names & {"s3", "s3a", "gs", "gcs"}:
                return _Upload(self._filesystem, path, self._check)
            return _MovedUpload(self._filesystem, path, owner)

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""
        with told(path):
            try:
                content: bytes = self._filesystem.cat_file(path)
            except FileNotFoundError:
                return None
            return content

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        with told(path), contextlib.suppress(FileNotFoundError):
            self._check()
            self._filesystem.rm_file(path)

    @contextlib.contextmanager
    def exclusive(self, folder: str, *, owner: str) -> Iterator[None]:
        """Hold the folder's lock on S3; do nothing elsewhere."""
        if not hasattr(self._filesystem, "call_s3"):
            yield
            return
        lock = S3Lock(self._filesystem, folder, owner)
        with told(folder):
            lock.acquire()
        self._lock = lock
        try:
            yield
        finally:
            self._lock = None
            lock.release()

    def _check(self) -> None:
        """Make sure that this may still be changed: the last thing before each change."""
        if self._lock is not None:
            self._lock.check()


class _ObjectFile:
    """A file that an fsspec filesystem opened for writing."""

    def __init__(self, filesystem: Any, path: str, file: Any) -> None:
        self._filesystem = filesystem
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        with told(self._path):
            self._file.write(data)

    def finish(self) -> None:
        with told(self._path):
            self._file.close()


class _Upload(_ObjectFile):
    """An upload that the store keeps out of sight until it is completed."""

    def __init__(self, filesystem: Any, path: str, check: Callable[[], None]) -> None:
        _abort_idle_uploads(filesystem, path)
        super().__init__(filesystem, path, filesystem.open(path, "wb", autocommit=False))
        self._pending = True
        self._check = check

    def commit(self) -> None:
        with told(self._path):
            self._check()
            self._file.commit()
            self._pending = False
            self._filesystem.invalidate_cache(self._path)

    def discard(self) -> None:
        if not self._pending:
            return
        # To close the file, as its destructor would, is to upload what is left of it.
        with contextlib.suppress(Exception):
            self._file.discard()
        self._file.closed = True


def _abort_idle_uploads(filesystem: Any, path: str) -> None:
    """End the uploads to an S3 key that got nothing for a day: a killed task left them, and they cost money.

    Google ends them by itself.
    """
    if not hasattr(filesystem, "abort_mpu"):
        return
    with contextlib.suppress(Exception):  # a key that may write need not be allowed to list
        bucket, key, _ = filesystem.split_path(path)
        listed = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        for upload in listed.get("Uploads", []):
            if upload["Key"] == key and _is_idle(filesystem, bucket, upload):
                filesystem.abort_mpu(bucket, key, upload["UploadId"])


def _is_idle(filesystem: Any, bucket: str, upload: dict[str, Any]) -> bool:
    """Return whether an upload has parts, all of them old; one that has none costs nothing."""
    listed = filesystem.call_s3("list_parts", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    newest = max((part["LastModified"] for part in listed.get("Parts", [])), default=None)
    return newest is not None and not listed["IsTruncated"] and datetime.now(UTC) - newest > _LONG_IDLE


class _MovedUpload(_ObjectFile):
    """An upload under another name, moved when it is whole."""

    def __init__(self, filesystem: Any, path: str, owner: str) -> None:
        folder, _, name = path.rpartition("/")
        prefix = f"{folder}/{hidden_name(name)}"
        own = f"{prefix}.{hashlib.sha256(owner.encode()).hexdigest()[:12]}"
        self._part = f"{own}.{secrets.token_hex(4)}.part"
        filesystem.makedirs(folder, exist_ok=True)
        for part in filesystem.glob(f"{glob.escape(prefix)}.*.part"):
            if part.startswith(f"{own}.") or self._is_idle(part):
                filesystem.rm_file(part)
        super().__init__(filesystem, path, filesystem.open(self._part, "wb"))

    def _is_idle(self, part: str) -> bool:
        with contextlib.suppress(Exception):  # not every store tells when a file was written
            return bool(datetime.now(UTC) - self._filesystem.modified(part) > _LONG_IDLE)
        return False

    def commit(self) -> None:
        with told(self._path):
            self._filesystem.mv(self._part, self._path)

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()
        with contextlib.suppress(Exception):
            self._filesystem.rm_file(self._part)


@contextlib.contextmanager
def told(path: object) -> Iterator[None]:
    """Say in one sentence why a file system or an object store refused.

    :raises DestinationError: in place of whatever the file system raised.
    """
    try:
        yield
    except DestinationError:
        raise
    except Exception as error:
        is_folder = isinstance(error, IsADirectoryError)
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        reason = "it is a folder; end it in / to write into it" if is_folder else reason
        failure = DestinationError(f"{path} could not be written: {reason.rstrip('.')}.")
        # Only a person mends these; a full disk or a lost mount may mend itself.
        failure.retryable = not (
            isinstance(error, _LASTING) or getattr(error, "errno", None) in {errno.ENAMETOOLONG, errno.EROFS}
        )
        raise failure from error


def hidden_name(name: str) -> str:
    """Return how the temporary names of a file begin: told apart, and never too long."""
    return f".{name[:32]}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a crash of the machine, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
