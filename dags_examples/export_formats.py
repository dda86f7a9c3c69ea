"""Export the same content in every format, and the definitions of its content types.

Copy what you need into your DAGs folder. Parquet needs `pip install 'airflow-provider-contensis[parquet]'`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_export_formats",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["contensis"],
) as dag:
    # A folder: one file for each content type, and a manifest that lists them.
    ContensisExportEntriesOperator(
        task_id="parquet",
        destination=f"{FOLDER}/parquet/",
        file_format="parquet",
    )

    # A file for spreadsheets: one language, some of the fields, and formulas escaped.
    ContensisExportEntriesOperator(
        task_id="csv",
        destination=f"{FOLDER}/countries.csv",
        content_type_id="country",
        language="en-GB",
        fields=["name", "officialName", "alpha2", "sys.version.published"],
        escape_formulas=True,
    )

    # One JSON array of the latest versions, published or not.
    ContensisExportEntriesOperator(
        task_id="json",
        destination=f"{FOLDER}/currencies.json",
        content_type_id="currency",
        version_status="latest",
    )

    # The content as the website sees it, with linked entries resolved; compressed.
    ContensisExportEntriesOperator(
        task_id="delivery",
        destination=f"{FOLDER}/subdivisions.jsonl.gz",
        content_type_id="subdivision",
        language="en-GB",
        api="delivery",
        link_depth=1,
    )

    ContensisExportContentTypesOperator(
        task_id="content_types",
        destination=f"{FOLDER}/content_types.json",
    )
