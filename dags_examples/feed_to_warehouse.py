"""Keep a table of Snowflake, BigQuery or Redshift in step with Contensis.

NOT RUN BY ITS AUTHORS, who have no such warehouse: it is written after their documentation.

Copy this file and `feed_consumer.py` into your DAGs folder. It needs the connections `contensis_default` (see
the README), `store`, which leads to the bucket, and `warehouse`, of the type Snowflake, Google BigQuery or
Amazon Redshift, with the provider of that type; for BigQuery also the extra `parquet` of this package.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath, task
from feed_consumer import new_change_sets

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator

if TYPE_CHECKING:
    from feed_consumer import ChangeSet

FEED = "s3://my-bucket/feed/"  # gs://my-bucket/feed/ for BigQuery
STORE = {"destination": FEED, "destination_conn_id": "store"}
PARQUET = {"file_format": "parquet", "parquet_mode": "raw"} if FEED.startswith("gs://") else {}

KEY = ("content_type_id", "language", "id")


def apply(change_set: ChangeSet) -> list[str]:
    """Return the statements that belong in one transaction: what changes, and the change set's number."""
    same_key = " AND ".join(f"changes.{name} = entries.{name}" for name in KEY)
    changed = f"EXISTS (\n    SELECT 1 FROM changes\n    WHERE {same_key}\n)"
    return [
        f"DELETE FROM entries WHERE {'true' if change_set.is_snapshot else changed}",
        "INSERT INTO entries SELECT * FROM changes WHERE entry IS NOT NULL",
        f"INSERT INTO applied VALUES ({change_set.sequence})",
    ]


def snowflake(change_set: ChangeSet) -> list[str]:
    """Return the statements for Snowflake; the stage `contensis_feed` is the feed's folder."""
    key = "$1:sys:contentTypeId::STRING, $1:sys:language::STRING, $1:sys:id::STRING"
    statements = ["CREATE OR REPLACE TEMPORARY TABLE changes LIKE entries"]
    for operation, columns, line in (("upsert", (*KEY, "entry"), ", $1"), ("delete", KEY, "")):
        if change_set.files(operation):
            folder = f"@contensis_feed/{change_set.folder.name}/{operation}s/"
            statements.append(
                f"COPY INTO changes ({', '.join(columns)})\n"
                f"    FROM (\n        SELECT {key}{line}\n        FROM {folder}\n    )\n"
                "    FILE_FORMAT = (TYPE = JSON)"
            )
    return [*statements, "BEGIN", *apply(change_set), "COMMIT"]


def redshift(change_set: ChangeSet) -> list[str]:
    """Return the statements for Redshift, all in the transaction that the connection begins."""
    key = 'line.sys."contentTypeId"::VARCHAR, line.sys.language::VARCHAR, line.sys.id::VARCHAR'
    statements = [
        "SET enable_case_sensitive_identifier TO true",
        "CREATE TEMPORARY TABLE changes (LIKE entries)",
    ]
    for operation, columns, line in (("upsert", (*KEY, "entry"), ", line"), ("delete", KEY, "")):
        if change_set.files(operation):
            table, folder = f"{operation}s", f"{FEED}{change_set.folder.name}/{operation}s/"
            statements += [
                f"CREATE TEMPORARY TABLE {table} (line SUPER)",
                f"COPY {table} FROM '{folder}' IAM_ROLE DEFAULT FORMAT JSON 'noshred'",
                f"INSERT INTO changes ({', '.join(columns)})\n    SELECT {key}{line} FROM {table}",
            ]
    return [*statements, *apply(change_set)]


def bigquery(change_set: ChangeSet) -> list[str]:
    """Return the statements for BigQuery, to be sent as one script."""
    statements = [
        "SET @@dataset_id = 'contensis'",
        "CREATE TEMP TABLE changes (content_type_id STRING, language STRING, id STRING, entry STRING)",
    ]
    sys = "sys STRUCT<id STRING, language STRING, contentTypeId STRING>"
    for operation, columns, schema, file_format, selected in (
        ("upsert", (*KEY, "entry"), "", "PARQUET", "content_type_id, language, id, entry"),
        (
            "delete",
            KEY,
            f" ({sys}, reason STRING, detected STRING)",
            "JSON",
            "sys.contentTypeId, sys.language, sys.id",
        ),
    ):
        if change_set.files(operation):
            table, files = f"{operation}s", f"{FEED}{change_set.folder.name}/{operation}s/*"
            statements += [
                f"LOAD DATA OVERWRITE {table}{schema}\n"
                f"    FROM FILES (format = '{file_format}', uris = ['{files}'])",
                f"INSERT INTO changes ({', '.join(columns)}) SELECT {selected} FROM {table}",
            ]
    return [*statements, "BEGIN TRANSACTION", *apply(change_set), "COMMIT TRANSACTION"]


with DAG(
    dag_id="contensis_feed_to_warehouse",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed has one writer, and so has the table
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    export = ContensisExportChangesOperator(
        task_id="export",
        skip_if_unchanged=True,
        **STORE,
        **PARQUET,
    )

    @task
    def load() -> None:
        """Apply each new change set in a transaction of its own, together with its number."""
        connection = BaseHook.get_connection("warehouse")
        hook: Any = connection.get_hook()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        feed = ObjectStoragePath(FEED, conn_id="store")
        if connection.conn_type == "gcpbigquery":
            query = hook.get_client().query_and_wait
            [[applied]] = query("SELECT coalesce(max(sequence), 0) FROM contensis.applied")
            for change_set in new_change_sets(feed, applied):
                query(";\n".join(bigquery(change_set)))
            return
        statements = redshift if connection.conn_type == "redshift" else snowflake
        [applied] = hook.get_first("SELECT coalesce(max(sequence), 0) FROM applied")
        for change_set in new_change_sets(feed, applied):
            hook.run(statements(change_set), autocommit=False)

    export >> load()
