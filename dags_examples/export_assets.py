"""Follow Contensis with the files of its assets: changes go to a feed, and files to a folder beside it.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README) and writes to
the folder named by the environment variable CONTENSIS_EXPORT_FOLDER. Replace `load` with what your lake or
search index needs of each asset.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_export_assets",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed and a folder of assets have one writer
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    # Entries and assets, deletions included. If nothing changed, the tasks behind it are skipped.
    changes = ContensisExportChangesOperator(
        task_id="export_changes",
        destination=f"{FOLDER}/feed/",
        data_format=None,
        skip_if_unchanged=True,
    )

    # After the changes, so that the list has the file of every asset that they name.
    files = ContensisExportAssetsOperator(
        task_id="export_files",
        destination=f"{FOLDER}/assets/",
        on_missing="report",
    )

    @task
    def load(changes: dict[str, Any], files: dict[str, Any]) -> None:
        """Pair each asset that is new or changed with its file."""
        folder, change_set = Path(files["destination"]), Path(changes["destination"], changes["change_set"])
        with (folder / "assets.jsonl").open() as lines:
            stored = {(asset["id"], asset["language"]): asset for asset in map(json.loads, lines)}
        manifest = json.loads((change_set / "_manifest.json").read_text())
        for file in manifest["files"]:
            if file["operation"] != "upsert":
                continue
            for line in (change_set / file["path"]).read_bytes().splitlines():
                entry = json.loads(line)
                asset = stored.get((entry["sys"]["id"], entry["sys"]["language"]))
                if asset is not None:
                    print(f"{entry['entryTitle']}: {folder / asset['path']}, {asset['bytes']:,} bytes")

    files >> load(changes.output, files.output)  # type: ignore[arg-type]  # XComArgs here, dicts when it runs
    changes >> files
