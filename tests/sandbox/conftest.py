"""A small film archive in a sandbox, and a plain HTTP client for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.sandbox.shapes import link, new_content_type, new_field, new_project

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_SCOPES = "Entry_Read ContentType_Read Project_Read"


class Client:
    """Calls a sandbox with `requests` alone, so that these tests use none of the package's client code."""

    def __init__(self, sandbox: Sandbox, scope: str = READ_SCOPES) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["authorization"] = f"Bearer {self.token(scope).json()['access_token']}"

    def token(self, scope: str = READ_SCOPES, **changes: str) -> requests.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
            "scope": scope,
        }
        form.update(changes)
        return requests.post(
            f"{self.sandbox.url}/authenticate/connect/token",
            data={name: value for name, value in form.items() if value},
            timeout=10,
        )

    def get(self, path: str = "", api: str = "management", **query: Any) -> requests.Response:
        url = f"{self.sandbox.url}/api/{api}/projects/{self.sandbox.project_id}{path}"
        return self.session.get(url, params=query, timeout=10)

    def search(self, where: Any = (), api: str = "management", **options: Any) -> requests.Response:
        url = f"{self.sandbox.url}/api/{api}/projects/{self.sandbox.project_id}/entries/search"
        body = {"where": list(where) if isinstance(where, tuple) else where, **options}
        return self.session.post(url, json=body, timeout=10)


def make_films() -> Catalogue:
    """Six films and two people: one of each is a draft, one film is also in Welsh, one has a newer draft."""
    project = new_project("filmArchive", "Film archive", "Invented films", ("en-GB", "cy"))
    person = new_content_type(project, "person", "Person", [new_field("name", "Name")], title_field="name")
    film = new_content_type(
        project,
        "film",
        "Film",
        [
            new_field("title", "Title", required={}),
            new_field("tagline", "Tagline"),
            new_field("runtime", "Runtime", "integer"),
            new_field("rating", "Rating", "decimal"),
            new_field("colour", "Colour", "boolean"),
            new_field("releaseDate", "Release date", "dateTime"),
            new_field("genres", "Genres", "stringArray"),
            new_field("quotes", "Quotes", "objectArray", "quote"),
            new_field("place", "Place", "object", "location"),
            new_field("director", "Director", "object", "entry"),
            new_field("cast", "Cast", "objectArray", "entry"),
            new_field("body", "Body", "objectArray", "field"),
        ],
        title_field="title",
        description_field="tagline",
    )
    films = Catalogue(project, [person, film])
    ines = films.add("person", {"name": "Ines Okafor"}, at="2030-01-01T00:00:00Z")
    draft_person = films.add("person", {"name": "Rhys Draft"}, publish=False, at="2030-01-02T00:00:00Z")
    rows: list[dict[str, Any]] = [
        {
            "title": "The Lantern Keeper",
            "tagline": "One light. Nine storms.",
            "runtime": 94,
            "rating": 7.5,
            "colour": False,
            "releaseDate": "2031-04-02T00:00:00Z",
            "genres": ["drama", "sea"],
            "quotes": [{"text": "Fog rolls over the quay", "source": "Quayside Weekly"}],
            "place": {"lat": 52.36, "lon": -2.71},
            "director": link(ines, "person", "en-GB"),
            "cast": [link(ines, "person", "en-GB"), link(draft_person, "person", "en-GB")],
            "body": [{"type": "heading", "value": "Plot"}, {"type": "text", "value": "A lamp goes out"}],
        },
        {
            "title": "Nine Storms",
            "tagline": "",
            "runtime": 120,
            "rating": 6.25,
            "colour": True,
            "releaseDate": "2031-04-02T00:00:00.0000001Z",
            "genres": ["drama"],
            "place": {"lat": 51.48, "lon": -3.18},
        },
        {
            "title": "Harbour",
            "tagline": "quiet water",
            "runtime": 88,
            "colour": True,
            "releaseDate": "2031-04-02T01:00:00+01:00",
            "genres": [],
        },
        {"title": "harbour lights", "runtime": 101, "releaseDate": "2032-01-01"},
        {"title": "Quay*", "tagline": "x" * 9000, "runtime": None},
        {"title": "Zephyr", "tagline": "A late draft", "runtime": 60},
    ]
    ids = [
        films.add("film", row, publish=row["title"] != "Zephyr", at=f"2031-0{number}-01T10:00:00.5Z")
        for number, row in enumerate(rows, 1)
    ]
    films.add("film", {"title": "Ceidwad y Llusern", "runtime": 94}, entry_id=ids[0], language="cy")
    films.update(ids[1], {"title": "Ten Storms"}, publish=False, at="2031-12-01T00:00:00Z")
    return films


@pytest.fixture(scope="module")
def films() -> Catalogue:
    """The film archive, for tests that do not change it."""
    return make_films()


@pytest.fixture(scope="module")
def sandbox(films: Catalogue) -> Iterator[Sandbox]:
    """A sandbox with the film archive, for tests that do not change it."""
    with Sandbox(films) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)
