"""One file of an export: entries formatted, compressed, counted and hashed on their way to the storage."""

from __future__ import annotations

import gzip
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_contensis.api.errors import ConfigurationError
from airflow_provider_contensis.export.storage import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import EntryWriter, Sink
    from airflow_provider_contensis.export.read import Head
    from airflow_provider_contensis.export.storage import PendingFile, Storage

_GZIP_LEVEL = 1  # level 6 costs more time than all the rest of an export
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class WrittenFile:
    """A file that stands under its name.

    :param rows: entries in it.
    :param bytes: its size as stored.
    :param sha256: of its content as stored, in hexadecimal.
    """

    path: str
    rows: int
    bytes: int
    sha256: str


class OutputFile:
    """A file being written.

    :param storage: where it goes.
    :param path: its final name.
    :param owner: names the task, the same for all its tries.
    :param compression: `gzip`, `zstd` or None.
    :param make_writer: makes the format's writer, given where its bytes go.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        *,
        owner: str,
        compression: Compression | None,
        make_writer: Callable[[Sink], EntryWriter],
    ) -> None:
        self.path = path
        self.rows = 0
        self._pending = storage.create(path, owner=owner)
        self._digest = _Digest(self._pending)
        try:
            self._compressor = _compressor(compression, self._digest)
            self._writer = make_writer(self._compressor or self._digest)
        except BaseException:
            self.discard()
            raise

    def write(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> None:
        """Append entries.

        :raises DestinationError: the storage refused.
        """
        self._writer.write(entries, heads)
        self.rows += len(entries)

    def finish(self) -> None:
        """Write all that is left, not yet under the final name."""
        self._writer.close()
        if self._compressor is not None:
            with told(self.path):
                self._compressor.close()
        self._digest.finish()
        self._pending.finish()

    def commit(self) -> WrittenFile:
        """Give the finished file its name, in one step."""
        self._pending.commit()
        return self.written

    @property
    def written(self) -> WrittenFile:
        """What the finished file is."""
        return WrittenFile(self.path, self.rows, self._digest.bytes, self._digest.sha256)

    def discard(self) -> None:
        """Remove what was written, unless it was committed; never raises."""
        self._digest.abandon()
        self._pending.discard()


class _Digest:
    """Passes bytes on to a file, counting and hashing them, in a thread of its own.

    To hash costs as much as all else that is done to an entry, and it lets other threads run meanwhile.
    """

    def __init__(self, file: PendingFile) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="contensis-write")
        self._under_way: Future[None] | None = None
        self._abandoned = False
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        if self._abandoned:  # a compressor's destructor may still write what ends its format
            return len(data)
        self._settle()  # one piece at a time, so that no more than two are in memory
        self._under_way = self._thread.submit(self._pass_on, data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: bytes are passed on at once."""

    def finish(self) -> None:
        """Wait until all bytes are passed on."""
        self._settle()
        self._thread.shutdown()

    def abandon(self) -> None:
        """Wait until nothing touches the file any more; never raises."""
        self._abandoned = True
        self._thread.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _pass_on(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


def _compressor(compression: Compression | None, sink: _Digest) -> Any:
    """Return a file that compresses into a sink; the same entries give the same bytes."""
    if compression == "gzip":
        # Neither a name nor a time goes into the file.
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, cast("IO[bytes]", sink), mtime=0)
    if compression == "zstd":
        try:
            import zstandard
        except ImportError:
            raise ConfigurationError(
                "compression zstd needs a library: pip install 'airflow-provider-contensis[zstd]'."
            ) from None
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(
            cast("IO[bytes]", sink), closefd=False
        )
    return None
