"""JSON Lines: entries, byte for byte as served."""

from __future__ import annotations

import io

from airflow_provider_contensis.export.formats.json import JsonLinesWriter
from tests.export.formats.every_type import EXACT, raws


def test_json_lines_hold_bytes_as_served() -> None:
    sink = io.BytesIO()
    writer = JsonLinesWriter(sink)
    for entries in [EXACT, b'{"a":1}'], [], [b'{"b":2}']:
        writer.write(raws(entries), [])
    writer.close()
    assert sink.getvalue() == EXACT + b'\n{"a":1}\n{"b":2}\n'
