"""The page of an asset that follows Contensis, after somebody has published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.feeds import load, served

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from airflow_provider_contensis.sandbox import Sandbox
    from tests.provider.deployment import Deployment

DAG_ID = "contensis_react_to_publish"


def test_asset_page_shows_the_event_of_a_publish_and_its_payload(
    airflow: Deployment, watched: Sandbox, exports: Path, page: Page
) -> None:
    feed = exports / "feed"
    airflow.wait_until(lambda: (feed / "_feed.json").exists(), "the first event has started a run")
    [entry, *_] = watched.catalogue.entries(content_type_id="film")
    watched.catalogue.publish(json.loads(entry)["sys"]["id"])
    airflow.wait_until(lambda: load(feed) == served(watched.catalogue), "the publish has started a run")
    airflow.wait_until(lambda: len(airflow.asset_events()) == 2, "the event is fired")

    page.goto("/assets")
    page.get_by_role("link", name="contensis_entries").first.click()
    newest = page.get_by_role("code").first
    for member in ("payload", "entries_before"):
        newest.get_by_title("Click to expand the range.").first.click()
        expect(newest).to_contain_text(member)
    for shown in ('"changed": 1', '"entries": 20', '"entries_before": 20'):
        expect(newest).to_contain_text(shown)
