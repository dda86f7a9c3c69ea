"""Export each content type in its own task; every run reads the list of content types again.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README).

One task with a `destination` that ends in `/` writes the same files, with a manifest and in fewer requests.
Choose mapped tasks to retry each content type, and to pass it on to the next tasks, on its own.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_export_mapped",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["contensis"],
) as dag:

    @task
    def content_types() -> list[dict[str, str]]:
        """Return the arguments of each export."""
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        ids = [each["id"] for each in ContensisHook().list_content_types(data_format="entry")]
        return [{"content_type_id": id_, "destination": f"{FOLDER}/{id_}.jsonl.gz"} for id_ in ids]

    ContensisExportEntriesOperator.partial(
        task_id="export",
        map_index_template="{{ task.content_type_id }}",
        # Each running task makes its own concurrent requests, so their numbers add up.
        max_active_tis_per_dagrun=2,
    ).expand_kwargs(content_types())
