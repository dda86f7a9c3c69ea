"""An export by several workers: the plan, and the read of one part. Each may run on another machine."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ConfigurationError, ExportError
from airflow_provider_contensis.export.checkpoint import Checkpoint, fingerprint_of
from airflow_provider_contensis.export.fields import field_tree, keep_fields
from airflow_provider_contensis.export.formats import load_libraries
from airflow_provider_contensis.export.partition import partition
from airflow_provider_contensis.export.paths import check_paths
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.shared_plan import SharedPlan
from airflow_provider_contensis.export.sinks.parts import PartSink
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.parts_request import PartsRequest
    from airflow_provider_contensis.export.request import ReadOptions
    from airflow_provider_contensis.export.results import PartSummary
    from airflow_provider_contensis.export.shared_plan import PartAddress
    from airflow_provider_contensis.export.sinks.parts import PartReceipt, SharedFolder

log = logging.getLogger(__name__)


def plan_parts(
    client: ContensisClient, project_id: str, request: PartsRequest, folder: SharedFolder
) -> list[PartAddress]:
    """Plan an export by several workers, and return where each finds its part.

    :raises ContensisError: nothing was written but, perhaps, a plan that nothing refers to.
    """
    begun, sent_before = time.time(), client.requests_sent
    load_libraries(request.destination.file_format, request.destination.compression)
    search = WindowSearch(client, project_id, request.query, request.options)
    plan = Planner(client, project_id, search).plan()
    if request.fields is not None:
        check_paths("fields contains", request.fields, plan.content_types)
    parts = partition(search, plan.whole, request.parts)
    shared = folder.write_plan(
        SharedPlan(
            request=request,
            project_id=project_id,
            fingerprint=fingerprint_of(client, project_id, request.query),
            begun=begun,
            requests=client.requests_sent - sent_before,
            plan=plan,
            parts=tuple(parts),
        )
    )
    log.info(
        "Planned %s with about %s, after %s: %s%s",
        count(len(parts), "part"),
        count(sum(part.expected for part in parts), "entry", "entries"),
        count(shared.requests, "request"),
        request.destination.url,
        shared.name,
    )
    return shared.addresses()


def export_part(
    client: ContensisClient,
    project_id: str,
    address: PartAddress,
    folder: SharedFolder,
    options: ReadOptions,
    *,
    pointer: CheckpointPointer | None = None,
    start_over: bool = False,
) -> PartSummary:
    """Read a part and write its files, unless that has been done.

    :param pointer: where the task's attempts find the checkpoint of the one before; None for none.
    :param start_over: read the part even if it is whole.
    :raises ContensisError: the part is not whole.
    """
    plan = load_plan(client, project_id, address["plan"], folder)
    receipt = None
    if not start_over:
        try:
            receipt = folder.receipt(plan, address["part"])
        except ExportError as error:
            log.info("Reading the part again. %s", error)
    if receipt is not None and receipt["files"] is not None:
        log.info("An earlier attempt has read this part: %s", address["name"])
    else:
        receipt = read_part(client, plan, address["part"], folder, options, pointer=pointer)
    return {
        "destination": address["destination"],
        "plan": plan.name,
        "part": receipt["part"],
        "entries": sum(receipt["windows"]),
        "requests": receipt["requests"],
        "seconds": receipt["seconds"],
    }


def load_plan(client: ContensisClient, project_id: str, name: str, folder: SharedFolder) -> SharedPlan:
    """Return a plan.

    :raises ConfigurationError: it was made for another host, project or API key.
    :raises ContensisError: there is no such plan.
    """
    plan = folder.read_plan(name)
    if plan.fingerprint != fingerprint_of(client, project_id, plan.request.query):
        raise ConfigurationError(
            f"Plan {name} was made for another host, project or API key, or by another version of the "
            "provider: all tasks of an export need the same contensis_conn_id and project_id."
        )
    load_libraries(plan.request.destination.file_format, plan.request.destination.compression)
    return plan


def read_part(
    client: ContensisClient,
    shared: SharedPlan,
    part: int,
    folder: SharedFolder,
    options: ReadOptions,
    *,
    pointer: CheckpointPointer | None = None,
) -> PartReceipt:
    """Read a part, and write its files and, last, its receipt.

    :param pointer: as in `export_part`.
    :raises ContensisError: the part is not whole.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    request, plan = shared.request, shared.part(part)
    source = EntrySource(client, shared.project_id, request.query, options)
    kept = None if request.fields is None else field_tree(request.fields)
    counts = [0] * len(plan.part)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(
            Checkpoint(
                request.destination,
                hashlib.sha256(f"{shared.digest}/{part}".encode()).hexdigest(),
                change_mark=request.query.change_mark,
                owner=f"{folder.owner}/{shared.name}/{part}",
                pointer=pointer,
            )
        )
        sink = PartSink(folder, shared, part)
        stack.callback(sink.abort)
        plan = checkpoint.plan or plan
        checkpoint.begin(plan)
        for batch in source.read(plan, checkpoint):
            counts[_number_of(batch.window, plan.part)] += len(batch.entries)
            if kept is not None:
                batch = batch._replace(entries=[keep_fields(entry, kept) for entry in batch.entries])
            sink.write(batch)
        sink.finish()
        receipt: PartReceipt = {
            "plan": shared.digest,
            "part": part,
            "files": sink.files,
            "windows": counts,
            "undated": [base64.b64encode(keys.tobytes()).decode() for keys in source.undated],
            "watermark": source.watermark,
            "requests": client.requests_sent - sent_before,
            "seconds": round(time.monotonic() - started, 3),
        }
        folder.write_receipt(shared, receipt)
    log.info(
        "Part %d of %d: %s with %s in %.1f s",
        part,
        len(shared.parts),
        count(source.entries, "entry", "entries"),
        count(receipt["requests"], "request"),
        receipt["seconds"],
    )
    return receipt


def _number_of(window: Window, windows: Sequence[Window]) -> int:
    """Return which window of a part holds one that was cut from it."""
    holders = [
        number
        for number, each in enumerate(windows)
        if (each.unlisted or set(window.content_type_ids) <= set(each.content_type_ids))
        and set(window.languages) <= set(each.languages)
    ]
    fitting = (n for n in holders if windows[n].is_whole or windows[n].undated == window.undated)
    return next(fitting, holders[0])
