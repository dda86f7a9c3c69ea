"""React to a publish: export what changed about half a minute after it, deletions included.

Copy this file into your DAGs folder. It needs Airflow 3 with a running triggerer, a connection
`contensis_default` (see the README), and writes to the folder named by the environment variable
CONTENSIS_EXPORT_FOLDER.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.triggers.entries import ContensisEntriesChangedTrigger

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

entries = Asset(
    name="contensis_entries",
    watchers=[AssetWatcher(name="changes", trigger=ContensisEntriesChangedTrigger(poke_interval=30))],
)

with DAG(
    dag_id="contensis_react_to_publish",
    schedule=[entries],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed has one writer
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    # The event says that something changed. What did is found by comparing with the feed, so that an event
    # that comes twice finds nothing to do.
    ContensisExportChangesOperator(
        task_id="export",
        destination=f"{FOLDER}/feed/",
        skip_if_unchanged=True,
    )
