"""Wait until somebody published a country today, for twelve hours at most, then export all countries.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README) and, as the
sensor waits in the triggerer, a running triggerer.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sensors.entries import ContensisEntriesSensor

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_wait_for_entries",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["contensis"],
) as dag:
    wait = ContensisEntriesSensor(
        task_id="wait",
        content_type_id="country",
        changed_from="{{ data_interval_end }}",  # the midnight at which the run began
        deferrable=True,
        timeout=timedelta(hours=12),
    )
    export = ContensisExportEntriesOperator(
        task_id="export",
        content_type_id="country",
        destination=f"{FOLDER}/countries.jsonl",
    )
    wait >> export
