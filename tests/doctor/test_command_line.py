"""The doctor as a person runs it: from a shell, with a URL or an Airflow connection."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import cli
from airflow_provider_contensis.doctor.__main__ import main
from airflow_provider_contensis.doctor.examination import CHECKS
from airflow_provider_contensis.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.sandbox import Catalogue


@pytest.fixture
def sandbox(doctor_catalogue: Catalogue) -> Iterator[Sandbox]:
    with Sandbox(doctor_catalogue) as sandbox:
        yield sandbox


def arguments(sandbox: Sandbox, *more: str) -> list[str]:
    return ["--url", sandbox.url, "--client-id", sandbox.client_id, "--project", sandbox.project_id, *more]


def test_prints_table_and_settings_for_plain_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTENSIS_CLIENT_SECRET", sandbox.client_secret)
    assert main(arguments(sandbox)) == 0
    shown, progress = capsys.readouterr()
    lines = shown.splitlines()
    assert [line.split()[1] for line in lines[: len(CHECKS)]] == [check.id for check in CHECKS]
    assert " hold, 0 fail, " in lines[-2]
    assert lines[-1].startswith("Suitable here: page_size=")
    assert progress.splitlines()[-1].startswith(f"[{len(CHECKS)}/{len(CHECKS)}] ")


def test_says_what_failure_means_and_what_to_do(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.api.quirks = frozenset({"no-delivery-bearer"})
    monkeypatch.setattr("getpass.getpass", lambda _: sandbox.client_secret)
    assert main(arguments(sandbox)) == 1
    explanation = capsys.readouterr().out.split("\ndelivery fails: ")[1]
    assert explanation.startswith("refused with status 401.\n  What it means: Exports with api=")
    assert "\n  What to do: Use api=" in explanation


def test_json_report_of_connection_holds_figures_only(
    sandbox: Sandbox, connect: Callable[[Sandbox], None], capsys: pytest.CaptureFixture[str]
) -> None:
    connect(sandbox)
    sandbox.api.quirks = frozenset({"no-or", "html-404"})
    assert main(["--json"]) == 1
    text = capsys.readouterr().out
    report = json.loads(text)
    assert list(report) == ["checks", "environment", "package"]
    assert {tuple(check) for check in report["checks"]} == {("id", "result", "detail", "seconds")}
    assert [check["id"] for check in report["checks"] if check["result"] == "fails"] == [
        "or",
        "missing-entry",
    ]
    catalogue = sandbox.catalogue
    told = {sandbox.client_id, sandbox.client_secret, sandbox.project_id, sandbox.url, "Article", "Lantern"}
    told |= {*catalogue.content_types, *catalogue.project["supportedLanguages"]}
    assert not [name for name in told if f'"{name}' in text or f" {name}" in text]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--project", "nothing-here"), "was answered with status 404"),
        (("--client-id", "someone"), "does not accept these credentials"),
        (("--url", "http://cms.example"), "Plain http is for loopback hosts only"),
        (("--project", ""), "--url needs --client-id and --project"),
    ],
)
def test_exits_with_2_if_nothing_could_be_checked(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.setenv("CONTENSIS_CLIENT_SECRET", sandbox.client_secret)
    assert main(arguments(sandbox, *change)) == 2
    shown, problem = capsys.readouterr()
    assert (shown, problem.startswith("Nothing could be checked: ")) == ("", True)
    assert message in problem


@pytest.mark.usefixtures("airflow_database")
def test_unknown_connection_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--conn-id", "nowhere"]) == 2
    assert "The connection 'nowhere' could not be read" in capsys.readouterr().err


def test_airflow_command_runs_doctor(
    sandbox: Sandbox, connect: Callable[[Sandbox], None], capsys: pytest.CaptureFixture[str]
) -> None:
    connect(sandbox)
    [group] = cli.get_contensis_cli_commands()
    [command] = group.subcommands
    parser = argparse.ArgumentParser()
    for argument in command.args:
        argument.add_to_parser(parser)
    with pytest.raises(SystemExit) as exit_:
        command.func(parser.parse_args(["--json"]))
    assert exit_.value.code == 0
    assert json.loads(capsys.readouterr().out)["environment"]["languages"] == 2
    assert (group.name, command.name) == ("contensis", "doctor")
