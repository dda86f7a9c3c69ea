"""A lock in S3, held while a folder's files are replaced.

It is an object that is created only where there is none, which S3 does in one step. Its holder renews it; one
that was not renewed for a while is a killed holder's. Who finds it so replaces it, unless it has changed.
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

from airflow_provider_contensis.api.errors import DestinationError
from airflow_provider_contensis.export.destination import LOCK

log = logging.getLogger(__name__)

# Seconds of silence after which a holder is dead. The next try of its own task waits as long as anybody else:
# a task's name does not tell whether its last try is still at work somewhere.
_SILENCE = 60.0
# Seconds for which a living one is waited for.
_PATIENCE = 600.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0


class S3Lock:
    """The lock of a folder.

    :param filesystem: of s3fs.
    :param folder: its path, ending in `/`.
    :param owner: names the task, to whoever looks into the lock.
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
        """Wait for the lock; hold none where the store can't create an object only where there is none.

        :raises DestinationError: others held it for too long.
        """
        deadline, wait = time.monotonic() + _PATIENCE, _FIRST_WAIT
        try:
            while not (self._put(IfNoneMatch="*") or self._take_over()):
                if time.monotonic() > deadline:
                    raise DestinationError(
                        f"{self._folder} could not be written: others have been replacing its files for "
                        f"{_PATIENCE / 60:.0f} minutes, and {LOCK} in it names the task that does so now."
                    )
                if wait == _FIRST_WAIT:
                    log.info("Another export is replacing the files of %s: waiting for its end", self._folder)
                time.sleep(secrets.SystemRandom().uniform(wait / 2, wait))
                wait = min(wait * 1.5, _LONGEST_WAIT)
        except OSError as error:
            if _status(error) != 501:
                raise
            log.info(
                "The store of %s has no conditional writes: nothing keeps other exports away", self._folder
            )
            return
        threading.Thread(target=self._keep, name="contensis-lock", daemon=True).start()

    def check(self) -> None:
        """Make sure that nobody has the right to take the lock over yet.

        :raises DestinationError: somebody has done so.
        """
        with self._turn:
            if not self._etag or time.monotonic() - self._renewed < _SILENCE / 2:
                return
            if not self._put(IfMatch=self._etag):
                raise DestinationError(
                    f"{self._folder} could not be written: another export took its lock over, "
                    "which this one had not renewed in time."
                )

    def release(self) -> None:
        """Let others go on; never raises."""
        self._released.set()
        with contextlib.suppress(Exception):  # then it is taken over in a while
            self.check()
            if self._etag:
                self._call("delete_object", **self._object)

    def _keep(self) -> None:
        """Renew the lock until it is released or lost, though a large file may take its time meanwhile."""
        while not self._released.wait(_SILENCE / 6):
            with self._turn, contextlib.suppress(Exception):  # the next one may succeed, or check tells
                if not self._put(IfMatch=self._etag):
                    self._renewed = -math.inf
                    return

    def _take_over(self) -> bool:
        """Replace the lock if its holder is dead; return whether this was done."""
        found = self._look()
        if found is None:
            return False
        # Both times are the store's: the clock of this machine may be wrong.
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        if now - found["LastModified"] < timedelta(seconds=_SILENCE) or not self._put(IfMatch=found["ETag"]):
            return False
        log.warning("An export died while it replaced the files of %s: its lock is taken over", self._folder)
        return True

    def _put(self, **condition: str) -> bool:
        """Write the lock on a condition; return whether it is held now."""
        asked = time.monotonic()
        # Each has another content and so another ETag: who has seen the last one can't replace this one.
        content = f"{self._owner}\n{secrets.token_hex(16)}\n".encode(errors="backslashreplace")
        try:
            written = self._call(
                "put_object", **self._object, Body=content, Metadata={"holder": self._holder}, **condition
            )
        except OSError as error:
            # 404 tells of a lock that is gone; where none was asked for, of a bucket that is not there.
            if _status(error) not in ({404, 409, 412} if "IfMatch" in condition else {409, 412}):
                raise
            found = self._look()
            if found is None or found["Metadata"].get("holder") != self._holder:
                return False
            # An earlier one of ours arrived, though its answer did not.
            return self._put(IfMatch=found["ETag"])
        self._etag, self._renewed = written["ETag"], asked
        return True

    def _look(self) -> Any:
        """Return what the store tells of the lock; None if there is none."""
        try:
            return self._call("head_object", **self._object)
        except FileNotFoundError:
            return None


def _status(error: OSError) -> int | None:
    """Return the HTTP status that s3fs made an exception of."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
