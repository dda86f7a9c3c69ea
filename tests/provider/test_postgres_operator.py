"""The operator that keeps a copy in PostgreSQL: arguments, templates, failures, events and DAG runs."""

from __future__ import annotations

import json
import logging
import runpy
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, Asset

from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError
from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from tests.feeds import served
from tests.postgres import DRIVERS
from tests.provider.dags import run
from tests.provider.events import Events
from tests.provider.test_changes_operator import context

if TYPE_CHECKING:
    from tests.postgres import Postgres

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


def operator(**arguments: Any) -> ContensisToPostgresOperator:
    return ContensisToPostgresOperator(task_id="copy", **arguments)


@pytest.fixture
def catalogue() -> Catalogue:
    return synthetic_catalogue(20, body_bytes=40)


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A database that is the default connection."""
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres.connection_json)
    return postgres


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"schema": "drop table"}, "schema must be a plain name, such as contensis, not 'drop table'"),
            ({"schema": "pg_catalog"}, "schema must be a plain name"),
            ({"table_prefix": "CMS-"}, "table_prefix must be a plain name, such as cms_"),
            ({"deletes": "detect"}, "deletes must be one of delete, mark"),
            ({"on_schema_change": "freeze"}, "on_schema_change must be one of evolve, fail"),
            ({"fields": ["title"]}, "fields is not available for changes"),
            ({"link_depth": 1, "api": "delivery"}, "link_depth is not available for changes"),
            ({"where": '[{"field": "date", "lessThan": "now()"}]'}, "relative time"),
            ({"max_delete_share": 2}, "max_delete_share must be a number from 0 to 1"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            operator(**arguments)

    def test_rendered_templates_are_text(self, sandbox: Sandbox, database: Postgres) -> None:
        copy = operator(
            schema="{{ schema }}",
            overlap="{{ 60 }}",
            max_delete_share="{{ none }}",
            full_refresh="{{ params.full }}",
        )
        copy.render_template_fields({"schema": "other", "params": {"full": False}})  # type: ignore[typeddict-unknown-key]  # a made-up context
        assert copy.execute(context())["upserts"] == 20
        assert database.load("other") == served(sandbox.catalogue)


class TestExecution:
    def test_result_is_small_and_complete(self, sandbox: Sandbox, database: Postgres) -> None:
        result = operator().execute(context())
        assert result.keys() == {
            *("schema", "upserts", "deletes", "content_types", "changed_from", "horizon"),
            *("drift", "refreshed", "unconfirmed", "misfits", "requests", "seconds"),
        }
        assert len(json.dumps(result)) < 1_000
        table = {"table": "article", "upserts": 20, "deletes": 0}
        assert (result["drift"], result["content_types"]) == (None, {"article": table})

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_both_drivers_of_airflows_hook_work(
        self,
        sandbox: Sandbox,
        catalogue: Catalogue,
        database: Postgres,
        driver: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from airflow.providers.postgres.hooks import postgres

        is_psycopg3 = driver == "psycopg3"
        if is_psycopg3 and not getattr(postgres, "USE_PSYCOPG3", False):
            pytest.skip("This Airflow's hook always uses psycopg2")
        monkeypatch.setattr(postgres, "USE_PSYCOPG3", is_psycopg3, raising=False)
        cursor = {"cursor": "dictcursor"}  # rows need not be tuples
        connection = {**json.loads(database.connection_json), "extra": cursor}
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", json.dumps(connection))
        operator().execute(context("one"))
        entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.delete(entries[1])
        result = operator().execute(context("two"))
        assert (result["upserts"], result["deletes"]) == (1, 1)
        assert database.load() == served(catalogue)

    def test_cleared_task_returns_the_same_result(
        self, sandbox: Sandbox, catalogue: Catalogue, database: Postgres
    ) -> None:
        copy = operator()
        first = copy.execute(context("one"))
        catalogue.add("article", {"title": "new"})
        second = copy.execute(context("two"))
        assert copy.execute(context("one")) == first
        assert copy.execute(context("two")) == second != first

    def test_unchanged_run_is_skipped_if_asked_for(self, sandbox: Sandbox, database: Postgres) -> None:
        copy = operator(skip_if_unchanged=True)
        copy.execute(context("one"))
        for _ in range(2):  # a cleared task, too
            with pytest.raises(AirflowSkipException, match="Nothing changed"):
                copy.execute(context("two"))

    def test_failure_that_no_retry_can_fix_fails_for_good(self, sandbox: Sandbox, database: Postgres) -> None:
        database.rows("CREATE SCHEMA contensis")
        database.rows("CREATE TABLE contensis.article ()")
        with pytest.raises(AirflowFailException, match=r"contensis\.article exists"):
            operator().execute(context())

    def test_server_that_is_away_is_retried(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "password": "made-up-secret"}
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", json.dumps(connection))
        with pytest.raises(DestinationError, match="PostgreSQL could not be updated") as error:
            operator().execute(context())
        assert "made-up-secret" not in str(error.value)

    def test_missing_provider_is_named_with_the_way_out(
        self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.postgres.hooks.postgres", None)
        with pytest.raises(
            AirflowFailException, match=r"pip install 'airflow-provider-contensis\[postgres\]'"
        ):
            operator().execute(context())

    def test_missing_connection_fails_for_good(self, sandbox: Sandbox) -> None:
        with pytest.raises(AirflowFailException, match="nobody"):
            operator(postgres_conn_id="nobody").execute(context())

    def test_asset_event_records_the_run(self, sandbox: Sandbox, database: Postgres) -> None:
        asset = Asset(uri="postgres://db/contensis/contensis/article")
        events = Events(asset)
        result = operator(outlets=[asset]).execute(context(outlet_events=events))
        assert events.event.extra == {
            "schema": "contensis",
            "project_id": "synthetic",
            "upserts": 20,
            "deletes": 0,
            "horizon": result["horizon"],
        }

    def test_log_tells_the_story(
        self, sandbox: Sandbox, catalogue: Catalogue, database: Postgres, caplog: pytest.LogCaptureFixture
    ) -> None:
        horizon = operator().execute(context("one"))["horizon"]
        entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.unpublish(entries[1])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            operator().execute(context("two"))
        lines = [record.getMessage() for record in caplog.records if "contensis" in record.name]
        assert f"Since {horizon}: 1 changed, 0 new" in lines
        assert "1 deletion: article/en-GB: 1 unpublished" in lines
        assert [line for line in lines if line.startswith("Committed: 1 table of schema contensis changed")]


@pytest.mark.usefixtures("airflow_database")
def test_example_dag_keeps_a_copy_in_step(sandbox: Sandbox, catalogue: Catalogue, database: Postgres) -> None:
    dag: DAG = runpy.run_path(str(EXAMPLES / "copy_to_postgres.py"))["dag"]
    assert run(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC)).state == "success"
    entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
    catalogue.update(entries[0], {"title": "changed"})
    catalogue.delete(entries[1])
    assert run(dag, logical_date=datetime(2026, 3, 2, tzinfo=UTC)).state == "success"
    skipped = run(dag, logical_date=datetime(2026, 3, 3, tzinfo=UTC))
    assert {ti.task_id: ti.state for ti in skipped.get_task_instances()} == {
        "copy": "skipped",
        "count": "skipped",
    }
    assert database.load() == served(catalogue)
