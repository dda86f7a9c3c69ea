"""What an export has read so far, kept on this machine so that its next try need not ask for it again.

A spool is a file that only grows: first the plan, then, in the order of reading, each window's entries as
they were served, and the parts of each window that had to be cut. A record names no window: it is about
the first that is left of the plan. Each is handed to the system at once, so a process that is killed loses
what it was about to write and nothing else; what a kill has torn is cut off.
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

import msgspec

from airflow_provider_contensis import __version__
from airflow_provider_contensis.api.errors import ContensisError, IncompleteReadError
from airflow_provider_contensis.export.destination import MANIFEST
from airflow_provider_contensis.export.plan import Part, Plan, Window
from airflow_provider_contensis.export.read import Block, heads_of
from airflow_provider_contensis.export.storage import hidden_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.query import EntryQuery
    from airflow_provider_contensis.export.destination import Destination

log = logging.getLogger(__name__)

_FORM = 1  # of the file; another one is not read
_KEPT_SECONDS = 24 * 3600
# A spool gives way before it takes the last of the room, which the export itself needs.
_SPARE_BYTES = 64 << 20
_FRAME = struct.Struct(">cQI")  # what a record is, its length, its checksum
_PLAN, _BLOCK, _CUT = b"P", b"B", b"C"
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])


class Memory(Protocol):
    """What a task's tries tell each other. Its methods may raise whatever they like."""

    @property
    def is_last(self) -> bool:
        """Whether no other try will follow this one."""

    def recall(self) -> Any:
        """Return what an earlier try has told; None if there is nothing."""

    def remember(self, pointer: dict[str, str]) -> None:
        """Tell the tries to come, in JSON values."""

    def forget(self) -> None:
        """Tell them nothing any more."""


class Spool:
    """The spool of one try. Use it as a context manager: it stays only if another try can go on from it.

    Where it can't be had, the export does without, and a warning says so.

    :param destination: a local spool lies beside it, any other in a private folder for temporary files.
    :param fingerprint: of what is asked for; a spool of anything else is not used.
    :param owner: names the task, the same for all its tries.
    :param memory: where a try finds the spool of the one before; None to neither use one nor keep one.
    """

    def __init__(
        self, destination: Destination, fingerprint: str, *, owner: str, memory: Memory | None
    ) -> None:
        self.plan: Plan | None = None  # of the earlier try, if this one goes on from it
        self._fingerprint = fingerprint
        self._memory = memory
        self._line: deque[Window] = deque()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._is_local = destination.is_local
        with self._or_without():
            self._folder, self._prefix = _place(destination)
            self._own = f"{self._prefix}.{hashlib.sha256(owner.encode()).hexdigest()[:12]}."
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
    def left(self) -> tuple[Window, ...]:
        """What was not read yet: windows of the plan, or parts of them."""
        return tuple(self._line)

    def begin(self, plan: Plan) -> None:
        """Keep what will be read of a plan, unless it is the earlier try's, which has begun already."""
        if plan is self.plan:
            return
        self._line = deque(plan.windows)
        if self._memory is None or self._memory.is_last:
            return
        with self._or_without():
            if not self._is_local:
                self._folder.mkdir(mode=0o700, exist_ok=True)
            self._check_folder()
            path = self._folder / f"{self._own}{secrets.token_hex(4)}.spool"
            self._file, self._path = _locked(path, os.O_CREAT | os.O_EXCL), path
            content = {"begun": time.time(), "fingerprint": self._fingerprint, "plan": plan}
            _write(self._file, _PLAN, json.dumps(content, default=vars).encode())
            self._memory.remember({"path": str(path)})

    def replay(self) -> Iterator[Block]:
        """Yield the windows that an earlier try has read, in order, one after the other."""
        if self.plan is None:
            return
        windows = entries = 0
        while (block := self._next_block()) is not None:
            yield block
            windows, entries = windows + 1, entries + len(block.entries)
        log.info(
            "Continuing: %s entries in %d of %d windows were read by an earlier try",
            f"{entries:,}",
            windows,
            windows + len(self._line),
        )
        if self._memory is not None and self._memory.is_last:
            self._remove()

    def add(self, block: Block) -> None:
        """Keep the entries of the first window that is left."""
        self._line.popleft()
        if self._file is not None:
            with self._or_without():
                _write(self._file, _BLOCK, b"[", b",".join(block.entries), b"]")

    def cut(self, parts: Sequence[Window]) -> None:
        """Put its parts in the place of the first window that is left."""
        self._replace(parts)
        if self._file is not None:
            with self._or_without():
                _write(self._file, _CUT, json.dumps(parts, default=vars).encode())

    def _replace(self, parts: Sequence[Window]) -> None:
        self._line.popleft()
        self._line.extendleft(reversed(parts))

    def _next_block(self) -> Block | None:
        if self._file is not None:
            with self._or_without():
                while (record := _read(self._file)) is not None:
                    kind, content = record
                    if kind == _BLOCK:
                        entries = _ENTRIES.decode(content)
                        heads = heads_of(entries)
                        return Block(self._line.popleft(), entries, heads)
                    self._replace([_window(each) for each in json.loads(content)])
        return None

    def _take_up(self) -> None:
        """Go on from the spool of an earlier try, if it is there and fit for that."""
        pointer = None if self._memory is None else self._memory.recall()
        if self._memory is None or pointer is None:
            return
        try:
            path = Path(pointer["path"])
            if path.parent != self._folder or not path.name.startswith(self._own):
                raise ValueError("it lies elsewhere")
            self._check_folder()
            self._file, self._path = _locked(path), path
            self.plan = self._read_plan(self._file)
            self._line = deque(self.plan.windows)
        except (KeyError, OSError, TypeError, ValueError) as error:
            log.info("Reading everything: what an earlier try has kept can't be used: %s", error)
            self._close()
            self._memory.forget()

    def _read_plan(self, file: IO[bytes]) -> Plan:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise ValueError("it is not ours")
        record = _read(file)
        if record is None or record[0] != _PLAN:
            raise ValueError("it does not begin with a plan")
        content = json.loads(record[1])
        if content["fingerprint"] != self._fingerprint:
            raise ValueError("something else was asked for")
        if abs(time.time() - content["begun"]) > _KEPT_SECONDS:
            raise ValueError("it is older than a day")
        plan = content["plan"]
        return Plan(
            tuple(plan["content_types"]),
            tuple(Part(_window(window), total) for window, total in plan["parts"]),
            tuple(_window(window) for window in plan["windows"]),
        )

    def _helps_after(self, error: BaseException) -> bool:
        """Return whether another try may follow a failure, and do better for what was read."""
        if self._memory is None or self._memory.is_last:
            return False
        if not isinstance(error, ContensisError):
            return True
        if isinstance(error, IncompleteReadError) and not self._line:
            return False  # all was read, but not proven, and would not be the next time
        needs_room = getattr(error.__cause__, "errno", None) in {errno.ENOSPC, errno.EDQUOT}
        return error.retryable and not needs_room

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on without a spool rather than fail."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the export itself needs none
            if self._memory is not None:
                log.warning("What is read is not kept for another try: %s", error)
            self._remove()
            self._memory = None

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()

    def _remove(self) -> None:
        """Remove the spool and what leads to it; never raises."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._close()
        if self._memory is not None:
            with contextlib.suppress(Exception):  # what leads nowhere does no harm
                self._memory.forget()

    def _remove_dead(self) -> None:
        """Remove what dead tries of the task have left, and what those of others have for a day."""
        with contextlib.suppress(OSError, ValueError):
            self._check_folder()
            for path in self._folder.glob(f"{glob.escape(self._prefix)}.*.spool"):
                # The living, and this one, have theirs locked.
                with contextlib.suppress(OSError), _locked(path) as file:
                    idle = time.time() - os.fstat(file.fileno()).st_mtime
                    if path.name.startswith(self._own) or idle > _KEPT_SECONDS:
                        path.unlink()

    def _check_folder(self) -> None:
        """Refuse a folder for temporary files that others could have made.

        :raises OSError: it is not there, or not private.
        """
        if self._is_local:
            return
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "Not a private folder", str(self._folder))


def fingerprint_of(client: ContensisClient, project_id: str, query: EntryQuery) -> str:
    """Return what tells apart whom is asked, for what, and by whom; it holds no secret."""
    asked = [_FORM, __version__, client.root_url, client.client_id, project_id, vars(query)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _place(destination: Destination) -> tuple[Path, str]:
    """Return the folder of a destination's spools, and how their names begin."""
    if destination.is_local:
        path = Path(f"{destination.url}{MANIFEST}" if destination.is_folder else destination.url)
        return path.parent, hidden_name(path.name)
    return Path(tempfile.gettempdir(), f"airflow-provider-contensis-{os.geteuid()}"), "export"


def _locked(path: Path, flags: int = 0) -> IO[bytes]:
    """Open a file that nobody else has, and keep others from it.

    :raises OSError: somebody has it, or it is gone.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(file.fileno()).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "Removed meanwhile", str(path))
    except BlockingIOError:
        file.close()
        raise BlockingIOError(errno.EAGAIN, "In use by a try that still runs", str(path)) from None
    except BaseException:
        file.close()
        raise
    return file


def _read(file: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return what the next record is, and its content; where none is whole, cut off the rest."""
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
    """Append a record, and hand it to the system."""
    length, checksum = sum(map(len, pieces)), zlib.crc32(kind)
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize < _SPARE_BYTES + 4 * length:
        raise OSError(errno.ENOSPC, "The disk is nearly full")
    file.writelines((_FRAME.pack(kind, length, checksum), *pieces))
    file.flush()


def _window(content: dict[str, Any]) -> Window:
    return Window(**{**content, "query": tuple(content["query"])})
