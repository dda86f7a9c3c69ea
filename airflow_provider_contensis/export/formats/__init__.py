"""File formats: each turns entries, as served, into the bytes of a file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import (
        ByteSink,
        EntryWriter,
        FileFormat,
        FormatOptions,
    )


_LIBRARIES = {
    "parquet": ("pyarrow", "Parquet needs pyarrow: pip install 'airflow-provider-contensis[parquet]'."),
    "zstd": (
        "zstandard",
        "compression zstd needs zstandard: pip install 'airflow-provider-contensis[zstd]'.",
    ),
}


def load_libraries(file_format: FileFormat, compression: Compression | None) -> None:
    """Import the library that a format or a compression needs.

    :raises ConfigurationError: it is missing.
    """
    for choice in (file_format, compression):
        if choice in _LIBRARIES:
            library, message = _LIBRARIES[choice]
            try:
                import_module(library)
            except ImportError:
                raise ConfigurationError(message) from None


def open_writer(
    file_format: FileFormat,
    sink: ByteSink,
    content_types: Sequence[ContentType],
    options: FormatOptions,
    *,
    version_status: str,
    fields: tuple[str, ...] | None,
) -> EntryWriter:
    """Return a writer of a format; its libraries are imported only now.

    :param sink: takes its bytes.
    :param content_types: the definitions of the content types whose entries will come.
    :param version_status: `published` or `latest`.
    :param fields: the field paths that were kept of each entry; None for all.
    :raises ConfigurationError: the format cannot hold these content types, or a library is missing.
    """
    if file_format == "csv":
        from airflow_provider_contensis.export.formats.csv import CsvWriter

        return CsvWriter(sink, content_types, options, fields=fields)
    if file_format == "parquet":
        from airflow_provider_contensis.export.formats.parquet import ParquetWriter

        return ParquetWriter(sink, content_types, options, version_status=version_status, fields=fields)
    from airflow_provider_contensis.export.formats.json import JsonLinesWriter, JsonWriter

    return JsonLinesWriter(sink) if file_format == "jsonl" else JsonWriter(sink)
