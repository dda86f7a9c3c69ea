"""The sensor: in every mode it waits until enough entries match, and says why it never could."""

from __future__ import annotations

import inspect
import json
import runpy
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferred,
)

from airflow_provider_contensis.exceptions import ConfigurationError, ServerError
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Sandbox, iso_catalogue
from airflow_provider_contensis.sensors.entries import ContensisEntriesSensor
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from airflow_provider_contensis.triggers.entries import ContensisEntriesTrigger
from tests.catalogues import catalogue_of
from tests.provider.dags import run
from tests.provider.version import AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


def sensor(**arguments: Any) -> ContensisEntriesSensor:
    return ContensisEntriesSensor(task_id="wait", **{"deferrable": False, **arguments})


def publish(catalogue: Catalogue) -> None:
    [entry, *_] = catalogue.entries(content_type_id="film")
    catalogue.publish(json.loads(entry)["sys"]["id"])


@pytest.fixture
def catalogue() -> Catalogue:
    return catalogue_of({"film": 20, "person": 10})


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"min_entries": 0}, "min_entries must be a whole number from 1 to 10,000"),
            ({"min_entries": 10_001}, "min_entries must be a whole number from 1 to 10,000"),
            ({"api": "rest"}, "api must be one of management, delivery"),
            ({"where": "title", "language": "{{ ds }}"}, "where must be a list of search clauses"),
            ({"changed_from": "soon"}, "changed_from must be an ISO 8601 time"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            sensor(**arguments)

    def test_default_of_deferrable_is_airflows(self) -> None:
        assert inspect.signature(ContensisEntriesSensor.__init__).parameters["deferrable"].default is False

    @pytest.mark.parametrize(
        "operator",
        [
            partial(ContensisExportChangesOperator, destination="/data/x/"),
            partial(ContensisExportContentTypesOperator, destination="/data/x.json"),
            partial(ContensisExportEntriesOperator, destination="/data/x.jsonl"),
            ContensisToPostgresOperator,
        ],
    )
    def test_exports_refuse_to_defer(self, operator: Any) -> None:
        with pytest.raises(ConfigurationError, match="deferrable=True is not available for exports"):
            operator(task_id="export", deferrable=True)
        operator(task_id="export", deferrable=False)


class TestWaiting:
    @pytest.mark.parametrize(
        ("arguments", "entries"),
        [
            ({"content_type_id": "film", "min_entries": 20}, 20),
            ({"content_type_id": "{{ kind }}", "min_entries": "{{ 5 }}"}, 10),
            ({"changed_to": "2100-01-01T00:00:00Z", "min_entries": 30}, 30),
        ],
    )
    def test_ends_at_once_if_enough_match(
        self, sandbox: Sandbox, arguments: dict[str, Any], entries: int
    ) -> None:
        waiting = sensor(**arguments)
        waiting.render_template_fields({"kind": "person"})  # type: ignore[typeddict-unknown-key]  # a made-up context
        assert waiting.execute({}) == {"entries": entries, "project_id": "synthetic"}

    def test_waits_in_its_worker_until_enough_match(self, sandbox: Sandbox, catalogue: Catalogue) -> None:
        waiting = sensor(changed_from=datetime.now(UTC) - timedelta(minutes=1), poke_interval=0.01)
        with patch("time.sleep", lambda seconds: publish(catalogue)):
            assert waiting.execute({})["entries"] == 1

    def test_times_out(self, sandbox: Sandbox) -> None:
        with pytest.raises(AirflowSensorTimeout):
            sensor(min_entries=31, poke_interval=0.01, timeout=0.03).execute({})

    @pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2 looks into its database")
    def test_is_rescheduled_until_enough_match(self, sandbox: Sandbox, catalogue: Catalogue) -> None:
        context: Any = {"ti": SimpleNamespace(get_first_reschedule_date=lambda context: None)}
        waiting = sensor(content_type_id="film", min_entries=21, mode="reschedule")
        with pytest.raises(Exception) as raised:
            waiting.execute(context)
        assert type(raised.value).__name__ == "AirflowRescheduleException"
        catalogue.add("film", {"title": "new"})
        assert waiting.execute(context)["entries"] == 21

    @pytest.mark.parametrize("deferrable", [False, True])
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"content_type_id": "play"}, "content_type_id 'play' is not in project"),
            ({"project_id": "nothing"}, "nothing"),
        ],
    )
    def test_what_can_never_match_fails_without_retry(
        self, sandbox: Sandbox, arguments: dict[str, Any], message: str, deferrable: bool
    ) -> None:
        with pytest.raises(AirflowFailException, match=message):
            sensor(deferrable=deferrable, **arguments).execute({})

    def test_service_that_is_down_fails_with_retry(self, sandbox: Sandbox, monkeypatch: Any) -> None:
        connection = {**sandbox.connection, "extra": {**sandbox.connection["extra"], "retry_seconds": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", json.dumps(connection))
        sandbox.error_rate = 1
        with pytest.raises(ServerError):
            sensor().execute({})


class TestDeferral:
    def test_looks_once_before_it_defers(self, sandbox: Sandbox) -> None:
        assert sensor(deferrable=True).execute({})["entries"] == 30

    def test_defers_with_its_rendered_arguments_as_plain_json(self, sandbox: Sandbox) -> None:
        since = datetime(2100, 1, 1, tzinfo=UTC)
        waiting = sensor(
            deferrable=True,
            content_type_id=("{{ kind }}",),
            where=({"field": "sys.id", "in": ("a", "b")},),
            changed_from=since,
            min_entries="2",
            poke_interval=7,
            timeout=99,
        )
        waiting.render_template_fields({"kind": "person"})  # type: ignore[typeddict-unknown-key]  # a made-up context
        with pytest.raises(TaskDeferred) as raised:
            waiting.execute({})
        deferred: Any = raised.value
        assert (deferred.method_name, deferred.timeout) == ("execute_complete", timedelta(seconds=99))
        assert isinstance(deferred.trigger, ContensisEntriesTrigger)
        arguments = json.loads(json.dumps(deferred.trigger.serialize()[1]))
        assert arguments == {
            "contensis_conn_id": "contensis_default",
            "project_id": None,
            "query": {
                "content_type_id": ["person"],
                "language": None,
                "version_status": "published",
                "data_format": "entry",
                "where": [{"field": "sys.id", "in": ["a", "b"]}],
                "changed_from": "2100-01-01T00:00:00Z",
                "changed_to": None,
                "api": "management",
            },
            "min_entries": 2,
            "poke_interval": 7.0,
        }

    def test_resumes_with_what_the_trigger_found(self) -> None:
        found = {"status": "success", "entries": 3, "project_id": "website"}
        assert sensor().execute_complete({}, found) == {"entries": 3, "project_id": "website"}

    def test_resumes_with_the_error_that_ended_the_wait(self) -> None:
        with pytest.raises(AirflowFailException, match="no such project"):
            sensor().execute_complete({}, {"status": "error", "message": "no such project"})

    @pytest.mark.usefixtures("airflow_database")
    @pytest.mark.parametrize("deferrable", [False, True])
    def test_dag_waits_for_a_publish(self, sandbox: Sandbox, catalogue: Catalogue, deferrable: bool) -> None:
        def publish_late(request: Any) -> None:
            if request.kind == "search":
                catalogue.add("film", {"title": "new"})

        sandbox.faults = publish_late
        with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
            sensor(deferrable=deferrable, content_type_id="film", min_entries=23, poke_interval=0.05)
        dag_run = run(dag)
        assert dag_run.state == "success"
        [ti] = dag_run.get_task_instances()
        assert ti.state == "success"


@pytest.mark.usefixtures("airflow_database")
def test_example_dag_waits_for_a_country(
    connect: Callable[[Sandbox], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    dag = runpy.run_path(str(EXAMPLES / "wait_for_entries.py"))["dag"]
    dag.get_task("wait").poke_interval = 0.05
    catalogue = iso_catalogue()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    searches: list[Any] = []

    def publish_late(request: Request) -> None:
        searches.extend([request] if request.kind == "search" else [])
        if len(searches) == 2:
            catalogue.add("country", {"name": "Utopia"})

    with Sandbox(catalogue, faults=publish_late) as sandbox:
        connect(sandbox)
        assert run(dag, logical_date=midnight).state == "success"
        exported = (tmp_path / "countries.jsonl").read_bytes().splitlines()
        assert len(exported) == len(list(catalogue.entries(content_type_id="country")))
