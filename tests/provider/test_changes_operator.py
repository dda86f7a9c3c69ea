"""The operator that exports changes: arguments, templates, failures, events and DAG runs."""

from __future__ import annotations

import json
import logging
import runpy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, Asset

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.feeds import load, served
from tests.provider.dags import run
from tests.provider.events import Events

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


def context(run_id: str = "r", **more: Any) -> Any:
    ti = SimpleNamespace(
        dag_id="d", task_id="t", run_id=run_id, map_index=-1, xcom_push=lambda key, value: None
    )
    return {"ti": ti, **more}


def operator(**arguments: Any) -> ContensisExportChangesOperator:
    return ContensisExportChangesOperator(task_id="export", **{"destination": "/data/feed/", **arguments})


@pytest.fixture
def catalogue() -> Catalogue:
    return synthetic_catalogue(20, body_bytes=40)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"destination": "/data/feed.jsonl"}, "must be a folder and end in /"),
            ({"destination": None}, "destination is empty"),
            ({"fields": ["title"]}, "fields is not available for changes"),
            ({"link_depth": 1, "api": "delivery"}, "link_depth is not available for changes"),
            ({"field_link_depths": {"a": 1}}, "field_link_depths is not available for changes"),
            ({"where": '[{"field": "date", "lessThan": "now()"}]'}, "relative time"),
            ({"destination": "{{ ds }}/", "overlap": "soon"}, "overlap must be a whole number"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            operator(**arguments)

    @pytest.mark.parametrize("folder", ["/data/feed", Path("/data/feed"), "/data/feed/", "file:///data/feed"])
    def test_folder_needs_no_slash(self, folder: Any) -> None:
        assert operator(destination=folder)._request().destination.url == "/data/feed/"

    def test_rendered_templates_are_text(self, sandbox: Sandbox, tmp_path: Path) -> None:
        export = operator(
            destination="{{ folder }}",
            overlap="{{ 60 }}",
            max_delete_share="{{ none }}",
            full_refresh="{{ params.full }}",
            keep_change_sets="{{ 3 }}",
        )
        export.render_template_fields({"folder": f"{tmp_path}/", "params": {"full": False}})  # type: ignore[typeddict-unknown-key]  # a made-up context
        assert export.execute(context())["upserts"] == 20


class TestExecution:
    def test_result_is_small_and_complete(self, sandbox: Sandbox, tmp_path: Path) -> None:
        result = operator(destination=f"{tmp_path}/feed/").execute(context())
        assert result.keys() >= {
            *("destination", "change_set", "sequence", "upserts", "deletes", "content_types"),
            *("changed_from", "horizon", "drift", "unconfirmed", "requests", "seconds"),
        }
        assert len(json.dumps(result)) < 1_000
        assert (result["drift"], result["content_types"]) == (
            None,
            {"article": {"upserts": 20, "deletes": 0}},
        )

    def test_cleared_task_returns_the_same_change_set(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        export = operator(destination=f"{tmp_path}/feed/")
        first = export.execute(context("one"))
        catalogue.add("article", {"title": "new"})
        second = export.execute(context("two"))
        assert export.execute(context("one")) == first
        assert export.execute(context("two")) == second != first

    def test_unchanged_run_is_skipped_if_asked_for(self, sandbox: Sandbox, tmp_path: Path) -> None:
        export = operator(destination=f"{tmp_path}/feed/", skip_if_unchanged=True)
        export.execute(context("one"))
        for _ in range(2):  # a cleared task, too
            with pytest.raises(AirflowSkipException, match="Nothing changed"):
                export.execute(context("two"))

    def test_too_many_deletions_fail_without_retry(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        export = operator(destination=f"{tmp_path}/feed/")
        export.execute(context("one"))
        for entry in catalogue.entries():
            catalogue.delete(json.loads(entry)["sys"]["id"])
        with pytest.raises(AirflowFailException, match="Too many deletions.*max_delete_share=None"):
            export.execute(context("two"))

    def test_killed_task_leaves_the_feed_as_it_was(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        export = operator(destination=f"{tmp_path}/feed/")
        export.execute(context("one"))
        catalogue.add("article", {"title": "new"})
        before = load(tmp_path / "feed")
        sandbox.faults = lambda request: export.on_kill() if request.kind == "search" else None
        with pytest.raises(AirflowFailException, match="client was closed"):
            export.execute(context("two"))
        assert load(tmp_path / "feed") == before
        sandbox.faults = None
        assert export.execute(context("two"))["upserts"] == 1

    def test_runs_without_a_task_instance(self, sandbox: Sandbox, tmp_path: Path) -> None:
        export = operator(destination=f"{tmp_path}/feed/")
        assert export.execute({})["upserts"] == 20
        assert export.execute({})["change_set"] is None

    def test_asset_event_records_the_change_set(self, sandbox: Sandbox, tmp_path: Path) -> None:
        asset = Asset(uri=f"file://{tmp_path}/feed")
        export = operator(destination=f"{tmp_path}/feed/", outlets=[asset])
        events = Events(asset)
        result = export.execute(context(outlet_events=events))
        assert events.event.extra == {
            "destination": f"{tmp_path}/feed/",
            "project_id": "synthetic",
            "change_set": result["change_set"],
            "upserts": 20,
            "deletes": 0,
            "horizon": result["horizon"],
        }

    def test_log_tells_the_story(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        export = operator(destination=f"{tmp_path}/feed/")
        horizon = export.execute(context("one"))["horizon"]
        entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
        catalogue.update(entries[0], {"title": "changed"})
        catalogue.add("article", {"title": "new"})
        catalogue.unpublish(entries[1])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            export.execute(context("two"))
        ours = [record for record in caplog.records if record.name.startswith("airflow_provider_contensis")]
        lines = [record.getMessage() for record in ours]
        assert lines[0].endswith("feed/: content types: all; languages: all; data format: entry; where: none")
        assert f"Since {horizon}: 1 changed, 1 new" in lines
        assert "Counts agree in 0 of 1 slice" in lines
        assert "1 deletion: article/en-GB: 1 unpublished" in lines
        assert [line for line in lines if line.startswith("Change set 2 committed: ")]
        assert len(lines) <= 8


@pytest.mark.usefixtures("airflow_database")
def test_example_dag_follows_the_service(
    sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    dag: DAG = runpy.run_path(str(EXAMPLES / "follow_changes.py"))["dag"]
    assert run(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC)).state == "success"
    entries = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]
    catalogue.update(entries[0], {"title": "changed"})
    catalogue.delete(entries[1])
    assert run(dag, logical_date=datetime(2026, 3, 2, tzinfo=UTC)).state == "success"
    skipped = run(dag, logical_date=datetime(2026, 3, 3, tzinfo=UTC))
    assert {ti.task_id: ti.state for ti in skipped.get_task_instances()} == {
        "export": "skipped",
        "load": "skipped",
    }
    assert load(tmp_path / "feed") == served(catalogue)
    loaded = json.loads((tmp_path / "loaded.json").read_text())
    assert sorted(loaded["entries"]) == sorted(f"article en-GB {key[2]}" for key in served(catalogue))

    # It falls behind: what it has not applied is gone, but for the snapshot that replaces it.
    for number in (2, 3):
        catalogue.delete(entries[number])
        arguments: dict[str, Any] = {"write_snapshot": number == 3, "keep_change_sets": 1}
        operator(destination=f"{tmp_path}/feed/", **arguments).execute(context(str(number)))
    catalogue.delete(entries[4])
    assert run(dag, logical_date=datetime(2026, 3, 4, tzinfo=UTC)).state == "success"
    loaded = json.loads((tmp_path / "loaded.json").read_text())
    assert sorted(loaded["entries"]) == sorted(f"article en-GB {key[2]}" for key in served(catalogue))
