"""The export operator without a database: arguments, templates, failures."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import MagicMock, Mock

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException

from airflow_provider_contensis.exceptions import ConfigurationError, ServerError
from airflow_provider_contensis.operators._task import checkpoint_pointer
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable


def push(key: str, value: Any) -> None:
    """Replace the method `xcom_push` of a task instance."""


CONTEXT: Any = {"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, xcom_push=push)}


def operator(**arguments: Any) -> ContensisExportEntriesOperator:
    return ContensisExportEntriesOperator(task_id="export", **{"destination": "/data/x.jsonl", **arguments})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"destination": "/data/films.docx"}, "Cannot tell the file format from destination"),
            ({"version_status": "draft"}, "version_status must be one of published, latest"),
            ({"data_format": "form"}, "data_format must be one of entry, asset"),
            ({"api": "graphql"}, "api must be one of management, delivery"),
            ({"content_type_id": []}, "content_type_id must be a name"),
            ({"content_type_id": ["film", None]}, "content_type_id must be a name"),
            ({"content_type_id": {"film": 1}}, "content_type_id must be a name"),
            ({"content_type_id": b"film"}, "content_type_id must be a name"),
            ({"language": [" "]}, "language must be a name"),
            ({"where": "runtime > 90"}, "where must be a list of search clauses"),
            ({"where": 7}, "where must be a list of search clauses"),
            ({"where": [{"field": nested(20_000)}]}, "where must be a list of search clauses"),
            ({"content_type_id": [nested(20_000)]}, "content_type_id must be a name"),
            ({"page_size": 10**5_000}, "page_size must be"),
            ({"changed_from": 10**5_000}, "changed_from must be an ISO 8601 time"),
            ({"where": [{"field": "x", "equalTo": b"y"}]}, "where contains b'y', which JSON cannot hold"),
            ({"where": [{"field": "x", "in": [1, float("nan")]}]}, "where contains nan, which JSON"),
            ({"where": [{}]}, "where must contain search clauses only"),
            ({"where": ["film"]}, "where must contain search clauses only"),
            ({"fields": [""]}, "fields must be a name"),
            ({"changed_from": "yesterday"}, "changed_from must be an ISO 8601 time"),
            ({"changed_from": "2031-01-02", "changed_to": "2031-01-01"}, "must be earlier than changed_to"),
            ({"link_depth": 1}, "link_depth needs api='delivery'"),
            ({"link_depth": 11, "api": "delivery"}, "link_depth must be a whole number from 0 to 10"),
            ({"field_link_depths": {"director": 1}}, "field_link_depths needs api='delivery'"),
            (
                {"field_link_depths": "director", "api": "delivery"},
                "field_link_depths must map field paths to depths",
            ),
            ({"field_link_depths": {"director": 11}, "api": "delivery"}, "'director'.*from 0 to 10"),
            ({"page_size": 0}, "page_size must be a whole number from 1 to 10,000"),
            ({"page_size": 10_001}, "page_size must be"),
            ({"page_size": True}, "page_size must be"),
            ({"max_concurrent_requests": "many"}, "max_concurrent_requests must be"),
            ({"compression": "rar"}, "compression must be one of gz"),
            ({"parquet_mode": "wide"}, "parquet_mode must be one of typed, raw"),
            ({"on_type_mismatch": "drop"}, "on_type_mismatch must be one of fail, raw"),
            ({"escape_formulas": "perhaps"}, "escape_formulas must be one of true, false"),
            ({"on_empty": "delete"}, "on_empty must be one of write, keep, skip, fail"),
            ({"destination": Path("s3://b/x.jsonl")}, "looks like a URL that lost a slash"),
            ({"start_over": "perhaps"}, "start_over must be one of true, false"),
            ({"file_format": "xml"}, "file_format must be one of jsonl, json, csv, parquet"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            operator(**arguments)

    def test_wrong_argument_beside_templates_fails_when_dag_is_parsed(self) -> None:
        with pytest.raises(ConfigurationError, match="page_size"):
            operator(destination="{{ ds }}.jsonl", changed_from="{{ ds }}", page_size=0)

    def test_argument_that_depends_on_template_is_left_for_the_run(self) -> None:
        operator(api="{{ params.api }}", link_depth=2, field_link_depths={"director": 1})
        operator(where=[{"field": "runtime", "greaterThan": "{{ params.least }}"}])
        operator(destination="/data/export", file_format="{{ params.format }}")
        operator(destination="/data/export", file_format="{{ params.format }}", compression="gzip")

    def test_wrong_rendered_template_fails_task_without_retry(self) -> None:
        export = operator(changed_from="{{ start }}", contensis_conn_id="there_is_none")
        export.render_template_fields({"start": "soon"})  # type: ignore[typeddict-unknown-key]  # a made-up context
        with pytest.raises(AirflowFailException, match="changed_from must be an ISO 8601 time.*'soon'"):
            export.execute(CONTEXT)

    def test_iterators_are_kept_for_the_run(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        export = operator(
            destination=f"{tmp_path}/x.jsonl",
            content_type_id=(name for name in ["country"]),
            where=iter([{"field": "alpha2", "equalTo": "GB"}]),
        )
        assert export.execute(CONTEXT)["entries"] == 3  # in three languages

    def test_unknown_field_fails_task_without_retry(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        for fields in (["titel"], "name,alpha2"):
            export = operator(destination=f"{tmp_path}/x.jsonl", content_type_id="country", fields=fields)
            with pytest.raises(AirflowFailException, match="fields contains .*alpha2"):
                export.execute(CONTEXT)

    def test_unknown_airflow_connection_fails_task_without_retry(self, tmp_path: Path) -> None:
        export = operator(destination=f"{tmp_path}/x.jsonl", contensis_conn_id="there_is_none")
        with pytest.raises(AirflowFailException, match="Airflow connection does not exist.*there_is_none"):
            export.execute(CONTEXT)

    def test_argument_may_be_output_of_another_task(self) -> None:
        with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            first = operator()
            second = ContensisExportEntriesOperator(
                task_id="second",
                destination="/data/y.jsonl",
                changed_from=first.output["watermark"],  # type: ignore[index]  # of an XComArg
            )
        assert second.upstream_task_ids == {"export"}

    def test_operator_can_be_copied_and_serialized(self) -> None:
        with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
            where = [{"field": "a", "equalTo": 1}]
            export = operator(where=where, changed_from=datetime(2031, 1, 1, tzinfo=UTC))
            assert copy.deepcopy(export).where == where
            ContensisExportEntriesOperator.partial(task_id="mapped", destination="/data/").expand(
                content_type_id=["a", "b"]
            )
        try:
            from airflow.serialization.serialized_objects import DagSerialization as Serialization
        except ImportError:
            from airflow.serialization.serialized_objects import SerializedDAG as Serialization  # type: ignore[assignment,attr-defined]  # before 3.2
        stored = json.loads(json.dumps(Serialization.to_dict(dag)))
        restored = Serialization.from_dict(stored)
        assert set(restored.task_ids) == {"export", "mapped"}


class TestCheckpointPointer:
    def test_pointer_is_none_without_task_state_store(self) -> None:
        assert checkpoint_pointer(CONTEXT) is None

    @pytest.mark.parametrize(
        ("attributes", "is_last_attempt"),
        [
            ({"try_number": 1, "max_tries": 1}, False),
            ({"try_number": 2, "max_tries": 1}, True),
            ({"try_number": 1, "max_tries": 0}, True),
            ({"try_number": 4, "max_tries": 4}, False),  # cleared, with one retry
            ({}, True),  # this version does not say
        ],
    )
    def test_last_attempt_is_recognised(self, attributes: dict[str, int], is_last_attempt: bool) -> None:
        context: Any = {"ti": SimpleNamespace(**attributes), "task_state_store": object()}
        pointer = checkpoint_pointer(context)
        assert pointer is not None
        assert pointer.is_last_attempt is is_last_attempt


class TestRun:
    def test_export_returns_small_dict(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            result = operator(destination=f"{tmp_path}/x.jsonl").execute(CONTEXT)
        assert json.loads(json.dumps(result)) == result
        assert len(json.dumps(result)) < 2_000
        assert result["entries"] == 1_200
        written = (tmp_path / "x.jsonl").read_bytes().splitlines()
        assert sorted(written) == sorted(small_catalogue.entries("published"))

    def test_rendered_numbers_and_clauses_may_be_text(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        export = operator(
            destination="{{ folder }}/x.jsonl",
            page_size="{{ size }}",
            where='[{"field": "sys.id", "exists": {{ truth }}}]',
            changed_from="{{ start }}",
        )
        values: Any = {
            "folder": str(tmp_path),
            "size": 100,
            "truth": "true",
            "start": datetime(2000, 1, 1, tzinfo=UTC),
        }
        export.render_template_fields(values)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            result = export.execute(CONTEXT)
            assert sandbox.count("search") >= 12
        assert result["entries"] == 1_200
        assert result["changed_from"] == "2000-01-01T00:00:00Z"

    def test_operator_keeps_no_hook(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        export = operator(destination=f"{tmp_path}/x.jsonl")
        export.log  # noqa: B018 - Airflow makes an operator's logger on first use
        before = set(vars(export))
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            export.execute(CONTEXT)
        assert set(vars(export)) - before == {"_read", "_written"}  # of lineage: plain data

    def test_final_failure_fails_task_without_retry(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None]
    ) -> None:
        refused = Response.json({"error": "invalid_client"}, 400)
        with Sandbox(small_catalogue, faults=lambda _: refused) as sandbox:
            connect(sandbox)
            with pytest.raises(AirflowFailException, match="check 'Client ID' and 'Shared secret'"):
                operator().execute(CONTEXT)
            assert sandbox.count("token") == 1

    def test_temporary_failure_is_left_for_airflow_to_retry(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
    ) -> None:
        busy = Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})

        def faults(request: Request) -> Response | None:
            return busy if request.kind == "search" else None

        with Sandbox(small_catalogue, faults=faults) as sandbox:
            connect(sandbox)
            # One request at a time: others would report the pause that this answer asks for.
            with pytest.raises(ServerError, match="Come back later") as failure:
                operator(max_concurrent_requests=1).execute(CONTEXT)
        assert failure.value.retry_after == 3600


class TestDestination:
    def test_path_is_text_that_airflow_renders(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        export = operator(destination=tmp_path / "{{ day }}" / "x.jsonl", content_type_id="currency")
        export.render_template_fields({"day": "2031-04-02"})  # type: ignore[typeddict-unknown-key]  # a made-up context
        result = export.execute(CONTEXT)
        assert result["destination"] == f"{tmp_path}/2031-04-02/x.jsonl"
        assert (tmp_path / "2031-04-02" / "x.jsonl").exists()

    def test_relative_path_is_shown_absolute_everywhere(
        self,
        iso_sandbox: Sandbox,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connect(iso_sandbox)
        monkeypatch.chdir(tmp_path)
        with caplog.at_level("INFO"):
            result = operator(destination="out/x.jsonl", content_type_id="currency").execute(CONTEXT)
        shown = f"{tmp_path}/out/x.jsonl"
        assert (result["destination"], result["files"][0]["path"]) == (shown, shown)
        assert f"Wrote {shown}" in caplog.text


class TestContext:
    """An operator needs nothing of Airflow's context, which unit tests leave empty or mock."""

    CONTEXTS: ClassVar = {
        "empty": {},
        "none": None,
        "mock": Mock(),
        "magic mock": MagicMock(),
        "ti is none": {"ti": None},
        "ti is a mock": {"ti": MagicMock(), "task_instance": MagicMock()},
        "ti has no attributes": {"ti": object(), "outlet_events": {}},
        "store is a mock": {"task_state_store": MagicMock(), "outlet_events": MagicMock()},
    }

    @pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
    @pytest.mark.parametrize("retries", [0, 2])
    def test_export_runs_with_any_context(
        self,
        iso_sandbox: Sandbox,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        context: Any,
        retries: int,
    ) -> None:
        connect(iso_sandbox)
        export = operator(
            destination=tmp_path / "x.jsonl", content_type_id="currency", retries=retries, outlets=["a table"]
        )
        assert export.execute(context)["entries"] > 100
        assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]

    @pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
    def test_changes_are_exported_with_any_context(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path, context: Any
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            export = ContensisExportChangesOperator(
                task_id="export", destination=tmp_path, outlets=["a table"]
            )
            assert export.execute(context)["change_set"]
            assert export.execute(context)["change_set"] is None

    @pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
    def test_content_types_are_exported_with_any_context(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path, context: Any
    ) -> None:
        connect(iso_sandbox)
        export = ContensisExportContentTypesOperator(task_id="types", destination=tmp_path / "x.json")
        assert len(export.execute(context)["content_types"]) == 4

    @pytest.mark.parametrize("do_xcom_push", [True, False])
    def test_link_is_pushed_only_if_task_pushes(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path, do_xcom_push: bool
    ) -> None:
        connect(iso_sandbox)
        context: Any = {"ti": MagicMock()}
        operator(
            destination=tmp_path / "x.jsonl", content_type_id="currency", do_xcom_push=do_xcom_push
        ).execute(context)
        pushed = [call.kwargs for call in context["ti"].xcom_push.call_args_list]
        assert pushed == [{"key": "contensis_url", "value": iso_sandbox.url}] * do_xcom_push


class TestOnEmpty:
    NOTHING: ClassVar = {"content_type_id": "currency", "where": [{"field": "name", "equalTo": "Groat"}]}

    def test_skip_skips_the_task(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        (tmp_path / "x.jsonl").write_text("yesterday")
        with pytest.raises(AirflowSkipException, match="No entries matched"):
            operator(destination=tmp_path / "x.jsonl", on_empty="skip", **self.NOTHING).execute(CONTEXT)
        assert (tmp_path / "x.jsonl").read_text() == "yesterday"

    def test_fail_fails_the_task_without_retry(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        with pytest.raises(AirflowFailException, match='on_empty is "fail"'):
            operator(destination=tmp_path / "x.jsonl", on_empty="fail", **self.NOTHING).execute(CONTEXT)

    def test_typo_in_where_fails_the_task_without_retry(
        self, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
    ) -> None:
        connect(iso_sandbox)
        where = [{"field": "nam", "exists": True}]
        with pytest.raises(AirflowFailException, match="Did you mean 'name'"):
            operator(destination=tmp_path / "x.jsonl", where=where).execute(CONTEXT)


class TestCourtesies:
    """What comes after the commit, or beside the export, never fails the task."""

    class Events:
        """The events of outlets.

        :param error: raised for each outlet.
        """

        def __init__(self, error: Exception) -> None:
            self.error = error

        def __getitem__(self, _: object) -> object:
            raise self.error

    def test_outlets_that_are_no_assets_are_left_alone(
        self,
        iso_sandbox: Sandbox,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connect(iso_sandbox)
        export = operator(destination=tmp_path / "x.jsonl", content_type_id="currency")
        export.outlets = [SimpleNamespace(database="db", cluster="c", name="t"), "a text", None]
        for error in (TypeError("Key should be either an asset or an asset alias"), KeyError("t")):
            context: Any = {**CONTEXT, "outlet_events": self.Events(error)}
            assert export.execute(context)["entries"] > 100
        assert "has no extra" not in caplog.text

    def test_event_that_takes_no_extra_is_logged(
        self,
        iso_sandbox: Sandbox,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connect(iso_sandbox)
        export = operator(destination=tmp_path / "x.jsonl", content_type_id="currency")
        export.outlets = ["an asset"]
        context: Any = {**CONTEXT, "outlet_events": self.Events(RuntimeError("The API server is away"))}
        result = export.execute(context)
        assert result["entries"] > 100
        assert (
            "The event of outlet 'an asset' has no extra: RuntimeError: The API server is away" in caplog.text
        )

    def test_link_that_cannot_be_kept_is_logged(
        self,
        iso_sandbox: Sandbox,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(**_: object) -> None:
            raise RuntimeError("The API server is away")

        connect(iso_sandbox)
        context: Any = {"ti": SimpleNamespace(**{**vars(CONTEXT["ti"]), "xcom_push": fail})}
        export = operator(destination=tmp_path / "x.jsonl", content_type_id="currency")
        assert export.execute(context)["entries"] > 100
        assert "The link to Contensis is missing: RuntimeError: The API server is away" in caplog.text
