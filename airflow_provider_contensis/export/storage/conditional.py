"""Conditional writes of S3 and Google Cloud Storage: an object is replaced only if nobody else replaced it.

They are what keeps two writers apart in a store that has no locks: one request either finds the object as it
was read and replaces it, or changes nothing.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol


class ChangedError(Exception):
    """The object is not what the writer expected, so nothing was written."""


class NoConditionsError(Exception):
    """The store has no conditional writes."""


class Found(NamedTuple):
    """An object as the store describes it.

    :param tag: another one for each content that is written.
    :param age: since it was written, by the store's clock: this machine's may be wrong.
    """

    tag: str
    age: timedelta


class ConditionalWrites(Protocol):
    """What a store offers. Other failures are `OSError`, as everywhere in fsspec."""

    def look(self, path: str) -> Found | None:
        """Return the description of an object; None if there is none."""

    def write(self, path: str, content: bytes, *, tag: str | None) -> str:
        """Write an object, and return its tag.

        :param tag: of the object that it replaces; None if there must be none.
        :raises ChangedError: the object is another one, or there is one.
        :raises NoConditionsError: the store cannot tell.
        """

    def remove(self, path: str) -> None:
        """Remove an object, if there is one."""


def conditional_writes(filesystem: Any) -> ConditionalWrites | None:
    """Return the conditional writes of an fsspec filesystem; None if none are known."""
    if hasattr(filesystem, "call_s3"):
        return _S3(filesystem)
    protocols = filesystem.protocol
    if {"gs", "gcs"} & ({protocols} if isinstance(protocols, str) else set(protocols)):
        return _Gcs(filesystem)
    return None


class _S3:
    """Conditional writes of S3, through s3fs: by the ETag of an object."""

    def __init__(self, filesystem: Any) -> None:
        self._call = filesystem.call_s3
        self._split = filesystem.split_path

    def look(self, path: str) -> Found | None:
        try:
            found = self._call("head_object", **self._object(path))
        except FileNotFoundError:
            return None
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return Found(found["ETag"], now - found["LastModified"])

    def write(self, path: str, content: bytes, *, tag: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            written = self._call("put_object", **self._object(path), Body=content, **condition)
        except OSError as error:
            status = _s3_status(error)
            if status == 501:
                raise NoConditionsError from error
            # 404 to IfMatch means that the object is gone; to IfNoneMatch, that the bucket does not exist.
            if status in {409, 412} or (status == 404 and tag is not None):
                raise ChangedError from error
            raise
        return str(written["ETag"])

    def remove(self, path: str) -> None:
        self._call("delete_object", **self._object(path))

    def _object(self, path: str) -> dict[str, str]:
        bucket, key, _ = self._split(path)
        return {"Bucket": bucket, "Key": key}


def _s3_status(error: OSError) -> int | None:
    """Return the HTTP status behind an exception of s3fs."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


class _Gcs:
    """Conditional writes of Google Cloud Storage, through gcsfs: by the generation of an object."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def look(self, path: str) -> Found | None:
        bucket, key, _ = self._filesystem.split_path(path)
        try:
            headers, content = self._filesystem.call("GET", "b/{}/o/{}", bucket, key)
        except FileNotFoundError:
            return None
        found = json.loads(content)
        date = headers.get("Date")
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return Found(str(found["generation"]), now - datetime.fromisoformat(found["updated"]))

    def write(self, path: str, content: bytes, *, tag: str | None) -> str:
        bucket, key, _ = self._filesystem.split_path(path)
        try:
            written = self._filesystem.call(
                "POST",
                f"{self._filesystem.base.replace('/storage/v1/', '/upload/storage/v1/')}b/{{}}/o",
                bucket,
                uploadType="media",
                name=key,
                ifGenerationMatch=tag or "0",  # 0: no object
                headers={"Content-Type": "application/octet-stream"},
                data=content,
                json_out=True,
            )
        except FileExistsError as error:  # what gcsfs makes of 412
            raise ChangedError from error
        return str(written["generation"])

    def remove(self, path: str) -> None:
        bucket, key, _ = self._filesystem.split_path(path)
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.call("DELETE", "b/{}/o/{}", bucket, key)
