"""A sink that is one file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.sinks.output import open_output, writer_thread

if TYPE_CHECKING:
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import Plan
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.results import ExportSummary, WrittenFile
    from airflow_provider_contensis.export.storage.base import Storage


class FileSink:
    """One file with all entries; parameters as in `open_sink`."""

    def __init__(
        self, request: ExportRequest, plan: Plan, storage: Storage, root: str, *, owner: str
    ) -> None:
        self._url = request.destination.url
        self._thread = writer_thread()
        self._output = open_output(
            request, plan.content_types, storage, root, owner=owner, thread=self._thread
        )

    @property
    def files(self) -> dict[str | None, WrittenFile]:
        """The prepared file."""
        return {None: replace(self._output.written, path=self._url)}

    def write(self, batch: Batch) -> None:
        """Append the entries of a window."""
        self._output.write(batch.entries, batch.metas)

    def prepare(self) -> None:
        """Store everything, but not yet under the file's name."""
        self._output.finish()

    def commit(self, summary: ExportSummary) -> None:  # noqa: ARG002 - as every sink
        """Give the file its name."""
        self._output.commit()

    def abort(self) -> None:
        """Remove what was not committed; never raises."""
        self._output.discard()
        self._thread.shutdown()
