"""The command line, as a shell or a script uses it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_contensis.sandbox import Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "airflow_provider_contensis.sandbox"]


@contextmanager
def running_sandbox(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_prints_one_json_line_and_stops_cleanly_on_signal(signum: signal.Signals) -> None:
    with running_sandbox("--json", "--content", "synthetic:5", "--client-secret", "s3cret") as process:
        assert process.stdout is not None
        details = json.loads(process.stdout.readline())
        assert sorted(details) == ["client_id", "client_secret", "project_id", "url"]
        assert (details["client_secret"], details["project_id"]) == ("s3cret", "synthetic")
        form = {"grant_type": "client_credentials", "scope": "Entry_Read"}
        form |= {name: details[name] for name in ("client_id", "client_secret")}
        url = f"{details['url']}/authenticate/connect/token"
        with requests.Session() as session:
            assert session.post(url, data=form, timeout=10).status_code == 200
            process.send_signal(signum)
            rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_prints_connection_and_curl_lines_to_paste() -> None:
    with running_sandbox("--content", "synthetic:5") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "to stop" not in lines[-1]:
            lines.append(process.stdout.readline().strip())
        assert "5 entries of article in en-GB" in lines[0]
        [export] = [line for line in lines if line.startswith("export ")]
        name, _, value = shlex.split(export)[1].partition("=")
        assert name == "AIRFLOW_CONN_CONTENSIS_DEFAULT"
        assert json.loads(value)["conn_type"] == "contensis"
        [curl] = [line for line in lines if line.startswith("curl ")]
        url = shlex.split(curl)[2]
        form = dict(part.split("=", 1) for part in shlex.split(curl)[4::2])
        assert requests.post(url, data=form, timeout=10).json()["token_type"] == "Bearer"


def test_fault_and_edits_options_take_effect() -> None:
    faults = ("--fault", "408=0.5", "--fault", "html=0.5", "--edits", "1", "--seed", "7")
    with running_sandbox("--json", "--content", "synthetic:5", *faults) as process:
        assert process.stdout is not None
        details = json.loads(process.stdout.readline())
        url = f"{details['url']}/api/management/projects"
        responses = [requests.get(url, timeout=10).status_code for _ in range(20)]
    assert set(responses) == {200, 408}


def test_lag_hide_and_aggregation_options_take_effect() -> None:
    options = ("--index-lag", "3600", "--hide", "article", "--no-aggregations", "--edits", "1")
    with running_sandbox("--json", "--content", "synthetic:5", *options) as process:
        assert process.stdout is not None
        details = json.loads(process.stdout.readline())
        form = {"grant_type": "client_credentials", "scope": "Entry_Read ContentType_Read"}
        form |= {name: details[name] for name in ("client_id", "client_secret")}
        token = requests.post(f"{details['url']}/authenticate/connect/token", data=form, timeout=10).json()
        headers = {"authorization": f"Bearer {token['access_token']}"}
        project = f"{details['url']}/api/management/projects/synthetic"
        aggregations = {"aggregations": '{"byType": {"field": "sys.contentTypeId"}}'}
        page = requests.get(f"{project}/entries", aggregations, headers=headers, timeout=10).json()
        assert (page["totalCount"], page["items"], "aggregations" in page) == (0, [], False)
        assert requests.get(f"{project}/contenttypes", headers=headers, timeout=10).json() == []


def test_content_option_serves_export_file(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"\n".join(synthetic_catalogue(3, project_id="mine").entries()))
    with running_sandbox("--json", "--content", str(path)) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["project_id"] == "mine"


def test_port_in_use_prints_one_line_error() -> None:
    with Sandbox(synthetic_catalogue(1)) as sandbox:
        completed = subprocess.run(
            [*COMMAND, "--port", str(sandbox.port), "--content", "synthetic:1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert completed.returncode == 1
        assert completed.stdout == ""
        assert completed.stderr == f"Cannot listen on port {sandbox.port}: Address already in use\n"


def test_missing_content_file_prints_one_line_error() -> None:
    completed = subprocess.run(
        [*COMMAND, "--content", "nowhere.jsonl"], capture_output=True, text=True, check=False, timeout=20
    )
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == "Cannot serve nowhere.jsonl: expected iso, synthetic:N or the path of a file\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "x"],
        ["--error-rate", "2"],
        ["--latency", "-1"],
        ["--fault", "teapot=0.1"],
        ["--fault", "503=2"],
        ["--edits", "-1"],
        ["--index-lag", "-1"],
        ["--token-lifetime", "0"],
        ["--nonsense"],
    ],
)
def test_invalid_arguments_exit_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow_provider_contensis.sandbox.__main__ import main

    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert capsys.readouterr().out == ""
