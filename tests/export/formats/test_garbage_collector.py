"""The garbage collector has nothing to do with rows, and walking through Airflow takes it a while."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.formats import open_writer
from airflow_provider_contensis.export.formats.base import FormatOptions
from tests.export.formats.every_type import EVERY_TYPE, FULL, MemorySink, metas, raws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.export.formats.base import EntryWriter, FileFormat


def new_writer(file_format: FileFormat) -> EntryWriter:
    return open_writer(
        file_format, MemorySink(), [EVERY_TYPE], FormatOptions(), version_status="published", fields=None
    )


@pytest.fixture
def collections() -> Iterator[list[Any]]:
    """The collections that have begun."""
    begun: list[Any] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info)

    gc.callbacks.append(note)
    yield begun
    gc.callbacks.remove(note)


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_rows_cause_no_collections(file_format: FileFormat, collections: list[Any]) -> None:
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    entries = [FULL] * 1500
    writer, batch, meta = new_writer(file_format), raws(entries), metas(entries)
    collections.clear()
    writer.write(batch, meta)
    writer.close()
    assert len(collections) <= 1  # what runs once the rows are gone
    assert gc.isenabled()


def test_collector_runs_again_after_mismatch() -> None:
    pytest.importorskip("pyarrow")
    entries = [FULL.replace(b'"runtime":', b'"runtime":"x","was":')]
    writer = new_writer("parquet")
    writer.write(raws(entries), metas(entries))
    with pytest.raises(ExportError):
        writer.close()
    assert gc.isenabled()
