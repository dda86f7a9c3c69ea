"""An argument means the same whether a template renders to text or to a Python value."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import optional_name
from airflow_provider_contensis.export.assets_request import AssetsRequest
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.postgres_request import PostgresRequest
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sensors.entries import ContensisEntriesSensor
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Sandbox

OPERATORS = (
    ContensisExportEntriesOperator,
    ContensisExportChangesOperator,
    ContensisExportAssetsOperator,
    ContensisExportContentTypesOperator,
    ContensisToPostgresOperator,
    ContensisEntriesSensor,
)
CLAUSE = {"field": "runtime", "greaterThan": 90}
BOTH_RENDERINGS = pytest.mark.parametrize("native", [False, True], ids=["text", "native"])


@pytest.mark.parametrize("operator", OPERATORS)
class TestTemplatedArguments:
    def test_all_but_airflows_own_are_templated(self, operator: Any) -> None:
        parameters = set(inspect.signature(operator.__init__).parameters)
        assert set(operator.template_fields) == parameters - {"self", "kwargs", "deferrable"}

    def test_templates_are_kept_as_given(self, operator: Any) -> None:
        templates = {name: f"{{{{ {name} }}}}" for name in operator.template_fields}
        made = operator(task_id="task", **templates)
        assert {name: getattr(made, name) for name in templates} == templates


def rendered(operator: Any, native: bool, values: dict[str, Any]) -> Any:
    """Return an operator with its templates rendered, in a DAG that renders to text or to Python values."""
    with DAG(
        "d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), render_template_as_native_obj=native
    ):
        task = operator(task_id="export")
    task.render_template_fields({"value": None, **values})
    return task


def request(native: bool, value: object, **arguments: Any) -> ExportRequest:
    """Return the request of an operator whose arguments a template renders."""

    def operator(task_id: str) -> ContensisExportEntriesOperator:
        return ContensisExportEntriesOperator(
            task_id=task_id, **{"destination": "/data/x.jsonl", **arguments}
        )

    task: ContensisExportEntriesOperator = rendered(operator, native, {"value": value})
    return task._request()


def plain(**arguments: Any) -> ExportRequest:
    return ExportRequest.from_arguments(**{"destination": "/data/x.jsonl", **arguments})


@BOTH_RENDERINGS
@pytest.mark.parametrize("argument", ["content_type_id", "language", "fields"])
@pytest.mark.parametrize(
    ("template", "value", "names"),
    [
        ("{{ value }}", "2024", ["2024"]),
        ("{{ value }}", 2024, ["2024"]),
        ("{{ value }}", "007", ["007"]),
        ("{{ value }}", ["film"], ["film"]),
        ("{{ value }}", ["film", "person"], ["film", "person"]),
        ("{{ value }}", ("film", "person"), ["film", "person"]),
        ("{{ value }}", [2024, "film"], ["2024", "film"]),
        ("{{ value | tojson }}", ["film", 2024], ["film", "2024"]),
        ("{{ value | tojson }}", "film", ["film"]),
        ("'{{ value }}'", "film", ["film"]),
        (["{{ value }}", "film"], 2024, ["2024", "film"]),
    ],
)
def test_names_may_be_numbers_and_lists(
    native: bool, argument: str, template: Any, value: object, names: list[str]
) -> None:
    assert request(native, value, **{argument: template}) == plain(**{argument: names})


@BOTH_RENDERINGS
@pytest.mark.parametrize("template", ["{{ value }}", "{{ value | tojson }}", "{{ value or '' }}", " "])
@pytest.mark.parametrize(
    "argument",
    sorted(
        {*ExportRequest.from_arguments.__annotations__, *ContensisExportEntriesOperator.template_fields}
        - {"arguments", "return", "destination", "destination_conn_id", "contensis_conn_id", "project_id"}
    ),
)
def test_empty_and_none_mean_not_given(native: bool, argument: str, template: str) -> None:
    expected = plain(data_format=None) if argument == "data_format" else plain()
    assert request(native, None, **{argument: template}) == expected
    assert plain(**{argument: None}) == expected


class Kind(NamedTuple):
    """A kind of copy."""

    operator: Any
    request: Any
    required: dict[str, str]

    def rendered(self, native: bool, value: object, **arguments: Any) -> Any:
        """Return the request of an operator whose arguments a template renders."""
        task = rendered(partial(self.operator, **self.required, **arguments), native, {"value": value})
        return task._request()

    def plain(self, **arguments: Any) -> Any:
        return self.request.from_arguments(**self.required, **arguments)


FEED = Kind(ContensisExportChangesOperator, ChangesRequest, {"destination": "/data/feed/"})
POSTGRES = Kind(ContensisToPostgresOperator, PostgresRequest, {})
ASSETS = Kind(ContensisExportAssetsOperator, AssetsRequest, {"destination": "/data/assets/"})


@BOTH_RENDERINGS
@pytest.mark.parametrize("template", ["{{ value }}", "{{ value | tojson }}", "{{ value or '' }}", " "])
@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (kind, argument)
        for kind in (FEED, POSTGRES, ASSETS)
        for argument in kind.operator.template_fields
        if argument
        not in {
            *(*kind.required, "contensis_conn_id", "destination_conn_id", "postgres_conn_id", "project_id"),
        }
    ],
)
def test_empty_and_none_mean_not_given_for_copies(
    native: bool, kind: Kind, argument: str, template: str
) -> None:
    chosen = {"data_format", "max_delete_share"} & {argument}  # None is a choice of its own: both, no limit
    expected = kind.plain(**dict.fromkeys(chosen))
    assert kind.rendered(native, None, **{argument: template}) == expected
    assert kind.plain(**{argument: None}) == expected


@BOTH_RENDERINGS
@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        *(
            (kind, argument, value)
            for kind in (FEED, POSTGRES)
            for argument, value in (
                ("overlap", 60),
                ("max_delete_share", 0.5),
                ("max_delete_share", 1),
                ("full_refresh", True),
                ("skip_if_unchanged", False),
            )
        ),
        (FEED, "deletes", "ignore"),
        (FEED, "keep_change_sets", 30),
        (POSTGRES, "deletes", "mark"),
        (POSTGRES, "schema", "web"),
        (POSTGRES, "table_prefix", "cms_"),
        (POSTGRES, "on_schema_change", "fail"),
        (ASSETS, "site_url", "https://www.example.com"),
        (ASSETS, "send_token", "environment"),
        (ASSETS, "max_file_bytes", 1_000),
        (ASSETS, "on_missing", "report"),
        (ASSETS, "prune", False),
    ],
)
def test_arguments_of_copies_may_be_rendered(native: bool, kind: Kind, argument: str, value: object) -> None:
    expected = kind.plain(**{argument: value})
    for template in ("{{ value }}", "{{ value | tojson }}"):
        assert kind.rendered(native, value, **{argument: template}) == expected


@BOTH_RENDERINGS
@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        (FEED, "overlap", 1.5),
        (FEED, "overlap", True),
        (FEED, "deletes", "mark"),
        (FEED, "max_delete_share", 1.5),
        (FEED, "max_delete_share", "nan"),
        (FEED, "full_refresh", 2),
        (FEED, "keep_change_sets", 0),
        (FEED, "keep_change_sets", [30]),
        (POSTGRES, "deletes", "ignore"),
        (POSTGRES, "schema", "a.b"),
        (POSTGRES, "table_prefix", "CMS "),
        (POSTGRES, "on_schema_change", "freeze"),
        (POSTGRES, "skip_if_unchanged", 2),
        (ASSETS, "site_url", ["https://www.example.com"]),
        (ASSETS, "send_token", True),
        (ASSETS, "max_file_bytes", 1.5),
        (ASSETS, "max_file_bytes", 0),
        (ASSETS, "on_missing", "skip"),
        (ASSETS, "prune", 2),
    ],
)
def test_both_renderings_refuse_the_same_for_copies(
    native: bool, kind: Kind, argument: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"^{argument} "):
        kind.rendered(native, value, **{argument: "{{ value }}"})


@BOTH_RENDERINGS
def test_none_behind_a_proxy_means_not_given(native: bool) -> None:
    """Airflow has `prev_data_interval_end_success` behind one."""
    proxy = pytest.importorskip("lazy_object_proxy").Proxy(lambda: None)
    assert request(native, proxy, changed_from="{{ value }}") == plain()


@BOTH_RENDERINGS
@pytest.mark.parametrize("template", ["{{ value }}", "{{ value | tojson }}"])
@pytest.mark.parametrize("value", [[CLAUSE], CLAUSE])
def test_clauses_may_be_rendered(native: bool, template: str, value: object) -> None:
    assert request(native, value, where=template) == plain(where=[CLAUSE])
    if value is CLAUSE:
        assert request(native, value, where=[template]) == plain(where=[CLAUSE])


@pytest.mark.parametrize(
    ("value", "operand"),
    [
        (datetime(2031, 4, 2, tzinfo=UTC), "2031-04-02T00:00:00Z"),
        (datetime(2031, 4, 2, tzinfo=timezone(timedelta(hours=2))), "2031-04-01T22:00:00Z"),
        (date(2031, 4, 2), "2031-04-02"),
        ({2, 1}, [1, 2]),
        ((1, 2), [1, 2]),
        ([datetime(2031, 4, 2)], ["2031-04-02T00:00:00Z"]),  # noqa: DTZ001 - without an offset it is UTC
    ],
)
def test_native_values_in_clauses_become_json(value: object, operand: object) -> None:
    for where in (
        {"field": "x", "equalTo": "{{ value }}"},
        {"not": [{"field": "x", "equalTo": "{{ value }}"}]},
    ):
        expected = json.loads(json.dumps(where).replace('"{{ value }}"', json.dumps(operand)))
        assert request(True, value, where=[where]) == plain(where=[expected])


@BOTH_RENDERINGS
@pytest.mark.parametrize("template", ["{{ value | tojson }}", "'{{ value }}'"])
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("destination", "/data/y.csv"),
        ("file_format", "csv"),
        ("compression", "gzip"),
        ("version_status", "latest"),
        ("changed_from", "2031-04-02"),
        ("on_empty", "skip"),
    ],
)
def test_text_may_be_in_quotes(native: bool, template: str, argument: str, value: str) -> None:
    assert request(native, value, **{argument: template}) == plain(**{argument: value})


@BOTH_RENDERINGS
def test_other_arguments_may_be_rendered(native: bool) -> None:
    moment = datetime(2031, 4, 2, tzinfo=UTC)
    assert request(native, moment, changed_from="{{ value }}") == plain(changed_from=moment)
    assert request(native, 250, page_size="{{ value }}") == plain(page_size=250)
    assert request(native, True, start_over="{{ value }}") == plain(start_over=True)
    depths = {"director": 1}
    for template in ("{{ value }}", "{{ value | tojson }}"):
        linked = request(native, depths, field_link_depths=template, api="delivery")
        assert linked == plain(field_link_depths=depths, api="delivery")


@BOTH_RENDERINGS
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("content_type_id", []),
        ("content_type_id", ["film", None]),
        ("content_type_id", {"film": 1}),
        ("where", 2024),
        ("where", ["film"]),
        ("changed_from", 2024),
        ("page_size", 1.5),
        ("page_size", [500]),
        ("destination", None),
    ],
)
def test_both_renderings_refuse_the_same(native: bool, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{argument} "):
        request(native, value, **{argument: "{{ value }}"})


@BOTH_RENDERINGS
def test_connections_and_project_may_be_numbers_or_not_given(
    native: bool, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    connect(iso_sandbox)
    not_given = dict.fromkeys(("destination_conn_id", "contensis_conn_id", "project_id"), "{{ value }}")

    def entries(**arguments: Any) -> Any:
        return rendered(
            lambda task_id: ContensisExportEntriesOperator(
                task_id=task_id, destination=f"{tmp_path}/x.jsonl", content_type_id="currency", **arguments
            ),
            native,
            {"number": 2024},
        ).execute({})

    def types(**arguments: Any) -> Any:
        return rendered(
            lambda task_id: ContensisExportContentTypesOperator(
                task_id=task_id, destination=f"{tmp_path}/x.json", data_format="{{ value }}", **arguments
            ),
            native,
            {"number": 2024},
        ).execute({})

    for export in (entries, types):
        assert export(**not_given)["project_id"] == "isoCodes"
        with pytest.raises(AirflowFailException, match="it does not exist"):
            export(project_id="{{ number }}")
        with pytest.raises(AirflowFailException, match="2024"):
            export(contensis_conn_id="{{ number }}")


@pytest.mark.parametrize("argument", ["contensis_conn_id", "destination_conn_id", "project_id"])
@pytest.mark.parametrize(
    "value",
    [
        "contensis://an-id:a-secret@example",
        "contensis:/an-id:a-secret@example",
        "an-id:a-secret@example",
        "an-id:a-secret",
        '{"conn_type": "contensis", "password": "a-secret"}',
        {"conn_type": "contensis", "password": "a-secret"},
        ["a-secret"],
        b"a-secret",
        "password=a-secret",
    ],
)
def test_name_that_may_hold_a_secret_is_refused_without_being_shown(argument: str, value: Any) -> None:
    problem = f"^{argument} must be a name of letters, digits and . _ - / only.$"
    with pytest.raises(ConfigurationError, match=problem):
        optional_name(argument, value)


@pytest.mark.parametrize("connection", ['{"password": "a-secret"}', "an-id:a-secret@example"])
def test_connection_that_is_no_name_is_refused_without_being_shown(connection: str, tmp_path: Path) -> None:
    operator = ContensisExportEntriesOperator(
        task_id="export", destination=f"{tmp_path}/x.jsonl", contensis_conn_id=connection
    )
    with pytest.raises(AirflowFailException, match="^contensis_conn_id must be a name of letters"):
        operator.execute({})
    with pytest.raises(ConfigurationError, match="^contensis_conn_id must be a name of letters"):
        ContensisHook(connection).settings  # noqa: B018 - reading it is what fails
