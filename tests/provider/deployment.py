"""A whole Airflow on this machine, each component a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_PATIENCE = 180.0
COMPONENTS: Mapping[str, Sequence[str]] = {
    name: (name,) for name in ("api-server", "scheduler", "dag-processor")
}


class Deployment:
    """Airflow 3 with LocalExecutor and SQLite, its home below a folder.

    :param folder: where its home, its DAGs, its database and its logs go.
    :param dags: DAG files by name.
    :param database: an empty Airflow database to start from; None to migrate a new one.
    :param connection: the default Contensis connection, as JSON; None for none.
    :param environment: more environment variables for all components.
    :param components: the command of each component, by name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: dict[str, str],
        database: Path | None = None,
        connection: str | None = None,
        environment: Mapping[str, str] | None = None,
        components: Mapping[str, Sequence[str]] = COMPONENTS,
    ) -> None:
        self.home = folder / "airflow"
        self.dags = self.home / "dags"
        self.dags.mkdir(parents=True)
        for name, text in dags.items():
            (self.dags / name).write_text(text)
        self._is_migrated = database is not None
        if database is not None:
            shutil.copyfile(database, self.home / "airflow.db")
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._environment = {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": "bWFkZS11cC1tYWRlLXVwLW1hZGUtdXAtbWFkZS11cCE=",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(_free_port()),
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            **({} if connection is None else {"AIRFLOW_CONN_CONTENSIS_DEFAULT": connection}),
            **(environment or {}),
        }
        self._components = components
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            if not self._is_migrated:
                self._airflow("db", "migrate").wait()
            for component in self._components:
                self.start(component)
            self.wait_until(lambda: bool(self._get("/api/v2/version")), "the API server answers")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End all components, which flushes what they wrote; nothing happens if they have ended."""
        _end(self._processes.values())
        self._processes.clear()

    def start(self, component: str, command: Sequence[str] = ()) -> None:
        """Start a component.

        :param command: of one that is new.
        """
        if command:
            self._components = {**self._components, component: command}
        self._processes[component] = self._airflow(*self._components[component], name=component)

    def kill(self, component: str) -> None:
        """Kill a component and all that it started, as a machine that fails would."""
        process = self._processes.pop(component)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, dag_id: str) -> None:
        """Wait until a DAG is parsed."""
        self.wait_until(lambda: self._get(f"/api/v2/dags/{dag_id}") is not None, f"{dag_id} is parsed")

    def run(self, dag_id: str) -> str:
        """Trigger a DAG and return the state in which its run ends."""
        self.wait_for(dag_id)
        path = f"/api/v2/dags/{dag_id}"
        run_id = self._call("POST", f"{path}/dagRuns", {"logical_date": None})["dag_run_id"]
        states: list[str] = []

        def ended() -> bool:
            run = self._get(f"{path}/dagRuns/{run_id}")
            states.append(run["state"] if run else "unknown")
            return states[-1] in {"success", "failed"}

        self.wait_until(ended, f"{dag_id} ends")
        return states[-1]

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, the oldest first."""
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]
        return sorted(found, key=lambda run: run["run_after"])

    def task_instances(self, dag_id: str, task_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a task in all runs of its DAG."""
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances?limit=100")
        return [each for each in found["task_instances"] if each["task_id"] == task_id]

    def asset_events(self) -> list[dict[str, Any]]:
        """Return the events of all assets, the oldest first."""
        found = self._call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
        return sorted(found, key=lambda event: event["timestamp"])

    def logs(self) -> str:
        """Return all that was logged: by the components, and in files."""
        paths = [*self.home.glob("*.out"), *self.home.glob("logs/**/*.log")]
        return "\n".join(path.read_text(errors="replace") for path in paths)

    def extra_links(self, dag_id: str, task_id: str) -> dict[str, str]:
        """Return the links that the UI shows of a task in the only run of its DAG."""
        [run] = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{task_id}/links"
        links: dict[str, str] = self._call("GET", path)["extra_links"]
        return links

    def task_log(self, dag_id: str, task_id: str) -> str:
        """Return the log files of a task as they were written."""
        logs = self.home.glob(f"logs/dag_id={dag_id}/**/task_id={task_id}/*.log")
        return "\n".join(path.read_text() for path in logs)

    def _airflow(self, *command: str, name: str | None = None) -> subprocess.Popen[bytes]:
        with (self.home / f"{name or command[0]}.out").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _get(self, path: str) -> Any:
        try:
            return self._call("GET", path)
        except (URLError, OSError):
            return None

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        with urlopen(f"{self.url}/auth/token") as answer:
            token = json.load(answer)["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{path}", data, headers, method=method)) as answer:
            return json.load(answer)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds.

        :raises TimeoutError: it takes too long; shows what the components printed last.
        """
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                told = "\n".join(path.read_text()[-3_000:] for path in sorted(self.home.glob("*.out")))
                raise TimeoutError(f"Airflow took too long until {what}\n{told}")
            time.sleep(0.5)


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End components and all that they started: what a component starts is in its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
