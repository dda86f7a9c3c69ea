"""The sandbox's answers have the shape of recorded answers of a real service."""

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
# Added by the machines between the service and the recorder.
GATEWAY = {
    *("date", "content-length", "content-encoding", "x-robots-tag", "x-content-type-options"),
    *("referrer-policy", "x-backend-name"),
}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no recordings here")


def shape(value: Any) -> Any:
    """Return what kind of value this is, down to the members of objects."""
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
    """The film archive with one asset, which is what was recorded."""
    films = make_films()
    image = films.content_types["film"] | {"id": "image", "dataFormat": "asset"}
    archive = Catalogue(films.project, [*films.content_types.values(), image])
    archive.add("image", {"title": "lantern"})
    with Sandbox(archive) as sandbox:
        yield Client(sandbox)


def headers(answer: Any) -> set[str]:
    return {name.lower() for name in answer.headers} - GATEWAY


def test_token(client: Client) -> None:
    real, answer = recorded("/connect/token"), client.token()
    assert shape(answer.json()) == shape(real["response"])
    assert list(answer.json()) == list(real["response"])
    for name in set(real["headers"]) - GATEWAY:
        assert answer.headers[name] == real["headers"][name]


def test_project(client: Client) -> None:
    real, answer = recorded("/projects/canvasPackages"), client.get("", "delivery")
    real = next(
        item
        for item in json.loads((FOLDER / "canvas-client-2024-10.json").read_text(encoding="utf-8"))
        if item["path"].endswith("/projects/canvasPackages")
    )
    assert shape(answer.json()) == shape(real["response"])
    assert headers(answer) == set(real["headers"]) - GATEWAY


def test_content_type(client: Client) -> None:
    real, answer = recorded("/contentTypes/"), client.get("/contenttypes/person", "delivery")
    ours, theirs = shape(answer.json()), shape(real["response"])
    # Its fields differ, and so does the language of names only by chance.
    assert [sorted(ours.pop("fields")[0])] == [sorted(theirs.pop("fields")[0])]
    assert ours == theirs
    assert headers(answer) == set(real["headers"]) - GATEWAY


def test_list_of_entries(asset_client: Client) -> None:
    real = recorded("/entries?")
    answer = asset_client.get("/entries", "delivery")
    assert list(answer.json()) == list(real["response"])
    assert headers(answer) == set(real["headers"]) - GATEWAY
    for name in ("cache-control", "content-type"):
        assert answer.headers[name] == real["headers"][name]
    assert len(answer.headers["etag"]) == len(real["headers"]["etag"])
    ours, theirs = answer.json()["items"][0], real["response"]["items"][0]
    assert set(ours["sys"]) == set(theirs["sys"])
    for name in ("version", "workflow"):
        assert shape(ours["sys"][name]) == shape(theirs["sys"][name])
    assert {"entryTitle", "entryDescription", "sys"} <= set(ours) & set(theirs)


def test_empty_list(client: Client) -> None:
    real = next(
        item
        for item in json.loads((FOLDER / "canvas-client-2024-10.json").read_text(encoding="utf-8"))
        if item["response"].get("totalCount") == 0
    )
    answer = client.get("/entries", "delivery", language="fr", pageSize=1)
    assert answer.json() == real["response"]
    assert answer.headers["content-length"] == real["headers"]["content-length"]


def test_not_found(client: Client) -> None:
    real, answer = recorded("/nodes/", 404), client.get("/entries/nope", "delivery")
    assert answer.json() | {"message": ""} == real["response"] | {"message": ""}
    assert headers(answer) == set(real["headers"]) - GATEWAY
    for name in ("cache-control", "pragma", "expires", "content-type"):
        assert answer.headers[name] == real["headers"][name]
