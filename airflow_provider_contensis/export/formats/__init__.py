"""File formats: each turns entries, as the bytes that were served, into bytes of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.export.formats.base import (
        ContentType,
        EntryWriter,
        FileFormat,
        FormatOptions,
        Sink,
    )


def open_writer(
    file_format: FileFormat,
    sink: Sink,
    content_types: Sequence[ContentType],
    options: FormatOptions,
    *,
    version_status: str,
    fields: tuple[str, ...] | None,
) -> EntryWriter:
    """Return a writer of a format; what a format needs is imported only now.

    :param sink: where its bytes go.
    :param content_types: the definitions of the content types whose entries will come.
    :param version_status: `published` or `latest`.
    :param fields: the field paths that were kept of each entry; None for all.
    :raises ConfigurationError: the format can't hold this, or a library is missing.
    """
    if file_format == "csv":
        from airflow_provider_contensis.export.formats.csv import CsvWriter

        return CsvWriter(sink, content_types, options, fields=fields)
    if file_format == "parquet":
        from airflow_provider_contensis.export.formats.parquet import ParquetWriter

        return ParquetWriter(sink, content_types, options, version_status=version_status, fields=fields)
    from airflow_provider_contensis.export.formats.json import JsonLinesWriter, JsonWriter

    return JsonLinesWriter(sink) if file_format == "jsonl" else JsonWriter(sink)
