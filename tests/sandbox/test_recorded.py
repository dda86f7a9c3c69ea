"""The sandbox's responses have the shape of recorded responses from a real service."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(
    os.environ.get("CONTENSIS_RECORDED") or Path(__file__).parents[2].parent / "shared" / "recorded"
)
# Added by proxies between the service and the recorder.
GATEWAY = {
    *("date", "content-length", "content-encoding", "x-robots-tag", "x-content-type-options"),
    *("referrer-policy", "x-backend-name"),
}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no recordings available")


def shape(value: Any) -> Any:
    """Return the type of a value, including the members of objects."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def recorded(path: str, status: int = 200) -> Any:
    found = [
        item
        for file in sorted(FOLDER.glob("*.json"))
        for item in json.loads(file.read_text(encoding="utf-8"))
        if path in item["path"] and item["status"] == status
    ]
    assert found, f"no recording of {path}"
    return max(found, key=lambda item: len(json.dumps(item["response"])))


@pytest.fixture(scope="module")
def asset_client() -> Iterator[Client]:
    """The film archive with one asset, like the recording."""
    films = make_films()
    image = films.content_types["film"] | {"id": "image", "dataFormat": "asset"}
    archive = Catalogue(films.project, [*films.content_types.values(), image])
    archive.add("image", {"title": "lantern"})
    with Sandbox(archive) as sandbox:
        yield Client(sandbox)


def headers(response: Any) -> set[str]:
    return {name.lower() for name in response.headers} - GATEWAY


def test_token_response_matches_recording(client: Client) -> None:
    real, response = recorded("/connect/token"), client.token()
    assert shape(response.json()) == shape(real["response"])
    assert list(response.json()) == list(real["response"])
    for name in set(real["headers"]) - GATEWAY:
        assert response.headers[name] == real["headers"][name]


def test_project_matches_recording(client: Client) -> None:
    real, response = recorded("/projects/canvasPackages"), client.get("", "delivery")
    real = next(
        item
        for item in json.loads((FOLDER / "canvas-client-2024-10.json").read_text(encoding="utf-8"))
        if item["path"].endswith("/projects/canvasPackages")
    )
    assert shape(response.json()) == shape(real["response"])
    assert headers(response) == set(real["headers"]) - GATEWAY


def test_content_type_matches_recording(client: Client) -> None:
    real, response = recorded("/contentTypes/"), client.get("/contenttypes/person", "delivery")
    ours, theirs = shape(response.json()), shape(real["response"])
    # The fields differ. Names are in the same language by coincidence.
    assert [sorted(ours.pop("fields")[0])] == [sorted(theirs.pop("fields")[0])]
    assert ours == theirs
    assert headers(response) == set(real["headers"]) - GATEWAY


def test_list_of_entries_matches_recording(asset_client: Client) -> None:
    real = recorded("/entries?")
    response = asset_client.get("/entries", "delivery")
    assert list(response.json()) == list(real["response"])
    assert headers(response) == set(real["headers"]) - GATEWAY
    for name in ("cache-control", "content-type"):
        assert response.headers[name] == real["headers"][name]
    assert len(response.headers["etag"]) == len(real["headers"]["etag"])
    ours, theirs = response.json()["items"][0], real["response"]["items"][0]
    assert set(ours["sys"]) == set(theirs["sys"])
    for name in ("version", "workflow"):
        assert shape(ours["sys"][name]) == shape(theirs["sys"][name])
    assert {"entryTitle", "entryDescription", "sys"} <= set(ours) & set(theirs)


def test_empty_list_matches_recording(client: Client) -> None:
    real = next(
        item
        for item in json.loads((FOLDER / "canvas-client-2024-10.json").read_text(encoding="utf-8"))
        if item["response"].get("totalCount") == 0
    )
    response = client.get("/entries", "delivery", language="fr", pageSize=1)
    assert response.json() == real["response"]
    assert response.headers["content-length"] == real["headers"]["content-length"]


def test_not_found_error_matches_recording(client: Client) -> None:
    real, response = recorded("/nodes/", 404), client.get("/entries/nope", "delivery")
    assert response.json() | {"message": ""} == real["response"] | {"message": ""}
    assert headers(response) == set(real["headers"]) - GATEWAY
    for name in ("cache-control", "pragma", "expires", "content-type"):
        assert response.headers[name] == real["headers"][name]
