"""Storage of files that appear under their name whole or not at all, also when the process is killed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from datetime import timedelta
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from airflow_provider_contensis.exceptions import DestinationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

# Without locks, a file that was idle for so long is taken for dead.
LONG_IDLE = timedelta(days=1)

_LASTING_CODES = frozenset({errno.ELOOP, errno.ENAMETOOLONG, errno.EROFS})
_LASTING_NAMES = frozenset({"ParamValidationError"})  # of botocore, such as for the name of a bucket
# A name may hold a null byte: hence the ValueError.
LASTING = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError)


class PendingFile(Protocol):
    """A file being written. Nothing under its name changes before `commit`."""

    def write(self, data: bytes) -> object:
        """Append bytes."""

    def finish(self) -> None:
        """Store everything, but not yet under the final name."""

    def commit(self) -> None:
        """Give the finished file its name, in one step."""

    def discard(self) -> None:
        """Remove what was written, unless it was committed; never raises."""


class Storage(Protocol):
    """Where files go. Every method raises `DestinationError` if it fails."""

    def create(self, path: str, *, owner: str) -> PendingFile:
        """Begin a file.

        Leftovers of dead attempts are removed; files of attempts that still run are left alone.

        :param owner: names the task, the same for all its attempts: without locks, its older files are dead.
        """

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is no such file."""

    def open(self, path: str) -> IO[bytes]:
        """Return a file, open for reading at any place."""

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the path in a folder and the size of each file in it, also below; none if there is no folder.

        :param folder: its path, ending in `/`.
        """

    def remove(self, path: str, *, keep_link: bool = False) -> None:
        """Remove a file or, if the path ends in `/`, a folder with everything in it, if there is one.

        :param keep_link: if it is a symbolic link, remove what it leads to instead.
        """

    def exclusive(self, folder: str, *, owner: str) -> AbstractContextManager[None]:
        """Lock a folder, if the storage can, so that nobody else changes it meanwhile.

        If the lock is lost, changes raise `DestinationError`.

        :param owner: names the task, for people who look into the lock.
        """


class Stored(NamedTuple):
    """A file as it was read.

    :param content: None if there was no such file.
    :param tag: what its store calls this content; None if there was no such file, or it has no such name.
    """

    content: bytes | None
    tag: str | None = None


class FolderStorage(Storage, Protocol):
    """A storage that can look into folders and replace a file on a condition, which a feed needs."""

    def load(self, path: str) -> Stored:
        """Return a small file together with the tag of its content, which `replace` compares."""

    def replace(self, path: str, content: bytes, known: Stored, *, owner: str) -> Stored:
        """Replace a small file in one step, if it is as it was read.

        :param known: the file as it was read.
        :raises DestinationError: somebody else has replaced it, or the storage failed; then it may still be
            replaced until `supersede` returns.
        """

    def supersede(self, path: str, known: Stored, initial: bytes, *, owner: str) -> Stored:
        """Make sure that no earlier `replace` can succeed any more, of which an answer may be on its way.

        :param initial: what a file holds that did not exist; blank space after the content may be added.
        :raises DestinationError: somebody else has replaced the file.
        """

    def read_part(self, path: str, start: int, length: int) -> bytes:
        """Return a part of a file, or less if the file is shorter.

        :param start: where it begins; if negative, so many bytes from the end.
        """

    def names(self, folder: str) -> list[str]:
        """Return the names of what is in a folder, hidden ones included; none if there is no folder."""

    def exclusive(self, folder: str, *, owner: str, alone: bool = False) -> AbstractContextManager[None]:
        """Lock a folder, as `Storage.exclusive`.

        :param alone: raise `DestinationError` if another holder is alive, rather than wait for it, or if the
            storage cannot keep writers apart.
        """


def another_writer(folder: str) -> DestinationError:
    """Return the error of a run that finds another one at work."""
    return DestinationError(
        f"{folder} could not be written: another run is writing to it. Let one run end before the next "
        "begins, for example with max_active_runs=1."
    )


def replaced_meanwhile(path: str) -> DestinationError:
    """Return the error of a run that another one has overtaken."""
    return DestinationError(f"{path} could not be written: another run has updated it meanwhile.")


def write_whole(storage: Storage, path: str, content: bytes, *, owner: str) -> None:
    """Write a small file.

    :param owner: as in `Storage.create`.
    """
    file = storage.create(path, owner=owner)
    try:
        file.write(content)
        file.finish()
        file.commit()
    finally:
        file.discard()


@contextlib.contextmanager
def translate_storage_errors(path: object, lasting: tuple[type[Exception], ...] = LASTING) -> Iterator[None]:
    """Translate errors of a file system or an object store.

    :param lasting: errors that no other attempt can fix.
    :raises DestinationError: says in one sentence why the path could not be written.
    """
    try:
        yield
    except DestinationError:
        raise
    except Exception as error:
        is_folder = isinstance(error, IsADirectoryError)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        reason = "it is a folder; end it in / to write into it" if is_folder else reason
        failure = DestinationError(f"{path} could not be written: {reason.rstrip('.')}.")
        # Only a person can fix these; a full disk or a lost mount may pass.
        failure.retryable = not (
            isinstance(error, lasting)
            or getattr(error, "errno", None) in _LASTING_CODES
            or type(error).__name__ in _LASTING_NAMES
        )
        raise failure from error


def hidden_name(name: str) -> str:
    """Return how the temporary names of a file begin: distinct, and never too long."""
    return f".{name[:32]}.{_short_hash(os.fsencode(name))}"


def owned_name(prefix: str, owner: str) -> str:
    """Return how the temporary names of one task begin, the same for all its attempts."""
    return f"{prefix}.{_short_hash(owner.encode())}."


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
