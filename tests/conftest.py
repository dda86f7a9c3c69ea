"""What all tests share. Airflow reads its configuration when it is first imported, so that is set here."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import sqlite3
import tempfile
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="contensis-tests-"))
(_HOME / "dags").mkdir()
os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__API_AUTH__JWT_ISSUER="tests",  # left out, Airflow 3.0 gives None, which today's PyJWT refuses
    AIRFLOW__API_AUTH__JWT_SECRET="made-up-" * 10,
    AIRFLOW__CORE__DAGS_FOLDER=str(_HOME / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
    AIRFLOW__CORE__TEST_CONNECTION="Enabled",
    AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
    NO_PROXY="127.0.0.1,localhost",
)
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
    del os.environ[name]

from airflow_provider_contensis.api.auth import SHARED_TOKENS, TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.sandbox import Sandbox, synthetic_catalogue
from airflow_provider_contensis.sandbox.server import CLIENT_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from airflow_provider_contensis.sandbox import Catalogue
    from tests.postgres import Postgres

SCOPES = ("Entry_Read", "ContentType_Read", "Project_Read")
HASTY = RetryPolicy(attempts=6, initial_wait=0.001, max_wait=5.0)


# The secret of every sandbox, and how the tokens that it gives out begin.
_SECRET = re.compile(f"{re.escape(CLIENT_SECRET)}|eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiI[\\w-]*\\.[\\w-]{{20,}}")


# Together they take two thirds of the time of the tests that run no Airflow.
_LONG_MODULES = {
    "test_assets",
    "test_assets_operator",
    "test_changes",
    "test_chaos",
    "test_chaos_sync",
    "test_checkpoint",
    "test_code",
    "test_content",
    "test_feed_formats",
    "test_feed_stores",
    "test_full_disk",
    "test_fuzz",
    "test_hook",
    "test_limits",
    "test_on_kill",
    "test_operator",
    "test_order",
    "test_pause",
    "test_pipeline",
    "test_postgres",
    "test_proof",
    "test_quirks",
    "test_requests",
    "test_restart",
    "test_s3",
    "test_store_lock",
    "test_threads",
    "test_triggers",
}


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make check` leaves out."""
    for item in items:
        runs_airflow = {"airflow_database", "pytester"}.intersection(getattr(item, "fixturenames", ()))
        if runs_airflow or item.path.stem in _LONG_MODULES:
            item.add_marker("integration")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what printed, logged or raised a secret; a sandbox may tell its own."""
    report = yield
    told = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
    if version("apache-airflow").startswith("3.0."):  # at DEBUG, it logs the message that asks it to mask one
        told = "\n".join(line for line in told.splitlines() if "MaskSecret(" not in line)
    if report.passed and "sandbox" not in item.path.parts and _SECRET.search(told):
        report.outcome = "failed"
        report.longrepr = "What this test printed or logged holds a secret."
    return report


@pytest.fixture(autouse=True)
def _no_token_left_over() -> Iterator[None]:
    yield
    SHARED_TOKENS.clear()


@pytest.fixture(scope="session")
def iso_sandbox() -> Iterator[Sandbox]:
    """The default sandbox: ISO codes in three languages. Only for tests that change nothing."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def small_catalogue() -> Catalogue:
    """1,200 invented entries; only for tests that change nothing."""
    return synthetic_catalogue(1_200)


@pytest.fixture
def make_client() -> Iterator[Callable[..., ContensisClient]]:
    """Make clients of a sandbox that share no tokens with other tests and never wait long."""
    clients: list[ContensisClient] = []

    def make(sandbox: Sandbox, **options: object) -> ContensisClient:
        credentials = Credentials(sandbox.url, sandbox.client_id, sandbox.client_secret, SCOPES)
        defaults = {"retry": HASTY, "timeout": 5.0, "tokens": TokenCache()}
        clients.append(ContensisClient(credentials, **{**defaults, **options}))  # type: ignore[arg-type]  # options vary
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set up this process's Airflow database; return an empty one to copy.

    Migrations take seconds: the first of the parallel processes runs them, the others copy the result.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    template = shared / "airflow.db"
    with (shared / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if template.exists():
            copy_database(template, _HOME / "airflow.db")
        else:
            from airflow.utils.db import initdb

            initdb()
            copy_database(_HOME / "airflow.db", template)
    return template


@pytest.fixture(scope="session")
def postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the PostgreSQL server that all test processes share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    # The server's own user may not enter the folders of pytest.
    folder = Path(tempfile.gettempdir(), f"contensis-postgres-{shared.parent.name}-{shared.name}")
    folder.mkdir(exist_ok=True)

    def remove() -> None:
        with suppress(OSError):  # another process still uses it
            folder.rmdir()

    atexit.register(remove)  # it runs after the server's own clean-up, which is registered later
    return folder


@pytest.fixture
def postgres(postgres_folder: Path) -> Iterator[Postgres]:
    """A database of a real PostgreSQL."""
    from tests.postgres import database

    with database(postgres_folder) as made:
        yield made


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sandbox], None]:
    """Make a sandbox the default connection."""

    def run(sandbox: Sandbox) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)

    return run


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of one S3 server for all tests: Airflow keeps the first endpoint of a connection."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
