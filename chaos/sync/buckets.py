"""A feed in a bucket of S3 as its readers see it, and a watch on the requests of the runs that write it.

The S3 server is moto's, in this process: readers look into its memory, which no request can disturb.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import s3fs
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from airflow_provider_contensis.export.destination import LOCK
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EXPIRED = timedelta(minutes=2)


@cache
def s3_url() -> str:
    """Return the address of the S3 server of this process."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


class Bucket(NamedTuple):
    """A bucket that holds a feed and nothing else.

    :param url: of the S3 server.
    """

    url: str
    name: str

    @classmethod
    def create(cls) -> Bucket:
        """Return a new bucket."""
        bucket = cls(s3_url(), f"feed{secrets.token_hex(8)}")
        s3_filesystem(bucket.url).call_s3("create_bucket", Bucket=bucket.name)
        return bucket

    @property
    def root(self) -> str:
        """The feed's folder as the storage names it."""
        return f"{self.name}/feed/"

    @property
    def folder(self) -> StoredPath:
        """The feed's folder as readers see it."""
        return StoredPath(self.name, "feed")

    def storage(self) -> ObjectStorage:
        """Return the storage of a run."""
        return ObjectStorage(s3_filesystem(self.url))

    def expire_lock(self) -> None:
        """Make the lock that a dead run has left expire."""
        lock = _objects(self.name).get(f"feed/{LOCK}")
        if lock is not None:
            lock.last_modified -= _EXPIRED

    def uploads(self) -> list[str]:
        """Return the keys of uploads that were begun and not completed."""
        return [upload.key_name for upload in _bucket(self.name).multiparts.values()]


class Status(NamedTuple):
    """What a file's status shows."""

    st_size: int
    st_mtime_ns: str


class StoredPath:
    """An object, or a folder of objects, with what a reader of a feed needs of a path."""

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self.name = key.rpartition("/")[2]

    def __truediv__(self, name: str) -> StoredPath:
        return StoredPath(self._bucket, f"{self._key}/{name.strip('/')}")

    def __str__(self) -> str:
        return self._key

    def exists(self) -> bool:
        """Return whether there is such an object."""
        return self._key in _objects(self._bucket)

    def is_file(self) -> bool:
        """Return whether there is such an object."""
        return self.exists()

    def read_bytes(self) -> bytes:
        """Return the content of the object."""
        return bytes(self._object().value)

    def stat(self) -> Status:
        """Return the size of the object, and what differs if it was replaced."""
        found = self._object()
        return Status(found.size, found.etag)

    def relative_to(self, folder: StoredPath) -> str:
        """Return the path from a folder."""
        return self._key.removeprefix(f"{folder}/")

    def rglob(self, _: str) -> Iterator[StoredPath]:
        """Yield the objects in the folder."""
        for key in sorted(_objects(self._bucket)):
            if key.startswith(f"{self._key}/"):
                yield StoredPath(self._bucket, key)

    def __lt__(self, other: StoredPath) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPath) and other._key == self._key

    def _object(self) -> Any:
        try:
            return _objects(self._bucket)[self._key]
        except KeyError:
            raise FileNotFoundError(self._key) from None


@contextmanager
def before_each_request(before: Callable[[], None]) -> Iterator[None]:
    """Call a function before each request to S3; what it raises, the request raises."""
    send = s3fs.core._error_wrapper  # noqa: SLF001  # all requests go through it

    async def watched(*args: Any, **kwargs: Any) -> Any:
        before()
        return await send(*args, **kwargs)

    with patch.object(s3fs.core, "_error_wrapper", watched):
        yield


@contextmanager
def connection_lost(at: int, *, arrives: bool) -> Iterator[None]:
    """Lose the connection at a request to S3.

    :param at: the number of the request.
    :param arrives: whether the request arrives, and only its answer is lost.
    """
    send = s3fs.core._error_wrapper  # noqa: SLF001  # all requests go through it
    number = 0

    async def unreliable(*args: Any, **kwargs: Any) -> Any:
        nonlocal number
        number += 1
        if number != at:
            return await send(*args, **kwargs)
        if arrives:
            await send(*args, **kwargs)
        raise ConnectionResetError("the connection was lost")

    with patch.object(s3fs.core, "_error_wrapper", unreliable):
        yield


def _bucket(name: str) -> Any:
    [found] = [
        backend.buckets[name]
        for account in s3_backends.values()
        for backend in account.values()
        if name in backend.buckets
    ]
    return found


def _objects(name: str) -> dict[str, Any]:
    """Return the objects of a bucket, by key, without those that were deleted."""
    return dict(_bucket(name).keys.items())
