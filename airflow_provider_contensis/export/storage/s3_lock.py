"""A lock in S3, held while a folder's files are replaced.

It is an object that is created only if it does not exist, which S3 does in one step. Its holder renews it; a
lock that was not renewed for a while belongs to a killed holder. A waiter may replace an expired lock with a
conditional write.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.destination import LOCK

log = logging.getLogger(__name__)

# Seconds without renewal after which a lock has expired. The next attempt of the holder's own task waits as
# long as anybody else: a task's name does not show whether its last attempt still runs somewhere.
_EXPIRY = 60.0
# Seconds to wait for a lock that is being renewed.
_TIMEOUT = 600.0
_FIRST_WAIT, _MAX_WAIT = 0.2, 5.0


class S3Lock:
    """The lock of a folder.

    :param filesystem: of s3fs.
    :param folder: its path, ending in `/`.
    :param owner: names the task, for people who look into the lock.
    """

    def __init__(self, filesystem: Any, folder: str, owner: str) -> None:
        self._call = filesystem.call_s3
        bucket, key, _ = filesystem.split_path(f"{folder}{LOCK}")
        self._object = {"Bucket": bucket, "Key": key}
        self._folder = folder
        self._owner = owner
        self._holder = secrets.token_hex(16)
        self._etag = ""  # none: the store has no conditional writes
        self._renewed = -math.inf
        self._turn = threading.Lock()
        self._released = threading.Event()

    def acquire(self) -> None:
        """Wait for the lock; go without one if the store has no conditional writes.

        :raises DestinationError: others held it for too long.
        """
        deadline, wait = time.monotonic() + _TIMEOUT, _FIRST_WAIT
        try:
            while not (self._put(IfNoneMatch="*") or self._take_over()):
                if time.monotonic() > deadline:
                    raise DestinationError(
                        f"{self._folder} could not be written: other exports have been replacing its files "
                        f"for {_TIMEOUT / 60:.0f} minutes. {LOCK} in it names the task that holds the lock."
                    )
                if wait == _FIRST_WAIT:
                    log.info("Waiting: another export is replacing the files of %s", self._folder)
                time.sleep(secrets.SystemRandom().uniform(wait / 2, wait))
                wait = min(wait * 1.5, _MAX_WAIT)
        except OSError as error:
            if _status(error) != 501:
                raise
            log.info("The store of %s has no conditional writes: continuing without a lock", self._folder)
            return
        threading.Thread(target=self._keep, name="contensis-lock", daemon=True).start()

    def check(self) -> None:
        """Check that the lock has not expired; renew it if it soon would.

        :raises DestinationError: another export has taken it over.
        """
        with self._turn:
            if not self._etag or time.monotonic() - self._renewed < _EXPIRY / 2:
                return
            if not self._put(IfMatch=self._etag):
                raise DestinationError(
                    f"{self._folder} could not be written: this export did not renew its lock in time, "
                    "and another one has taken it over."
                )

    def release(self) -> None:
        """Release the lock; never raises."""
        self._released.set()
        with contextlib.suppress(Exception):  # it expires soon
            self.check()
            if self._etag:
                self._call("delete_object", **self._object)

    def _keep(self) -> None:
        """Renew the lock until it is released or lost, however long a large file takes."""
        while not self._released.wait(_EXPIRY / 6):
            with self._turn, contextlib.suppress(Exception):  # the next one may succeed; if not, check fails
                if not self._put(IfMatch=self._etag):
                    self._renewed = -math.inf
                    return

    def _take_over(self) -> bool:
        """Replace the lock if it has expired; return whether that was done."""
        found = self._look()
        if found is None:
            return False
        # Both times are the store's: this machine's clock may be wrong.
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        if now - found["LastModified"] < timedelta(seconds=_EXPIRY) or not self._put(IfMatch=found["ETag"]):
            return False
        log.warning(
            "Took over the expired lock of %s: an export died while it replaced the files", self._folder
        )
        return True

    def _put(self, **condition: str) -> bool:
        """Write the lock on a condition; return whether it is now held."""
        asked = time.monotonic()
        # New content, new ETag: a waiter that saw the last one cannot replace this one.
        content = f"{self._owner}\n{secrets.token_hex(16)}\n".encode(errors="backslashreplace")
        try:
            written = self._call(
                "put_object", **self._object, Body=content, Metadata={"holder": self._holder}, **condition
            )
        except OSError as error:
            # 404 to IfMatch means that the lock is gone; to IfNoneMatch, that the bucket does not exist.
            if _status(error) not in ({404, 409, 412} if "IfMatch" in condition else {409, 412}):
                raise
            found = self._look()
            if found is None or found["Metadata"].get("holder") != self._holder:
                return False
            # An earlier write of ours arrived, though its answer did not.
            return self._put(IfMatch=found["ETag"])
        self._etag, self._renewed = written["ETag"], asked
        return True

    def _look(self) -> Any:
        """Return the metadata of the lock; None if there is no lock."""
        try:
            return self._call("head_object", **self._object)
        except FileNotFoundError:
            return None


def _status(error: OSError) -> int | None:
    """Return the HTTP status behind an exception of s3fs."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
