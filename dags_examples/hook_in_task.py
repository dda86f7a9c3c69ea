"""Use the hook in your own task: two lines, and the entries are Python dicts.

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
        """Return the countries whose official name is missing."""
        # Imported here to keep DAG parsing fast.
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        countries = ContensisHook().iter_entries(content_type_id="country", language="en-GB")
        return [country["name"] for country in countries if not country["officialName"]]

    @task
    def report(names: list[str]) -> None:
        """Write the names to the task's log."""
        print(f"Countries without an official name ({len(names)}): {', '.join(names)}")

    report(without_official_name())  # type: ignore[arg-type]  # an XComArg here, a list when the task runs
