"""DAG runs in a real Airflow, and the connection test of its command line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, iso_catalogue
from tests.provider.dags import run
from tests.provider.version import AIRFLOW
from tests.searches import IN_FLIGHT, window_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("airflow_database")

EXAMPLES = Path(__file__).parents[2] / "dags_examples"

needs_runs_without_date = pytest.mark.skipif(
    find_spec("airflow.sdk") is None, reason="every run of Airflow 2 has a logical date"
)


def xcom(dag_run: Any, task_id: str) -> Any:
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def test_example_dag_exports_everything_with_one_token(
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


def test_formats_example_writes_every_format(
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


def test_changes_example_exports_its_data_interval(
    connect: Callable[[Sandbox], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = iso_catalogue()
    for name, published in {
        "the day before": "2026-02-28T23:59:59.9999999Z",
        "its first moment": "2026-03-01T00:00:00Z",
        "its last moment": "2026-03-01T23:59:59.9999999Z",
        "the day after": "2026-03-02T00:00:00Z",
    }.items():
        catalogue.add("currency", {"name": name}, at=published)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    dag = runpy.run_path(str(EXAMPLES / "export_changes.py"))["dag"]
    with Sandbox(catalogue) as sandbox:
        connect(sandbox)
        dag_run = run(dag, logical_date=datetime(2026, 3, 2, tzinfo=UTC))
    assert dag_run.state == "success"
    lines = (tmp_path / "changes-20260301.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["its first moment", "its last moment"]


def test_mapped_example_exports_each_content_type_in_its_own_task(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(iso_sandbox)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    dag_run = run(runpy.run_path(str(EXAMPLES / "export_mapped.py"))["dag"])
    assert dag_run.state == "success"
    exports = [ti for ti in dag_run.get_task_instances() if ti.task_id == "export"]
    content_types = ["country", "currency", "language", "subdivision"]
    assert sorted(ti.rendered_map_index for ti in exports) == content_types
    for content_type in content_types:
        lines = gzip.decompress((tmp_path / f"{content_type}.jsonl.gz").read_bytes()).splitlines()
        assert sorted(lines) == sorted(iso_sandbox.catalogue.entries(content_type_id=content_type))


def test_hook_example_returns_countries_without_official_name(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None]
) -> None:
    connect(iso_sandbox)
    dag_run = run(runpy.run_path(str(EXAMPLES / "hook_in_task.py"))["dag"])
    assert dag_run.state == "success"
    served = iso_sandbox.catalogue.entries(content_type_id="country", language="en-GB")
    countries = [json.loads(entry) for entry in served]
    unofficial = [country["name"] for country in countries if not country["officialName"]]
    assert xcom(dag_run, "without_official_name") == unofficial
    assert 0 < len(unofficial) < len(countries)


@needs_runs_without_date
def test_run_without_logical_date_fails_with_missing_time(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    connect(iso_sandbox)
    with DAG("undated", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export", destination=f"{tmp_path}/x.jsonl", changed_from="{{ data_interval_start }}"
        )
    iso_sandbox.forget_requests()
    assert run(dag, logical_date=None).state == "failed"
    captured = capfd.readouterr()
    if AIRFLOW != (3, 0):  # its `dag.test` does not always show a task's log
        assert "'data_interval_start' is undefined" in captured.out + captured.err + caplog.text
    assert iso_sandbox.count() == 0


@needs_runs_without_date
def test_time_that_run_does_not_have_can_be_left_out(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    connect(iso_sandbox)
    with DAG("undated", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export",
            destination=f"{tmp_path}/x.jsonl",
            content_type_id="currency",
            changed_from="{{ data_interval_start | default('') }}",
            changed_to="{{ dag_run.logical_date }}",
        )
    dag_run = run(dag, logical_date=None)
    result = xcom(dag_run, "export")
    assert (result["changed_from"], result["changed_to"]) == (None, None)
    assert result["entries"] == len(iso_sandbox.catalogue.entries(content_type_id="currency"))


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        (ContensisExportEntriesOperator, {"destination": "x.jsonl", "page_size": 0}, "page_size must be"),
        (ContensisExportContentTypesOperator, {"destination": "x.csv"}, "must end in .json"),
        (
            ContensisExportChangesOperator,
            {"destination": "x/", "fields": ["title"]},
            "fields is not available",
        ),
    ],
    ids=["entries", "content types", "changes"],
)
def test_wrong_argument_of_mapped_task_fails_without_retry(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    operator: Any,
    arguments: dict[str, Any],
    message: str,
) -> None:
    """It is only known when the task runs, and Airflow makes the operator then."""
    monkeypatch.chdir(tmp_path)
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:

        @task
        def wrong() -> list[dict[str, Any]]:
            return [arguments]

        operator.partial(task_id="export", retries=2, retry_delay=timedelta(0)).expand_kwargs(wrong())
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        dag_run = run(dag)
        assert sandbox.count() == 0
    [ti] = [ti for ti in dag_run.get_task_instances() if ti.task_id == "export"]
    assert (ti.state, ti.try_number) == ("failed", 1)
    if AIRFLOW != (3, 0):  # its `dag.test` does not always show a task's log
        assert message in "".join(capfd.readouterr()) + caplog.text


def test_task_links_to_environment(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    links: list[str] = []

    def collect_link(context: Any, result: Any) -> None:
        [link] = context["task"].operator_extra_links
        ti = context["ti"]
        links.append(link.get_link(context["task"], ti_key=getattr(ti, "key", ti)))

    with DAG("link", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export", destination=f"{tmp_path}/x.jsonl", post_execute=collect_link
        )
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        assert run(dag).state == "success"
        assert links == [sandbox.url]


@pytest.mark.skipif(AIRFLOW == (3, 0), reason="in Airflow 3.0's dag.test no asset is active")
def test_asset_event_describes_export(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    extras: list[dict[str, Any]] = []
    destination = f"{tmp_path}/x.jsonl"
    with DAG("outlets", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export",
            destination=destination,
            outlets=[Asset(f"file://{destination}")],
            post_execute=lambda context, result: extras.extend(
                event.extra
                for event in (context["outlet_events"][asset] for asset in context["task"].outlets)
            ),
        )
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        dag_run = run(dag)
    assert dag_run.state == "success"
    result = xcom(dag_run, "export")
    [extra] = extras
    assert extra == {name: result[name] for name in ("destination", "project_id", "entries", "watermark")}
    assert extra["entries"] == 1_200
    assert extra["watermark"]


def test_outlets_that_are_no_assets_do_not_fail_the_task(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    entities = pytest.importorskip("airflow.providers.common.compat.lineage.entities")
    with DAG("lineage", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export",
            destination=tmp_path / "x.jsonl",
            outlets=[
                entities.File(url="file:///x.jsonl"),
                entities.Table(cluster="c", database="d", name="t"),
            ],
        )
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        assert run(dag).state == "success"
        assert sandbox.count("token") == 1
    assert (tmp_path / "x.jsonl").stat().st_size > 0


def test_result_reaches_next_task(
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


needs_task_state_store = pytest.mark.skipif(
    AIRFLOW < (3, 3), reason="Airflow before 3.3 has no task state store"
)


class Outage:
    """Makes the service unavailable after some pages of entries, until `is_over` is set.

    :param after: number of pages that are served before.
    """

    def __init__(self, after: int) -> None:
        self.requested: list[str] = []
        self.is_over = False
        self._after = after

    def __call__(self, request: Request) -> Response | None:
        if (window := window_of(request)) is None:
            return None
        if len(self.requested) >= self._after and not self.is_over:
            return Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})
        self.requested.append(window)
        return None


def requested_again(windows: list[str], first: int) -> int:
    """Return how many windows the second attempt has requested again.

    :param first: number of requests of the first attempt.
    """
    return len(set(windows[:first]) & set(windows[first:]))


@needs_task_state_store
@pytest.mark.parametrize("start_over", [False, True])
def test_retry_resumes_from_checkpoint_unless_start_over_is_set(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    start_over: bool,
) -> None:
    suffixes: list[list[str]] = []

    def on_retry(context: Any) -> None:
        suffixes.append([path.suffix for path in tmp_path.iterdir()])
        outage.is_over = True

    with DAG("retry", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export",
            destination=f"{tmp_path}/x.jsonl",
            page_size=30,
            start_over="{{ params.start_over }}",
            params={"start_over": start_over},
            retries=1,
            retry_delay=timedelta(0),
            on_retry_callback=on_retry,
        )
    outage = Outage(after=25)
    with Sandbox(small_catalogue, faults=outage) as sandbox:
        connect(sandbox)
        assert run(dag).state == "success"
    output = "".join(capfd.readouterr()) + caplog.text
    assert suffixes == [[] if start_over else [".checkpoint"]]
    assert ("Resuming: an earlier attempt has read" in output) is not start_over
    again = requested_again(outage.requested, 25)
    assert again == len(set(outage.requested[:25])) if start_over else again <= IN_FLIGHT
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 1_200
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_refused_credentials_fail_task_without_retry(
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
def test_command_line_tests_connection(small_catalogue: Catalogue, form: str, code: int) -> None:
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
    output = done.stdout + done.stderr
    if code == 0:
        assert "Connection success!" in output, output
    else:
        assert "Connection failed!" in output, output
        assert "check 'Client ID' and 'Shared secret'" in output
        assert sandbox.client_secret not in output
