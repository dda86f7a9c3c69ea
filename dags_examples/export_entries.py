"""Export all published entries of a Contensis project, every night.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README)
and writes to the folder named by the environment variable CONTENSIS_EXPORT_FOLDER.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_export_entries",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["contensis"],
) as dag:

    @task
    def check_connection() -> str:
        """Fail at once, with a clear message, if the connection does not work."""
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        works, message = ContensisHook().test_connection()
        if not works:
            raise AirflowFailException(message)
        return message

    export = ContensisExportEntriesOperator(
        task_id="export",
        destination=f"{FOLDER}/entries.jsonl",
    )

    @task
    def report(result: dict[str, Any]) -> None:
        """Show what the next task of a real DAG would receive."""
        for file in result["files"]:
            print(f"{file['path']}: {file['rows']:,} entries, {file['bytes']:,} bytes")

    check_connection() >> export
    report(export.output)  # type: ignore[arg-type]  # an XComArg here, a dict when the task runs
