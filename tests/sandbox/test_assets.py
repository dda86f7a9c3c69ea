"""The files of assets, as a client that uses only `requests` sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_contensis.sandbox import Mixture, Sandbox
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    films = make_films()
    films.content_types["image"] = new_content_type(
        films.project, "image", "Image", [new_field("title", "Title")], data_format="asset"
    )
    with Sandbox(films) as sandbox:
        yield sandbox


def get(sandbox: Sandbox, path: str, **headers: str) -> requests.Response:
    return requests.get(
        f"{sandbox.url}{path}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=5,
        allow_redirects=False,
    )


def test_file_is_served_by_both_of_its_paths(sandbox: Sandbox) -> None:
    asset = sandbox.catalogue.add_asset("image", "lantern 1.jpg", CONTENT, folder="/library/posters/")
    client = Client(sandbox)
    properties = client.get(f"/entries/{asset}").json()["sys"]["properties"]
    assert (properties["filename"], properties["filePath"]) == ("lantern 1.jpg", "/library/posters/")
    assert properties["fileSize"] == len(CONTENT)
    uri = client.get(f"/entries/{asset}", "delivery").json()["sys"]["uri"]
    assert uri.startswith("/library/posters/lantern%201.x")
    for path in (uri, "/library/posters/lantern%201.jpg"):
        answer = get(sandbox, path)
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-type"] == "image/jpeg"
        assert "content-encoding" not in answer.headers
    assert sandbox.count("file") == 2


def test_draft_is_served_with_a_token_only(sandbox: Sandbox) -> None:
    asset = sandbox.catalogue.add_asset("image", "a.jpg", b"old")
    sandbox.catalogue.replace_file(asset, b"new", publish=False)
    token = f"Bearer {Client(sandbox).token().json()['access_token']}"
    assert get(sandbox, "/library/a.jpg").content == b"old"
    assert get(sandbox, "/library/a.jpg", authorization=token).content == b"new"
    sandbox.catalogue.publish(asset)
    assert get(sandbox, "/library/a.jpg").content == b"new"
    sandbox.catalogue.unpublish(asset)
    assert get(sandbox, "/library/a.jpg").status_code == 404


def test_range_is_served_for_the_same_content_only(sandbox: Sandbox) -> None:
    asset = sandbox.catalogue.add_asset("image", "a.jpg", CONTENT)
    etag = get(sandbox, "/library/a.jpg").headers["etag"]
    part = get(sandbox, "/library/a.jpg", range="bytes=100-", if_range=etag)
    assert (part.status_code, part.content) == (206, CONTENT[100:])
    assert part.headers["content-range"] == f"bytes 100-5119/{len(CONTENT)}"
    assert get(sandbox, "/library/a.jpg", range="bytes=9000-").status_code == 416
    assert get(sandbox, "/library/a.jpg", if_none_match=etag).status_code == 304
    sandbox.catalogue.replace_file(asset, CONTENT[1:])
    again = get(sandbox, "/library/a.jpg", range="bytes=100-", if_range=etag)
    assert (again.status_code, again.content) == (200, CONTENT[1:])


def test_content_may_come_from_a_function(sandbox: Sandbox) -> None:
    sandbox.catalogue.add_asset("image", "a.bin", lambda: CONTENT, media_type="text/x-made-up")
    answer = get(sandbox, "/library/a.bin")
    assert (answer.content, answer.headers["content-type"]) == (CONTENT, "text/x-made-up")


def test_only_a_content_type_of_assets_has_files(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="not one of assets"):
        sandbox.catalogue.add_asset("film", "a.jpg", b"")


@pytest.mark.parametrize("seed", range(4))
def test_wrong_length_is_another_than_the_assets(sandbox: Sandbox, seed: int) -> None:
    sandbox.catalogue.add_asset("image", "a.jpg", CONTENT)
    sandbox.faults = Mixture(seed, {"wrong-length": 1})
    answer = get(sandbox, "/library/a.jpg")
    assert len(answer.content) == int(answer.headers["content-length"]) != len(CONTENT)


def test_elsewhere_redirects_to_another_host(sandbox: Sandbox) -> None:
    sandbox.catalogue.add_asset("image", "a.jpg", CONTENT)
    sandbox.faults = Mixture(0, {"elsewhere": 1})
    answer = get(sandbox, "/library/a.jpg")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://login.invalid/?next=file")
    assert Client(sandbox).token().status_code == 200
