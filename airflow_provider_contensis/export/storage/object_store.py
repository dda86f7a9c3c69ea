"""Files in an object store, through fsspec."""

from __future__ import annotations

import contextlib
import glob
import io
import secrets
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.storage.base import (
    LASTING,
    LONG_IDLE,
    Stored,
    hidden_name,
    owned_name,
    replaced_meanwhile,
    translate_storage_errors,
)
from airflow_provider_contensis.export.storage.conditional import (
    ChangedError,
    NoConditionsError,
    conditional_writes,
)
from airflow_provider_contensis.export.storage.store_lock import StoreLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_provider_contensis.export.storage.base import PendingFile

# An upload has a few parts in memory. S3 takes 10,000 of them, so a file can have 78 GiB.
_PART_BYTES = 8 << 20


class ObjectStorage:
    """Files in an object store.

    On S3 and Google Cloud Storage an upload is invisible until it is completed, so a file is uploaded under
    its own name and completed by `commit`. Elsewhere it is uploaded beside its name and moved.

    :param filesystem: an fsspec filesystem.
    """

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem
        self._writes = conditional_writes(filesystem)
        self._lock: StoreLock | None = None

    def create(self, path: str, *, owner: str) -> PendingFile:
        """Begin a file."""
        protocols = self._filesystem.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        with _translated(self._filesystem, path):
            if names & {"s3", "s3a", "gs", "gcs"}:
                if self._lock is None:  # the holder of a lock removes all of the folder's
                    _abort_idle_uploads(self._filesystem, path)
                return _Upload(self._filesystem, path, self._check)
            return _MovedUpload(self._filesystem, path, owner)

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""
        with _translated(self._filesystem, path):
            try:
                content: bytes = self._filesystem.cat_file(path)
            except FileNotFoundError:
                return None
            return content

    def open(self, path: str) -> IO[bytes]:
        """Return a file, open for reading at any place."""
        with _translated(self._filesystem, path):
            return cast("IO[bytes]", self._filesystem.open(path, "rb", block_size=_PART_BYTES))

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the path in a folder and the size of each file in it, also below; none if it is missing.

        Each folder below is listed on its own, so that one listing at a time is in memory.
        """
        with _translated(self._filesystem, folder):
            self._filesystem.invalidate_cache(folder.rstrip("/"))
            try:
                listed = self._filesystem.ls(folder.rstrip("/"), detail=True)
            except FileNotFoundError:
                return
        for item in listed:
            name = item["name"].rstrip("/").rpartition("/")[2]
            if item["type"] == "directory":
                for path, size in self.files(f"{folder}{name}/"):
                    yield f"{name}/{path}", size
            elif f"{folder}{name}".lstrip("/") == item["name"].lstrip("/"):
                # Some tools mark a folder with an empty object of its own name.
                yield name, int(item["size"])

    def load(self, path: str) -> Stored:
        """Return a small file together with the tag of its content, which `replace` compares."""
        with _translated(self._filesystem, path):
            # Read after its tag: a tag that is too old can only make `replace` fail.
            found = self._writes.look(path) if self._writes is not None else None
            return Stored(self.read(path), found.tag if found is not None else None)

    def replace(self, path: str, content: bytes, known: Stored, *, owner: str) -> Stored:  # noqa: ARG002 - leaves nothing behind
        """Replace a small file in one step, if it is as it was read."""
        if self._writes is None:
            raise _no_conditions(path)
        with _translated(self._filesystem, path):
            self._check()
            try:
                return Stored(content, self._writes.write(path, content, tag=known.tag))
            except ChangedError:
                now = self.load(path)
                if now.content != content:  # otherwise it arrived before, though its answer did not
                    raise replaced_meanwhile(self._filesystem.unstrip_protocol(path)) from None
                return now

    def supersede(self, path: str, known: Stored, initial: bytes, *, owner: str) -> Stored:
        """Write it again as it was, under another tag, so that writes that expect the old one fail."""
        content = initial if known.content is None else known.content + b"\n"
        return self.replace(path, content, known, owner=owner)

    def read_part(self, path: str, start: int, length: int) -> bytes:
        """Return a part of a file, or less if the file is shorter."""
        with _translated(self._filesystem, path):
            if start < 0:
                content: bytes = self._filesystem.cat_file(path, start=start)
                return content[start:][:length]  # a server may ignore the range, and give all of it
            part: bytes = self._filesystem.cat_file(path, start=start, end=start + length)
            return part

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder, hidden ones included; none if there is no folder."""
        with _translated(self._filesystem, folder):
            self._filesystem.invalidate_cache()  # another worker may have written since
            try:
                paths = self._filesystem.ls(folder, detail=False)
            except FileNotFoundError:
                return []
            own = folder.strip("/")
            return [path.rstrip("/").rpartition("/")[2] for path in paths if path.strip("/") != own]

    def remove(self, path: str, *, keep_link: bool = False) -> None:  # noqa: ARG002 - there are no links
        """Remove a file or, if the path ends in `/`, a folder with everything in it, if there is one."""
        with _translated(self._filesystem, path), contextlib.suppress(FileNotFoundError):
            paths = [path]
            if path.endswith("/"):
                self._filesystem.invalidate_cache()
                paths = self._filesystem.find(path)
            for each in paths:
                self._check()
                self._filesystem.rm_file(each)

    @contextlib.contextmanager
    def exclusive(self, folder: str, *, owner: str, alone: bool = False) -> Iterator[None]:
        """Hold the folder's lock on S3 and Google Cloud Storage; elsewhere there is none."""
        if self._writes is None:
            if alone:
                raise _no_conditions(self._filesystem.unstrip_protocol(folder))
            yield
            return
        lock = StoreLock(self._filesystem, self._writes, folder, owner)
        with _translated(self._filesystem, folder):
            try:
                lock.acquire_alone() if alone else lock.acquire()
            except NoConditionsError:
                raise _no_conditions(self._filesystem.unstrip_protocol(folder)) from None
        self._lock = lock
        try:
            if alone:
                self._abort_uploads(folder)
            yield
        finally:
            self._lock = None
            lock.release()

    def _abort_uploads(self, folder: str) -> None:
        """Abort all uploads to a folder on S3 that dead attempts have left: they cost money."""
        if not hasattr(self._filesystem, "abort_mpu"):
            return
        with contextlib.suppress(Exception):  # credentials that may write need not be allowed to list
            bucket, key, _ = self._filesystem.split_path(folder)
            listed = self._filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
            for upload in listed.get("Uploads", []):
                self._filesystem.abort_mpu(bucket, upload["Key"], upload["UploadId"])

    def _check(self) -> None:
        """Check that the lock is still held: the last step before each change."""
        if self._lock is not None:
            self._lock.check()


class _ObjectFile:
    """A file that an fsspec filesystem has open for writing."""

    def __init__(self, filesystem: Any, path: str, file: Any) -> None:
        self._filesystem = filesystem
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        with _translated(self._filesystem, self._path):
            self._file.write(data)

    def finish(self) -> None:
        with _translated(self._filesystem, self._path):
            self._file.close()


class _Upload(_ObjectFile):
    """An upload that is invisible until it is completed."""

    def __init__(self, filesystem: Any, path: str, check: Callable[[], None]) -> None:
        file = filesystem.open(path, "wb", block_size=_PART_BYTES, autocommit=False)
        super().__init__(filesystem, path, file)
        self._pending = True
        self._check = check

    def finish(self) -> None:
        super().finish()
        if getattr(self._file, "parts", None):
            # Everything was sent, but older s3fs keeps the last part: the files of a folder would add up.
            self._file.buffer = io.BytesIO()

    def commit(self) -> None:
        with _translated(self._filesystem, self._path):
            self._check()
            self._file.commit()
            self._pending = False
            self._filesystem.invalidate_cache(self._path)

    def discard(self) -> None:
        if not self._pending:
            return
        # Closing the file, as its destructor does, would upload the rest.
        with contextlib.suppress(Exception):
            self._file.discard()
        self._file.closed = True


def _no_conditions(path: str) -> DestinationError:
    error = DestinationError(
        f"{path} could not be written: its store has no conditional writes that the provider knows, and "
        "without them two runs at once could damage a feed. Use S3, Google Cloud Storage or a disk."
    )
    error.retryable = False
    return error


def _translated(filesystem: Any, path: str) -> AbstractContextManager[None]:
    """Translate errors of the store; they name the whole URL. What is not found is the bucket."""
    return translate_storage_errors(filesystem.unstrip_protocol(path), (*LASTING, FileNotFoundError))


def _abort_idle_uploads(filesystem: Any, path: str) -> None:
    """Abort uploads to an S3 key that were idle for a day: a killed task left them, and they cost money.

    Google Cloud Storage aborts them by itself.
    """
    if not hasattr(filesystem, "abort_mpu"):
        return
    with contextlib.suppress(Exception):  # credentials that may write need not be allowed to list
        bucket, key, _ = filesystem.split_path(path)
        listed = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        for upload in listed.get("Uploads", []):
            if upload["Key"] == key and _is_idle(filesystem, bucket, upload):
                filesystem.abort_mpu(bucket, key, upload["UploadId"])


def _is_idle(filesystem: Any, bucket: str, upload: dict[str, Any]) -> bool:
    """Return whether an upload has parts, all of them old; one without parts costs nothing."""
    listed = filesystem.call_s3("list_parts", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    newest = max((part["LastModified"] for part in listed.get("Parts", [])), default=None)
    return newest is not None and not listed["IsTruncated"] and datetime.now(UTC) - newest > LONG_IDLE


class _MovedUpload(_ObjectFile):
    """An upload under another name, moved when it is complete."""

    def __init__(self, filesystem: Any, path: str, owner: str) -> None:
        folder, _, name = path.rpartition("/")
        prefix = f"{folder}/{hidden_name(name)}"
        own = owned_name(prefix, owner)
        self._part = f"{own}{secrets.token_hex(4)}.part"
        filesystem.makedirs(folder, exist_ok=True)
        for part in filesystem.glob(f"{glob.escape(prefix)}.*.part"):
            if part.startswith(own) or self._is_idle(part):
                filesystem.rm_file(part)
        super().__init__(filesystem, path, filesystem.open(self._part, "wb"))

    def _is_idle(self, part: str) -> bool:
        with contextlib.suppress(Exception):  # not every store knows when a file was written
            return bool(datetime.now(UTC) - self._filesystem.modified(part) > LONG_IDLE)
        return False

    def commit(self) -> None:
        with _translated(self._filesystem, self._path):
            self._filesystem.mv(self._part, self._path)

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()
        with contextlib.suppress(Exception):
            self._filesystem.rm_file(self._part)
