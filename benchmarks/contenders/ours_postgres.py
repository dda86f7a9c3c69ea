"""This provider's copy in PostgreSQL: its first load."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.contenders.measure import Outcome, Setting, measure
from benchmarks.contenders.postgres import stored

if TYPE_CHECKING:
    from collections.abc import Callable

_LAZY_IMPORTS = (
    "psycopg",
    "airflow.providers.postgres.hooks.postgres",
    "airflow_provider_contensis.api.client",
    "airflow_provider_contensis.export.postgres",
    "airflow_provider_contensis.hooks.contensis",
)


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Import what `execute` would import, and return the function that loads."""
    for module in _LAZY_IMPORTS:
        importlib.import_module(module)
    from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator

    operator = ContensisToPostgresOperator(
        task_id="copy",
        postgres_conn_id="store",
        page_size=setting.page_size,
        max_concurrent_requests=setting.connections,
    )
    ti = SimpleNamespace(
        dag_id="bench", task_id="copy", run_id="bench", map_index=-1, max_tries=0, xcom_push=lambda **_: None
    )

    def work() -> Outcome:
        result = operator.execute(cast("Any", {"ti": ti}))
        more = {"xcom_bytes": len(json.dumps(result))}
        return Outcome(more=more, check=lambda: stored("contensis.film"))

    return work


if __name__ == "__main__":
    measure(prepare, "airflow-provider-contensis", "apache-airflow", "msgspec", "requests", "psycopg")
