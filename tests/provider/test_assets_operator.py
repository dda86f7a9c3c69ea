"""The operator that exports the files of assets: arguments, failures, kills, S3 and DAG runs."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset

from airflow_provider_contensis.exceptions import ConfigurationError, ExportError
from airflow_provider_contensis.operators._task import TaskKilledError
from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from tests.assets import Folder, asset_catalogue, fill
from tests.kills import s3_filesystem
from tests.provider.dags import run
from tests.provider.events import Events

EXAMPLE = Path(__file__).parents[2] / "dags_examples" / "export_assets.py"


def context(**more: Any) -> Any:
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, xcom_push=lambda key, value: None)
    return {"ti": ti, **more}


def operator(**arguments: Any) -> ContensisExportAssetsOperator:
    return ContensisExportAssetsOperator(task_id="export", **{"destination": "/data/assets/", **arguments})


@pytest.fixture
def catalogue() -> Catalogue:
    return asset_catalogue()


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"destination": "/data/assets.zip"}, "must be a folder and end in /"),
            ({"destination": None}, "destination is empty"),
            ({"site_url": "ftp://example.com"}, "site_url must start with https://"),
            ({"site_url": "http://www.example.com"}, "site_url starts with http://, which would let anyone"),
            ({"site_url": "https://www.example.com/en"}, "site_url must be the root of the website"),
            ({"site_url": "https://me:pw@www.example.com"}, "site_url must not contain a user name"),
            ({"site_url": "not a host"}, "site_url is neither a URL nor a host name"),
            ({"send_token": "always"}, "send_token must be one of never, environment"),
            ({"send_token": True}, "send_token must be one of never, environment"),
            ({"max_file_bytes": 0}, "max_file_bytes must be a whole number from 1"),
            ({"on_missing": "skip"}, "on_missing must be one of fail, report"),
            ({"prune": "maybe"}, "prune must be one of true, false"),
            ({"destination": "{{ ds }}/", "page_size": 0}, "page_size must be a whole number"),
            ({"deferrable": True}, "deferrable=True is not available"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            operator(**arguments)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("www.example.com", "https://www.example.com"),
            (" https://www.example.com/ ", "https://www.example.com"),
            ("https://www.example.com:8443", "https://www.example.com:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("{{ none }}", None),
            ("", None),
        ],
    )
    def test_site_is_written_as_people_write_it(self, written: str, meant: str | None) -> None:
        export = operator(site_url=written)
        export.render_template_fields({})
        assert export._request().site_url == meant

    def test_rendered_templates_are_text(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        fill(catalogue, 3)
        export = operator(
            destination="{{ folder }}",
            content_type_id="{{ ['image', 'pdf'] }}",
            max_file_bytes="{{ 1000000 }}",
            prune="{{ params.prune }}",
            send_token="{{ 'environment' }}",
        )
        export.render_template_fields({"folder": str(tmp_path), "params": {"prune": False}})  # type: ignore[typeddict-unknown-key]  # a made-up context
        assert export.execute(context())["assets"] == 3


class TestExecution:
    def test_result_is_small_and_complete(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        contents = fill(catalogue, 20)
        result = operator(destination=tmp_path).execute(context())
        assert Folder(tmp_path).contents() == contents
        assert list(result) == [
            *("destination", "assets", "files", "bytes", "downloaded", "unchanged", "missing", "removed"),
            *("project_id", "version_status", "requests", "seconds"),
        ]
        assert (result["destination"], result["requests"]) == (f"{tmp_path}/", sandbox.count())

    def test_missing_file_may_be_retried_and_wrong_arguments_may_not(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        fill(catalogue, 3)
        sandbox.faults = lambda request: Response(404) if request.kind == "file" else None
        with pytest.raises(ExportError, match="cannot be exported"):
            operator(destination=tmp_path).execute(context())
        with pytest.raises(AirflowFailException, match="is not in project"):
            operator(destination=tmp_path, content_type_id="film").execute(context())

    def test_asset_event_records_the_export(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        fill(catalogue, 3)
        asset = Asset(uri=f"file://{tmp_path}")
        events = Events(asset)
        result = operator(destination=tmp_path, outlets=[asset]).execute(context(outlet_events=events))
        assert events.event.extra == {
            "destination": f"{tmp_path}/",
            "project_id": "library",
            "assets": 3,
            "files": 3,
            "bytes": result["bytes"],
            "missing": 0,
        }

    def test_killed_export_stops_without_waiting_for_answers_and_the_next_one_goes_on(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        contents = fill(catalogue, 30)
        export = operator(destination=tmp_path)
        ended, before = threading.Event(), signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *_: export.on_kill())
        files: list[Request] = []

        def stuck(request: Request) -> None:
            if request.kind == "file":
                files.append(request)
                if len(files) == 16:
                    os.kill(os.getpid(), signal.SIGTERM)
                if len(files) >= 16:
                    ended.wait(30)

        sandbox.faults = stuck
        try:
            with pytest.raises(TaskKilledError):
                export.execute(context())
            assert not ended.is_set()
            assert not (tmp_path / "_manifest.json").exists()
        finally:
            ended.set()
            signal.signal(signal.SIGTERM, before)
        sandbox.faults = None
        result = export.execute(context())
        assert result["unchanged"] >= 1  # but for those that were being stored
        assert Folder(tmp_path).contents() == contents

    def test_on_kill_from_another_thread_ends_the_export(
        self, sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        fill(catalogue, 30)
        export = operator(destination=tmp_path)
        sandbox.faults = lambda request: export.on_kill() if request.kind == "file" else None
        with pytest.raises(AirflowFailException, match="The client was closed"):
            export.execute(context())


class TestS3:
    @pytest.fixture
    def bucket(self, s3_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
        pytest.importorskip("s3fs")
        connection = {
            "conn_type": "aws",
            "login": "made-up-key",
            "password": "made-up-secret",
            "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection))
        name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
        s3_filesystem(s3_url).call_s3("create_bucket", Bucket=name)
        return name

    def test_files_are_exported_asked_for_once_and_pruned(
        self, sandbox: Sandbox, catalogue: Catalogue, bucket: str, s3_url: str
    ) -> None:
        contents = fill(catalogue, 25)
        export = operator(destination=f"s3://{bucket}/some/assets", destination_conn_id="store")

        def stored() -> dict[str, bytes]:
            store = s3_filesystem(s3_url)
            prefix = f"{bucket}/some/assets/"
            return {path.removeprefix(prefix): store.cat_file(path) for path in store.find(prefix)}

        def check() -> None:
            files = stored()
            records = [json.loads(line) for line in files["assets.jsonl"].splitlines()]
            assert {record["id"]: files[record["path"]] for record in records} == contents
            assert {record["sha256"] for record in records} == {
                hashlib.sha256(content).hexdigest() for content in contents.values()
            }
            assert files.keys() == {
                "_manifest.json",
                "assets.jsonl",
                *(record["path"] for record in records),
            }

        export.execute(context())
        check()
        sandbox.forget_requests()
        result = export.execute(context())
        assert (result["unchanged"], sandbox.count("file")) == (25, 0)

        first, second, *_ = contents
        catalogue.replace_file(first, b"another")
        contents[first] = b"another"
        catalogue.delete(second)
        del contents[second]
        sandbox.forget_requests()
        result = export.execute(context())
        assert (result["downloaded"], result["removed"], sandbox.count("file")) == (1, 2, 1)
        check()

    def test_progress_is_kept_there(
        self, sandbox: Sandbox, catalogue: Catalogue, bucket: str, s3_url: str
    ) -> None:
        fill(catalogue, 20)
        export = operator(destination=f"s3://{bucket}/", destination_conn_id="store")
        files: list[Request] = []

        def outage(request: Request) -> Response | None:
            if request.kind == "file":
                files.append(request)
            return Response(404) if len(files) > 12 else None

        sandbox.faults = outage
        with pytest.raises(ExportError):
            export.execute(context())
        assert [path for path in s3_filesystem(s3_url).find(bucket) if "_progress" in path]
        sandbox.faults = None
        assert export.execute(context())["unchanged"] >= 8
        assert not [path for path in s3_filesystem(s3_url).find(bucket) if "_progress" in path]


@pytest.mark.usefixtures("airflow_database")
def test_example_dag_pairs_changes_with_files(
    sandbox: Sandbox,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    contents = fill(catalogue, 8)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    dag: DAG = runpy.run_path(str(EXAMPLE))["dag"]
    assert run(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC)).state == "success"
    folder = Folder(tmp_path / "assets")
    assert folder.contents() == contents
    first, second, *_ = contents
    catalogue.replace_file(first, b"another")
    catalogue.delete(second)
    sandbox.forget_requests()
    capfd.readouterr()
    assert run(dag, logical_date=datetime(2026, 3, 2, tzinfo=UTC)).state == "success"
    output = "".join(capfd.readouterr()) + caplog.text
    assert sandbox.count("file") == 1
    [record] = [record for record in folder.records if record["id"] == first]
    assert f"File 0: {folder.path / record['path']}, 7 bytes" in output
    assert second not in folder.contents()
    skipped = run(dag, logical_date=datetime(2026, 3, 3, tzinfo=UTC))
    assert {ti.task_id: ti.state for ti in skipped.get_task_instances()} == {
        "export_changes": "skipped",
        "export_files": "skipped",
        "load": "skipped",
    }
