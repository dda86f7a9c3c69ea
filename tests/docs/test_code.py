"""Every code block of the README and the documentation works when it is pasted."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.hooks.contensis import ContensisHook
from tests.docs.pages import BLOCKS, DOCS, README, ROOT, Block, each
from tests.provider.dags import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.sandbox import Sandbox

FOLDER = "/data/contensis"
HAS_AIRFLOW_3 = find_spec("airflow.sdk") is not None
SANDBOX = "python -m airflow_provider_contensis.sandbox"
DOCTOR = "python -m airflow_provider_contensis.doctor"
SETTINGS = ConnectionSettings(
    root_url="https://cms-example.cloud.contensis.com",
    client_id="0b6f3c52-8d0a-4d5e-9c57-2f1f6f0c1a10",
    client_secret="the-shared-secret",
    scopes=("Entry_Read", "ContentType_Read", "Project_Read"),
    project_id="website",
    timeout=60.0,
    retry_seconds=300.0,
    verify=True,
    proxies={},
)


def pasted(block: Block) -> str:
    """Return a Python block as users of the installed Airflow have to write it."""
    old = "airflow.providers.common.compat.sdk"  # as the README says for Airflow 2.11
    return block.text if HAS_AIRFLOW_3 else block.text.replace("airflow.sdk", old)


def is_python(block: Block) -> bool:
    return block.language == "python" and block.example is None and block.title is None


def is_plain(block: Block) -> bool:
    return is_python(block) and not block.is_dag and not block.is_test


def test_every_block_is_tested() -> None:
    for block in BLOCKS:
        where = f"{block.page.name}:{block.line}"
        assert block.language in {"bash", "ini", "python", "sql", "text", "yaml"}, where
        # The tests of these two pages run it, or see that it is marked as not run.
        assert block.language != "sql" or block.page.name in {"postgres.md", "onwards.md"}, where
        assert block.language != "yaml" or block.page.name == "postgres.md", where
        assert block.language != "ini" or block.title, where
        for command in block.commands if block.language == "bash" else ():
            assert re.match(rf"make |pip install |{SANDBOX}|{DOCTOR}|export AIRFLOW_|airflow ", command), (
                where
            )


@each(lambda block: is_python(block) and block.is_dag)
def test_documented_dag_runs(
    block: Block,
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    airflow_database: None,
) -> None:
    """Unchanged, except for the folder that it writes to."""
    uses_run_after = "run_after" in block.text
    if uses_run_after and not HAS_AIRFLOW_3:
        pytest.skip("runs of Airflow 2 have no run_after")
    connect(iso_sandbox)
    text = pasted(block).replace(FOLDER, str(tmp_path / "export"))
    path = tmp_path / "pasted.py"
    path.write_text(re.sub(r"^(\w+\(\))$", r"dag_object = \1", text, flags=re.MULTILINE) + "\n")
    names = runpy.run_path(str(path))
    dag = names.get("dag_object") or next(value for value in names.values() if type(value) is names["DAG"])
    dag_run = run(dag, logical_date=None if uses_run_after else datetime(2026, 3, 2, tzinfo=UTC))
    assert dag_run.state == "success"
    [written] = (tmp_path / "export").iterdir()
    # Nothing is published in a sandbox while it runs.
    assert (written.stat().st_size == 0) is ("changed_from" in block.text)


@each(is_plain)
def test_python_runs_after_blocks_above_it(
    block: Block, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(iso_sandbox)
    names: dict[str, Any] = {}
    for other in BLOCKS[: BLOCKS.index(block) + 1]:
        if other.page == block.page and is_plain(other):
            exec(compile(f"{chr(10) * other.line}{pasted(other)}", str(other.page), "exec"), names)


@each(lambda block: is_python(block) and block.is_test)
@pytest.mark.slow
def test_documented_test_passes(block: Block, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pasted(block))
    pytester.runpytest_subprocess().assert_outcomes(passed=block.text.count("def test_"))


@pytest.mark.slow
def test_project_of_sandbox_page_passes_its_tests(pytester: pytest.Pytester) -> None:
    files = [block for block in BLOCKS if block.title and block.page == DOCS / "sandbox.md"]
    for block in files:
        assert block.title
        path = pytester.path / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pasted(block))
    tests = sum(block.text.count("def test_") for block in files)
    assert tests > 5
    pytester.runpytest_subprocess().assert_outcomes(passed=tests)


def test_only_sandbox_page_shows_files() -> None:
    assert {block.page for block in BLOCKS if block.title} == {DOCS / "sandbox.md"}


@each(lambda block: block.example is not None)
def test_shown_example_is_the_file_that_tests_run(block: Block) -> None:
    assert block.example
    assert block.text == block.example.read_text(), f"copy {block.example} into {block.page}"
    modules = (
        "dag_run",
        "s3",
        "assets_operator",
        "changes_operator",
        "onwards",
        "parts_group",
        "postgres_operator",
        "sensor",
        "triggers",
    )
    runs = (ROOT / "tests" / "provider" / f"test_{module}.py" for module in modules)
    assert any(block.example.name in module.read_text() for module in runs)


@each(lambda block: "export AIRFLOW_CONN_" in block.text)
def test_hook_reads_exported_connection(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    line = bash(f'{block.text}\nprintf %s "$AIRFLOW_CONN_CONTENSIS_DEFAULT"')
    monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", line)
    assert ContensisHook().settings == SETTINGS
    # Without a port, Airflow 3.3.1 and 3.3.2 refuse to test a connection.
    assert ContensisHook.get_connection("contensis_default").port == 443


@each(lambda block: "airflow connections add" in block.text)
def test_hook_reads_added_connection(
    block: Block, no_connections: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command line would encrypt the password with a key of its own.
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    bash(block.text)
    [connection] = no_connections()
    assert (connection.conn_id, connection.port) == ("contensis_default", 443)
    assert ConnectionSettings.from_connection(connection) == SETTINGS


@each(
    lambda block: (
        block.language == "bash" and "airflow " in block.text and "airflow connections add" not in block.text
    )
)
@pytest.mark.slow
def test_airflow_commands_run(
    block: Block,
    iso_sandbox: Sandbox,
    connect: Callable[[Sandbox], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    airflow_database: None,
) -> None:
    """With the README's first DAG in the DAGs folder."""
    connect(iso_sandbox)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    first = next(other for other in BLOCKS if other.page == README and other.is_dag)
    (tmp_path / "first.py").write_text(pasted(first).replace(FOLDER, str(tmp_path / "export")))
    output = bash(block.text)
    assert ("connections test" in block.text) <= ("Connection success!" in output)
    assert ("dags test" in block.text) <= (tmp_path / "export" / "entries.jsonl.gz").exists()


@each(lambda block: block.language == "bash" and DOCTOR in block.text)
@pytest.mark.slow
def test_doctor_command_examines_connection(
    block: Block, iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], airflow_database: None
) -> None:
    connect(iso_sandbox)
    assert "holds" in bash(block.text)


@each(lambda block: SANDBOX in block.text)
def test_sandbox_command_serves(block: Block) -> None:
    """On any free port, as the default one may be taken."""
    [command] = block.commands
    words = [sys.executable, *shlex.split(command)[1:], "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            lines = iter(process.stdout.readline, "")
            assert any("export AIRFLOW_CONN_CONTENSIS_DEFAULT=" in line for line in lines)
        finally:
            process.terminate()


def test_installed_packages_and_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [command for block in BLOCKS for command in block.commands if command.startswith("pip install")]
    assert len(lines) > 2
    for line in lines:
        [(name, extra)] = re.findall(r"'?([\w-]+)(?:\[(\w+)\])?'?$", line.strip())
        assert name == project["name"]
        assert not extra or extra in project["optional-dependencies"]


def test_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)|`make (\w+)`", README.read_text(), flags=re.MULTILINE)
    assert len(commands) >= 4
    for block, inline in commands:
        assert f"\n{block or inline}:" in makefile


@pytest.fixture
def no_connections(airflow_database: None) -> Iterator[Callable[[], list[Any]]]:
    """Remove all connections from Airflow's database; yield a function that lists them."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    def clear() -> None:
        with create_session() as session:
            session.query(Connection).delete()

    def listed() -> list[Any]:
        with create_session() as session:
            return list(session.query(Connection).all())

    clear()
    yield listed
    clear()


def bash(script: str) -> str:
    """Run a script as if it were pasted; return its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
