"""An export of changes to a feed: one run, from the lock to the commit."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.changes import Follower, Position
from airflow_provider_contensis.export.checkpoint import Checkpoint, fingerprint_of
from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.export.sinks.feed import FeedSink, Place
from airflow_provider_contensis.export.sinks.feed_index import (
    FEED,
    check_same_copy,
    load_index,
    new_index,
    read_runs,
    remove_unused,
)
from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.changes import Findings
    from airflow_provider_contensis.export.changes_request import ChangesRequest
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.ledger import HeldSlice
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.results import ChangesSummary, ContentTypeChanges
    from airflow_provider_contensis.export.sinks.feed_index import RunName

log = logging.getLogger(__name__)

_SHOWN_SLICES = 5


def export_changes(
    client: ContensisClient,
    project_id: str,
    request: ChangesRequest,
    *,
    owner: str = "export",
    run: RunName | None = None,
    pointer: CheckpointPointer | None = None,
) -> ChangesSummary:
    """Bring a feed up to date: write what changed since its last run as a change set.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param request: which entries, and the feed.
    :param owner: names the task, the same for all its attempts; leftovers of dead attempts are removed.
    :param run: the task instance; if it has updated the feed already, what it returned is returned again, and
        nothing is read. None to look for no earlier attempt.
    :param pointer: where the task's attempts find the checkpoint of the one before; None to neither use nor
        keep one.
    :raises ContensisError: the feed is as it was.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    url = request.destination.url
    place = Place(LocalStorage(), url, request.destination, owner)
    source = {"url": client.root_url, "project_id": project_id}
    asked = _as_asked(request.query)
    with ExitStack() as stack:
        stack.enter_context(_translate_temporary_errors())
        stack.enter_context(place.storage.exclusive(url, owner=owner, wait=False))
        content = place.storage.read(f"{url}{FEED}")
        index = new_index(source, asked) if content is None else load_index(content, url)
        check_same_copy(index, source, asked, url)
        runs = read_runs(place.storage, url, index)
        for earlier, result in reversed(runs):
            if run is not None and earlier == run:
                log.info("This run has updated %s before: returning change set %s", url, result["change_set"])
                return result
        remove_unused(place.storage, url, index)
        log.info(
            "Exporting %s of project %s (%s API) to %s",
            f"what changed since {index['horizon']}"
            if index["runs"]
            else f"{request.query.version_status} entries",
            project_id,
            request.query.api,
            url,
        )
        ledger = FeedLedger(place.storage, url, index["ledger"])
        sink = FeedSink(place, index, content, ledger)
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
    _log(found, summary)
    return summary


@contextmanager
def _translate_temporary_errors() -> Iterator[None]:
    """Translate errors of temporary files, where a run keeps what has to wait.

    :raises DestinationError: says in one sentence what happened.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise DestinationError(
            f"{tempfile.gettempdir()}, the folder for temporary files, could not be written: {error}."
        ) from error


def _as_asked(query: EntryQuery) -> dict[str, Any]:
    """Return what a feed follows, as it was asked for.

    None stays None, so that a new language or content type does not make it another query.
    """
    names, languages = query.content_type_ids, query.languages
    return {
        "content_type_id": None if names is None else sorted(names),
        "language": None if languages is None else sorted(languages),
        "version_status": query.version_status,
        "data_format": query.data_format,
        "where": [dict(clause) for clause in query.where],
        "api": query.api,
    }


def _summary(
    url: str, change_set: str | None, sequence: int, found: Findings, *, requests: int, seconds: float
) -> ChangesSummary:
    upserts: Counter[str] = Counter()
    deletes: Counter[str] = Counter()
    for counter in (found.new, found.changed):
        for held_slice, number in counter.items():
            upserts[held_slice.content_type_id] += number
    for (held_slice, _), number in found.deleted.items():
        deletes[held_slice.content_type_id] += number
    content_types: dict[str, ContentTypeChanges] = {
        id_: {"upserts": upserts[id_], "deletes": deletes[id_]} for id_ in sorted({*+upserts, *+deletes})
    }
    return {
        "destination": url,
        "change_set": change_set,
        "sequence": sequence,
        "upserts": upserts.total(),
        "deletes": deletes.total(),
        "content_types": content_types,
        "changed_from": found.changed_from,
        "horizon": found.position.horizon,
        "drift": found.drift,
        "refreshed": found.refreshed,
        "unconfirmed": found.unconfirmed,
        "requests": requests,
        "seconds": seconds,
    }


def _log(found: Findings, summary: ChangesSummary) -> None:
    """Log what a run found, one line for each step."""
    log.info(
        "Since %s: %s changed, %s new",
        found.changed_from or "the beginning",
        f"{found.changed.total():,}",
        f"{found.new.total():,}",
    )
    if found.deleted:
        log.info("%s: %s", count(summary["deletes"], "deletion"), _by_slice(found.deleted))
    if found.unconfirmed:
        log.warning(
            "%s not found by a search but by id, and stay: the search index may lag behind. %s",
            count(found.unconfirmed, "entry was", "entries were"),
            hint("get-by-id", "missing-entry"),
        )
    if found.drift is not None:
        log.log(
            logging.WARNING if found.drift else logging.INFO,
            "Full refresh: %s (missing, extra or with another change mark), %s refreshed under the same mark",
            count(found.drift, "entry had drifted", "entries had drifted"),
            f"{found.refreshed:,}",
        )
    log.info(
        "%s (%s, %.1f s)",
        f"Change set {summary['sequence']} committed: {summary['destination']}{summary['change_set']}"
        if summary["change_set"]
        else f"Nothing changed: the next run reads from {summary['horizon']} on",
        count(summary["requests"], "request"),
        summary["seconds"],
    )


def _by_slice(deleted: Counter[tuple[HeldSlice, str]]) -> str:
    """Return deletions by slice and reason, such as `2 in film/en-GB (1 unpublished, 1 deleted)`."""
    slices: dict[HeldSlice, list[str]] = {}
    for (held_slice, reason), number in sorted(deleted.items()):
        slices.setdefault(held_slice, []).append(f"{number:,} {reason}")
    shown = [f"{held_slice}: {', '.join(reasons)}" for held_slice, reasons in slices.items()]
    rest = [f"and {count(len(shown) - _SHOWN_SLICES, 'more slice')}"] if len(shown) > _SHOWN_SLICES else []
    return "; ".join([*shown[:_SHOWN_SLICES], *rest])
