"""Parquet: entries in typed columns, or each entry's JSON with its metadata."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.formats.base import ByteSink, FormatOptions

# Entries become columns in batches, and batches a row group; each ends at so many rows or bytes of JSON. That
# depends on the entries alone, not on how they were read, so that the same entries give the same bytes.
_BATCH_ROWS = 2048
_BATCH_BYTES = 2 << 20
_GROUP_ROWS = 65_536
_GROUP_BYTES = 12 << 20


class ParquetWriter:
    """Writes Parquet, compressed with zstd.

    :param sink: takes the bytes.
    :param content_types: the definitions of the content types whose entries will come; exactly one for
        typed columns.
    :param options: `parquet_mode`, `on_type_mismatch` and `timestamp_unit` apply.
    :param version_status: `published` or `latest`.
    :param fields: the field paths that were kept of each entry; None for all.
    :raises ConfigurationError: pyarrow is missing, or typed columns were asked for several content types.
    """

    def __init__(
        self,
        sink: ByteSink,
        content_types: Sequence[ContentType],
        options: FormatOptions,
        *,
        version_status: str,
        fields: tuple[str, ...] | None = None,
    ) -> None:
        try:
            from pyarrow import Table
            from pyarrow.parquet import ParquetWriter as ArrowWriter

            from airflow_provider_contensis.export.formats.arrow import RawColumns, TypedColumns
        except ImportError as error:
            raise ConfigurationError(
                "Parquet needs pyarrow: pip install 'airflow-provider-contensis[parquet]'."
            ) from error
        self._columns: RawColumns | TypedColumns
        if options.parquet_mode == "raw":
            self._columns = RawColumns(version_status, options.timestamp_unit)
        elif len(content_types) == 1:
            self._columns = TypedColumns(
                content_types[0],
                fields=fields,
                keep_mismatches=options.on_type_mismatch == "raw",
                version_status=version_status,
                timestamp_unit=options.timestamp_unit,
            )
        else:
            raise ConfigurationError(
                f"A Parquet file with typed columns holds one content type, not {len(content_types)}: "
                "set content_type_id to one of them, end the destination in / for a folder with a file for "
                'each, or set parquet_mode="raw".'
            )
        self._sink = sink
        self._table = Table
        self._buffer = _Buffer()
        self._file = ArrowWriter(self._buffer, self._columns.schema, compression="zstd")
        self._entries: list[msgspec.Raw] = []
        self._metas: list[EntryMeta] = []
        self._entry_bytes = 0
        self._group: list[Any] = []
        self._group_rows = self._group_bytes = 0

    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:
        """Append entries.

        :raises ExportError: a value does not fit its declared type, and such entries are not kept.
        """
        for entry, meta in zip(entries, metas, strict=True):
            self._entries.append(entry)
            self._metas.append(meta)
            self._entry_bytes += memoryview(entry).nbytes
            if len(self._entries) == _BATCH_ROWS or self._entry_bytes >= _BATCH_BYTES:
                self._end_batch()

    def close(self) -> None:
        """Write the rest, and the footer."""
        self._end_batch()
        self._end_group()
        self._file.close()
        self._sink.write(self._buffer.take())

    def _end_batch(self) -> None:
        if not self._entries:
            return
        self._group.append(self._columns.batch(self._entries, self._metas))
        self._group_rows += len(self._entries)
        self._group_bytes += self._entry_bytes
        self._entries, self._metas, self._entry_bytes = [], [], 0
        if self._group_rows >= _GROUP_ROWS or self._group_bytes >= _GROUP_BYTES:
            self._end_group()

    def _end_group(self) -> None:
        if not self._group:
            return
        self._file.write_table(self._table.from_batches(self._group), row_group_size=self._group_rows)
        self._group, self._group_rows, self._group_bytes = [], 0, 0
        self._sink.write(self._buffer.take())


class _Buffer(io.RawIOBase):
    """Holds what Arrow writes until it is taken.

    An Arrow writer that is discarded unfinished, as after an error, still writes a footer, which must not
    reach the sink.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._chunks.append(bytes(data))
        self._position += len(self._chunks[-1])
        return len(self._chunks[-1])

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken
