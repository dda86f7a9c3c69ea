"""Export the entries published since the previous run, every day.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README).

The timetable matters: in Airflow 3, a plain `schedule="@daily"` gives a data interval of zero length.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_export_changes",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["contensis"],
) as dag:
    # The file is named after the data interval, so a repeated run writes the same file again.
    ContensisExportEntriesOperator(
        task_id="export",
        destination=f"{FOLDER}/changes-{{{{ data_interval_start | ds_nodash }}}}.jsonl",
        changed_from="{{ data_interval_start }}",
        changed_to="{{ data_interval_end }}",
    )
