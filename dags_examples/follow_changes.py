"""Follow Contensis: export what changed since the last run, deletions included, and load it.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README) and writes to
the folder named by the environment variable CONTENSIS_EXPORT_FOLDER. `load` keeps a JSON file up to date; put
the MERGE and DELETE of your warehouse in its place.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

with DAG(
    dag_id="contensis_follow_changes",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed has one writer
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    export = ContensisExportChangesOperator(
        task_id="export",
        destination=f"{FOLDER}/feed/",
        skip_if_unchanged=True,
    )

    @task
    def load(result: dict[str, Any]) -> None:
        """Apply every change set that was not applied yet, in order.

        Not only the newest: an earlier run may have exported one and failed before it was loaded.
        """
        feed, table = Path(result["destination"]), Path(FOLDER, "loaded.json")
        empty: dict[str, Any] = {"sequence": 0, "entries": {}}
        loaded = json.loads(table.read_text()) if table.exists() else empty

        change_sets = []
        name = json.loads((feed / "_feed.json").read_text())["latest"]
        while name is not None:
            manifest = json.loads((feed / name / "_manifest.json").read_text())
            if manifest["sequence"] <= loaded["sequence"]:
                break
            change_sets.append((feed / name, manifest))
            if manifest["kind"] == "snapshot":  # it holds everything, and may be all that is left
                loaded = empty
                break
            name = manifest["previous"]

        for folder, manifest in reversed(change_sets):
            for file in manifest["files"]:
                for line in (folder / file["path"]).read_bytes().splitlines():
                    entry = json.loads(line)
                    key = "{contentTypeId} {language} {id}".format(**entry["sys"])
                    if file["operation"] == "upsert":
                        loaded["entries"][key] = entry["entryTitle"]
                    else:
                        loaded["entries"].pop(key, None)
            loaded["sequence"] = manifest["sequence"]
            print(f"Applied change set {manifest['sequence']}: {len(loaded['entries']):,} entries now")
        # In one step, data and position together, as a transaction of a database would.
        part = table.with_suffix(".part")
        part.write_text(json.dumps(loaded))
        part.replace(table)

    load(export.output)  # type: ignore[arg-type]  # an XComArg here, a dict when the task runs
