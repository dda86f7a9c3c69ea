"""Export to S3: a folder with a file for each content type, and a manifest written last.

Copy this file into your DAGs folder. It needs `pip install 'apache-airflow-providers-amazon[s3fs]'`,
a connection `aws_default` for the bucket, and `contensis_default` (see the README).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

BUCKET = os.environ.get("CONTENSIS_EXPORT_BUCKET", "my-bucket")

with DAG(
    dag_id="contensis_export_to_s3",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["contensis"],
) as dag:
    ContensisExportEntriesOperator(
        task_id="export",
        destination=f"s3://{BUCKET}/contensis/",
        destination_conn_id="aws_default",
        compression="gzip",
    )
