"""Run DAGs in a real Airflow, in this process."""

from __future__ import annotations

import os
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import DAG


def run(dag: DAG, **arguments: Any) -> Any:
    """Run a DAG to its end and return the DAG run.

    :param arguments: of `dag.test`, under their names of Airflow 3.
    """
    _sync_to_database(dag)
    if "logical_date" in arguments and "logical_date" not in signature(dag.test).parameters:
        arguments["execution_date"] = arguments.pop("logical_date")
    return dag.test(**arguments)


def _sync_to_database(dag: DAG) -> None:
    """Save a DAG in the database, where `dag.test` expects it from Airflow 3.1 on."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db  # 3.2 and later
    except ImportError:
        try:
            from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef]  # 3.1
        except ImportError:
            return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
