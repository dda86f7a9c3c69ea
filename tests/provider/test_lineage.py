"""Lineage: asset URIs, what the hook reports, and the events that Airflow's OpenLineage provider writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_contensis import lineage
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.lineage import Output, Source, create_asset, table_url
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from tests.assets import asset_catalogue, fill

if TYPE_CHECKING:
    from collections.abc import Callable

# The sandbox's host and port, its secret, the folder, and the events.
Served = tuple[str, str, Path, list[dict[str, Any]]]

DAG_FILE = Path(__file__).with_name("lineage_dag.py")


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
        from urllib.parse import urlsplit

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
        ],
    )
    def test_datasets_are_named_by_the_conventions(self, url: str, dataset: tuple[str, str]) -> None:
        assert Output(url).dataset == dataset


class TestHook:
    def test_reads_are_reported_as_the_asset_of_the_project(
        self, small_catalogue: Catalogue, connect: Callable[[Sandbox], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.providers.common.compat.lineage import hook as collectors

        reported: list[dict[str, Any]] = []

        class Collector:
            def add_input_asset(self, **arguments: Any) -> None:
                reported.append(arguments)
                raise RuntimeError("a failure here fails nothing")

        monkeypatch.setattr(collectors, "get_hook_lineage_collector", Collector)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            hook = ContensisHook()
            entries = list(hook.iter_entries())
            hook.get_entry(entries[0]["sys"]["id"])
            hook.search_entries({"pageSize": 1})
            project_id = hook.project_id
            hook.close()
            port = sandbox.port
        assert len(reported) == 3
        for arguments in reported:
            assert arguments["scheme"] == "contensis"
            asset = create_asset(**arguments["asset_kwargs"])
            assert asset.uri == f"contensis://127.0.0.1:{port}/{project_id}"


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
        from airflow_provider_contensis.hooks import contensis
        from airflow_provider_contensis.operators import _task

        client_of = contensis.client_of

        def refuse_impatient(settings: Any, *, is_patient: bool = True) -> Any:
            if not is_patient:
                raise RuntimeError("gone away")
            return client_of(settings)

        monkeypatch.setattr(_task, "is_listening", lambda: True)
        monkeypatch.setattr(contensis, "client_of", refuse_impatient)
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            operator = ContensisExportEntriesOperator(task_id="export", destination=tmp_path / "x.jsonl")
            assert operator.execute({})["entries"]
        assert operator._read is not None
        assert operator._read.content_types == ()
        assert "will not know the fields of the content types: RuntimeError: gone away" in caplog.text

    def test_facets_that_cannot_be_made_leave_the_event_empty(self) -> None:
        pytest.importorskip("airflow.providers.openlineage")
        operator = ContensisExportEntriesOperator(task_id="export", destination="/data/x.jsonl")
        operator._read = Source("not a host", "website")
        facets = operator.get_openlineage_facets_on_complete(None)
        assert (facets.inputs, facets.outputs) == ([], [])


@pytest.fixture(scope="module")
def served(airflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    pytest.importorskip("airflow.providers.openlineage")
    folder = tmp_path_factory.mktemp("lineage")
    catalogue = asset_catalogue()
    fill(catalogue, 12)
    with Sandbox(catalogue) as sandbox:
        authority = f"127.0.0.1:{sandbox.port}"
        done = subprocess.run(
            [sys.executable, DAG_FILE, folder],
            cwd=DAG_FILE.parents[2],
            env={
                **os.environ,
                "AIRFLOW_CONN_CONTENSIS_DEFAULT": sandbox.connection_json,
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                    {"type": "file", "log_file_path": f"{folder}/events.jsonl", "append": True}
                ),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "events.jsonl").read_text().splitlines()
    return authority, sandbox.client_secret, folder, [json.loads(line) for line in lines]


class TestEvents:
    def test_all_operators_name_the_project_and_its_fields(self, served: Served) -> None:
        authority, _, _, events = served
        complete = completed(events)
        assert set(complete) == {"entries", "folder", "content_types", "feed", "assets"}
        for task_id, event in complete.items():
            [read] = event["inputs"]
            assert read["namespace"] == f"contensis://{authority}", task_id
            schema = read["facets"]["schema"]["fields"]
            assert schema, task_id
            assert all(field["type"] == "struct" and field["fields"] for field in schema)
            assert all(inner["type"] for field in schema for inner in field["fields"])

    def test_files_have_their_rows_and_bytes(self, served: Served) -> None:
        _, _, folder, events = served
        complete = completed(events)
        for task_id in ("entries", "folder", "content_types"):
            assert complete[task_id]["outputs"]
            for output in complete[task_id]["outputs"]:
                assert output["namespace"] == "file"
                path = Path(output["name"])
                assert path.is_relative_to(folder)
                statistics = output["outputFacets"]["outputStatistics"]
                assert statistics["size"] == path.stat().st_size
                if path.suffix == ".jsonl":
                    assert statistics["rowCount"] == len(path.read_text().splitlines())

    def test_copies_have_upserts_and_deletes(self, served: Served) -> None:
        _, _, folder, events = served
        [output] = completed(events)["feed"]["outputs"]
        assert output["name"] == f"{folder}/feed"
        rows = output["outputFacets"]["outputStatistics"]["rowCount"]
        changes = output["outputFacets"]["contensis_changes"]
        assert (changes["upserts"], changes["deletes"]) == (rows, 0)
        assert rows > 0

    def test_no_event_has_the_secret(self, served: Served) -> None:
        _, secret, folder, _ = served
        assert secret not in (folder / "events.jsonl").read_text()


def completed(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the last event of each task, by its id."""
    return {
        event["job"]["name"].partition(".")[2]: event
        for event in events
        if event["eventType"] == "COMPLETE" and "." in event["job"]["name"]
    }
