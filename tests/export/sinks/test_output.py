"""One file of an export."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.formats.csv import CsvWriter
from airflow_provider_contensis.export.sinks.output import OutputFile, writer_thread
from airflow_provider_contensis.export.storage.local import LocalStorage
from tests.export.formats.every_type import ENTRIES, EVERY_TYPE, metas, raws

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_contensis.export.formats.base import ByteSink


def test_finished_file_keeps_no_columns_in_memory(tmp_path: Path) -> None:
    columns = []

    def make_writer(sink: ByteSink) -> CsvWriter:
        writer = CsvWriter(sink, [EVERY_TYPE], FormatOptions())
        columns.append(weakref.ref(writer))
        return writer

    file = OutputFile(
        LocalStorage(),
        f"{tmp_path}/films.csv.gz",
        owner="task",
        thread=writer_thread(),
        compression="gzip",
        make_writer=make_writer,
    )
    file.write(raws(ENTRIES), metas(ENTRIES))
    file.finish()
    gc.collect()
    assert columns[0]() is None
    assert file.commit().bytes == (tmp_path / "films.csv.gz").stat().st_size
