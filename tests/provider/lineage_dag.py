"""Run all operators, and a task with the hook: `python lineage_dag.py FOLDER DAG...`.

The DAG `lineage` succeeds. In the DAG `failures` every task fails.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from tests.provider.dags import run


@task
def hook(folder: str) -> None:
    """Read in each of the ways that report it, and save what Airflow's own collector has collected."""
    contensis = ContensisHook()
    entries = list(contensis.iter_entries(data_format=None))
    contensis.get_entry(entries[0]["sys"]["id"])
    contensis.search_entries({"pageSize": 1})
    collected = get_hook_lineage_collector().collected_assets  # type: ignore[no-untyped-call]  # Airflow's
    counts = {each.asset.uri: each.count for each in collected.inputs}
    Path(folder, "collected.json").write_text(json.dumps(counts))


def make(name: str, folder: str) -> DAG:
    """Return a DAG."""
    source: dict[str, Any] = {"project_id": None if name == "lineage" else "nowhere"}
    entries = {"data_format": None, **source}
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(task_id="entries", destination=f"{folder}/all.jsonl", **entries)
        ContensisExportEntriesOperator(
            task_id="folder", destination=f"{folder}/entries/", file_format="jsonl", **entries
        )
        ContensisExportContentTypesOperator(
            task_id="content_types", destination=f"{folder}/types.json", **source
        )
        ContensisExportChangesOperator(task_id="feed", destination=f"{folder}/feed/", **entries)
        ContensisToPostgresOperator(task_id="copy", **entries)
        ContensisExportAssetsOperator(
            task_id="assets", destination=f"{folder}/assets/", on_missing="report", **source
        )
        if name == "lineage":
            hook(folder)
    return dag


def main(folder: str, *names: str) -> int:
    """Run DAGs; return 0 if each ends as it should."""
    expected = {"lineage": "success", "failures": "failed"}
    return 0 if all(run(make(name, folder)).state == expected[name] for name in names) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
