"""Projects, content types and entries: gets, lists, paging, and the words of a refusal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    import requests

NO_LOG = "00000000-0000-0000-0000-000000000000"


def entry_id(client: Client, title: str) -> str:
    where = [{"field": "entryTitle", "equalTo": title}]
    [item] = client.search(where).json()["items"]
    return str(item["sys"]["id"])


def test_projects_content_types_and_components_are_plain_values(client: Client) -> None:
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


def test_several_projects_can_be_served_side_by_side(films: Catalogue) -> None:
    with Sandbox([films, synthetic_catalogue(3)]) as sandbox:
        client = Client(sandbox)
        url = f"{sandbox.url}/api/management/projects"
        projects = client.session.get(url, timeout=10).json()
        assert [project["id"] for project in projects] == ["filmArchive", "synthetic"]
        assert client.session.get(f"{url}/synthetic/entries", timeout=10).json()["totalCount"] == 3
        assert sandbox.project_id == "filmArchive"


def test_paths_and_query_names_ignore_case_and_a_trailing_slash(client: Client) -> None:
    base = f"{client.sandbox.url}/API/Management/Projects/FILMARCHIVE"
    listed = client.session.get(f"{base}/contentTypes/Film/Entries/?PAGESIZE=2&unknown=1", timeout=10)
    assert listed.status_code == 200
    assert listed.json()["pageSize"] == 2


def test_ids_in_paths_are_decoded(client: Client) -> None:
    answer = client.get("/entries/a%2Fb%20%C3%A9")
    assert answer.json()["message"] == "The specified entry with ID 'a/b é' does not exist"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/entries/4d4f4a6e-0000-4000-8000-000000000000", "The specified entry with ID '4d4f4a6e-"),
        ("/contenttypes/play", "The specified content type with ID 'play' does not exist"),
        ("/contenttypes/play/entries", "The specified content type with ID 'play' does not exist"),
        ("/nonsense", "No resource was found at '/api/"),
    ],
)
def test_what_does_not_exist_is_a_404_in_the_envelope_of_its_api(
    client: Client, path: str, message: str
) -> None:
    management, delivery = client.get(path), client.get(path, "delivery")
    assert management.status_code == delivery.status_code == 404
    assert management.json()["message"].startswith(message)
    assert management.json() | {"message": ""} == {
        "logId": NO_LOG,
        "message": "",
        "data": None,
        "type": "Error",
    }
    assert delivery.json() | {"message": ""} == {"logId": NO_LOG, "message": "", "data": {}, "type": "error"}


def test_an_unknown_project_is_named_in_the_refusal(client: Client) -> None:
    answer = client.session.get(f"{client.sandbox.url}/api/management/projects/nope/entries", timeout=10)
    assert answer.status_code == 404
    assert answer.json()["message"] == "The specified project with ID 'nope' does not exist"


def test_the_sandbox_cannot_be_written_to(client: Client) -> None:
    url = f"{client.sandbox.url}/api/management/projects/filmArchive/entries"
    assert client.session.post(url, json={}, timeout=10).status_code == 405
    assert client.session.delete(f"{url}/x", timeout=10).status_code == 405


def test_an_entry_is_served_by_language_and_version_status(client: Client) -> None:
    lantern, storms = entry_id(client, "The Lantern Keeper"), entry_id(client, "Ten Storms")
    assert client.get(f"/entries/{lantern.upper()}").json()["entryTitle"] == "The Lantern Keeper"
    assert client.get(f"/entries/{lantern}", language="CY").json()["entryTitle"] == "Ceidwad y Llusern"
    assert client.get(f"/entries/{lantern}", language="fr").status_code == 404
    assert client.get(f"/entries/{storms}").json()["entryTitle"] == "Ten Storms"
    assert client.get(f"/entries/{storms}", "delivery").json()["entryTitle"] == "Nine Storms"
    published = client.get(f"/entries/{storms}", VersionStatus="Published").json()
    assert published["entryTitle"] == "Nine Storms"
    assert client.get(f"/entries/{storms}", versionStatus="draft").status_code == 422


def test_a_version_number_wins_over_the_version_status(client: Client) -> None:
    storms = entry_id(client, "Ten Storms")
    old = client.get(f"/entries/{storms}", version="1.0", versionStatus="latest")
    assert old.json()["entryTitle"] == "Nine Storms"
    assert client.get(f"/entries/{storms}", version="1.1").json()["entryTitle"] == "Ten Storms"
    assert client.get(f"/entries/{storms}", version="7.0").status_code == 404


def test_a_draft_is_found_as_latest_only(client: Client) -> None:
    zephyr = entry_id(client, "Zephyr")
    draft = client.get(f"/entries/{zephyr}").json()["sys"]
    assert (draft["isPublished"], draft["version"]["published"]) == (False, None)
    assert client.get(f"/entries/{zephyr}", versionStatus="published").status_code == 404


def test_lists_give_the_primary_language_unless_asked(client: Client) -> None:
    def languages(**query: str) -> set[str]:
        items = client.get("/contenttypes/film/entries", **query).json()["items"]
        return {item["sys"]["language"] for item in items}

    assert languages() == {"en-GB"}
    assert languages(language="cy") == {"cy"}
    assert languages(language="de") == set()


def test_a_page_has_exactly_the_five_members(client: Client) -> None:
    page = client.get("/contenttypes/film/entries", pageIndex=1, pageSize=4, order="-runtime").json()
    assert list(page) == ["pageIndex", "pageSize", "totalCount", "pageCount", "items"]
    assert [page[name] for name in list(page)[:4]] == [1, 4, 6, 2]
    assert [item["runtime"] for item in page["items"]] == [60, None]
    past = client.get("/contenttypes/film/entries", pageIndex=9).json()
    assert (past["items"], past["pageSize"], past["totalCount"], past["pageCount"]) == ([], 25, 6, 1)
    nothing = client.search([{"field": "title", "equalTo": "nothing"}]).json()
    assert nothing == {"pageIndex": 0, "pageSize": 25, "totalCount": 0, "pageCount": 0, "items": []}


@pytest.mark.parametrize(
    "options",
    [{"pageSize": 0}, {"pageSize": 10_001}, {"pageSize": "many"}, {"pageIndex": -1}, {"pageIndex": 1.5}],
)
def test_page_numbers_have_limits(client: Client, options: dict[str, Any]) -> None:
    for answer in (client.get("/entries", **options), client.search([], **options)):
        assert answer.status_code == 422
        assert answer.json()["data"][0]["field"] == next(iter(options))


def test_nothing_is_served_past_ten_thousand_rows_unless_switched_on() -> None:
    catalogue = synthetic_catalogue(10_010, body_bytes=5)
    with Sandbox(catalogue) as sandbox:
        client = Client(sandbox)
        order = [{"asc": "sys.version.created"}, {"asc": "sys.id"}]

        def last(**options: Any) -> requests.Response:
            return client.search([], orderBy=order, pageSize=5_000, **options)

        assert len(last(pageIndex=1).json()["items"]) == 5_000
        refused = last(pageIndex=2)
        assert refused.status_code == 422
        assert "10000" in refused.json()["data"][0]["message"]
        sandbox.api.beyond_window = "empty"
        assert (last(pageIndex=2).json()["items"], last().json()["totalCount"]) == ([], 10_010)
        sandbox.api.beyond_window = "serve"
        assert len(last(pageIndex=2).json()["items"]) == 10
        sandbox.api.cap_total_count = True
        assert (last().json()["totalCount"], last().json()["pageCount"]) == (10_000, 2)


def test_lists_hold_entries_unless_assets_are_asked_for() -> None:
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


def test_edits_show_in_the_next_answer() -> None:
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
        films.delete(added)
        assert client.get(f"/entries/{added}").status_code == 404
        assert films.revision > revision


def test_publishing_does_not_move_the_modified_time() -> None:
    films = make_films()
    added = films.add("film", {"title": "New"}, publish=False, at="2040-01-01T00:00:00Z")
    films.publish(added, at="2040-01-02T00:00:00Z")
    document = films.find(added, None, "published")
    assert document is not None
    version = document.entry()["sys"]["version"]
    assert (version["modified"], version["published"]) == ("2040-01-01T00:00:00Z", "2040-01-02T00:00:00Z")


def test_each_variation_names_the_languages_there_are() -> None:
    films = make_films()
    added = films.add("film", {"title": "New"})
    with pytest.raises(ValueError, match="exists in en-GB"):
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


def test_entries_are_exactly_the_bytes_served(client: Client, films: Catalogue) -> None:
    order = [{"asc": "sys.version.created"}, {"asc": "sys.id"}]
    for api in ("management", "delivery"):
        for status in ("latest", "published"):
            where = [{"field": "sys.versionStatus", "equalTo": status}]
            body = client.search(where, api, orderBy=order).content
            served = films.entries(status, api=api)
            assert body.partition(b'"items":')[2] == b"[" + b",".join(served) + b"]}"
    assert len(films.entries("published", content_type_id="film", language="cy")) == 1


def test_answers_are_whole_while_editors_work() -> None:
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


def _content(catalogue: Catalogue) -> dict[tuple[str, str, str], bytes]:
    _, documents = catalogue.select(lambda _: True)
    return {(*document.key, document.status): document.management for document in documents}


def test_what_was_deleted_can_be_restored_as_it_was() -> None:
    films = make_films()
    before = _content(films)
    [bilingual] = [key[0] for key in before if key[1] == "cy" and key[2] == "latest"]
    films.delete(bilingual)
    assert not any(films.find(bilingual, language, "latest") for language in ("en-GB", "cy"))
    films.restore(bilingual)
    assert _content(films) == before
    with pytest.raises(KeyError):
        films.restore(bilingual)


def test_one_language_can_be_restored_alone() -> None:
    films = make_films()
    [bilingual] = [key[0] for key in _content(films) if key[1] == "cy" and key[2] == "latest"]
    films.delete(bilingual)
    films.restore(bilingual, language="cy")
    welsh = films.find(bilingual, "cy", "published")
    assert welsh is not None
    assert welsh.entry()["sys"]["availableLanguages"] == ["cy"]
    assert films.find(bilingual, "en-GB", "published") is None


def test_an_entry_made_anew_is_not_overwritten_by_the_deleted_one() -> None:
    films = make_films()
    added = films.add("film", {"title": "First"})
    films.delete(added)
    films.add("film", {"title": "Second"}, entry_id=added)
    with pytest.raises(KeyError):
        films.restore(added)
