"""An export of changes to a feed: one run, from the lock to the commit."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.changes import Follower, Position
from airflow_provider_contensis.export.changes_report import changes_by_type, log_changes
from airflow_provider_contensis.export.changes_request import as_asked
from airflow_provider_contensis.export.checkpoint import Checkpoint, fingerprint_of
from airflow_provider_contensis.export.formats import load_libraries
from airflow_provider_contensis.export.sinks.feed import FeedSink, Place
from airflow_provider_contensis.export.sinks.feed_index import (
    FEED,
    check_same_copy,
    load_index,
    new_index,
    read_runs,
    remove_leftovers,
)
from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.temporary import translate_temporary_errors

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.changes_report import Findings
    from airflow_provider_contensis.export.changes_request import ChangesRequest
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.export.storage.base import FolderStorage

log = logging.getLogger(__name__)


def export_changes(
    client: ContensisClient,
    project_id: str,
    request: ChangesRequest,
    *,
    storage: FolderStorage | None = None,
    root: str | None = None,
    owner: str = "export",
    run: RunName | None = None,
    pointer: CheckpointPointer | None = None,
) -> ChangesSummary:
    """Bring a feed up to date: write what changed since its last run as a change set.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param request: which entries, and the feed.
    :param storage: where the feed is; None for this machine.
    :param root: the destination as the storage names it; None for its URL.
    :param owner: names the task, the same for all its attempts; leftovers of dead attempts are removed.
    :param run: the task instance; if it has updated the feed already, what it returned is returned again, and
        nothing is read. None to look for no earlier attempt.
    :param pointer: where the task's attempts find the checkpoint of the one before; None to neither use nor
        keep one.
    :raises ContensisError: the feed is as it was.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    url = request.destination.url
    storage = LocalStorage() if storage is None else storage
    root = url if root is None else root
    place = Place(storage, root, request, owner)
    source = {"url": client.root_url, "project_id": project_id}
    asked = as_asked(request.query)
    load_libraries(request.destination.file_format, request.destination.compression)
    with ExitStack() as stack:
        stack.enter_context(translate_temporary_errors())
        stack.enter_context(storage.exclusive(root, owner=owner, alone=True))
        known = storage.load(f"{root}{FEED}")
        index = new_index(source, asked) if known.content is None else load_index(known.content, url)
        if index["runs"] == 0:  # the first run did not get to its end
            index = new_index(source, asked)
        check_same_copy(index, source, asked, url)
        runs = read_runs(storage, root, index)
        for earlier, result in reversed(runs):
            if run is not None and earlier == run:
                log.info("This run has updated %s before: returning change set %s", url, result["change_set"])
                return result
        known = remove_leftovers(storage, root, index, known, owner=owner)
        log.info(
            "Exporting %s of project %s (%s API) to %s: %s",
            f"what changed since {index['horizon']}"
            if index["runs"]
            else f"{request.query.version_status} entries",
            project_id,
            request.query.api,
            url,
            request.query,
        )
        ledger = FeedLedger(storage, root, index["ledger"])
        sink = FeedSink(place, index, known, ledger)
        stack.callback(sink.close)
        follower = Follower(
            client,
            project_id,
            request.query,
            request.options,
            request.rules,
            ledger=ledger,
            sink=sink,
            position=Position(horizon=index["horizon"], schemas=index["schemas"], runs=index["runs"]),
        )
        checkpoint = stack.enter_context(
            Checkpoint(
                request.destination,
                fingerprint_of(client, project_id, follower.main_query),
                change_mark=follower.main_query.change_mark,
                owner=owner,
                pointer=pointer,
            )
        )
        found = follower.run(checkpoint)
        sink.prepare()

        summary = _summary(
            url,
            sink.change_set if sink.files else None,
            index["sequence"] + bool(sink.files),
            found,
            requests=client.requests_sent - sent_before,
            seconds=round(time.monotonic() - started, 3),
        )
        manifest = {
            name: summary[name] for name in ("changed_from", "horizon", "drift", "refreshed", "unconfirmed")
        }
        position = found.position
        index = {
            **index,
            "horizon": position.horizon,
            "schemas": dict(position.schemas),
            "runs": position.runs,
        }
        if run is not None:
            runs.append((run, summary))
        sink.commit(index, {**manifest, "run": run}, runs, keep_change_sets=request.keep_change_sets)
    log_changes(
        found,
        f"Change set {summary['sequence']} committed: {url}{summary['change_set']}" if sink.files else None,
        requests=summary["requests"],
        seconds=summary["seconds"],
    )
    return summary


def _summary(
    url: str, change_set: str | None, sequence: int, found: Findings, *, requests: int, seconds: float
) -> ChangesSummary:
    upserts, deletes, content_types = changes_by_type(found)
    return {
        "destination": url,
        "change_set": change_set,
        "sequence": sequence,
        "upserts": upserts,
        "deletes": deletes,
        "content_types": content_types,
        "changed_from": found.changed_from,
        "horizon": found.position.horizon,
        "drift": found.drift,
        "refreshed": found.refreshed,
        "unconfirmed": found.unconfirmed,
        "requests": requests,
        "seconds": seconds,
    }
