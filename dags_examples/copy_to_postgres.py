"""Keep a copy of Contensis in PostgreSQL in step, and ask it something.

Copy this file into your DAGs folder. It needs the connections `contensis_default` (see the README) and
`postgres_default`, and the extra `postgres` of this package.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator

with DAG(
    dag_id="contensis_copy_to_postgres",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a copy has one writer
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    copy = ContensisToPostgresOperator(
        task_id="copy",
        schema="contensis",
        skip_if_unchanged=True,
    )

    # A table for each content type, and a column for each of its fields.
    count = SQLExecuteQueryOperator(
        task_id="count",
        conn_id="postgres_default",
        sql="""
            SELECT _language, count(*), max(_changed)
            FROM contensis."{{ (ti.xcom_pull('copy')['content_types'].values() | first)['table'] }}"
            GROUP BY _language
        """,
        show_return_value_in_logs=True,
    )

    copy >> count
