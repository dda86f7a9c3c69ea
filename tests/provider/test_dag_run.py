"""Inside a real Airflow: DAGs run to their end, and the command line tests the connection."""

from __future__ import annotations

import csv
import gzip
import json
import os
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from tests.provider.dags import run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("airflow_database")

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


def xcom(dag_run: Any, task_id: str) -> Any:
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def test_the_example_dag_exports_everything_with_one_token(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(iso_sandbox)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    names = runpy.run_path(str(EXAMPLES / "export_entries.py"))
    dag = names["dag"]
    iso_sandbox.forget_requests()
    dag_run = run(dag)
    assert dag_run.state == "success"
    assert iso_sandbox.count("token") == 1
    written = (tmp_path / "entries.jsonl").read_bytes().splitlines()
    assert sorted(written) == sorted(iso_sandbox.catalogue.entries("published"))


def test_the_example_of_formats_writes_each_of_them(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    connect(iso_sandbox)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    names = runpy.run_path(str(EXAMPLES / "export_formats.py"))
    dag = names["dag"]
    assert run(dag).state == "success"

    def served(**choice: Any) -> list[dict[str, Any]]:
        return [json.loads(row) for row in iso_sandbox.catalogue.entries(**choice)]

    for content_type in ("country", "currency", "language", "subdivision"):
        table = pyarrow.parquet.read_table(tmp_path / "parquet" / f"{content_type}.parquet")
        expected = served(content_type_id=content_type)
        assert sorted(table["entryTitle"].to_pylist()) == sorted(entry["entryTitle"] for entry in expected)
    manifest = json.loads((tmp_path / "parquet" / "_manifest.json").read_text())
    assert len(manifest["files"]) == 4

    with (tmp_path / "countries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    countries = served(content_type_id="country", language="en-GB")
    assert sorted(row["name"] for row in rows) == sorted(entry["name"] for entry in countries)

    currencies = json.loads((tmp_path / "currencies.json").read_text())
    latest = served(version_status="latest", content_type_id="currency")
    assert sorted(map(json.dumps, currencies)) == sorted(map(json.dumps, latest))

    subdivisions = gzip.decompress((tmp_path / "subdivisions.jsonl.gz").read_bytes()).splitlines()
    assert all("alpha2" in entry["country"] for entry in map(json.loads, subdivisions) if entry["country"])
    assert len(json.loads((tmp_path / "content_types.json").read_text())) == 4


def test_an_export_s_result_reaches_the_next_task(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    with DAG("result", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        export = ContensisExportEntriesOperator(
            task_id="export", destination=f"{tmp_path}/{{{{ run_id | replace(':', '-') }}}}/", page_size=300
        )

        @task
        def count(result: dict[str, Any]) -> int:
            rows = 0
            for file in result["files"]:
                with Path(file["path"]).open() as lines:
                    rows += sum(1 for _ in lines)
            return rows

        count(export.output)  # type: ignore[arg-type]  # an XComArg stands for the dict
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        dag_run = run(dag)
    assert dag_run.state == "success"
    assert xcom(dag_run, "count") == 1_200


def test_refused_credentials_fail_the_task_at_once_though_retries_remain(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with DAG("refused", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(task_id="export", destination=f"{tmp_path}/x.jsonl", retries=3)
    with Sandbox(small_catalogue) as sandbox:
        wrong = {**sandbox.connection, "password": "wrong"}
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", json.dumps(wrong))
        dag_run = run(dag)
        assert sandbox.count("token") == 1
    assert dag_run.state == "failed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "code"), [("json", 0), ("uri", 0), ("wrong", 1)])
def test_the_command_line_tests_the_connection(small_catalogue: Catalogue, form: str, code: int) -> None:
    with Sandbox(small_catalogue) as sandbox:
        connection = {
            "json": sandbox.connection_json,
            "uri": sandbox.connection_uri,
            "wrong": json.dumps({**sandbox.connection, "password": "wrong"}),
        }[form]
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "connections", "test", "contensis_default"],
            env={**os.environ, "AIRFLOW_CONN_CONTENSIS_DEFAULT": connection},
            capture_output=True,
            text=True,
            check=False,
        )
    told = done.stdout + done.stderr
    if code == 0:
        assert "Connection success!" in told, told
    else:
        assert "Connection failed!" in told, told
        assert "check 'Client ID' and 'Shared secret'" in told
        assert sandbox.client_secret not in told
