"""The search index lags behind gets by id, for a set time or until it is refreshed."""

from __future__ import annotations

import math
import time
from typing import Any

from airflow_provider_contensis.sandbox import Sandbox
from tests.sandbox.conftest import Client, make_films


def titles(client: Client, **options: Any) -> set[str]:
    return {item["entryTitle"] for item in client.search([], pageSize=100, **options).json()["items"]}


def test_lagging_search_does_not_show_changes_that_gets_show() -> None:
    films = make_films()
    changed, deleted = (films.add("film", {"title": title}) for title in ("Changed", "Deleted"))
    films.index_lag = math.inf
    added = films.add("film", {"title": "Added"})
    films.update(changed, {"title": "Changed again"})
    films.delete(deleted)
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        old = titles(client)
        assert {"Changed", "Deleted"} <= old
        assert not old & {"Added", "Changed again"}
        assert {item["entryTitle"] for item in client.get("/entries", pageSize=100).json()["items"]} < old
        counts = client.search([], aggregations={"byTitle": {"field": "entryTitle", "size": 100}}).json()
        assert counts["aggregations"]["byTitle"]["deleted"] == 1
        assert client.get(f"/entries/{added}").status_code == 200
        assert client.get(f"/entries/{changed}", "delivery").json()["title"] == "Changed again"
        assert client.get(f"/entries/{deleted}").status_code == 404
        assert len(films.entries("latest")) == len(old)
        films.refresh_index()
        assert titles(client) == old - {"Changed", "Deleted"} | {"Added", "Changed again"}
        assert "Deleted" in titles(client, includeDeleted=True)


def test_search_shows_change_once_lag_is_over() -> None:
    films = make_films()
    films.index_lag = 0.3
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        started = time.monotonic()
        films.add("film", {"title": "Added"})
        while "Added" not in titles(client):
            assert time.monotonic() - started < 10
        assert time.monotonic() - started >= 0.3


def test_index_without_lag_shows_all_changes() -> None:
    films = make_films()
    films.index_lag = math.inf
    films.add("film", {"title": "Added"})
    films.index_lag = 0
    with Sandbox(films) as sandbox:
        assert "Added" in titles(Client(sandbox))
