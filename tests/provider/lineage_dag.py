"""Run all operators that need no database in one DAG: `python lineage_dag.py FOLDER`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from tests.provider.dags import run


def main(folder: str) -> int:
    """Run the DAG; return 0 if it succeeds."""
    with DAG("lineage", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(task_id="entries", destination=f"{folder}/all.jsonl", data_format=None)
        ContensisExportEntriesOperator(
            task_id="folder", destination=f"{folder}/entries/", file_format="jsonl", data_format=None
        )
        ContensisExportContentTypesOperator(task_id="content_types", destination=f"{folder}/types.json")
        ContensisExportChangesOperator(task_id="feed", destination=f"{folder}/feed/", data_format=None)
        ContensisExportAssetsOperator(task_id="assets", destination=f"{folder}/assets/", on_missing="report")
    return 0 if run(dag).state == "success" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
