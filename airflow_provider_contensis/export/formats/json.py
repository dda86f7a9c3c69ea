"""JSON Lines and JSON: bytes as served, re-encoded only where they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.export.formats.base import Sink
    from airflow_provider_contensis.export.read import Head


class JsonLinesWriter:
    """One entry a line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> None:  # noqa: ARG002 - EntryWriter
        """Append entries."""
        if entries:
            self._sink.write(json_lines(entries))

    def close(self) -> None:
        """Nothing follows the last line."""


class JsonWriter:
    """One array with an entry on each line, as the vendor's own command line tool writes one."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._started = False

    def write(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> None:  # noqa: ARG002 - EntryWriter
        """Append entries."""
        if not entries:
            return
        self._sink.write(b",\n" if self._started else b"[\n")
        self._started = True
        self._sink.write(b",\n".join(entries))

    def close(self) -> None:
        """End the array."""
        self._sink.write(b"\n]\n" if self._started else b"[]\n")


def json_lines(entries: Sequence[msgspec.Raw]) -> bytes:
    """Return entries as JSON Lines: one a line, byte for byte as served.

    An entry that spans lines, as a server that prints prettily sends it, loses the blanks between
    its tokens and nothing else.
    """
    if not entries:
        return b""
    lines = b"\n".join([*entries, b""])
    if lines.count(b"\n") == len(entries) and b"\r" not in lines:
        return lines
    return b"\n".join(msgspec.json.format(bytes(entry), indent=-1) for entry in entries) + b"\n"
