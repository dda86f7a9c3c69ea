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
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_line_is_json_and_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    with running("--json", "--content", "synthetic:5", "--client-secret", "s3cret") as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert sorted(facts) == ["client_id", "client_secret", "project_id", "url"]
        assert (facts["client_secret"], facts["project_id"]) == ("s3cret", "synthetic")
        form = {"grant_type": "client_credentials", "scope": "Entry_Read"}
        form |= {name: facts[name] for name in ("client_id", "client_secret")}
        url = f"{facts['url']}/authenticate/connect/token"
        with requests.Session() as session:
            assert session.post(url, data=form, timeout=10).status_code == 200
            process.send_signal(number)
            rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_person_gets_lines_to_paste() -> None:
    with running("--content", "synthetic:5") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Stop with" not in lines[-1]:
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


def test_faults_and_edits_can_be_asked_for() -> None:
    faults = ("--fault", "408=0.5", "--fault", "html=0.5", "--edits", "1", "--seed", "7")
    with running("--json", "--content", "synthetic:5", *faults) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        url = f"{facts['url']}/api/management/projects"
        answers = [requests.get(url, timeout=10).status_code for _ in range(20)]
    assert set(answers) == {200, 408}


def test_an_export_can_be_served(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"\n".join(synthetic_catalogue(3, project_id="mine").entries()))
    with running("--json", "--content", str(path)) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["project_id"] == "mine"


def test_a_port_in_use_is_one_clear_sentence() -> None:
    with Sandbox(synthetic_catalogue(1)) as sandbox:
        answer = subprocess.run(
            [*COMMAND, "--port", str(sandbox.port), "--content", "synthetic:1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert answer.stderr == f"Cannot listen on port {sandbox.port}: Address already in use\n"


def test_content_that_is_not_there_is_one_clear_sentence() -> None:
    answer = subprocess.run(
        [*COMMAND, "--content", "nowhere.jsonl"], capture_output=True, text=True, check=False, timeout=20
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "Cannot serve nowhere.jsonl: it is neither iso, synthetic:N nor a file\n"


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
        ["--token-lifetime", "0"],
        ["--nonsense"],
    ],
)
def test_wrong_arguments_exit_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from airflow_provider_contensis.sandbox.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""
