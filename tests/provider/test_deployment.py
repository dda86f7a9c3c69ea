"""DAG runs in a whole Airflow, whose components and tasks are processes of their own."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Request, Sandbox
from tests.provider.deployment import Deployment
from tests.provider.test_dag_run import needs_task_state_store, requested_again
from tests.provider.version import AIRFLOW
from tests.searches import IN_FLIGHT, window_of
from tests.test_secrets import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2.11 has no API server to deploy"),
]

KILLED_DAG = """
from datetime import datetime, timedelta, timezone
from airflow.sdk import DAG
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

with DAG("killed", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    ContensisExportEntriesOperator(
        task_id="export", destination=DESTINATION, page_size=30, retries=1, retry_delay=timedelta(0)
    )
"""


CARELESS_DAG = """
import logging
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

with DAG("careless", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    @task
    def tell():
        from airflow_provider_contensis.hooks.contensis import ContensisHook
        hook = ContensisHook()
        for secret in (hook.get_access_token(), hook.settings.client_secret):
            print("printed", secret)
            logging.getLogger("careless").warning("logged %s", secret)

    tell() >> ContensisExportEntriesOperator(
        task_id="export", destination="{{ params.to }}", params={"to": DESTINATION}
    )
"""


class Deployed(NamedTuple):
    """An Airflow with both DAGs, the sandbox that they read, and the folder that holds all files."""

    airflow: Deployment
    sandbox: Sandbox
    folder: Path


@pytest.fixture(scope="module")
def deployed(
    small_catalogue: Catalogue, airflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Start Airflow once for both tests: that takes longer than their DAG runs."""
    folder = tmp_path_factory.mktemp("deployed")
    dags = {
        "killed.py": KILLED_DAG.replace("DESTINATION", repr(f"{folder}/killed/x.jsonl")),
        "careless.py": CARELESS_DAG.replace("DESTINATION", repr(f"{folder}/careless/x.jsonl")),
    }
    with (
        Sandbox(small_catalogue) as sandbox,
        Deployment(
            folder, dags=dags, database=airflow_database, connection=sandbox.connection_json
        ) as airflow,
    ):
        yield Deployed(airflow, sandbox, folder)


def lock_holder(path: Path) -> int:
    """Return the id of the process that has locked a file."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    [process] = [int(lock[4]) for lock in locks if lock[5].endswith(f":{path.stat().st_ino}")]
    return process


@needs_task_state_store
@pytest.mark.slow
def test_killed_task_resumes_in_next_attempt(deployed: Deployed, small_catalogue: Catalogue) -> None:
    folder = deployed.folder / "killed"
    requested: list[str] = []

    def kill_in_the_middle(request: Request) -> None:
        if (window := window_of(request)) is not None:
            requested.append(window)
            if len(requested) == 25:
                [checkpoint] = folder.glob(".*.checkpoint")
                os.kill(lock_holder(checkpoint), signal.SIGKILL)

    deployed.sandbox.faults = kill_in_the_middle
    state = deployed.airflow.run("killed")
    log = deployed.airflow.task_log("killed", "export")
    assert state == "success", log
    assert "Resuming: an earlier attempt has read" in log
    assert requested_again(requested, 25) <= IN_FLIGHT
    assert sorted((folder / "x.jsonl").read_bytes().splitlines()) == sorted(small_catalogue.entries())
    assert [path.name for path in folder.iterdir()] == ["x.jsonl"]


@pytest.mark.slow
def test_deployment_at_debug_keeps_no_secret_in_logs_xcoms_or_rendered_templates(
    deployed: Deployed,
) -> None:
    """Even a careless task that prints its token is masked; search everything that Airflow keeps.

    This test comes last: it ends the deployment, so that all output is in its files.
    """
    airflow, sandbox, folder = deployed
    sandbox.faults = faults = Tokens()
    state = airflow.run("careless")
    airflow.end()
    printed = airflow.task_log("careless", "tell")
    exported = airflow.task_log("careless", "export")
    assert state == "success", printed + exported
    assert len(re.findall(r'"printed \S*\*\*\*"', printed)) == 2
    assert len(re.findall(r'"logged \S*\*\*\*"', printed)) == 2
    assert "Proof: 1,200 distinct" in exported
    database = sqlite3.connect(airflow.home / "airflow.db")
    assert database.execute("select count(*) from xcom").fetchone()[0] > 0
    assert database.execute("select count(*) from rendered_task_instance_fields").fetchone()[0] > 0
    database.close()
    assert len(faults.seen) == 2  # each task is a process of its own
    for path in filter(Path.is_file, folder.rglob("*")):
        # What a task itself prints, Airflow 3.3 repeats unmasked in the scheduler's own output.
        lines = [
            line
            for line in path.read_bytes().splitlines()
            if not re.search(rb"\[(careless|task\.stdout)\]", line)
        ]
        for secret in (sandbox.client_secret, *faults.seen):
            assert not any(secret.encode() in line for line in lines), path
