"""A sandbox, a whole Airflow without connections that the UI shows, and a browser."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from airflow_provider_contensis.sandbox import Sandbox
from tests.catalogues import catalogue_of
from tests.provider.deployment import COMPONENTS, Deployment
from tests.ui.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

ROOT = Path(__file__).parents[2]
# Chromium must not call other hosts on its own; Playwright's flags do the rest.
FLAGS = ["--disable-gpu", "--disable-quic", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Return the folder for screenshots."""
    folder = ROOT / ".ui"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


PARTS_DAG = """
import os

from airflow.sdk import DAG

from airflow_provider_contensis.task_groups.entries import ContensisExportEntriesTaskGroup

with DAG("parts", schedule=None):
    ContensisExportEntriesTaskGroup(
        "export",
        destination=os.environ["CONTENSIS_EXPORT_FOLDER"] + "/parts/",
        contensis_conn_id="watched",
        parts=3,
        page_size=5,
    )
"""


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def exports() -> Iterator[Path]:
    """Yield the folder that the example DAG writes to."""
    with tempfile.TemporaryDirectory(prefix="contensis-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def watched() -> Iterator[Sandbox]:
    """A service that an asset watches, by a connection that the UI does not show."""
    with Sandbox(catalogue_of({"film": 20})) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, exports: Path, watched: Sandbox
) -> Iterator[Deployment]:
    """An Airflow with a DAG that runs only when it is triggered, and one that runs after a publish."""
    examples = ROOT / "dags_examples"
    export = (examples / "export_entries.py").read_text()
    react = (examples / "react_to_publish.py").read_text()
    react = react.replace("poke_interval=30", 'poke_interval=2, contensis_conn_id="watched"')
    react = react.replace('task_id="export"', 'task_id="export", contensis_conn_id="watched"')
    with Deployment(
        tmp_path_factory.mktemp("deployment"),
        dags={
            "export_entries.py": export.replace('schedule="@daily"', "schedule=None"),
            "react_to_publish.py": react,
            "parts.py": PARTS_DAG,
        },
        environment={
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW_CONN_WATCHED": watched.connection_json,
            "CONTENSIS_EXPORT_FOLDER": str(exports),
        },
        components={**COMPONENTS, "triggerer": ("triggerer", "--skip-serve-logs")},
    ) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def browser(airflow: Deployment) -> Iterator[BrowserContext]:
    expect.set_options(timeout=30_000)  # milliseconds; the machine may be busy
    with sync_playwright() as playwright:
        path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium.new_context(base_url=airflow.url, viewport={"width": 1280, "height": 900})
        chromium.close()


@pytest.fixture
def page(browser: BrowserContext, screenshots: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of Airflow; a screenshot is taken when the test ends, passed or failed."""
    page = browser.new_page()
    yield page
    page.screenshot(path=screenshots / f"{re.sub('[^a-z0-9]+', '-', request.node.name).strip('-')}.png")
    page.close()


@pytest.fixture
def connections(page: Page) -> Iterator[Connections]:
    connections = Connections(page)
    yield connections
    connections.delete()
