"""Content types and languages that change while entries exist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.sandbox.shapes import new_field
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = "2040-01-01T00:00:00Z"


@pytest.fixture
def films() -> Catalogue:
    return make_films()


@pytest.fixture
def client(films: Catalogue) -> Iterator[Client]:
    with Sandbox(films) as sandbox:
        yield Client(sandbox)


def latest_films(films: Catalogue) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in films.entries("latest", content_type_id="film")]


def test_new_version_of_content_type_is_served(client: Client, films: Catalogue) -> None:
    before = client.get("/contenttypes/film").json()
    fields = [field for field in before["fields"] if field["id"] != "tagline"]
    films.update_content_type("film", [*fields, new_field("studio", "Studio")], at=NOW)
    after = client.get("/contenttypes/film").json()
    assert [field["id"] for field in after["fields"]] == [*(field["id"] for field in fields), "studio"]
    assert after["fields"][-1]["name"] == {"en-GB": "Studio"}
    assert after["fields"][0] == before["fields"][0]
    version = after["version"]
    assert (version["versionNo"], version["modified"], version["published"]) == ("2.0", NOW, NOW)
    assert version["created"] == before["version"]["created"]
    assert client.get("/contenttypes/film", version="1.0").status_code == 404
    assert client.get("/contenttypes/person").json()["version"]["versionNo"] == "1.0"


def test_entries_follow_content_type_without_new_times(client: Client, films: Catalogue) -> None:
    [draft] = [film["sys"]["id"] for film in latest_films(films) if film["title"] == "Zephyr"]
    films.delete(draft)
    before, people = latest_films(films), films.entries(content_type_id="person")
    fields = [field for field in films.content_types["film"]["fields"] if field["id"] != "tagline"]
    films.update_content_type("film", [*fields, new_field("studio", "Studio")])
    after = latest_films(films)
    assert [film["sys"] for film in after] == [film["sys"] for film in before]
    assert [list(film) for film in after] == [
        [*(field["id"] for field in fields), "studio", "entryTitle", "entryDescription", "sys"]
    ] * len(before)
    assert [film["title"] for film in after] == [film["title"] for film in before]
    assert {film["studio"] for film in after} == {None}
    assert films.entries(content_type_id="person") == people
    films.restore(draft)
    assert client.get(f"/entries/{draft}").json()["studio"] is None
    films.update(draft, {"studio": "Quay Pictures"})
    assert client.get(f"/entries/{draft}", "delivery").json()["studio"] == "Quay Pictures"


def test_new_language_can_be_used_at_once(client: Client, films: Catalogue) -> None:
    before = latest_films(films)
    films.add_language("fr")
    assert client.get().json()["supportedLanguages"] == ["en-GB", "cy", "fr"]
    assert client.get("/contenttypes/film").json()["supportedLanguages"] == ["en-GB", "cy", "fr"]
    after = latest_films(films)
    assert [film["sys"]["version"] for film in after] == [film["sys"]["version"] for film in before]
    assert all(film["sys"]["unavailableLanguages"][-1] == "fr" for film in after)
    film = after[0]["sys"]["id"]
    films.add("film", {"title": "Le gardien"}, entry_id=film, language="fr")
    assert client.get(f"/entries/{film}", language="fr").json()["title"] == "Le gardien"
    assert client.get("/entries", language="fr").json()["totalCount"] == 1
    films.delete(film)
    assert client.get(f"/entries/{film}", language="fr").status_code == 404
    with pytest.raises(ValueError, match="has FR already"):
        films.add_language("FR")


def test_new_language_does_not_reach_other_catalogues() -> None:
    project = make_films().project
    one, other = Catalogue(project), Catalogue(project)
    one.add_language("fr")
    assert other.project["supportedLanguages"] == ["en-GB", "cy"]
