"""A lock in an object store, held while a folder's files are replaced, or while a feed is written.

It is an object that is created only if it does not exist, which the store does in one step. Its holder renews
it; a lock that was not renewed for a while belongs to a killed holder. A waiter may replace an expired lock
with a conditional write.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.destination import LOCK
from airflow_provider_contensis.export.storage.base import another_writer
from airflow_provider_contensis.export.storage.conditional import ChangedError, NoConditionsError

if TYPE_CHECKING:
    from airflow_provider_contensis.export.storage.conditional import ConditionalWrites, Found

log = logging.getLogger(__name__)

# Seconds without renewal after which a lock has expired. The next attempt of the holder's own task waits as
# long as anybody else: a task's name does not show whether its last attempt still runs somewhere.
_EXPIRY = 60.0
# Seconds to wait for a lock that is being renewed.
_TIMEOUT = 600.0
_FIRST_WAIT, _MAX_WAIT = 0.2, 5.0


class StoreLock:
    """The lock of a folder.

    :param filesystem: of fsspec.
    :param writes: the conditional writes of the filesystem's store.
    :param folder: the folder's path in the filesystem, ending in `/`.
    :param owner: names the task, for people who look into the lock.
    """

    def __init__(self, filesystem: Any, writes: ConditionalWrites, folder: str, owner: str) -> None:
        self._read = filesystem.cat_file
        self._writes = writes
        self._path = f"{folder}{LOCK}"
        self._folder = filesystem.unstrip_protocol(folder)
        self._owner = owner
        self._holder = secrets.token_hex(16)
        self._tag = ""  # none: the store has no conditional writes
        self._renewed = -math.inf
        self._turn = threading.Lock()
        self._released = threading.Event()

    def acquire(self) -> None:
        """Wait for the lock; go without one if the store has no conditional writes.

        :raises DestinationError: others held it for too long.
        """
        try:
            self._acquire(wait=True)
        except NoConditionsError:
            log.info("The store of %s has no conditional writes: continuing without a lock", self._folder)

    def acquire_alone(self) -> None:
        """Take the lock, which may have to expire first; do not wait for a holder that is alive.

        :raises DestinationError: another holder is alive.
        :raises NoConditionsError: the store has no conditional writes, or ignores the condition.
        """
        self._acquire(wait=False)
        try:
            self._writes.write(self._path, self._content(), tag=None)
        except ChangedError:
            return
        self.release()
        raise NoConditionsError

    def _acquire(self, *, wait: bool) -> None:
        deadline, pause = time.monotonic() + _TIMEOUT, _FIRST_WAIT
        first: Found | None = None
        while not (self._put(None) or self._take_over()):
            if not wait:
                found = self._writes.look(self._path)
                first = first or found
                if first is not None and found is not None and first.tag != found.tag:  # it was renewed
                    raise another_writer(self._folder)
            if time.monotonic() > deadline:
                raise DestinationError(
                    f"{self._folder} could not be written: other exports have been replacing its files "
                    f"for {_TIMEOUT / 60:.0f} minutes. {LOCK} in it names the task that holds the lock."
                )
            if pause == _FIRST_WAIT:
                log.info("Waiting for the lock of %s: another export holds it, or was killed", self._folder)
            time.sleep(secrets.SystemRandom().uniform(pause / 2, pause))
            pause = min(pause * 1.5, _MAX_WAIT)
        threading.Thread(target=self._keep, name="contensis-lock", daemon=True).start()

    def check(self) -> None:
        """Check that the lock has not expired; renew it if it soon would.

        :raises DestinationError: another export has taken it over.
        """
        with self._turn:
            if not self._tag or time.monotonic() - self._renewed < _EXPIRY / 2:
                return
            if not self._put(self._tag):
                raise DestinationError(
                    f"{self._folder} could not be written: this export did not renew its lock in time, "
                    "and another one has taken it over."
                )

    def release(self) -> None:
        """Release the lock; never raises."""
        self._released.set()
        with contextlib.suppress(Exception):  # it expires soon
            self.check()
            if self._tag:
                self._writes.remove(self._path)

    def _keep(self) -> None:
        """Renew the lock until it is released or lost, however long a large file takes."""
        while not self._released.wait(_EXPIRY / 6):
            with self._turn, contextlib.suppress(Exception):  # the next one may succeed; if not, check fails
                if not self._released.is_set() and not self._put(self._tag):
                    self._renewed = -math.inf
                    return

    def _take_over(self) -> bool:
        """Replace the lock if it has expired; return whether that was done."""
        found = self._writes.look(self._path)
        if found is None or found.age < timedelta(seconds=_EXPIRY) or not self._put(found.tag):
            return False
        log.warning("Took over the expired lock of %s: an export died while it held it", self._folder)
        return True

    def _put(self, tag: str | None) -> bool:
        """Write the lock in the place of another, or of none; return whether it is now held."""
        asked = time.monotonic()
        try:
            self._tag = self._writes.write(self._path, self._content(), tag=tag)
        except ChangedError:
            found = self._writes.look(self._path)
            if found is None or not self._is_own():
                return False
            # An earlier write of ours arrived, though its answer did not.
            return self._put(found.tag)
        self._renewed = asked
        return True

    def _content(self) -> bytes:
        # New content, new tag: a waiter that saw the last one cannot replace this one.
        lines = (self._owner, self._holder, secrets.token_hex(16))
        return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")

    def _is_own(self) -> bool:
        try:
            return self._holder.encode() in self._read(self._path)
        except FileNotFoundError:
            return False
