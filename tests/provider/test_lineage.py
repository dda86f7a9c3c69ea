"""Lineage: asset URIs, what the hook reports, and the events that Airflow's OpenLineage provider writes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_contensis import lineage
from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.lineage import Output, Source, create_asset, table_url
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.transfers import contensis_to_postgres
from tests.assets import asset_catalogue, fill
from tests.openlineage import problems
from tests.postgres import Postgres, database, over_tcp
from tests.provider.test_changes_operator import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.export.sinks.postgres_database import Database

DAG_FILE = Path(__file__).with_name("lineage_dag.py")
OPERATORS = {"entries", "folder", "content_types", "feed", "copy", "assets"}


class TestAssetUris:
    @pytest.mark.parametrize(
        "uri",
        [
            "contensis://cms-example.cloud.contensis.com/website/news",
            "contensis://CMS-Example.cloud.contensis.com/website/news/",
            "CONTENSIS://cms-example.cloud.contensis.com:443/website//news#top",
            "contensis://example/website/news",
            "contensis://cms-example/website/news",
            "contensis://an-id@example/website/n%65ws",
        ],
    )
    def test_spellings_of_one_asset_have_one_uri(self, uri: str) -> None:
        assert Asset(uri=uri).uri == "contensis://cms-example.cloud.contensis.com/website/news"

    @pytest.mark.parametrize(
        "host",
        [
            "example",
            " EXAMPLE ",
            "cms-example.cloud.contensis.com:443",
            "https://cms-example.cloud.contensis.com/",
        ],
    )
    def test_factory_makes_equal_assets_of_all_spellings(self, host: str) -> None:
        made = create_asset(host=host, project_id="website", content_type_id="news")
        assert made == create_asset(host="example", project_id="website", content_type_id="news")
        assert made.uri == "contensis://cms-example.cloud.contensis.com/website/news"

    @pytest.mark.parametrize(
        ("host", "authority"),
        [
            ("cms.example.com", "cms.example.com"),
            ("cms.example.com:443", "cms.example.com"),
            ("cms.example.com:80", "cms.example.com:80"),
            ("https://cms.example.com:80", "cms.example.com:80"),
            ("localhost", "localhost"),
            ("localhost:80", "localhost"),
            ("http://localhost", "localhost"),
            ("https://localhost", "localhost:443"),
            ("::1", "[::1]"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://intranet", "intranet:443"),  # alone, it would be an alias
        ],
    )
    def test_port_is_left_out_where_the_host_alone_means_it(self, host: str, authority: str) -> None:
        made = create_asset(host=host, project_id="a b", extra={"owner": "web"})
        assert made.uri == f"contensis://{authority}/a%20b"
        assert Asset(uri=made.uri).uri == made.uri
        assert made.extra == {"owner": "web"}

    def test_ids_keep_their_case(self) -> None:
        assert create_asset(host="example", project_id="webSite").uri.endswith(".com/webSite")
        assert Asset(uri="contensis://example/webSite").uri.endswith(".com/webSite")

    @pytest.mark.parametrize(
        "uri", ["contensis://example", "contensis:///website", "contensis://no host/website"]
    )
    def test_uri_without_host_or_project_is_refused(self, uri: str) -> None:
        with pytest.raises(ValueError, match="asset URI"):
            lineage.sanitize_uri(urlsplit(uri))

    def test_factory_refuses_what_is_no_id_or_host(self) -> None:
        with pytest.raises(ConfigurationError, match="project_id"):
            create_asset(host="example", project_id=" ")
        with pytest.raises(ConfigurationError, match="must not contain a user name"):
            create_asset(host="https://me:pw@cms-example.cloud.contensis.com", project_id="website")


class TestOutputs:
    @pytest.mark.parametrize(
        ("url", "dataset"),
        [
            ("/data/films.jsonl", ("file", "/data/films.jsonl")),
            ("file:///data/films.jsonl", ("file", "/data/films.jsonl")),
            ("s3://bucket/a/films.jsonl", ("s3://bucket", "a/films.jsonl")),
            ("s3://my_conn@bucket/films/", ("s3://bucket", "films")),
            ("gcs://bucket/films.csv", ("gs://bucket", "films.csv")),
            ("abfs://box@account.dfs.core.windows.net/x", ("abfs://box@account.dfs.core.windows.net", "x")),
            (table_url("db", None, ["web", "public", "a.b"]), ("postgres://db:5432", "web.public.a.b")),
            (table_url("DB.example", 6432, ["a/b", "c", "d"]), ("postgres://db.example:6432", "a/b.c.d")),
            (table_url("::1", 5432, ["web", "c", "d"]), ("postgres://[::1]:5432", "web.c.d")),
            (table_url("/run/postgresql", None, ["web", "c", "d"]), ("postgres://localhost:5432", "web.c.d")),
        ],
    )
    def test_datasets_are_named_by_the_conventions(self, url: str, dataset: tuple[str, str]) -> None:
        assert Output(url).dataset == dataset


class TestHook:
    def test_collector_that_fails_fails_no_call(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        from airflow.providers.common.compat.lineage import hook as collectors

        def get_hook_lineage_collector() -> None:
            raise RuntimeError("gone away")

        monkeypatch.setattr(collectors, "get_hook_lineage_collector", get_hook_lineage_collector)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            assert ContensisHook().search_entries({"pageSize": 1})["items"]
        assert "lacks what the hook has read: RuntimeError: gone away" in caplog.text


class TestWithoutOpenLineage:
    def test_nothing_is_asked_or_kept(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.conf", None)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            operator = ContensisExportEntriesOperator(task_id="export", destination=tmp_path / "x.jsonl")
            result = operator.execute({})
            assert sum(request.path.endswith("/contenttypes") for request in sandbox.requests) == 1
        assert result["entries"]
        assert operator._read is None


class TestFailures:
    def test_fields_that_cannot_be_read_fail_no_task(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        from airflow_provider_contensis.operators import _task

        client = ConnectionSettings.client

        def refuse_impatient(settings: ConnectionSettings, *, is_patient: bool = True) -> Any:
            if not is_patient:
                raise RuntimeError("gone away")
            return client(settings)

        monkeypatch.setattr(_task, "is_listening", lambda: True)
        monkeypatch.setattr(ConnectionSettings, "client", refuse_impatient)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            operator = ContensisExportEntriesOperator(task_id="export", destination=tmp_path / "x.jsonl")
            assert operator.execute({})["entries"]
        assert operator._read is not None
        assert operator._read.content_types == ()
        assert "will not know the fields of the content types: RuntimeError: gone away" in caplog.text

    def test_columns_that_cannot_be_read_fail_no_copy(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        postgres: Postgres,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        from airflow_provider_contensis.export.sinks import postgres_tables

        copied: list[object] = []
        relations = postgres_tables.relations

        def refuse_after_commit(database: Database, schema: str) -> Any:
            if postgres.load():
                copied.append(schema)
                database.rows("SELECT * FROM nowhere")
            return relations(database, schema)

        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres.connection_json)
        monkeypatch.setattr(contensis_to_postgres, "is_listening", lambda: True)
        monkeypatch.setattr(postgres_tables, "relations", refuse_after_commit)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            operator = contensis_to_postgres.ContensisToPostgresOperator(task_id="copy")
            assert operator.execute({})["upserts"] == 1_200
        assert copied == ["contensis"]
        assert operator._written == []
        assert "OpenLineage will not know the tables: DestinationError: " in caplog.text

    def test_table_that_is_gone_has_no_columns(
        self,
        small_catalogue: Catalogue,
        connect: Callable[[Sandbox], None],
        postgres: Postgres,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres.connection_json)
        monkeypatch.setattr(contensis_to_postgres, "is_listening", lambda: True)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            operator = contensis_to_postgres.ContensisToPostgresOperator(task_id="copy")
            first = operator.execute(context())
            [table] = operator._written
            assert table.columns
            assert table.columns["_entry"] == "json"
            postgres.rows("DROP TABLE contensis.article")
            assert operator.execute(context()) == first
        assert operator._written == [replace(table, columns={})]

    def test_facets_that_cannot_be_made_leave_the_event_empty(self) -> None:
        pytest.importorskip("airflow.providers.openlineage")
        operator = ContensisExportEntriesOperator(task_id="export", destination="/data/x.jsonl")
        operator._read = Source("not a host", "website")
        facets = operator.get_openlineage_facets_on_complete(None)
        assert (facets.inputs, facets.outputs) == ([], [])


class Events(NamedTuple):
    """What Airflow's OpenLineage provider has written of two runs of a DAG, and of one whose tasks fail.

    :param authority: the sandbox's host and port.
    :param secrets: what no event may hold.
    :param first: the events of the first run, and of the one that fails.
    :param second: those of the second run, after edits: an asset was changed, and two were deleted.
    """

    authority: str
    secrets: list[str]
    folder: Path
    postgres: Postgres
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]


@pytest.fixture(scope="module")
def events(
    airflow_database: Path, postgres_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Events]:
    pytest.importorskip("airflow.providers.openlineage")
    folder = tmp_path_factory.mktemp("lineage")
    catalogue = asset_catalogue()
    assets = list(fill(catalogue, 12))
    with (
        Sandbox(catalogue) as sandbox,
        database(postgres_folder) as made,
        over_tcp(made) as postgres,
    ):
        connection = {"password": "made-up-password", **json.loads(postgres.connection_json)}

        def run(*dags: str) -> list[dict[str, Any]]:
            path = folder / f"events of {' and '.join(dags)}.jsonl"
            transport = {"type": "file", "log_file_path": str(path), "append": True}
            done = subprocess.run(
                [sys.executable, DAG_FILE, folder, *dags],
                cwd=DAG_FILE.parents[2],
                env={
                    **os.environ,
                    "AIRFLOW_CONN_CONTENSIS_DEFAULT": sandbox.connection_json,
                    "AIRFLOW_CONN_POSTGRES_DEFAULT": json.dumps(connection),
                    "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return [json.loads(line) for line in path.read_text().splitlines()]

        # Here all tasks are run by one process, which remembers what the hook has read.
        first = run("failures", "lineage")
        catalogue.update(assets[0], {"title": "changed"})
        for asset in assets[1:3]:
            catalogue.delete(asset)
        second = run("lineage")
        secrets = [sandbox.client_secret, connection["password"]]
        yield Events(f"127.0.0.1:{sandbox.port}", secrets, folder, postgres, first, second)


class TestEvents:
    def test_all_are_valid_by_the_schema(self, events: Events) -> None:
        for event in (*events.first, *events.second):
            assert not problems(event), event

    def test_each_task_starts_and_completes_or_fails(self, events: Events) -> None:
        ends = {
            (dag, name): {event["eventType"] for event in events.first if event["job"]["name"] == job}
            for dag, tasks in (("lineage", {*OPERATORS, "hook"}), ("failures", OPERATORS))
            for name in tasks
            for job in [f"{dag}.{name}"]
        }
        expected = {"lineage": {"START", "COMPLETE"}, "failures": {"START", "FAIL"}}
        assert ends == {(dag, name): expected[dag] for dag, name in ends}

    def test_operators_name_the_project_and_its_fields(self, events: Events) -> None:
        for event in map(completed(events.first).__getitem__, OPERATORS):
            [read] = event["inputs"]
            assert (read["namespace"], read["name"]) == (f"contensis://{events.authority}", "library")
            schema = read["facets"]["schema"]["fields"]
            assert {field["name"] for field in schema} == {"image", "pdf"}
            assert all(field["type"] == "struct" and field["fields"] for field in schema)
            assert all(inner["type"] for field in schema for inner in field["fields"])

    def test_failed_tasks_name_no_dataset(self, events: Events) -> None:
        for event in events.first:
            if event["eventType"] == "FAIL":
                assert not event["inputs"]
                assert not event["outputs"]

    def test_files_have_their_rows_and_bytes(self, events: Events) -> None:
        complete = completed(events.second)
        for task_id in ("entries", "folder", "content_types"):
            assert complete[task_id]["outputs"]
            for output in complete[task_id]["outputs"]:
                assert output["namespace"] == "file"
                path = Path(output["name"])
                assert path.is_relative_to(events.folder)
                statistics = output["outputFacets"]["outputStatistics"]
                assert statistics["size"] == path.stat().st_size
                if path.suffix == ".jsonl":
                    assert statistics["rowCount"] == len(path.read_text().splitlines())

    def test_feed_has_its_upserts_and_deletes(self, events: Events) -> None:
        for run, changed in ((events.first, (12, 0)), (events.second, (1, 2))):
            [output] = completed(run)["feed"]["outputs"]
            assert (output["namespace"], output["name"]) == ("file", f"{events.folder}/feed")
            assert changes(output) == changed

    def test_tables_have_their_columns_upserts_and_deletes(self, events: Events) -> None:
        server = urlsplit(events.postgres.url)
        for run, changed in (
            (events.first, {"image": (6, 0), "pdf": (6, 0)}),
            (events.second, {"image": (1, 1), "pdf": (0, 1)}),
        ):
            outputs = {output["name"]: output for output in completed(run)["copy"]["outputs"]}
            names = {f"{events.postgres.name}.contensis.{table}": table for table in changed}
            assert outputs.keys() == names.keys()
            for name, output in outputs.items():
                assert output["namespace"] == f"postgres://{server.hostname}:{server.port}"
                assert changes(output) == changed[names[name]]
                fields = output["facets"]["schema"]["fields"]
                assert [(field["name"], field["type"]) for field in fields] == events.postgres.rows(
                    "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
                    "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
                    f"contensis.{names[name]}",
                )

    def test_tables_are_named_as_airflows_own_operators_name_them(
        self, events: Events, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.providers.openlineage.sqlparser import SQLParser
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", events.postgres.connection_json)
        hook = PostgresHook()
        database = hook.get_openlineage_database_info(hook.get_connection("postgres_default"))
        for output in completed(events.first)["copy"]["outputs"]:
            assert output["namespace"] == SQLParser.create_namespace(database)
            assert output["name"].startswith(f"{database.database}.contensis.")

    def test_reads_of_the_hook_reach_openlineage_through_airflows_collector(self, events: Events) -> None:
        uri = f"contensis://{events.authority}/library"
        assert json.loads((events.folder / "collected.json").read_text()) == {uri: 3}
        [read] = completed(events.first)["hook"]["inputs"]
        assert f"{read['namespace']}/{read['name']}" == uri

    def test_no_event_has_a_secret(self, events: Events) -> None:
        text = json.dumps([events.first, events.second])
        assert not [secret for secret in events.secrets if secret in text]


class TestSchema:
    """What the events are checked with refuses what is wrong with them."""

    @pytest.mark.parametrize(
        ("path", "value", "problem"),
        [
            (["eventType"], "DONE", "'DONE' is not one of"),
            (["eventTime"], "yesterday", "'yesterday' is not a 'date-time'"),
            (["run", "runId"], "one", "'one' is not a 'uuid'"),
            (["job", "name"], 1, "1 is not of type 'string'"),
            (["job", "namespace"], None, "None is not of type 'string'"),
            (["inputs", 0, "name"], ..., "'name' is a required property"),
            (["inputs", 0, "facets", "schema", "fields", 0, "name"], ..., "'name' is a required property"),
            (["outputs", 0, "outputFacets", "outputStatistics", "rowCount"], "12", "'12' is not of type"),
            (["outputs", 0, "outputFacets", "contensis_changes", "_producer"], ..., "'_producer' is a req"),
        ],
    )
    def test_wrong_event_is_refused(
        self, events: Events, path: list[str | int], value: object, problem: str
    ) -> None:
        event = copy.deepcopy(completed(events.first)["feed"])
        *steps, last = path
        part: Any = event
        for step in steps:
            part = part[step]
        if value is ...:
            del part[last]
        else:
            part[last] = value
        assert any(problem in found for found in problems(event))


def completed(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the last event of each task of the DAG that succeeds, by its id."""
    return {
        event["job"]["name"].removeprefix("lineage."): event
        for event in events
        if event["eventType"] == "COMPLETE" and event["job"]["name"].startswith("lineage.")
    }


def changes(output: dict[str, Any]) -> tuple[int, int]:
    """Return upserts and deletes; rows are upserts."""
    facets = output["outputFacets"]
    found = facets["contensis_changes"]
    assert found["upserts"] == facets["outputStatistics"]["rowCount"]
    return found["upserts"], found["deletes"]
