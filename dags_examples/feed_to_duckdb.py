"""Keep a table of DuckDB in step with Contensis.

Copy this file and `feed_consumer.py` into your DAGs folder. It needs a connection `contensis_default` (see
the README), the extra `parquet` of this package, and `pip install duckdb`. It writes to the folder named by
the environment variable CONTENSIS_EXPORT_FOLDER.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task
from feed_consumer import new_change_sets

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")

TABLES = """
    CREATE TABLE IF NOT EXISTS entries (content_type_id TEXT, language TEXT, id TEXT, entry JSON);
    CREATE TABLE IF NOT EXISTS applied (sequence INTEGER);
"""
NO_CHANGES = """
    CREATE OR REPLACE TEMP TABLE changes (content_type_id TEXT, language TEXT, id TEXT, entry JSON)
"""
READ = {
    "upsert": """
        INSERT INTO changes SELECT content_type_id, language, id, entry FROM read_parquet($files)
    """,
    "delete": """
        INSERT INTO changes SELECT sys."contentTypeId", sys.language, sys.id, NULL
        FROM read_json($files, format = 'newline_delimited', columns = {
            sys: 'STRUCT("contentTypeId" TEXT, language TEXT, id TEXT)'
        })
    """,
}
APPLY = """
    DELETE FROM entries USING changes
    WHERE (entries.content_type_id, entries.language, entries.id)
        = (changes.content_type_id, changes.language, changes.id);
    INSERT INTO entries FROM changes WHERE entry IS NOT NULL;
"""

with DAG(
    dag_id="contensis_feed_to_duckdb",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed has one writer, and so has a file of DuckDB
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    export = ContensisExportChangesOperator(
        task_id="export",
        destination=f"{FOLDER}/feed/",
        file_format="parquet",
        parquet_mode="raw",  # the same columns for every content type, and the entry as served
        skip_if_unchanged=True,
    )

    @task
    def load(result: dict[str, Any]) -> None:
        """Apply each new change set in a transaction of its own, together with its number."""
        import duckdb

        with duckdb.connect(f"{FOLDER}/contensis.duckdb") as database:
            database.execute(TABLES)
            [(applied,)] = database.execute("SELECT coalesce(max(sequence), 0) FROM applied").fetchall()
            for change_set in new_change_sets(ObjectStoragePath(result["destination"]), applied):
                database.begin()
                if change_set.is_snapshot:
                    database.execute("DELETE FROM entries")
                database.execute(NO_CHANGES)
                for operation, statement in READ.items():
                    if files := [str(file) for file in change_set.files(operation)]:
                        database.execute(statement, {"files": files})
                database.execute(APPLY)
                database.execute("INSERT INTO applied VALUES ($sequence)", {"sequence": change_set.sequence})
                database.commit()

    load(export.output)  # type: ignore[arg-type]  # an XComArg here, a dict when the task runs
