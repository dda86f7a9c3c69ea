"""A copy in PostgreSQL: one run, from the lock to the commit, in one transaction."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.changes import Follower
from airflow_provider_contensis.export.changes_report import changes_by_type, log_changes
from airflow_provider_contensis.export.changes_request import as_asked
from airflow_provider_contensis.export.checkpoint import Checkpoint, fingerprint_of
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.sinks.postgres import PostgresSink
from airflow_provider_contensis.export.sinks.postgres_ledger import PostgresLedger, Staged
from airflow_provider_contensis.export.sinks.postgres_state import SyncTable
from airflow_provider_contensis.export.sinks.postgres_tables import Tables
from airflow_provider_contensis.export.temporary import translate_temporary_errors
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.changes_report import Findings
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.postgres_request import PostgresRequest
    from airflow_provider_contensis.export.results import PostgresSummary
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.export.sinks.postgres_database import Database

log = logging.getLogger(__name__)


def update_postgres(
    database: Database,
    client: ContensisClient,
    project_id: str,
    request: PostgresRequest,
    *,
    owner: str = "export",
    run: RunName | None = None,
    pointer: CheckpointPointer | None = None,
) -> PostgresSummary:
    """Bring a copy in PostgreSQL up to date.

    :param database: a new transaction; the caller closes it, which rolls back what was not committed.
    :param client: sends the calls.
    :param project_id: the project to read from.
    :param request: which entries, and where they go.
    :param owner: names the task, the same for all its attempts.
    :param run: the task instance; if it has updated the copy already, what it returned is returned again, and
        nothing is read. None to look for no earlier attempt.
    :param pointer: where the task's attempts find the checkpoint of the one before; None to neither use nor
        keep one.
    :raises ContensisError: the copy is as it was.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    source = {"url": client.root_url, "project_id": project_id}
    asked = as_asked(request.query)
    sync = SyncTable(database, request.schema, request.table_prefix)
    sync.lock()
    state = sync.load(source, asked)
    earlier = sync.result_of(run) if run is not None else None
    if earlier is not None:
        log.info("This run has already updated schema %s: returning its result", request.schema)
        return earlier
    position = state.position
    log.info(
        "Loading %s of project %s (%s API) into schema %s: %s",
        f"what changed since {position.horizon}"
        if position.runs
        else f"{request.query.version_status} entries",
        project_id,
        request.query.api,
        request.schema,
        request.query,
    )
    tables = Tables(
        database,
        request.schema,
        request.table_prefix,
        state.tables,
        deletes=request.deletes,
        has_published=request.query.version_status == "latest",
        on_schema_change=request.on_schema_change,
    )
    staged = Staged()
    sink = PostgresSink(database, tables, staged, is_snapshot=position.runs == 0)
    follower = Follower(
        client,
        project_id,
        request.query,
        request.options,
        request.rules,
        ledger=PostgresLedger(database, tables, staged),
        sink=sink,
        position=position,
    )
    with (
        translate_temporary_errors(),
        Checkpoint(
            Destination(f"postgresql://{request.schema}/", True, "jsonl", None),
            fingerprint_of(client, project_id, follower.main_query),
            change_mark=follower.main_query.change_mark,
            owner=owner,
            pointer=pointer,
        ) as checkpoint,
    ):
        found = follower.run(checkpoint)
        sink.prepare()
        summary = _summary(
            request.schema,
            tables,
            found,
            misfits=sink.misfits.count,
            requests=client.requests_sent - sent_before,
            seconds=round(time.monotonic() - started, 3),
        )
        sync.save(replace(state, position=found.position, tables=tables.remembered), source, asked)
        if run is not None:
            sync.remember(run, found.position.runs, summary)
        database.commit()
    changed = len(summary["content_types"])
    log_changes(
        found,
        f"Committed: {count(changed, 'table')} of schema {request.schema} changed" if changed else None,
        requests=summary["requests"],
        seconds=summary["seconds"],
    )
    return summary


def _summary(
    schema: str, tables: Tables, found: Findings, *, misfits: int, requests: int, seconds: float
) -> PostgresSummary:
    upserts, deletes, content_types = changes_by_type(found)
    return {
        "schema": schema,
        "upserts": upserts,
        "deletes": deletes,
        "content_types": {
            id_: {"table": tables.table(id_).name, **changes} for id_, changes in content_types.items()
        },
        "changed_from": found.changed_from,
        "horizon": found.position.horizon,
        "drift": found.drift,
        "refreshed": found.refreshed,
        "unconfirmed": found.unconfirmed,
        "misfits": misfits,
        "requests": requests,
        "seconds": seconds,
    }
