"""The Delivery form of entries: sys, links, fields, exclusions."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_contensis.sandbox import Sandbox
from tests.sandbox.conftest import Client, make_films

MANAGEMENT_ONLY = {
    *("unavailableLanguages", "deletedLanguages", "archivedLanguages"),
    *("translationState", "schedules"),
}
IDENTITY = {"id", "language", "dataFormat", "contentTypeId", "uri", "versionStatus"}
LANTERN = [{"field": "title", "equalTo": "The Lantern Keeper"}]


def lantern(client: Client, api: str = "delivery", **options: Any) -> Any:
    [item] = client.search(LANTERN, api, **options).json()["items"]
    return item


def lantern_by_get(client: Client, **query: Any) -> Any:
    entry_id = lantern(client)["sys"]["id"]
    return client.get(f"/entries/{entry_id}", "delivery", **query).json()


def test_sys_differs_between_the_apis(client: Client) -> None:
    management, delivery = lantern(client, "management")["sys"], lantern(client)["sys"]
    assert set(management) >= MANAGEMENT_ONLY
    assert not MANAGEMENT_ONLY & set(delivery)
    assert set(management["workflow"]) == {"id", "state", "allowedEvents", "transition"}
    assert set(delivery["workflow"]) == {"id", "state"}
    assert not {"uri", "allUris", "versionStatus"} & set(management)
    assert delivery["versionStatus"] == "published"
    assert delivery["uri"] == f"/film/{delivery['slug']}"
    assert delivery["allUris"] == [delivery["uri"]]
    assert delivery["version"] == management["version"]


def test_uri_of_other_language_has_language_prefix(client: Client) -> None:
    sys = lantern_by_get(client, language="cy")["sys"]
    assert sys["uri"] == f"/cy/film/{sys['slug']}"


def test_links_have_uri_of_linked_entry(client: Client) -> None:
    management, delivery = lantern(client, "management"), lantern(client)
    assert set(management["director"]["sys"]) == {"id", "dataFormat", "language", "contentTypeId"}
    assert delivery["director"]["sys"].items() > management["director"]["sys"].items()
    assert delivery["director"]["sys"]["uri"].startswith("/person/")
    assert len(delivery["cast"]) == 2


def test_link_depth_resolves_links_and_drops_unpublished_entries(client: Client) -> None:
    management = client.search(LANTERN, linkDepth=1).json()["items"][0]
    assert "name" not in management["director"]
    url = f"{client.sandbox.url}/api/delivery/projects/filmArchive/entries/search?linkDepth=1"
    searched = client.session.post(url, json={"where": LANTERN}, timeout=10).json()["items"][0]
    listed = client.get("/contenttypes/film/entries", "delivery", linkDepth=1, order="-title").json()["items"]
    for entry in (searched, listed[0], lantern_by_get(client, linkDepth=1)):
        assert entry["director"]["name"] == "Ines Okafor"
        assert entry["director"]["sys"]["versionStatus"] == "published"
        assert [person["name"] for person in entry["cast"]] == ["Ines Okafor"]
    latest = lantern_by_get(client, linkDepth=1, versionStatus="latest")
    assert [person["name"] for person in latest["cast"]] == ["Ines Okafor", "Rhys Draft"]


@pytest.mark.parametrize("depth", [-1, 11, "deep"])
def test_link_depth_out_of_range_is_rejected(client: Client, depth: object) -> None:
    assert client.get("/entries", "delivery", linkDepth=depth).status_code == 422
    assert client.get("/entries", linkDepth=depth).status_code == 200


def test_circular_links_stop_at_link_depth() -> None:
    films = make_films()
    first, second = (films.add("film", {"title": title}) for title in ("One", "Two"))
    for one, other in ((first, second), (second, first)):
        films.update(one, {"director": {"sys": {"id": other, "dataFormat": "entry", "language": "en-GB"}}})
    with Sandbox(films) as sandbox:
        entry = Client(sandbox).get(f"/entries/{first}", "delivery", linkDepth=10).json()
    depth = 0
    while "title" in entry["director"]:
        entry, depth = entry["director"], depth + 1
    assert depth == 10


def test_fields_select_members_but_keep_identity(client: Client) -> None:
    assert set(lantern(client, fields=["title"])) == {"title", "sys"}
    assert set(lantern(client, fields=["title"])["sys"]) == IDENTITY
    selected = lantern(client, fields=["quotes.source", "sys.version.versionNo"])
    assert selected["quotes"] == [{"source": "Quayside Weekly"}]
    assert selected["sys"]["version"] == {"versionNo": "1.0"}
    reduced = lantern(client, fields=["-quotes", "-sys.version"])
    assert "quotes" not in reduced
    assert "title" in reduced
    assert "version" not in reduced["sys"]
    assert set(lantern(client, fields=["-sys"])["sys"]) == IDENTITY
    assert set(lantern_by_get(client, fields="title,runtime")) == {"title", "runtime", "sys"}
    assert set(lantern_by_get(client, fields='["title"]')) == {"title", "sys"}
    assert client.search(LANTERN, "delivery", fields=5).status_code == 422


def test_management_ignores_fields(client: Client) -> None:
    assert "quotes" in lantern(client, "management", fields=["title"])
    assert "runtime" in client.get("/entries", fields="title", order="-title").json()["items"][0]


def test_field_link_depths_resolve_links_of_single_fields(client: Client) -> None:
    entry = lantern_by_get(client, fieldLinkDepths='{"director": 1}')
    assert entry["director"]["name"] == "Ines Okafor"
    assert len(entry["cast"]) == 2
    assert all("name" not in person for person in entry["cast"])
    entry = lantern_by_get(client, linkDepth=1, fieldLinkDepths='{"director": 0}')
    assert "name" not in entry["director"]
    assert [person["name"] for person in entry["cast"]] == ["Ines Okafor"]


def test_field_link_depths_use_longest_matching_path() -> None:
    films = make_films()
    link = {"dataFormat": "entry", "language": "en-GB"}
    third = films.add("film", {"title": "Three"})
    second = films.add("film", {"title": "Two", "director": {"sys": {"id": third, **link}}})
    first = films.add("film", {"title": "One", "director": {"sys": {"id": second, **link}}})
    with Sandbox(films) as sandbox:

        def expand(value: str) -> dict[str, Any]:
            entry: dict[str, Any] = (
                Client(sandbox).get(f"/entries/{first}", "delivery", fieldLinkDepths=value).json()
            )
            return entry

        assert expand('{"director": 2}')["director"]["director"]["title"] == "Three"
        assert "title" not in expand('{"director": 2, "director.director": 0}')["director"]["director"]
        assert expand('{"director": 1, "director.director": 1}')["director"]["director"]["title"] == "Three"


@pytest.mark.parametrize(
    ("value", "status"),
    [("director", 400), ("[1]", 422), ('{"director": 11}', 422), ('{"director": "deep"}', 422)],
)
def test_invalid_field_link_depths_are_rejected(client: Client, value: str, status: int) -> None:
    assert client.get("/entries", "delivery", fieldLinkDepths=value).status_code == status
    assert client.get("/entries", fieldLinkDepths=value).status_code == 200


def test_delivery_omits_excluded_sys_fields() -> None:
    films = make_films()
    films.project["deliverySysExclusions"] = ["sys.owner", "sys.version.*", "sys.workflow.state", "sys.id"]
    with Sandbox(
        type(films)(films.project, films.content_types.values(), films.select(lambda _: True)[1])
    ) as sandbox:
        client = Client(sandbox)
        delivery, management = lantern(client)["sys"], lantern(client, "management")["sys"]
    assert not {"owner", "version"} & set(delivery)
    assert delivery["workflow"] == {"id": "contensisEntryBasic"}
    assert delivery["id"] == management["id"]
    assert {"owner", "version"} <= set(management)


def test_delivery_omits_content_types_not_included_in_delivery() -> None:
    films = make_films()
    films.content_types["person"]["includeInDelivery"] = False
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        assert [item["id"] for item in client.get("/contenttypes", "delivery").json()] == ["film"]
        assert client.get("/contenttypes/person", "delivery").status_code == 404
        assert client.get("/contenttypes/person").status_code == 200


def test_delivery_has_no_list_of_projects(client: Client) -> None:
    assert client.session.get(f"{client.sandbox.url}/api/delivery/projects", timeout=10).status_code == 404
