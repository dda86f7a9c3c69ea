"""Projects, content types and entries: single resources, lists, paging, and error responses."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    import requests

NO_LOG_ID = "00000000-0000-0000-0000-000000000000"


def entry_id(client: Client, title: str) -> str:
    where = [{"field": "entryTitle", "equalTo": title}]
    [item] = client.search(where).json()["items"]
    return str(item["sys"]["id"])


def test_projects_content_types_and_components_have_no_envelope(client: Client) -> None:
    url = f"{client.sandbox.url}/api/management/projects"
    assert [item["id"] for item in client.session.get(url, timeout=10).json()] == ["filmArchive"]
    assert client.get().json()["supportedLanguages"] == ["en-GB", "cy"]
    assert [item["id"] for item in client.get("/contenttypes").json()] == ["person", "film"]
    assert client.get("/contenttypes", dataFormat="asset").json() == []
    assert client.get("/contenttypes/film").json()["entryTitleField"] == "title"
    assert client.get("/contenttypes/film", version="1.0").status_code == 200
    assert client.get("/contenttypes/film", version="9.0").status_code == 404
    assert client.get("/components").json() == []
    assert client.get("/components/quote").status_code == 404


def test_sandbox_serves_several_projects(films: Catalogue) -> None:
    with Sandbox([films, synthetic_catalogue(3)]) as sandbox:
        client = Client(sandbox)
        url = f"{sandbox.url}/api/management/projects"
        projects = client.session.get(url, timeout=10).json()
        assert [project["id"] for project in projects] == ["filmArchive", "synthetic"]
        assert client.session.get(f"{url}/synthetic/entries", timeout=10).json()["totalCount"] == 3
        assert sandbox.project_id == "filmArchive"


def test_paths_and_query_names_ignore_case_and_trailing_slash(client: Client) -> None:
    base = f"{client.sandbox.url}/API/Management/Projects/FILMARCHIVE"
    listed = client.session.get(f"{base}/contentTypes/Film/Entries/?PAGESIZE=2&unknown=1", timeout=10)
    assert listed.status_code == 200
    assert listed.json()["pageSize"] == 2


def test_ids_in_paths_are_decoded(client: Client) -> None:
    response = client.get("/entries/a%2Fb%20%C3%A9")
    assert response.json()["message"] == "The specified entry with ID 'a/b é' does not exist"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/entries/4d4f4a6e-0000-4000-8000-000000000000", "The specified entry with ID '4d4f4a6e-"),
        ("/contenttypes/play", "The specified content type with ID 'play' does not exist"),
        ("/contenttypes/play/entries", "The specified content type with ID 'play' does not exist"),
        ("/nonsense", "No resource was found at '/api/"),
    ],
)
def test_missing_resource_is_404_in_envelope_of_its_api(client: Client, path: str, message: str) -> None:
    management, delivery = client.get(path), client.get(path, "delivery")
    assert management.status_code == delivery.status_code == 404
    assert management.json()["message"].startswith(message)
    assert management.json() | {"message": ""} == {
        "logId": NO_LOG_ID,
        "message": "",
        "data": None,
        "type": "Error",
    }
    assert delivery.json() | {"message": ""} == {
        "logId": NO_LOG_ID,
        "message": "",
        "data": {},
        "type": "error",
    }


def test_unknown_project_is_named_in_error(client: Client) -> None:
    response = client.session.get(f"{client.sandbox.url}/api/management/projects/nope/entries", timeout=10)
    assert response.status_code == 404
    assert response.json()["message"] == "The specified project with ID 'nope' does not exist"


def test_write_requests_are_rejected(client: Client) -> None:
    url = f"{client.sandbox.url}/api/management/projects/filmArchive/entries"
    assert client.session.post(url, json={}, timeout=10).status_code == 405
    assert client.session.delete(f"{url}/x", timeout=10).status_code == 405


def test_entry_is_selected_by_language_and_version_status(client: Client) -> None:
    lantern, storms = entry_id(client, "The Lantern Keeper"), entry_id(client, "Ten Storms")
    assert client.get(f"/entries/{lantern.upper()}").json()["entryTitle"] == "The Lantern Keeper"
    assert client.get(f"/entries/{lantern}", language="CY").json()["entryTitle"] == "Ceidwad y Llusern"
    assert client.get(f"/entries/{lantern}", language="fr").status_code == 404
    assert client.get(f"/entries/{storms}").json()["entryTitle"] == "Ten Storms"
    assert client.get(f"/entries/{storms}", "delivery").json()["entryTitle"] == "Nine Storms"
    published = client.get(f"/entries/{storms}", VersionStatus="Published").json()
    assert published["entryTitle"] == "Nine Storms"
    assert client.get(f"/entries/{storms}", versionStatus="draft").status_code == 422


def test_version_number_takes_precedence_over_version_status(client: Client) -> None:
    storms = entry_id(client, "Ten Storms")
    old = client.get(f"/entries/{storms}", version="1.0", versionStatus="latest")
    assert old.json()["entryTitle"] == "Nine Storms"
    assert client.get(f"/entries/{storms}", version="1.1").json()["entryTitle"] == "Ten Storms"
    assert client.get(f"/entries/{storms}", version="7.0").status_code == 404


def test_draft_exists_as_latest_only(client: Client) -> None:
    zephyr = entry_id(client, "Zephyr")
    draft = client.get(f"/entries/{zephyr}").json()["sys"]
    assert (draft["isPublished"], draft["version"]["published"]) == (False, None)
    assert client.get(f"/entries/{zephyr}", versionStatus="published").status_code == 404


def test_lists_return_primary_language_by_default(client: Client) -> None:
    def languages(**query: str) -> set[str]:
        items = client.get("/contenttypes/film/entries", **query).json()["items"]
        return {item["sys"]["language"] for item in items}

    assert languages() == {"en-GB"}
    assert languages(language="cy") == {"cy"}
    assert languages(language="de") == set()


def test_page_has_five_members(client: Client) -> None:
    page = client.get("/contenttypes/film/entries", pageIndex=1, pageSize=4, order="-runtime").json()
    assert list(page) == ["pageIndex", "pageSize", "totalCount", "pageCount", "items"]
    assert [page[name] for name in list(page)[:4]] == [1, 4, 6, 2]
    assert [item["runtime"] for item in page["items"]] == [60, None]
    past = client.get("/contenttypes/film/entries", pageIndex=9).json()
    assert (past["items"], past["pageSize"], past["totalCount"], past["pageCount"]) == ([], 25, 6, 1)
    empty = client.search([{"field": "title", "equalTo": "nothing"}]).json()
    assert empty == {"pageIndex": 0, "pageSize": 25, "totalCount": 0, "pageCount": 0, "items": []}


@pytest.mark.parametrize(
    "options",
    [{"pageSize": 0}, {"pageSize": 10_001}, {"pageSize": "many"}, {"pageIndex": -1}, {"pageIndex": 1.5}],
)
def test_invalid_page_index_or_size_is_rejected(client: Client, options: dict[str, Any]) -> None:
    for response in (client.get("/entries", **options), client.search([], **options)):
        assert response.status_code == 422
        assert response.json()["data"][0]["field"] == next(iter(options))


def test_rows_past_window_are_served_only_if_enabled() -> None:
    catalogue = synthetic_catalogue(10_010, body_bytes=5)
    with Sandbox(catalogue) as sandbox:
        client = Client(sandbox)
        order = [{"asc": "sys.version.created"}, {"asc": "sys.id"}]

        def large_page(**options: Any) -> requests.Response:
            return client.search([], orderBy=order, pageSize=5_000, **options)

        assert len(large_page(pageIndex=1).json()["items"]) == 5_000
        rejected = large_page(pageIndex=2)
        assert rejected.status_code == 422
        assert "10000" in rejected.json()["data"][0]["message"]
        sandbox.api.beyond_window = "empty"
        assert (large_page(pageIndex=2).json()["items"], large_page().json()["totalCount"]) == ([], 10_010)
        sandbox.api.beyond_window = "serve"
        assert len(large_page(pageIndex=2).json()["items"]) == 10
        sandbox.api.cap_total_count = True
        assert (large_page().json()["totalCount"], large_page().json()["pageCount"]) == (10_000, 2)


def test_lists_return_assets_only_on_request() -> None:
    films = make_films()
    asset_type = films.content_types["film"] | {"id": "image", "dataFormat": "asset"}
    films.content_types["image"] = asset_type
    films.add("image", {"title": "lantern"})
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        counts = [
            client.get("/entries", dataFormat=kind).json()["totalCount"]
            for kind in ("entries", "assets", "all")
        ]
        assert counts == [8, 1, 9]
        assert client.get("/entries").json()["totalCount"] == 8
        assert client.get("/entries", dataFormat="forms").status_code == 422
        [image] = client.search([{"field": "sys.dataFormat", "equalTo": "asset"}], "delivery").json()["items"]
        assert "allUris" not in image["sys"]
        assert "entryThumbnail" not in image


def test_edits_appear_in_next_response() -> None:
    films = make_films()
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        where = [{"field": "sys.contentTypeId", "equalTo": "film"}]

        def published() -> list[str]:
            found = client.search(
                where, "delivery", orderBy=[{"asc": "sys.version.created"}, {"asc": "sys.id"}]
            )
            return [item["entryTitle"] for item in found.json()["items"]]

        before, revision = published(), films.revision
        added = films.add("film", {"title": "New"}, at="2040-01-01T00:00:00Z")
        assert published() == [*before, "New"]
        films.update(added, {"title": "Newer"})
        assert published() == [*before, "Newer"]
        films.update(added, {"title": "Newest"}, publish=False)
        assert published() == [*before, "Newer"]
        sys = client.get(f"/entries/{added}").json()["sys"]
        assert (sys["version"]["versionNo"], sys["workflow"]["state"], sys["isPublished"]) == (
            "2.1",
            "draft",
            True,
        )
        films.publish(added)
        assert published() == [*before, "Newest"]
        films.unpublish(added)
        assert published() == before
        assert client.get(f"/entries/{added}").json()["sys"]["isPublished"] is False
        assert films.revision > revision


def test_publishing_does_not_change_modified_time() -> None:
    films = make_films()
    added = films.add("film", {"title": "New"}, publish=False, at="2040-01-01T00:00:00Z")
    films.publish(added, at="2040-01-02T00:00:00Z")
    document = films.find(added, None, "published")
    assert document is not None
    version = document.entry()["sys"]["version"]
    assert (version["modified"], version["published"]) == ("2040-01-01T00:00:00Z", "2040-01-02T00:00:00Z")


def test_every_variation_lists_available_languages() -> None:
    films = make_films()
    added = films.add("film", {"title": "New"})
    with pytest.raises(ValueError, match="already exists in en-GB"):
        films.add("film", {"title": "Again"}, entry_id=added)
    films.add("film", {"title": "Newydd"}, entry_id=added, language="cy")
    english = films.find(added, "en-GB", "published")
    assert english is not None
    assert english.entry()["sys"]["availableLanguages"] == ["cy", "en-GB"]
    films.delete(added, language="cy")
    english = films.find(added, "en-GB", "published")
    assert english is not None
    assert english.entry()["sys"]["unavailableLanguages"] == ["cy"]
    for change in (films.publish, films.unpublish, films.delete):
        with pytest.raises(KeyError):
            change(added, language="cy")


def test_catalogue_entries_equal_served_bytes(client: Client, films: Catalogue) -> None:
    order = [{"asc": "sys.version.created"}, {"asc": "sys.id"}]
    for api in ("management", "delivery"):
        for status in ("latest", "published"):
            where = [{"field": "sys.versionStatus", "equalTo": status}]
            body = client.search(where, api, orderBy=order).content
            served = films.entries(status, api=api)
            assert body.partition(b'"items":')[2] == b"[" + b",".join(served) + b"]}"
    assert len(films.entries("published", content_type_id="film", language="cy")) == 1


def test_responses_are_consistent_during_edits() -> None:
    films = make_films()
    with Sandbox(films, gzip=False) as sandbox:
        client = Client(sandbox)
        done = threading.Event()

        def edit() -> None:
            while not done.wait(0.002):
                added = films.add("film", {"title": "New"})
                films.update(added, {"title": "Newer"})
                films.unpublish(added)
                films.publish(added)
                films.delete(added)

        editors = [threading.Thread(target=edit) for _ in range(2)]
        for editor in editors:
            editor.start()
        try:
            for _ in range(40):
                page = client.search([], "delivery", pageSize=1_000).json()
                seen = {(item["sys"]["id"], item["sys"]["language"]) for item in page["items"]}
                assert len(seen) == len(page["items"]) == page["totalCount"]
                assert all(item["sys"]["isPublished"] for item in page["items"])
        finally:
            done.set()
            for editor in editors:
                editor.join(5)
