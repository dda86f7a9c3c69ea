"""A DAG with a connection from the form, triggered and watched in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from playwright.sync_api import Page

    from airflow_provider_contensis.sandbox import Sandbox
    from tests.provider.deployment import Deployment
    from tests.ui.connections import Connections

DAG_ID = "contensis_export_entries"


def test_run_triggered_in_browser_succeeds_and_logs_its_progress(
    airflow: Deployment,
    sandbox: Sandbox,
    connections: Connections,
    page: Page,
    screenshots: Path,
    exports: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Progress is logged every ten seconds, so the export has to take longer: 80 pages, four at a time.
    monkeypatch.setattr(sandbox, "latency", 0.6)
    connections.add(sandbox.connection)
    airflow.wait_for(DAG_ID)
    page.goto(f"/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    for task_id in ("check_connection", "export", "report"):
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=task_id, exact=True))
        expect(row.get_by_text("Success")).to_be_visible(timeout=90_000)

    page.get_by_role("row").get_by_role("link", name="export", exact=True).click()
    assert airflow.extra_links(DAG_ID, "export") == {"Contensis": sandbox.url}
    served = list(sandbox.catalogue.entries("published"))
    log = page.get_by_test_id("virtualized-list")
    expect(log).to_contain_text("Content types: country, currency")
    expect(log).to_contain_text(f"Found {len(served):,} entries")
    expect(log).to_contain_text(re.compile(rf"Read [\d,]+ of {len(served):,} entries \(\d+%\)"))
    expect(log).to_contain_text(f"Proof: {len(served):,} distinct (sys.id, sys.language)")
    assert sorted((exports / "entries.jsonl").read_bytes().splitlines()) == sorted(served)

    page.set_viewport_size({"width": 1100, "height": 380})
    page.keyboard.press("w")  # wraps long lines
    page.keyboard.press("f")  # fills the page with the log
    expect(page.get_by_role("dialog")).to_contain_text("Proof:")
    page.screenshot(path=screenshots / "log.png", animations="disabled")
