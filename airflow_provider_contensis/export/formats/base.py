"""What every format offers, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from airflow_provider_contensis.export.read import Head

FileFormat = Literal["jsonl", "json", "csv", "parquet"]
ContentType = dict[str, Any]


class Sink(Protocol):
    """Where a format writes its bytes."""

    def write(self, data: bytes) -> object:
        """Append bytes."""


class EntryWriter(Protocol):
    """Writes entries in one format."""

    def write(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> None:
        """Append entries.

        :param entries: their JSON as served.
        :param heads: what was decoded of each already.
        """

    def close(self) -> None:
        """Write what ends the format; the sink stays open."""


@dataclass(frozen=True)
class FormatOptions:
    """What a person may choose of a format.

    :param guard_formulas: CSV: put an apostrophe before text that a spreadsheet would take for a formula.
    :param parquet_mode: Parquet: `typed` columns, or `raw`: id, language, change mark and the JSON itself.
    :param misfits: Parquet: what becomes of a value that does not fit its declared type: `fail`, or
        `raw` for the entry's JSON in a column `_raw`.
    """

    guard_formulas: bool = False
    parquet_mode: Literal["typed", "raw"] = "typed"
    misfits: Literal["fail", "raw"] = "fail"
