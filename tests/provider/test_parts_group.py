"""The task group that exports entries with many tasks, in a real Airflow."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, XComArg

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.parts_request import PartsArguments
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from airflow_provider_contensis.task_groups.entries import ContensisExportEntriesTaskGroup
from tests.catalogues import catalogue_of
from tests.kills import s3_filesystem
from tests.provider.dags import run
from tests.provider.test_dag_run import needs_task_state_store, requested_again, xcom
from tests.provider.version import AIRFLOW
from tests.searches import IN_FLIGHT, window_of

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "dags_examples" / "export_parts.py"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Two content types; only for tests that change nothing."""
    return catalogue_of({"film": 900, "person": 40}, ("en-GB", "cy"))


def states(dag_run: Any) -> dict[tuple[str, int], str]:
    return {(ti.task_id, ti.map_index): ti.state for ti in dag_run.get_task_instances()}


@pytest.mark.usefixtures("airflow_database")
class TestRun:
    def test_files_are_those_of_one_task(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with DAG("parts", schedule=None, start_date=START) as dag:
            group = ContensisExportEntriesTaskGroup(
                "export",
                destination=f"{tmp_path}/{{{{ dag.dag_id }}}}",
                parts="{{ 4 }}",
                page_size="{{ 50 }}",
                content_type_id=["{{ 'film' }}", "person"],
                max_active_tis_per_dagrun=2,
            )
            one = ContensisExportEntriesOperator(task_id="one", destination=f"{tmp_path}/one/")
            group >> one
        dag_run = run(dag)
        assert dag_run.state == "success"
        folder = tmp_path / "parts"
        result = xcom(dag_run, "export.commit")
        together: dict[str, bytes] = {}
        for file in result["files"]:
            content = Path(file["path"]).read_bytes()
            together[file["content_type_id"]] = together.get(file["content_type_id"], b"") + content
        assert together == {
            name: (tmp_path / "one" / f"{name}.jsonl").read_bytes() for name in ("film", "person")
        }
        manifest = json.loads((folder / "_manifest.json").read_bytes())
        assert (result["plan"], result["parts"], result["entries"]) == (manifest["plan"], 4, 1_880)
        assert states(dag_run) == dict.fromkeys(
            [
                ("export.plan", -1),
                *(("export.read", n) for n in range(4)),
                ("export.commit", -1),
                ("one", -1),
            ],
            "success",
        )

    def test_parts_have_readable_names_and_xcoms_hold_addresses_only(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        with DAG("names", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(destination=f"{tmp_path}/", parts=3)
        dag_run = run(dag)
        reads = [ti for ti in dag_run.get_task_instances() if ti.task_id == "export_entries.read"]
        names = [ti.rendered_map_index for ti in sorted(reads, key=lambda ti: ti.map_index)]
        assert names[0] == "part 1 of 3: film en-GB"
        assert names[1].startswith("part 2 of 3: film en-GB from 2")
        addresses = xcom(dag_run, "export_entries.plan")
        assert [address["name"] for address in addresses] == names
        assert {frozenset(address) for address in addresses} == {
            frozenset({"destination", "plan", "part", "parts", "name"})
        }

    @needs_task_state_store
    def test_retry_of_a_part_resumes_it_and_reads_no_other(
        self,
        catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        requested: list[str] = []
        is_planned: list[bool] = []
        is_over: list[bool] = []

        def outage(request: Request) -> Response | None:
            if not is_planned or (window := window_of(request)) is None:
                return None
            if len(requested) >= 25 and not is_over:
                return Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})
            requested.append(window)
            return None

        with DAG("retry", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(
                destination=f"{tmp_path}/",
                parts=2,
                page_size=30,
                default_args={
                    "retries": 1,
                    "retry_delay": timedelta(0),
                    "on_retry_callback": lambda _: is_over.append(True),
                    "on_success_callback": lambda _: is_planned.append(True),
                },
            )
        with Sandbox(catalogue, faults=outage) as sandbox:
            connect(sandbox)
            dag_run = run(dag)
        assert dag_run.state == "success"
        assert "Resuming: an earlier attempt has read" in "".join(capfd.readouterr()) + caplog.text
        assert requested_again(requested, 25) <= IN_FLIGHT
        tries = [ti.try_number for ti in dag_run.get_task_instances() if ti.task_id == "export_entries.read"]
        assert sorted(tries) == [1, 2]
        assert xcom(dag_run, "export_entries.commit")["entries"] == 1_880
        assert {path.name[0] for path in tmp_path.iterdir()} == {"_", "2"}

    def test_skip_skips_the_commit(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with DAG("skip", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(
                destination=f"{tmp_path}/", where=[{"field": "sys.id", "equalTo": "no"}], on_empty="skip"
            )
        assert states(run(dag)) == {
            ("export_entries.plan", -1): "success",
            ("export_entries.read", 0): "success",
            ("export_entries.commit", -1): "skipped",
        }
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(AIRFLOW == (3, 0), reason="in Airflow 3.0's dag.test no asset is active")
    def test_event_of_the_commit_describes_the_export(self, sandbox: Sandbox, tmp_path: Path) -> None:
        extras: list[dict[str, Any]] = []

        def record(context: Any, result: Any) -> None:
            extras.extend(context["outlet_events"][asset].extra for asset in context["task"].outlets)

        with DAG("outlets", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(destination=f"{tmp_path}/", outlets=[Asset("file:///parts")])
        commit: Any = dag.get_task("export_entries.commit")
        commit._post_execute_hook = record
        result = xcom(run(dag), "export_entries.commit")
        names = ("destination", "project_id", "entries", "watermark")
        assert extras == [{name: result[name] for name in names}]

    def test_missing_plan_fails_without_retry(
        self, sandbox: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
    ) -> None:
        with DAG("missing", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(destination=f"{tmp_path}/", parts=1, default_args={"retries": 3})

        def remove(context: Any, result: Any) -> None:
            for path in tmp_path.rglob("_plan.json"):
                path.unlink()

        plan: Any = dag.get_task("export_entries.plan")
        plan._post_execute_hook = remove
        dag_run = run(dag)
        assert states(dag_run)["export_entries.read", 0] == "failed"
        if AIRFLOW != (3, 0):  # its `dag.test` does not always show a task's log
            assert "Either this worker sees another disk" in "".join(capfd.readouterr()) + caplog.text


class TestGraph:
    def test_arguments_reach_the_tasks(self) -> None:
        with DAG("graph", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(
                destination="s3://bucket/films/",
                destination_conn_id="store",
                contensis_conn_id="cms",
                project_id="website",
                parts=8,
                page_size=100,
                max_concurrent_requests=2,
                start_over=True,
                pool="cms",
                max_active_tis_per_dag=5,
                max_active_tis_per_dagrun=3,
                default_args={"retries": 4},
            )
        tasks: list[Any] = [dag.get_task(f"export_entries.{name}") for name in ("plan", "read", "commit")]
        plan, read, commit = tasks
        connections = {"destination_conn_id": "store", "contensis_conn_id": "cms", "project_id": "website"}
        options = {"page_size": 100, "max_concurrent_requests": 2}
        for task in (plan, commit):
            assert {name: getattr(task, name) for name in (connections | options)} == connections | options
            assert (task.retries, task.pool) == (4, "default_pool")
        assert connections | options == {name: read.partial_kwargs[name] for name in connections | options}
        assert (read.retries, read.pool, read.partial_kwargs["start_over"]) == (4, "cms", True)
        assert (read.max_active_tis_per_dag, read.max_active_tis_per_dagrun) == (5, 3)
        assert (plan.parts, plan.start_over) == (8, True)
        assert plan.downstream_task_ids == {read.task_id, commit.task_id}
        assert read.downstream_task_ids == {commit.task_id}

    def test_every_argument_of_the_plan_is_one_of_the_group(self) -> None:
        with DAG("all", schedule=None, start_date=START) as dag:
            ContensisExportEntriesTaskGroup(destination="/data/films/")
        plan = dag.get_task("export_entries.plan")
        assert set(PartsArguments.__annotations__) <= set(plan.template_fields)
        commit: Any = dag.get_task("export_entries.commit")
        assert isinstance(commit.plan, XComArg)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"parts": 0}, "parts must be"),
            ({"page_size": 0}, "page_size must be"),
            ({"file_format": "json"}, "file_format 'json'"),
            ({"destination": "/data/x.jsonl"}, "must be a folder"),
            ({"link_depth": 1}, "link_depth needs api='delivery'"),
        ],
    )
    def test_wrong_argument_fails_when_the_dag_is_parsed(
        self, arguments: dict[str, Any], message: str
    ) -> None:
        with DAG("wrong", schedule=None, start_date=START), pytest.raises(ConfigurationError, match=message):
            ContensisExportEntriesTaskGroup(**{"destination": "/data/films/", **arguments})

    def test_two_groups_fit_in_a_dag(self) -> None:
        with DAG("two", schedule=None, start_date=START) as dag:
            one = ContensisExportEntriesTaskGroup("one", destination="/data/one/")
            two = ContensisExportEntriesTaskGroup("two", destination="/data/two/")
            one >> two
        assert dag.get_task("two.plan").upstream_task_ids == {"one.commit"}


def test_example_dag_exports_to_s3_with_many_tasks(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    airflow_database: None,
) -> None:
    connect(iso_sandbox)
    pytest.importorskip("airflow.providers.amazon")
    connection = {
        "conn_type": "aws",
        "login": "made-up-key",
        "password": "made-up-secret",
        "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("CONTENSIS_EXPORT_BUCKET", "many-workers-example")
    store = s3_filesystem(s3_url)
    store.call_s3("create_bucket", Bucket="many-workers-example")
    dag_run = run(runpy.run_path(str(EXAMPLE))["dag"])
    assert dag_run.state == "success"
    root = "many-workers-example/contensis/"
    manifest = json.loads(store.cat_file(f"{root}_manifest.json"))
    stored = b"".join(store.cat_file(f"{root}{file['path']}") for file in manifest["files"]).splitlines()
    assert sorted(stored) == sorted(iso_sandbox.catalogue.entries("published"))
    assert manifest["parts"] > 1
