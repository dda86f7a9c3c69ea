"""Use the hook in a task of your own: two lines, and the entries are Python dicts.

Copy this file into your DAGs folder. It needs a connection `contensis_default` (see the README).
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

with DAG(
    dag_id="contensis_hook_in_task",
    schedule="@weekly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["contensis"],
) as dag:

    @task
    def without_official_name() -> list[str]:
        """Return the countries whose editors have something left to do."""
        # Imported here, so that parsing the DAG stays quick.
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        countries = ContensisHook().iter_entries(content_type_id="country", language="en-GB")
        return [country["name"] for country in countries if not country["officialName"]]

    @task
    def report(names: list[str]) -> None:
        """Show them in the task's log."""
        print(f"{len(names)} countries have no official name: {', '.join(names)}")

    report(without_official_name())  # type: ignore[arg-type]  # a reference now, the list once the task runs
