"""JSON Lines and JSON: entries as served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.formats.base import ByteSink


class JsonLinesWriter:
    """One entry a line."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink

    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:  # noqa: ARG002 - EntryWriter
        """Append entries."""
        if entries:
            self._sink.write(b"\n".join([*entries, b""]))

    def close(self) -> None:
        """Do nothing: the last line ends the file."""


class JsonWriter:
    """One array with an entry on each line, as the vendor's command line tool writes it."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._started = False

    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:  # noqa: ARG002 - EntryWriter
        """Append entries."""
        if not entries:
            return
        self._sink.write(b",\n" if self._started else b"[\n")
        self._started = True
        self._sink.write(b",\n".join(entries))

    def close(self) -> None:
        """End the array."""
        self._sink.write(b"\n]\n" if self._started else b"[]\n")
