"""Aggregations: counts by value beside the results of a search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Sandbox
from tests.sandbox.conftest import Client

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue

FILMS = [{"field": "sys.contentTypeId", "equalTo": "film"}]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ({"field": "sys.contentTypeId", "size": 1000}, {"film": 7}),
        ({"field": "sys.language"}, {"en-gb": 6, "cy": 1}),
        ({"field": "genres"}, {"drama": 2, "sea": 1}),
        ({"field": "genres", "missing": "none"}, {"none": 5, "drama": 2, "sea": 1}),
        ({"field": "title", "size": 2}, {"ceidwad y llusern": 1, "harbour": 1}),
        ({"field": "colour"}, {"true": 2, "false": 1}),
        ({"field": "runtime", "size": 1}, {"94": 2}),
        ({"field": "place"}, {}),
        ({"field": "nonsense"}, {}),
    ],
)
def test_values_of_all_results_are_counted(
    client: Client, aggregation: dict[str, Any], expected: dict[str, int]
) -> None:
    page = client.search(FILMS, pageSize=1, aggregations={"counted": aggregation}).json()
    assert list(page)[-2:] == ["items", "aggregations"]
    assert list(page["aggregations"]["counted"].items()) == list(expected.items())


@pytest.mark.parametrize("api", ["management", "delivery"])
def test_gets_take_aggregations_as_json(client: Client, api: str) -> None:
    aggregations = json.dumps({"byType": {"field": "sys.contentTypeId"}, "byTitle": {"field": "entryTitle"}})
    for path in ("/entries/search", "/entries"):
        page = client.get(path, api, aggregations=aggregations, pageSize=1).json()
        assert list(page["aggregations"]) == ["byType", "byTitle"]
        assert sum(page["aggregations"]["byType"].values()) == page["totalCount"] > 1


@pytest.mark.parametrize(
    ("aggregations", "field"),
    [
        ("text", "aggregations"),
        ({"counts": {}}, "aggregations.counts"),
        ({"counts": {"field": "title", "size": 0}}, "aggregations.counts"),
        ({"counts": {"field": "title", "size": True}}, "aggregations.counts"),
        ({"counts": {"field": "title", "missing": 1}}, "aggregations.counts"),
        ({"buckets": {"field": "title"}}, "aggregations.buckets"),
    ],
)
def test_wrong_aggregation_is_rejected(client: Client, aggregations: Any, field: str) -> None:
    response = client.search([], aggregations=aggregations)
    assert response.status_code in (400, 422)
    assert response.json()["data"][0]["field"] == field


def test_service_without_aggregations_ignores_them(films: Catalogue) -> None:
    with Sandbox(films, aggregations=False) as sandbox:
        client = Client(sandbox)
        page = client.search([], aggregations={"byType": {"field": "sys.contentTypeId"}})
        assert page.status_code == 200
        assert "aggregations" not in page.json()
        assert client.search([], aggregations="text").status_code == 200
