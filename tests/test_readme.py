"""What the README shows works when it is pasted."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from tests.provider.dags import run
from tests.provider.version import AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.connection import ConnectionSettings
    from airflow_provider_contensis.sandbox import Sandbox

AIRFLOWS_OWN = {
    "Bad Request",
    "Test connection feature is disabled",
    "'data_interval_start' is undefined",
}
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def example(words: str) -> str:
    [found] = [block for block in blocks("python") if words in block]
    return found


def run_pasted(name: str, folder: Path, **arguments: Any) -> Any:
    """Run a DAG of the README as it stands, but for the folder that it writes to; return the DAG run.

    On Airflow 2.11 it is changed as the README says.
    """
    text = example(f"def {name}").replace("/data/contensis", str(folder))
    if AIRFLOW < (3, 0):
        text = text.replace("from airflow.sdk", "from airflow.providers.common.compat.sdk")
        text = text.replace("dag_run.run_after - macros.timedelta(days=1)", "data_interval_start")
        text = text.replace("dag_run.run_after", "data_interval_end")
    path = folder / f"{name}.py"
    path.write_text(text.replace(f"\n{name}()", f"\nmade = {name}()"))
    return run(runpy.run_path(str(path))["made"], **arguments)


def test_the_first_dag_runs(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    airflow_database: None,
) -> None:
    connect(iso_sandbox)
    assert run_pasted("contensis_to_files", tmp_path).state == "success"
    assert (tmp_path / "entries.jsonl.gz").stat().st_size > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        pytest.param(
            {"logical_date": None},
            marks=pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2.11 gives every run a logical date"),
        ),
    ],
)
def test_the_dag_of_changes_runs_without_a_logical_date_too(
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    airflow_database: None,
    arguments: dict[str, Any],
) -> None:
    connect(iso_sandbox)
    dag_run = run_pasted("contensis_changes", tmp_path, **arguments)
    assert dag_run.state == "success"
    assert len(list(tmp_path.glob("changes-*.jsonl"))) == 1
    if arguments:
        assert dag_run.logical_date is None


def test_the_hook_s_example_runs(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], capsys: pytest.CaptureFixture[str]
) -> None:
    connect(iso_sandbox)
    exec(compile(example("hook.iter_entries"), "README.md", "exec"), {})
    assert "Ireland" in capsys.readouterr().out


def test_the_sandbox_s_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", "")
    exec(compile(example("with Sandbox() as sandbox"), "README.md", "exec"), {})


def test_the_connection_s_lines_mean_the_same_when_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_contensis.hooks.contensis import ContensisHook

    lines = [block for block in blocks("bash") if "AIRFLOW_CONN_CONTENSIS_DEFAULT=" in block]
    read: list[ConnectionSettings] = []
    for line in lines:
        script = f'{line}\nprintf %s "$AIRFLOW_CONN_CONTENSIS_DEFAULT"'
        pasted = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", pasted)
        read.append(ContensisHook().settings)
    assert len(read) == 2
    assert read[0] == read[1]
    assert (read[0].project_id, read[0].client_secret) == ("website", "the-shared-secret")


def test_every_argument_of_the_operator_is_told() -> None:
    [table] = re.findall(r"## The operator\n(.*?)\n## ", README, flags=re.DOTALL)
    for argument in ContensisExportEntriesOperator.template_fields:
        assert f"`{argument}`" in table


def test_every_key_of_the_result_is_told(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    connect(iso_sandbox)
    result: dict[str, Any] = operator(
        destination=f"{tmp_path}/x.jsonl", content_type_id="currency", language="cy"
    ).execute(CONTEXT)
    [told] = re.findall(r"It returns a small dict: (.*?)\n\n", README, flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", told)) - {"changed_from"} == set(result) - {"changed_from"}


def test_every_message_of_the_troubleshooting_table_exists() -> None:
    [table] = re.findall(r"## Troubleshooting\n(.*?)\n## ", README, flags=re.DOTALL)
    messages = [
        message
        for row in table.splitlines()[3:]
        for message in re.findall(r"\*([^*]+)\*", row.split("|")[1])
        if message not in AIRFLOWS_OWN
    ]
    modules = (ROOT / "airflow_provider_contensis").rglob("*.py")
    sources = " ".join(re.sub(r'"\s+f?"', "", module.read_text()) for module in modules)
    assert len(messages) > 10
    for message in messages:
        for piece in message.split("…"):
            assert piece.strip() in sources, message


def test_what_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)|`make (\w+)`", README, flags=re.MULTILINE)
    assert len(commands) > 3
    for block, inline in commands:
        assert f"\n{block or inline}:" in makefile
