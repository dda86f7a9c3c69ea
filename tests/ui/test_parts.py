"""An export by many tasks, as people see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.provider.deployment import Deployment


def test_mapped_parts_have_readable_names(airflow: Deployment, page: Page) -> None:
    assert airflow.run("parts") == "success"
    [run] = airflow.runs("parts")
    page.goto("/")
    page.goto(f"/dags/parts/runs/{quote(run['dag_run_id'])}/tasks/export.read/mapped")
    expect(page.get_by_text("part 1 of 3: film en-GB", exact=True).first).to_be_visible()
    expect(page.get_by_text("part 3 of 3: film en-GB from 2").first).to_be_visible()
