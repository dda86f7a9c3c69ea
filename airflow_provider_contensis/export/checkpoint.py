"""The checkpoint of an export: what it has read so far, kept on this machine for the next attempt.

A checkpoint is a file that only grows: first the plan, then, in the order of reading, each window's entries
as served, and the windows that took the place of one too large. A record names no window: it is about the
first that remains of the plan. Each record is handed to the system at once, so a process that is killed loses
only what it was about to write; a torn record at the end is cut off.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import secrets
import stat
import struct
import tempfile
import time
import zlib
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from airflow_provider_contensis import __version__
from airflow_provider_contensis.exceptions import ContensisError, IncompleteReadError
from airflow_provider_contensis.export.batch import Batch
from airflow_provider_contensis.export.destination import MANIFEST
from airflow_provider_contensis.export.model import Cut, Plan, Window
from airflow_provider_contensis.export.page import entry_metas, split_entries
from airflow_provider_contensis.export.storage.base import hidden_name, owned_name
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.destination import Destination
    from airflow_provider_contensis.export.model import ChangeMark, EntryQuery

log = logging.getLogger(__name__)

_FORMAT_VERSION = 4  # other versions are not read
_MAX_AGE_SECONDS = 24 * 3600
# A checkpoint gives way before it takes the last of the disk, which the export itself needs.
_RESERVED_BYTES = 64 << 20
_FRAME = struct.Struct(">cQI")  # kind of record, length, checksum
_PLAN, _BATCH, _CUT = b"P", b"B", b"C"


class CheckpointPointer(Protocol):
    """Where a task's attempts find the checkpoint of the one before. Its methods may raise anything."""

    @property
    def is_last_attempt(self) -> bool:
        """Whether no other attempt will follow this one."""

    def load(self) -> Any:
        """Return what an earlier attempt saved; None if there is nothing."""

    def save(self, pointer: dict[str, str]) -> None:
        """Save where the checkpoint is, for the attempts to come."""

    def clear(self) -> None:
        """Forget what was saved."""


class Checkpoint:
    """The checkpoint of one attempt, a context manager. It stays only if another attempt can use it.

    If it cannot be kept, the export continues without it, and a warning says so.

    :param destination: the checkpoint lies beside a local one, else in a private folder for temporary files.
    :param fingerprint: of the question; the checkpoint of another question is not used.
    :param change_mark: as `EntryQuery.change_mark`.
    :param owner: names the task, the same for all its attempts.
    :param pointer: where an attempt finds the checkpoint of the one before; None to neither use nor keep one.
    """

    def __init__(
        self,
        destination: Destination,
        fingerprint: str,
        *,
        change_mark: ChangeMark,
        owner: str,
        pointer: CheckpointPointer | None,
    ) -> None:
        self.plan: Plan | None = None  # of the earlier attempt, if this one continues it
        self.horizon: str | None = None  # as the earlier attempt gave it to `begin`
        self._change_mark = change_mark
        self._fingerprint = fingerprint
        self._pointer = pointer
        self._queue: deque[Window] = deque()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._is_local = destination.is_local
        with self._or_without():
            self._folder, self._prefix = _place(destination)
            self._own = owned_name(self._prefix, owner)
            self._take_up()
            self._remove_dead()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        if error is None or not self._helps_after(error):
            self._remove()
        else:
            self._close()

    @property
    def remaining(self) -> tuple[Window, ...]:
        """The windows that were not read yet: of the plan, or cut from them."""
        return tuple(self._queue)

    def begin(self, plan: Plan, *, horizon: str | None = None) -> None:
        """Begin to keep what is read of a plan, unless an earlier attempt has begun it.

        :param horizon: the time before which all changes are in what is read; None if nobody asks for it.
        """
        if plan is self.plan:
            return
        self._queue = deque(plan.windows)
        if self._pointer is None or self._pointer.is_last_attempt:
            return
        with self._or_without():
            if not self._is_local:
                self._folder.mkdir(mode=0o700, exist_ok=True)
            self._check_folder()
            path = self._folder / f"{self._own}{secrets.token_hex(4)}.checkpoint"
            self._file, self._path = _open_locked(path, os.O_CREAT | os.O_EXCL), path
            content = {"begun": time.time(), "fingerprint": self._fingerprint, "plan": plan}
            content |= {"horizon": horizon} if horizon is not None else {}
            _write(self._file, _PLAN, json.dumps(content, default=vars).encode())
            self._pointer.save({"path": str(path)})

    def replay(self, on_cut: Callable[[Cut], None]) -> Iterator[Batch]:
        """Yield the windows that an earlier attempt has read, in order.

        :param on_cut: called with the windows that took the place of one too large.
        """
        if self.plan is None:
            return
        windows = entries = 0
        while (batch := self._next_batch(on_cut)) is not None:
            yield batch
            windows, entries = windows + 1, entries + len(batch.entries)
        log.info(
            "Resuming: an earlier attempt has read %s in %d of %s",
            count(entries, "entry", "entries"),
            windows,
            count(windows + len(self._queue), "window"),
        )
        if self._pointer is not None and self._pointer.is_last_attempt:
            self._remove()

    def add(self, batch: Batch) -> None:
        """Keep the entries of the first window that remains."""
        self._queue.popleft()
        if self._file is not None:
            with self._or_without():
                _write(self._file, _BATCH, b"[", b",".join(batch.entries), b"]")

    def cut(self, cut: Cut) -> None:
        """Put windows in the place of the first one that remains."""
        self._replace(cut)
        if self._file is not None:
            with self._or_without():
                _write(self._file, _CUT, json.dumps(cut.as_json(), default=vars).encode())

    def _replace(self, cut: Cut) -> None:
        self._queue.popleft()
        self._queue.extendleft(reversed(cut.parts))

    def _next_batch(self, on_cut: Callable[[Cut], None]) -> Batch | None:
        if self._file is not None:
            with self._or_without():
                while (record := _read(self._file)) is not None:
                    kind, content = record
                    if kind == _BATCH:
                        entries = split_entries(content)
                        metas = entry_metas(entries, self._change_mark)
                        return Batch.of(self._queue.popleft(), entries, metas)
                    cut = Cut.from_json(json.loads(content))
                    self._replace(cut)
                    on_cut(cut)
        return None

    def _take_up(self) -> None:
        """Open the checkpoint of an earlier attempt, if it exists and fits."""
        saved = None if self._pointer is None else self._pointer.load()
        if self._pointer is None or saved is None:
            return
        try:
            path = Path(saved["path"])
            if path.parent != self._folder or not path.name.startswith(self._own):
                raise ValueError("it is in another folder")
            self._check_folder()
            self._file, self._path = _open_locked(path), path
            self.plan = self._read_plan(self._file)
            self._queue = deque(self.plan.windows)
        except (KeyError, OSError, TypeError, ValueError) as error:
            log.info("Cannot resume from the checkpoint of an earlier attempt, reading everything: %s", error)
            self._close()
            self._pointer.clear()

    def _read_plan(self, file: IO[bytes]) -> Plan:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise ValueError("it belongs to another user")
        record = _read(file)
        if record is None or record[0] != _PLAN:
            raise ValueError("it does not begin with a plan")
        content = json.loads(record[1])
        if content["fingerprint"] != self._fingerprint:
            raise ValueError("it answers another question")
        if abs(time.time() - content["begun"]) > _MAX_AGE_SECONDS:
            raise ValueError("it is older than a day")
        self.horizon = content.get("horizon")
        return Plan.from_json(content["plan"])

    def _helps_after(self, error: BaseException) -> bool:
        """Return whether another attempt may follow a failure, and gain from what was read."""
        if self._pointer is None or self._pointer.is_last_attempt:
            return False
        if not isinstance(error, ContensisError):
            return True
        if isinstance(error, IncompleteReadError) and not self._queue:
            return False  # everything was read but not proven, and would not be the next time
        disk_is_full = getattr(error.__cause__, "errno", None) in {errno.ENOSPC, errno.EDQUOT}
        return error.retryable and not disk_is_full

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[None]:
        """Continue without a checkpoint rather than fail."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the export does not need a checkpoint
            if self._pointer is not None:
                log.warning("Resume disabled: the checkpoint cannot be kept: %s", error)
            self._remove()
            self._pointer = None

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _remove(self) -> None:
        """Remove the checkpoint and the pointer to it; never raises."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._close()
        if self._pointer is not None:
            with contextlib.suppress(Exception):  # a pointer to nothing does no harm
                self._pointer.clear()

    def _remove_dead(self) -> None:
        """Remove checkpoints of the task's dead attempts, and of other tasks after a day."""
        with contextlib.suppress(OSError, ValueError):
            self._check_folder()
            for path in self._folder.glob(f"{glob.escape(self._prefix)}.*.checkpoint"):
                # Attempts that still run, this one included, hold a lock.
                with contextlib.suppress(OSError), _open_locked(path) as file:
                    idle = time.time() - os.fstat(file.fileno()).st_mtime
                    if path.name.startswith(self._own) or idle > _MAX_AGE_SECONDS:
                        path.unlink()

    def _check_folder(self) -> None:
        """Refuse a folder for temporary files that another user could have made.

        :raises OSError: it does not exist, or is not private.
        """
        if self._is_local:
            return
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "Not a private folder", str(self._folder))


def fingerprint_of(client: ContensisClient, project_id: str, query: EntryQuery) -> str:
    """Return a fingerprint of who asks whom for what; it contains no secret."""
    asked = [_FORMAT_VERSION, __version__, client.root_url, client.client_id, project_id, vars(query)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _place(destination: Destination) -> tuple[Path, str]:
    """Return the folder of a destination's checkpoints, and how their names begin."""
    if destination.is_local:
        path = Path(f"{destination.url}{MANIFEST}" if destination.is_folder else destination.url)
        return path.parent, hidden_name(path.name)
    return Path(tempfile.gettempdir(), f"airflow-provider-contensis-{os.geteuid()}"), "export"


def _open_locked(path: Path, flags: int = 0) -> IO[bytes]:
    """Open a file and lock it.

    :raises OSError: another process holds the lock, or the file is gone.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(file.fileno()).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "Removed in the meantime", str(path))
    except BlockingIOError:
        file.close()
        raise BlockingIOError(errno.EAGAIN, "In use by an attempt that still runs", str(path)) from None
    except BaseException:
        file.close()
        raise
    return file


def _read(file: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return the kind and content of the next record; if none is whole, cut off the rest."""
    begin, size = file.tell(), os.fstat(file.fileno()).st_size
    frame = file.read(_FRAME.size)
    if len(frame) == _FRAME.size:
        kind, length, checksum = _FRAME.unpack(frame)
        content = file.read(length) if length <= size else b""
        if len(content) == length and zlib.crc32(content, zlib.crc32(kind)) == checksum:
            return kind, content
    file.seek(begin)
    file.truncate()
    return None


def _write(file: IO[bytes], kind: bytes, *pieces: bytes) -> None:
    """Append a record, and hand it to the system at once."""
    length, checksum = sum(map(len, pieces)), zlib.crc32(kind)
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize < _RESERVED_BYTES + 4 * length:
        raise OSError(errno.ENOSPC, "The disk is nearly full")
    file.writelines((_FRAME.pack(kind, length, checksum), *pieces))
    file.flush()
