"""An export of entries: source, checkpoint, sink, commit."""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.checkpoint import Checkpoint, fingerprint_of
from airflow_provider_contensis.export.fields import field_tree, keep_fields
from airflow_provider_contensis.export.formats import load_libraries
from airflow_provider_contensis.export.paths import check_paths
from airflow_provider_contensis.export.results import ExportResult
from airflow_provider_contensis.export.sinks import open_sink
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.storage.base import Storage

log = logging.getLogger(__name__)


def export_entries(
    client: ContensisClient,
    project_id: str,
    request: ExportRequest,
    *,
    storage: Storage | None = None,
    root: str | None = None,
    owner: str = "export",
    pointer: CheckpointPointer | None = None,
) -> ExportResult:
    """Export entries to a file, or to a folder with a file for each content type and a manifest.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param request: which entries, and where they go.
    :param storage: where files are written; None for this machine.
    :param root: the destination as the storage names it; None if that is its URL.
    :param owner: names the task, the same for all its attempts; leftovers of dead attempts are removed.
    :param pointer: where the task's attempts find the checkpoint of the one before; None to neither use
        nor keep one.
    :return: without files, if no entries matched and `on_empty` keeps what stands.
    :raises ContensisError: whatever stands under the destination's name is untouched.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    query = request.query
    log.info(
        "Exporting %s entries of project %s (%s API) to %s: %s",
        query.version_status,
        project_id,
        query.api,
        request.destination.url,
        _describe(request),
    )
    load_libraries(request.destination.file_format, request.destination.compression)
    source = EntrySource(client, project_id, query, request.options)
    root = root or request.destination.url
    kept = None if request.fields is None else field_tree(request.fields)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(
            Checkpoint(
                request.destination,
                fingerprint_of(client, project_id, query),
                change_mark=query.change_mark,
                owner=owner,
                pointer=None if request.start_over else pointer,
            )
        )
        plan = checkpoint.plan or source.plan()
        if request.fields is not None:
            check_paths("fields contains", request.fields, plan.content_types)
        asked_for_one = query.content_type_ids is not None and len(plan.content_types) == 1
        only_type = plan.content_types[0]["id"] if asked_for_one else None
        sink = open_sink(request, plan, storage or LocalStorage(), root, owner=owner)
        stack.callback(sink.abort)
        checkpoint.begin(plan)
        for batch in source.read(plan, checkpoint):
            if kept is not None:
                batch = batch._replace(entries=[keep_fields(entry, kept) for entry in batch.entries])
            sink.write(batch)

        def result() -> ExportResult:
            return ExportResult(
                request=request,
                project_id=project_id,
                files=sink.files,
                content_type_id=only_type,
                watermark=source.watermark,
                requests=client.requests_sent - sent_before,
                seconds=time.monotonic() - started,
            )

        if not source.entries and request.on_empty != "write":
            if request.on_empty == "fail":
                raise ExportError('No entries matched, and on_empty is "fail".')
            log.warning("Leaving %s as it is: no entries matched", request.destination.url)
            return replace(result(), files={})
        sink.prepare()
        sink.commit(result().as_dict())
    done = result()
    for file in done.files.values():
        log.info(
            "Wrote %s: %s, %s, sha256 %s",
            file.path,
            count(file.rows, "entry", "entries"),
            count(file.bytes, "byte"),
            file.sha256,
        )
    log.info(
        "Exported %s with %s in %.1f s",
        count(done.entries, "entry", "entries"),
        count(done.requests, "request"),
        done.seconds,
    )
    return done


def _describe(request: ExportRequest) -> str:
    """Return the whole query on one line."""
    query = request.query
    asked = {
        "fields": ", ".join(request.fields or ["all"]),
        query.change_mark: f"from {query.changed_from or 'the beginning'} to {query.changed_to or 'now'}",
    }
    if query.link_depth is not None:
        asked["link depth"] = str(query.link_depth)
    if query.field_link_depths is not None:
        asked["field link depths"] = json.dumps(dict(query.field_link_depths))
    return "; ".join([str(query), *(f"{name}: {value}" for name, value in asked.items())])
