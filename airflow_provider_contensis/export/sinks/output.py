"""One file of an export: entries are formatted, compressed, counted and hashed on their way to storage."""

from __future__ import annotations

import gzip
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_contensis.export.formats import open_writer
from airflow_provider_contensis.export.results import WrittenFile
from airflow_provider_contensis.export.storage.base import translate_storage_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import ByteSink, EntryWriter
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.storage.base import PendingFile, Storage

_GZIP_LEVEL = 1  # level 6 takes more time than the rest of an export
_ZSTD_LEVEL = 3


def open_output(
    request: ExportRequest,
    content_types: Sequence[ContentType],
    storage: Storage,
    path: str,
    *,
    owner: str,
    thread: ThreadPoolExecutor,
) -> OutputFile:
    """Return a new file of an export, in the format that the export asks for.

    :param content_types: the definitions of the content types whose entries will come.
    :param storage: where the file goes.
    :param path: its final name in the storage.
    :param owner: names the task, the same for all its attempts.
    :param thread: as for `OutputFile`.
    """
    return OutputFile(
        storage,
        path,
        owner=owner,
        thread=thread,
        compression=request.destination.compression,
        make_writer=lambda sink: open_writer(
            request.destination.file_format,
            sink,
            content_types,
            request.format_options,
            version_status=request.query.version_status,
            fields=request.fields,
        ),
    )


class OutputFile:
    """A file being written.

    :param storage: where it goes.
    :param path: its final name.
    :param owner: names the task, the same for all its attempts.
    :param thread: hashes and stores: a `writer_thread`, shut down after the file is finished or discarded.
    :param compression: `gzip`, `zstd` or None.
    :param make_writer: makes the writer of a format that writes to a sink.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        *,
        owner: str,
        thread: ThreadPoolExecutor,
        compression: Compression | None,
        make_writer: Callable[[ByteSink], EntryWriter],
    ) -> None:
        self.path = path
        self.rows = 0
        self._pending = storage.create(path, owner=owner)
        self._digest = _Digest(self._pending, thread)
        try:
            self._compressor = _compressor(compression, self._digest)
            self._writer = make_writer(self._compressor or self._digest)
        except BaseException:
            self.discard()
            raise

    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:
        """Append entries.

        :raises DestinationError: the storage failed.
        """
        self._writer.write(entries, metas)
        self.rows += len(entries)

    def finish(self) -> None:
        """Store everything, but not yet under the final name."""
        self._writer.close()
        if self._compressor is not None:
            with translate_storage_errors(self.path):
                self._compressor.close()
        # Columns of Parquet take a megabyte: those of a folder's finished files would add up.
        del self._writer, self._compressor
        self._digest.finish()
        self._pending.finish()

    def commit(self) -> WrittenFile:
        """Give the finished file its name, in one step."""
        self._pending.commit()
        return self.written

    @property
    def written(self) -> WrittenFile:
        """The finished file."""
        return WrittenFile(self.path, self.rows, self._digest.bytes, self._digest.sha256)

    def discard(self) -> None:
        """Remove what was written, unless it was committed; never raises."""
        self._digest.abandon()
        self._pending.discard()


def writer_thread() -> ThreadPoolExecutor:
    """Return a thread for all the files of a sink.

    Malloc keeps what each thread frees: with a thread for each of 60 files, an export to S3 took 330 MB.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="contensis-write")


class _Digest:
    """Passes bytes on to a file, counting and hashing them, in another thread.

    Hashing takes as long as everything else that is done to an entry, and lets other threads run meanwhile.

    :param thread: the other thread.
    """

    def __init__(self, file: PendingFile, thread: ThreadPoolExecutor) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._thread = thread
        self._writing: Future[None] | None = None
        self._abandoned = False
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> int:
        if self._abandoned:  # a compressor's destructor may still write the end of its format
            return len(data)
        self._wait()  # one piece at a time, so that no more than two are in memory
        self._writing = self._thread.submit(self._pass_on, data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: bytes are passed on at once."""

    def finish(self) -> None:
        """Wait until all bytes are passed on."""
        self._wait()

    def abandon(self) -> None:
        """Wait until nothing uses the file any more; never raises."""
        self._abandoned = True
        if self._writing is not None and not self._writing.cancel():
            wait([self._writing])

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _pass_on(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


def _compressor(compression: Compression | None, sink: _Digest) -> Any:
    """Return a file that compresses into a sink; the same bytes in give the same bytes out."""
    if compression == "gzip":
        # Without a name and a time, the result depends on the content alone.
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, cast("IO[bytes]", sink), mtime=0)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(
            cast("IO[bytes]", sink), closefd=False
        )
    return None
