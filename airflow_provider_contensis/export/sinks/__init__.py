"""Where batches of entries end up. A sink stores, and nothing is visible before its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import Plan
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.results import ExportSummary, WrittenFile
    from airflow_provider_contensis.export.storage.base import Storage


class Sink(Protocol):
    """Stores the entries of one export."""

    @property
    def files(self) -> dict[str | None, WrittenFile]:
        """The prepared files, by content type; None for a single file with all of them."""

    def write(self, batch: Batch) -> None:
        """Append the entries of a window."""

    def prepare(self) -> None:
        """Store everything, but keep it invisible."""

    def commit(self, summary: ExportSummary) -> None:
        """Make everything visible."""

    def abort(self) -> None:
        """Remove what was stored but not committed; never raises."""


def open_sink(request: ExportRequest, plan: Plan, storage: Storage, root: str, *, owner: str) -> Sink:
    """Return the sink of an export.

    :param storage: where files are written.
    :param root: the destination as the storage names it.
    :param owner: names the task, the same for all its attempts.
    """
    from airflow_provider_contensis.export.sinks.file import FileSink
    from airflow_provider_contensis.export.sinks.folder import FolderSink

    kind = FolderSink if request.destination.is_folder else FileSink
    return kind(request, plan, storage, root, owner=owner)
