"""Exports to S3, with an S3 server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_contensis.exceptions import IncompleteReadError
from airflow_provider_contensis.export.storage import object_store
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, synthetic_catalogue
from tests.provider.dags import run
from tests.provider.test_operator import CONTEXT, operator

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    connection = {
        "conn_type": "aws",
        "login": "made-up-key",
        "password": "made-up-secret",
        "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection))
    resource = boto3.resource(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="made-up-key",
        aws_secret_access_key="made-up-secret",
    )
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    return resource.create_bucket(Bucket=name)


def export(bucket: Any, key: str, **arguments: Any) -> dict[str, Any]:
    destination = f"s3://{bucket.name}/{key}"
    exporter = operator(destination=destination, destination_conn_id="store", **arguments)
    return dict(exporter.execute(CONTEXT))


def content(bucket: Any, key: str) -> bytes:
    body: bytes = bucket.Object(key).get()["Body"].read()
    return body


def keys(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.all()}


def uploads(bucket: Any) -> list[Any]:
    return list(bucket.multipart_uploads.all())


def test_file_is_exported_whole(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], bucket: Any
) -> None:
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        result = export(bucket, "some/where/entries.jsonl.gz")
    stored = content(bucket, "some/where/entries.jsonl.gz")
    [file] = result["files"]
    assert file["path"] == f"s3://{bucket.name}/some/where/entries.jsonl.gz"
    assert (file["bytes"], file["sha256"]) == (len(stored), hashlib.sha256(stored).hexdigest())
    served = small_catalogue.entries("published")
    assert sorted(gzip.decompress(stored).splitlines()) == sorted(served)


@pytest.mark.slow
def test_multipart_file_is_exported_whole(connect: Callable[[Sandbox], None], bucket: Any) -> None:
    catalogue = synthetic_catalogue(3_000, body_bytes=6_000)
    with Sandbox(catalogue) as sandbox:
        connect(sandbox)
        result = export(bucket, "entries.jsonl", page_size=1_000)
    stored = content(bucket, "entries.jsonl")
    assert len(stored) == result["files"][0]["bytes"] > 16 << 20
    assert sorted(stored.splitlines()) == sorted(catalogue.entries("published"))
    assert uploads(bucket) == []


@pytest.mark.slow
def test_folder_has_manifest_and_only_files_it_lists(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], bucket: Any
) -> None:
    connect(iso_sandbox)
    export(bucket, "codes/")
    assert keys(bucket) == {
        f"codes/{name}"
        for name in (
            "_manifest.json",
            "country.jsonl",
            "currency.jsonl",
            "language.jsonl",
            "subdivision.jsonl",
        )
    }
    export(bucket, "codes/", content_type_id="currency", language="cy")
    assert keys(bucket) == {"codes/_manifest.json", "codes/currency.jsonl"}
    manifest = json.loads(content(bucket, "codes/_manifest.json"))
    stored = content(bucket, "codes/currency.jsonl")
    assert manifest["files"][0]["path"] == "currency.jsonl"
    assert manifest["files"][0]["sha256"] == hashlib.sha256(stored).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("body_bytes", [200, 6_000])
def test_failed_export_leaves_old_object_and_no_upload(
    connect: Callable[[Sandbox], None],
    make_client: Callable[..., ContensisClient],
    bucket: Any,
    body_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = synthetic_catalogue(9_000, body_bytes=body_bytes)
    bucket.put_object(Key="entries.jsonl", Body=b"old")

    def drop_last_entry(request: Request) -> Response | None:
        if request.kind != "search" or json.loads(request.body)["pageSize"] == 1:
            return None
        bounds = [
            clause for clause in json.loads(request.body)["where"] if "created" in clause.get("field", "")
        ]
        if [set(bound) for bound in bounds] != [{"field", "greaterThanOrEqualTo"}]:
            return None
        page = json.loads(request.answer().body)
        page["items"].pop()
        return Response.json(page)

    with Sandbox(catalogue, faults=drop_last_entry) as sandbox:
        connect(sandbox)
        monkeypatch.setattr(ContensisHook, "client", make_client(sandbox))  # its retries do not wait
        with pytest.raises(IncompleteReadError):
            export(bucket, "entries.jsonl", page_size=1_000)
    assert content(bucket, "entries.jsonl") == b"old"
    assert keys(bucket) == {"entries.jsonl"}
    assert uploads(bucket) == []


@pytest.mark.slow
def test_killed_export_leaves_old_object(
    s3_url: str, bucket: Any, connect: Callable[[Sandbox], None]
) -> None:
    bucket.put_object(Key="entries.jsonl", Body=b"old")
    program = (
        "import s3fs\n"
        "s3fs.S3FileSystem.default_block_size = 5 << 20  # the smallest that S3 takes\n"
        "from tests.provider.test_operator import CONTEXT, operator\n"
        f"destination = 's3://{bucket.name}/entries.jsonl'\n"
        "operator(destination=destination, destination_conn_id='store', page_size=100).execute(CONTEXT)\n"
    )
    catalogue = synthetic_catalogue(5_000, body_bytes=6_000)
    with Sandbox(catalogue, latency=0.05) as sandbox:
        connect(sandbox)
        process = subprocess.Popen([sys.executable, "-c", program], env=os.environ)
        deadline = time.monotonic() + 60
        while not uploads(bucket) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert uploads(bucket), "it was killed in the middle of an upload"
        assert content(bucket, "entries.jsonl") == b"old"
        export(bucket, "entries.jsonl", page_size=1_000)
    assert sorted(content(bucket, "entries.jsonl").splitlines()) == sorted(catalogue.entries("published"))


@pytest.mark.parametrize("idle", [timedelta(days=1), timedelta(0)])
def test_idle_uploads_of_killed_export_are_aborted(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    idle: timedelta,
) -> None:
    """Uploads have no lock: a recent one may belong to a running export."""
    monkeypatch.setattr(object_store, "LONG_IDLE", idle)
    for key in ("entries.jsonl", "entries.jsonl.gz"):
        bucket.Object(key).initiate_multipart_upload().Part(1).upload(Body=b"half")
    connect(iso_sandbox)
    export(bucket, "entries.jsonl", content_type_id="currency")
    left = {"entries.jsonl.gz"} if idle == timedelta(0) else {"entries.jsonl", "entries.jsonl.gz"}
    assert {upload.object_key for upload in uploads(bucket)} == left


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("there-is-no-such-bucket", "x.jsonl", "bucket"),
        ("there-is-no-such-bucket", "folder/", "bucket"),
        ("My_Bucket!", "x.jsonl", "Invalid bucket name"),
    ],
)
def test_wrong_bucket_fails_task_without_retry_and_with_reason(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], bucket: Any, name: str, key: str, reason: str
) -> None:
    connect(iso_sandbox)
    exporter = operator(
        destination=f"s3://{name}/{key}", destination_conn_id="store", content_type_id="currency"
    )
    with pytest.raises(AirflowFailException, match=f"^s3://{name}/.* could not be written: .*{reason}"):
        exporter.execute(CONTEXT)


@pytest.mark.parametrize(
    ("conn_id", "login", "reason"),
    [
        ("nope", "", "connection does not exist.*nope"),
        (None, "nope@", "connection does not exist.*nope"),
        ("contensis_default", "", "of type 'contensis', which is not for s3://: use one of type 'aws'"),
        ("database", "", "of type 'postgres', which is not for s3://: use one of type 'aws'"),
    ],
)
def test_wrong_connection_fails_task_instead_of_falling_back_to_other_credentials(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str | None,
    login: str,
    reason: str,
) -> None:
    connect(iso_sandbox)
    monkeypatch.setenv("AIRFLOW_CONN_DATABASE", "postgres://h/db")
    exporter = operator(destination=f"s3://{login}{bucket.name}/x.jsonl", destination_conn_id=conn_id)
    with pytest.raises(AirflowFailException, match=reason):
        exporter.execute(CONTEXT)


def test_folder_is_written_where_the_result_says(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], bucket: Any
) -> None:
    connect(iso_sandbox)
    result = export(bucket, "a//", content_type_id="currency", language="fr")
    [file] = result["files"]
    assert file["path"] == f"s3://{bucket.name}/a//currency.jsonl"
    assert keys(bucket) == {"a//currency.jsonl", "a//_manifest.json"}


def test_example_dag_exports_to_s3(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    bucket: Any,
    monkeypatch: pytest.MonkeyPatch,
    airflow_database: None,
) -> None:
    connect(iso_sandbox)
    monkeypatch.setenv("CONTENSIS_EXPORT_BUCKET", bucket.name)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", os.environ["AIRFLOW_CONN_STORE"])
    example = Path(__file__).parents[2] / "dags_examples" / "export_to_s3.py"
    [dag] = [value for value in runpy.run_path(str(example)).values() if isinstance(value, DAG)]
    assert run(dag).state == "success"
    assert "contensis/_manifest.json" in keys(bucket)
    stored = gzip.decompress(content(bucket, "contensis/country.jsonl.gz")).splitlines()
    served = iso_sandbox.catalogue.entries("published", content_type_id="country")
    assert sorted(stored) == sorted(served)


def test_feed_follows_on_s3(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], bucket: Any
) -> None:
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        export = ContensisExportChangesOperator(
            task_id="export", destination=f"s3://{bucket.name}/feed", destination_conn_id="store"
        )
        first = dict(export.execute(CONTEXT))
        second = dict(export.execute({}))
    assert first["destination"] == f"s3://{bucket.name}/feed/"
    assert (first["upserts"], first["sequence"]) == (1_200, 1)
    assert (second["change_set"], second["sequence"]) == (None, 1)
    stored = content(bucket, f"feed/{first['change_set']}upserts/article.jsonl")
    assert sorted(stored.splitlines()) == sorted(small_catalogue.entries("published"))


def test_feed_in_missing_bucket_fails_without_retry(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], bucket: Any
) -> None:
    connect(iso_sandbox)
    export = ContensisExportChangesOperator(
        task_id="export", destination="s3://there-is-no-such-bucket/feed/", destination_conn_id="store"
    )
    with pytest.raises(AirflowFailException, match=r"^s3://there-is-no-such-bucket/.* bucket does not exist"):
        export.execute(CONTEXT)
