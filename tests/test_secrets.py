"""Neither the shared secret nor a token shows in anything that a run prints, logs, raises or stores."""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, redact

from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from tests.file_pointer import FilePointer
from tests.provider.dags import run
from tests.provider.version import AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Callable


class Tokens:
    """Records every token that a sandbox gives out or receives, and answers with one fault."""

    def __init__(self, kind: str = "", answer: Response | None = None) -> None:
        self.kind = kind
        self.answer = answer
        self.seen: set[str] = set()

    def __call__(self, request: Request) -> Response | None:
        authorization = {name.lower(): value for name, value in request.headers.items()}.get(
            "authorization", ""
        )
        self.seen |= {authorization.removeprefix("Bearer ")} - {""}
        if request.kind == self.kind:
            return self.answer
        if request.kind != "token":
            return None
        answer = request.answer()
        self.seen |= {json.loads(answer.body)["access_token"]} if answer.status == 200 else set()
        return answer


def everything_of(error: BaseException) -> str:
    """Return everything that a traceback, a log collector or a debugger would show of an exception."""
    shown = ["".join(traceback.format_exception(error))]
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is not None:
            shown += [repr(current), str(current), repr(current.args), repr(vars(current))]
            pending += [current.__cause__, current.__context__]
    return "\n".join(shown)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("token", Response.json({"error": "invalid_client"}, 400)),
        ("token", Response(500, b"<html>")),
        ("token", Response(drop=True)),
        ("token", Response(302, headers={"Location": "https://elsewhere.example/"})),
        ("project", Response.json({"message": "no"}, 401)),
        ("project", Response.json({"message": "no"}, 403)),
        ("project", Response(200, b"<html>", {"content-type": "text/html"})),
        ("project", Response(200, b"{}", content_length=99)),
        ("project", Response(drop=True)),
    ],
)
def test_failure_shows_no_secret(
    small_catalogue: Catalogue, caplog: pytest.LogCaptureFixture, kind: str, answer: Response
) -> None:
    faults = Tokens(kind, answer)
    with Sandbox(small_catalogue, faults=faults) as sandbox, caplog.at_level(logging.DEBUG):
        credentials = Credentials(sandbox.url, sandbox.client_id, sandbox.client_secret, ("Project_Read",))
        client = ContensisClient(credentials, retry=RetryPolicy(attempts=2, initial_wait=0.001))
        with pytest.raises(ContensisError) as failure:
            client.get_project(sandbox.project_id)
    shown = (
        everything_of(failure.value)
        + caplog.text
        + repr(client)
        + repr(credentials)
        + repr(client.session.auth)
    )
    for secret in (sandbox.client_secret, *faults.seen):
        assert secret not in shown


def test_test_button_shows_no_secret(
    small_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("", "token", "project", "search"):
        faults = Tokens(kind, Response.json({"message": "no"}, 403))
        with Sandbox(small_catalogue, faults=faults) as sandbox, caplog.at_level(logging.DEBUG):
            monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
            _, message = ContensisHook().test_connection()
        for secret in (sandbox.client_secret, *faults.seen):
            assert secret not in message + caplog.text


def test_task_failure_shows_no_secret(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    faults = Tokens("search", Response.json({"message": "no"}, 403))
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        with pytest.raises(AirflowFailException) as failure:
            operator(destination=f"{tmp_path}/x.jsonl").execute(CONTEXT)
    assert faults.seen
    for secret in (sandbox.client_secret, *faults.seen):
        assert secret not in everything_of(failure.value)


@pytest.mark.slow
def test_run_at_debug_keeps_no_secret_in_logs_xcoms_or_rendered_templates(
    small_catalogue: Catalogue,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    airflow_database: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with DAG("careful", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ContensisExportEntriesOperator(
            task_id="export", destination="{{ params.to }}", params={"to": f"{tmp_path}/x.jsonl"}
        )
    faults = Tokens()
    with Sandbox(small_catalogue, faults=faults) as sandbox, caplog.at_level(logging.DEBUG):
        connect(sandbox)
        assert run(dag).state == "success"
    assert len(faults.seen) == 1
    shown = "".join(capfd.readouterr()) + caplog.text
    if AIRFLOW < (3, 1):  # at DEBUG, 3.0 itself logs the message that asks it to mask a secret
        shown = "\n".join(line for line in shown.splitlines() if "MaskSecret(" not in line)
    assert "Proof: 1,200 distinct" in shown
    files = [path for path in Path(os.environ["AIRFLOW_HOME"]).rglob("*") if path.is_file()]
    # New rows may still be in the write-ahead log beside it.
    assert any(b"sha256" in path.read_bytes() for path in files if path.name.startswith("airflow.db"))
    for secret in (sandbox.client_secret, *faults.seen):
        assert secret not in shown
        for path in files:
            assert secret.encode() not in path.read_bytes(), path


def test_secret_pasted_with_spaces_and_proxy_password_are_masked(
    small_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(small_catalogue, client_secret="one-of-its-own-4711") as sandbox:
        proxies = {"https": "http://me:proxy-word-4711@proxy.example:3128", "http": "http://["}
        connection = {**sandbox.connection, "password": f" {sandbox.client_secret}\n"}
        connection["extra"] = {**connection["extra"], "proxies": proxies}
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", json.dumps(connection))
        assert ContensisHook().settings.client_secret == sandbox.client_secret
        assert redact(f"{sandbox.client_secret} {proxies}") == redact(
            "*** {'https': 'http://me:***@proxy.example:3128', 'http': 'http://['}"
        )


@pytest.mark.parametrize("destination", ["x.jsonl", "x.csv", "x.parquet", "folder/"])
def test_exported_files_contain_no_secret(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path, destination: str
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    faults = Tokens()
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        operator(destination=f"{tmp_path}/{destination}", on_type_mismatch="raw").execute(CONTEXT)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert faults.seen
    for secret in (sandbox.client_secret, *faults.seen):
        assert not any(secret.encode() in path.read_bytes() for path in files)


def test_checkpoint_and_its_pointer_contain_no_secret(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    tokens = Tokens()

    def fail_in_the_middle(request: Request) -> Response | None:
        pages = sum(record.kind == "search" for record in sandbox.requests)
        return (
            Response.json({"message": "no"}, 503, {"Retry-After": "3600"}) if pages > 30 else tokens(request)
        )

    pointer = FilePointer(tmp_path / "pointer.json")
    export = ExportRequest.from_arguments(destination=f"{tmp_path}/x.jsonl", page_size=30)
    with Sandbox(small_catalogue, faults=fail_in_the_middle) as sandbox:
        with pytest.raises(ContensisError):
            export_entries(make_client(sandbox), sandbox.project_id, export, pointer=pointer)
        files = [path.read_bytes() for path in tmp_path.iterdir()]
        assert len(files) == 2
        assert any(b'"entryTitle"' in content for content in files)
        for secret in (sandbox.client_secret, *tokens.seen):
            assert not any(secret.encode() in content for content in files)


def test_export_summary_contains_no_secret(
    small_catalogue: Catalogue, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    faults = Tokens()
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        connect(sandbox)
        summary: Any = operator(destination=f"{tmp_path}/x.jsonl").execute(CONTEXT)
    for secret in (sandbox.client_secret, *faults.seen):
        assert secret not in json.dumps(summary)
