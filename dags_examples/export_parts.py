"""Export a large project with many tasks, on as many workers as there are: parts that retry by themselves.

Copy this file into your DAGs folder. It needs `pip install 'apache-airflow-providers-amazon[s3fs]'`,
a connection `aws_default` for the bucket, and `contensis_default` (see the README).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_contensis.task_groups.entries import ContensisExportEntriesTaskGroup

BUCKET = os.environ.get("CONTENSIS_EXPORT_BUCKET", "my-bucket")

with DAG(
    dag_id="contensis_export_parts",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["contensis"],
) as dag:
    ContensisExportEntriesTaskGroup(
        destination=f"s3://{BUCKET}/contensis/",
        destination_conn_id="aws_default",
        parts=16,
        # Each task makes up to four requests at once: no more than sixteen in all.
        max_active_tis_per_dagrun=4,
        max_concurrent_requests=4,
        default_args={"retries": 2},
    )
