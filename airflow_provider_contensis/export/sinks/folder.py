"""A sink that is a folder: one file for each content type, and a manifest that makes them one export."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import DestinationError, ExportError
from airflow_provider_contensis.export.destination import MANIFEST, RETIRED_MANIFEST
from airflow_provider_contensis.export.sinks.manifest import dump_manifest, file_names, plan_name
from airflow_provider_contensis.export.sinks.output import open_output, writer_thread
from airflow_provider_contensis.export.storage.base import write_whole

if TYPE_CHECKING:
    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import Plan
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.results import ExportSummary, FileSummary, WrittenFile
    from airflow_provider_contensis.export.sinks.output import OutputFile
    from airflow_provider_contensis.export.storage.base import Storage

log = logging.getLogger(__name__)


class FolderSink:
    """One file for each content type, and a manifest; parameters as in `open_sink`."""

    def __init__(
        self, request: ExportRequest, plan: Plan, storage: Storage, root: str, *, owner: str
    ) -> None:
        self._request = request
        self._content_types = {content_type["id"]: content_type for content_type in plan.content_types}
        self._storage = storage
        self._root = root
        self._owner = owner
        self._thread = writer_thread()
        self._outputs: dict[str, OutputFile] = {}
        self._open: OutputFile | None = None
        if self._content_types:
            self._switch_to(next(iter(self._content_types)))  # what cannot be written fails at once

    @property
    def files(self) -> dict[str | None, WrittenFile]:
        """The prepared files."""
        url, name_for = self._request.destination.url, self._request.destination.name_for
        return {
            content_type_id: replace(output.written, path=url + name_for(content_type_id))
            for content_type_id, output in self._outputs.items()
        }

    def write(self, batch: Batch) -> None:
        """Append entries; each content type's come one after the other."""
        self._switch_to(str(batch.window.content_type_id)).write(batch.entries, batch.metas)

    def prepare(self) -> None:
        """Store everything, but not yet under the final names."""
        # Each content type asked for gets a file, even an empty one: yesterday's content must not stay.
        for content_type_id in self._content_types:
            if content_type_id not in self._outputs:
                self._switch_to(content_type_id)
        self._finish_open()

    def commit(self, summary: ExportSummary) -> None:
        """Give all files their names, the manifest last; then remove files that it no longer names.

        While files are replaced the folder has no manifest: an export that is killed there leaves no
        export, rather than half of two.
        """
        url = self._request.destination.url
        files: list[FileSummary] = [
            {**file, "path": file["path"].removeprefix(url)} for file in summary["files"]
        ]
        content = dump_manifest(
            {**summary, "files": files},
            query=asdict(self._request.query),
            content_types=self._content_types.values(),
        )
        storage, path, retired = self._storage, f"{self._root}{MANIFEST}", f"{self._root}{RETIRED_MANIFEST}"
        pending = storage.create(path, owner=self._owner)
        try:
            pending.write(content)
            pending.finish()
            with storage.exclusive(self._root, owner=self._owner):
                current = storage.read(path)
                earlier = [current, storage.read(retired)]
                older = set().union(*map(file_names, earlier))
                older |= {f"{name}/" for name in map(plan_name, earlier) if name}
                if current is not None:
                    # It still names the files to remove, if this export does not come to its end.
                    write_whole(storage, retired, current, owner=self._owner)
                    storage.remove(path, keep_link=True)  # `pending` appears where it leads
                for output in self._outputs.values():
                    output.commit()
                pending.commit()
                stale = older - {file["path"] for file in files}
                self._remove_stale([*(f"{self._root}{name}" for name in sorted(stale)), retired])
        finally:
            pending.discard()

    def _remove_stale(self, paths: list[str]) -> None:
        """Remove files that the manifest does not name. The export is complete, so this cannot fail it."""
        for path in paths:
            try:
                self._storage.remove(path)
            except DestinationError as error:
                log.warning("%s is not part of this export, but could not be removed. %s", path, error)

    def abort(self) -> None:
        """Remove what was not committed; never raises."""
        for output in self._outputs.values():
            output.discard()
        self._thread.shutdown()

    def _switch_to(self, content_type_id: str) -> OutputFile:
        """Return the output of a content type; only one is open at a time."""
        if content_type_id not in self._outputs:
            self._finish_open()
            unlisted: ContentType = {"id": content_type_id, "fields": []}
            self._open = self._outputs[content_type_id] = open_output(
                self._request,
                [self._content_types.get(content_type_id, unlisted)],
                self._storage,
                f"{self._root}{self._request.destination.name_for(content_type_id)}",
                owner=self._owner,
                thread=self._thread,
            )
        output = self._outputs[content_type_id]
        if output is not self._open:
            raise ExportError(f"Entries of content type {content_type_id!r} came in two places.")
        return output

    def _finish_open(self) -> None:
        if self._open is not None:
            self._open.finish()
            self._open = None
