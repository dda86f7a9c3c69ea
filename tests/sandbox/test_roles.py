"""A content type that the API key has no role for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import Sandbox
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_TYPE = {"byType": {"field": "sys.contentTypeId"}}


@pytest.fixture
def client() -> Iterator[Client]:
    with Sandbox(make_films()) as sandbox:
        yield Client(sandbox)


@pytest.mark.parametrize("api", ["management", "delivery"])
def test_hidden_content_type_is_left_out_until_role_returns(client: Client, api: str) -> None:
    def seen() -> tuple[list[str], set[str], set[str], dict[str, int]]:
        definitions = [item["id"] for item in client.get("/contenttypes", api).json()]
        listed = client.get("/entries", api).json()["items"]
        page = client.search([], api, aggregations=BY_TYPE).json()
        types = [{item["sys"]["contentTypeId"] for item in items} for items in (listed, page["items"])]
        assert page["totalCount"] == len(page["items"])
        return definitions, types[0], types[1], page["aggregations"]["byType"]

    everything = seen()
    assert everything[:3] == (["person", "film"], {"person", "film"}, {"person", "film"})
    client.sandbox.api.hidden_types = {"Film"}
    assert seen() == (["person"], {"person"}, {"person"}, {"person": everything[3]["person"]})
    client.sandbox.api.hidden_types = ()
    assert seen() == everything


@pytest.mark.parametrize("path", ["/contenttypes/film", "/contenttypes/film/entries", "/entries/{id}"])
def test_hidden_resource_is_missing_or_forbidden(client: Client, path: str) -> None:
    [film] = client.search([{"field": "entryTitle", "equalTo": "Harbour"}]).json()["items"]
    path = path.format(id=film["sys"]["id"])
    assert client.get(path).status_code == 200
    client.sandbox.api.hidden_types = ["film"]
    missing = client.get(path)
    assert missing.status_code == 404
    assert missing.json()["message"].endswith("does not exist")
    client.sandbox.api.hidden_status = 403
    forbidden = client.get(path)
    assert (forbidden.status_code, forbidden.json()["type"]) == (403, "Error")
    assert client.search([{"field": "sys.contentTypeId", "equalTo": "film"}]).json()["totalCount"] == 0
