"""The query language: every operator over HTTP, order, and rejected queries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Sandbox, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import instant
from tests.sandbox.conftest import Client

if TYPE_CHECKING:
    import requests

FILMS = [{"field": "sys.contentTypeId", "equalTo": "film"}, {"field": "sys.language", "equalTo": "en-GB"}]
LANTERN, NINE, HARBOUR, LIGHTS, QUAY = (
    *("The Lantern Keeper", "Nine Storms", "Harbour"),
    *("harbour lights", "Quay*"),
)
ALL = [LANTERN, NINE, HARBOUR, LIGHTS, QUAY]


def titles(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["entryTitle"] for item in response.json()["items"]]


def found(client: Client, *clauses: Any) -> list[str]:
    """Return the titles of the matching published films, in the order they were created."""
    published = {"field": "sys.versionStatus", "equalTo": "published"}
    response = client.search([*FILMS, published, *clauses], orderBy=[{"asc": "sys.version.created"}])
    return titles(response)


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ({"field": "title", "equalTo": "HARBOUR"}, [HARBOUR]),
        ({"field": "runtime", "equalTo": 94}, [LANTERN]),
        ({"field": "rating", "equalTo": 6.25}, [NINE]),
        ({"field": "colour", "equalTo": False}, [LANTERN]),
        ({"field": "runtime", "equalTo": True}, []),
        ({"field": "genres", "equalTo": "sea"}, [LANTERN]),
        ({"field": "tagline", "equalTo": "x" * 9000}, []),
        ({"field": "runtime", "in": [88, 120, 1]}, [NINE, HARBOUR]),
        ({"field": "title", "in": ["harbour", "nine storms"]}, [NINE, HARBOUR]),
        ({"field": "runtime", "in": []}, []),
        ({"field": "runtime", "between": [94, 101]}, [LANTERN, LIGHTS]),
        ({"field": "runtime", "greaterThan": 101}, [NINE]),
        ({"field": "runtime", "greaterThanOrEqualTo": 101}, [NINE, LIGHTS]),
        ({"field": "runtime", "lessThan": 94}, [HARBOUR]),
        ({"field": "runtime", "lessThanOrEqualTo": 94}, [LANTERN, HARBOUR]),
        ({"field": "title", "greaterThan": "PA"}, [LANTERN, QUAY]),
        ({"field": "releaseDate", "greaterThan": "2031-04-02T00:00:00Z"}, [NINE, LIGHTS]),
        ({"field": "releaseDate", "equalTo": "2031-04-02"}, [LANTERN, HARBOUR]),
        ({"field": "releaseDate", "lessThan": "2031-04-01T23:00:00.0000001-01:00"}, [LANTERN, HARBOUR]),
        ({"field": "releaseDate", "between": ["2031-04-02T00:00:00.0000001Z", "2032"]}, [NINE]),
        ({"field": "title", "contains": "arbour"}, [HARBOUR, LIGHTS]),
        ({"field": "title", "contains": "h*r l?ghts"}, [LIGHTS]),
        ({"field": "tagline", "contains": "x"}, []),
        ({"field": "body", "contains": "lamp goes"}, [LANTERN]),
        ({"field": "title", "startsWith": "HARB"}, [HARBOUR, LIGHTS]),
        ({"field": "title", "endsWith": "storms"}, [NINE]),
        ({"field": "quotes.source", "startsWith": "quayside"}, [LANTERN]),
        ({"field": "place.lat", "greaterThan": 52}, [LANTERN]),
        ({"field": "tagline", "exists": True}, [LANTERN, HARBOUR, QUAY]),
        ({"field": "tagline", "exists": False}, [NINE, LIGHTS]),
        ({"field": "genres", "exists": False}, [HARBOUR, LIGHTS, QUAY]),
        ({"field": "place", "exists": True}, [LANTERN, NINE]),
        ({"field": "nonsense", "exists": True}, []),
        ({"field": "title", "freeText": "keeper lantern"}, [LANTERN]),
        ({"field": "title", "freeText": {"term": "keeper storms", "operator": "or"}}, [LANTERN, NINE]),
        ({"field": "title", "freeText": "keeper storms"}, []),
        ({"field": "title", "freeText": {"term": "harbor", "fuzzy": True}}, [HARBOUR, LIGHTS]),
        ({"field": "title", "freeText": "harb"}, []),
        ({"field": "*", "freeText": "fog"}, [LANTERN]),
        ({"field": "searchContent", "contains": "quay"}, [LANTERN, QUAY]),
        ({"field": "entryDescription", "startsWith": "quiet"}, [HARBOUR]),
        ({"field": "place", "distanceWithin": {"lat": 52.4, "lon": -2.7, "distance": "10km"}}, [LANTERN]),
        (
            {"field": "place", "distanceWithin": {"lat": 52.4, "lon": -2.7, "distance": "100mi"}},
            [LANTERN, NINE],
        ),
        ({"not": {"field": "runtime", "greaterThan": 90}}, [HARBOUR, QUAY]),
        ({"not": [{"field": "runtime", "greaterThan": 90}]}, [HARBOUR, QUAY]),
        (
            {"or": [{"field": "runtime", "equalTo": 88}, {"field": "title", "startsWith": "quay"}]},
            [HARBOUR, QUAY],
        ),
        (
            {"and": [{"field": "colour", "equalTo": True}, {"not": {"field": "rating", "exists": True}}]},
            [HARBOUR],
        ),
        ({"field": "title", "freeText": "harbour", "weight": 5}, [HARBOUR, LIGHTS]),
        ({"field": "director.sys.contentTypeId", "equalTo": "person"}, [LANTERN]),
        ({"field": "sys.version.versionNo", "equalTo": "1.0"}, ALL),
    ],
)
def test_operator_selects_matching_entries(
    client: Client, clause: dict[str, Any], expected: list[str]
) -> None:
    assert found(client, clause) == expected


@pytest.mark.parametrize(
    "where",
    [
        "text",
        [1],
        [{"field": "title"}],
        [{"equalTo": "x"}],
        [{"field": "title", "equals": "x"}],
        [{"field": "title", "equalTo": "x", "contains": "y"}],
        [{"field": "title", "equalTo": ["x"]}],
        [{"field": "title", "equalTo": None}],
        [{"field": "title", "in": "x"}],
        [{"field": "runtime", "between": [1]}],
        [{"field": "title", "contains": 5}],
        [{"field": "title", "exists": "true"}],
        [{"field": "title", "freeText": {"term": "x", "operator": "xor"}}],
        [{"field": "title", "freeText": {"term": "x", "fuzzy": "yes"}}],
        [{"field": "*", "contains": "x"}],
        [{"field": "place", "distanceWithin": {"lat": 1, "lon": 1, "distance": "10 parsecs"}}],
        [{"field": "sys.version.created", "greaterThan": "now()"}],
        [{"field": "sys.version.created", "greaterThan": "-1d"}],
        [{"or": []}],
        [{"or": {"field": "title", "equalTo": "x"}}],
        [{"not": [{"field": "a", "exists": True}, {"field": "b", "exists": True}]}],
        [{"and": [{"field": "title", "nonsense": 1}]}],
        [{"field": "title", "equalTo": "x", "weight": "heavy"}],
    ],
)
def test_invalid_where_is_a_validation_error(client: Client, where: Any) -> None:
    response = client.search(where)
    assert response.status_code == 422
    assert response.json()["type"] == "Validation"
    [detail] = response.json()["data"]
    assert detail["field"].startswith("where")
    assert detail["message"]


def test_zenql_is_rejected_not_ignored(client: Client) -> None:
    statement = "sys.contentTypeId = film"
    responses = [
        client.search([], zenql=statement),
        client.get("/entries/search", zenql=statement),
        client.get("/entries", zenql=statement),
        client.get("/entries", "delivery", zenql=statement),
    ]
    assert [response.status_code for response in responses] == [422] * 4
    assert "does not speak" in responses[0].json()["data"][0]["message"]


def test_search_by_get_accepts_json_in_query(client: Client) -> None:
    where = [*FILMS, {"field": "title", "startsWith": "harbour"}]
    query: dict[str, Any] = {
        "where": json.dumps(where),
        "orderBy": json.dumps([{"desc": "title"}]),
        "pagesize": 1,
    }
    response = client.get("/entries/search", **query)
    assert titles(response) == [LIGHTS]
    assert response.json()["totalCount"] == 2
    assert client.get("/entries/search", where="[{").status_code == 400
    assert titles(client.get("/entries/search", where=json.dumps(where), orderBy="-title"))[0] == LIGHTS


def test_search_by_post_must_be_json(client: Client) -> None:
    url = f"{client.sandbox.url}/api/management/projects/filmArchive/entries/search"
    form = client.session.post(url, data={"pageSize": 5}, timeout=10)
    headers = {"content-type": "application/json; charset=utf-8"}
    broken = client.session.post(url, data="{", headers=headers, timeout=10)
    array = client.session.post(url, data="[]", headers=headers, timeout=10)
    assert [form.status_code, broken.status_code, array.status_code] == [415, 400, 422]


def test_order_by_several_fields_ignores_case_and_puts_missing_values_last(client: Client) -> None:
    published = {"field": "sys.versionStatus", "equalTo": "published"}

    def ordered(order: Any) -> list[str]:
        return titles(client.search([*FILMS, published], orderBy=order))

    assert ordered([{"asc": "title"}]) == [HARBOUR, LIGHTS, NINE, QUAY, LANTERN]
    assert ordered([{"asc": "runtime"}]) == [HARBOUR, LANTERN, LIGHTS, NINE, QUAY]
    assert ordered([{"desc": "runtime"}]) == [NINE, LIGHTS, LANTERN, HARBOUR, QUAY]
    assert ordered(["-runtime", "title"]) == [NINE, LIGHTS, LANTERN, HARBOUR, QUAY]
    assert ordered("-runtime,title") == [NINE, LIGHTS, LANTERN, HARBOUR, QUAY]
    assert ordered([{"asc": "releaseDate"}, {"desc": "title"}]) == [LANTERN, HARBOUR, NINE, LIGHTS, QUAY]
    assert ordered([{"asc": "nonsense"}, {"asc": "title"}]) == [HARBOUR, LIGHTS, NINE, QUAY, LANTERN]


@pytest.mark.parametrize("order", [5, [{"up": "title"}], [{"asc": "a", "desc": "b"}], [{"asc": 1}]])
def test_invalid_order_is_rejected(client: Client, order: Any) -> None:
    assert client.search([], orderBy=order).status_code == 422


def test_pages_overlap_without_an_order() -> None:
    with Sandbox(synthetic_catalogue(300, body_bytes=10)) as sandbox:
        client = Client(sandbox)

        def read_pages(**options: Any) -> list[str]:
            pages = [client.search([], pageIndex=index, pageSize=100, **options) for index in range(3)]
            return [item["sys"]["id"] for page in pages for item in page.json()["items"]]

        assert len(set(read_pages())) < 300
        ordered = read_pages(orderBy=[{"asc": "sys.version.created"}, {"asc": "sys.id"}])
        assert len(set(ordered)) == 300
        assert ordered == read_pages(orderBy=[{"asc": "sys.version.created"}, {"asc": "sys.id"}])


def test_order_of_unordered_results_depends_on_seed() -> None:
    catalogue = synthetic_catalogue(50, body_bytes=10)
    runs = []
    for seed in (1, 1, 2):
        with Sandbox(catalogue, seed=seed) as sandbox:
            client = Client(sandbox)
            runs.append([client.search([]).json()["items"] for _ in range(2)])
    assert runs[0] == runs[1] != runs[2]


def test_list_is_ordered_by_title_by_default(client: Client) -> None:
    listed = titles(client.get("/contenttypes/film/entries"))
    assert listed == [HARBOUR, LIGHTS, QUAY, "Ten Storms", LANTERN, "Zephyr"]


def test_default_version_status_differs_between_apis(client: Client) -> None:
    where = [{"field": "sys.contentTypeId", "equalTo": "film"}]
    management, delivery = client.search(where), client.search(where, "delivery")
    assert (management.json()["totalCount"], delivery.json()["totalCount"]) == (7, 6)
    assert "Ten Storms" in titles(management)
    assert "Nine Storms" in titles(delivery)


def test_version_status_applies_anywhere_in_query(client: Client) -> None:
    storms = {"field": "title", "endsWith": "storms"}
    both = {"field": "sys.versionStatus", "in": ["latest", "published"]}
    latest = {"or": [{"field": "sys.versionStatus", "equalTo": "latest"}]}
    assert sorted(titles(client.search([*FILMS, storms, both]))) == ["Nine Storms", "Ten Storms"]
    assert titles(client.search([*FILMS, storms, latest], "delivery")) == ["Ten Storms"]


def test_search_returns_all_languages_by_default(client: Client) -> None:
    where = [{"field": "sys.contentTypeId", "equalTo": "FILM"}]
    welsh = {"field": "sys.language", "equalTo": "CY"}
    assert client.search(where).json()["totalCount"] == 7
    assert titles(client.search([*where, welsh])) == ["Ceidwad y Llusern"]


def test_dates_are_compared_to_seventh_fraction_digit() -> None:
    assert instant("2031-03-30T10:15:10.7048498Z") == (instant("2031-03-30T10:15:10.7048497Z") or 0) + 1
    assert instant("2031-03-30T10:15:10.1Z") == instant("2031-03-30T10:15:10.1000000Z")
    assert instant("2031-03-30T10:15:10Z") == instant("2031-03-30T11:15:10+01:00")
    assert instant("2031-03-30T10:15:10") == instant("2031-03-30T10:15:10Z")
    assert instant("2031-03-30") == instant("2031-03-30T00:00:00Z")
    assert [instant(text) for text in ("", "2031", "2031-13-01", "31/03/2031", "2031-03-30T25:00:00Z")] == [
        None
    ] * 5
