"""What every format offers, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from airflow_provider_contensis.export.batch import EntryMeta

TimestampUnit = Literal["us", "ns"]
FileFormat = Literal["jsonl", "json", "csv", "parquet"]


class ByteSink(Protocol):
    """Takes the bytes of a format."""

    def write(self, data: bytes) -> object:
        """Append bytes."""


class EntryWriter(Protocol):
    """Writes entries in one format."""

    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:
        """Append entries.

        :param entries: their JSON as served.
        :param metas: their metadata.
        """

    def close(self) -> None:
        """Write the end of the format; the sink stays open."""


@dataclass(frozen=True)
class FormatOptions:
    """Choices within a file format.

    :param escape_formulas: CSV: put an apostrophe before text that a spreadsheet would run as a formula.
    :param bom: CSV: begin with a byte order mark, by which Excel recognises UTF-8.
    :param parquet_mode: Parquet: `typed` columns, or `raw`: id, language, change mark and JSON.
    :param on_type_mismatch: Parquet: what to do with a value that does not fit its declared type: `fail`,
        or `raw` to keep the entry's JSON in a column `_raw`.
    :param timestamp_unit: Parquet: `us` cuts times to microseconds, `ns` keeps all digits.
    """

    escape_formulas: bool = False
    bom: bool = False
    parquet_mode: Literal["typed", "raw"] = "typed"
    on_type_mismatch: Literal["fail", "raw"] = "fail"
    timestamp_unit: TimestampUnit = "us"
