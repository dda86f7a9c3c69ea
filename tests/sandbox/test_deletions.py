"""The recycle bin and the archive: how entries leave searches and gets, and how they come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from airflow_provider_contensis.sandbox import Sandbox
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.sandbox import Catalogue


class Removal(NamedTuple):
    """One of the two ways out.

    :param name: the catalogue's method.
    :param opposite: the method that undoes it.
    :param option: the option of a search that includes removed entries.
    :param mark: the member of `sys.version` with its time.
    :param state: the workflow state of a removed entry.
    """

    name: str
    opposite: str
    option: str
    mark: str
    state: str


DELETION = Removal("delete", "restore", "includeDeleted", "deleted", "draft")
ARCHIVING = Removal("archive", "unarchive", "includeArchived", "archived", "archived")
NO_LOG_ID = "00000000-0000-0000-0000-000000000000"
ADDED, SAVED, GONE, BACK = (f"2040-01-0{day}T10:00:00.5Z" for day in (1, 2, 3, 4))


@pytest.fixture
def films() -> Catalogue:
    return make_films()


@pytest.fixture
def client(films: Catalogue) -> Iterator[Client]:
    with Sandbox(films) as sandbox:
        yield Client(sandbox)


@pytest.fixture
def film(films: Catalogue) -> str:
    """A published film with a later save, in English and Welsh."""
    added = films.add("film", {"title": "Flood"}, at=ADDED)
    films.add("film", {"title": "Llif"}, entry_id=added, language="cy", at=ADDED)
    films.update(added, {"title": "Flood tide"}, at=SAVED)
    return added


def found(client: Client, film: str, **options: Any) -> dict[str, Any]:
    """Return the `sys` of each variation of a film that a search finds, by language."""
    items = client.search([{"field": "sys.id", "equalTo": film}], **options).json()["items"]
    return {item["sys"]["language"]: item["sys"] for item in items}


@pytest.mark.parametrize("removal", ["delete", "archive"])
@pytest.mark.parametrize("api", ["management", "delivery"])
def test_removed_entry_is_in_no_search_list_or_get(
    client: Client, films: Catalogue, film: str, removal: str, api: str
) -> None:
    before = client.get("/contenttypes/film/entries", api).json()["totalCount"]
    assert client.get(f"/entries/{film}", api).status_code == 200
    getattr(films, removal)(film)
    for status in ("latest", "published"):
        where = [
            {"field": "sys.id", "equalTo": film},
            {"field": "sys.versionStatus", "equalTo": status},
        ]
        assert client.search(where, api).json()["totalCount"] == 0
        gone = client.get(f"/entries/{film}", api, versionStatus=status)
        assert gone.status_code == 404
        assert gone.json() == {
            "logId": NO_LOG_ID,
            "message": f"The specified entry with ID '{film}' does not exist",
            "data": {} if api == "delivery" else None,
            "type": "error" if api == "delivery" else "Error",
        }
    assert client.get("/contenttypes/film/entries", api).json()["totalCount"] == before - 1


@pytest.mark.parametrize("removal", [DELETION, ARCHIVING], ids=["delete", "archive"])
class TestRemoval:
    def test_option_finds_removed_entry_with_time(
        self, client: Client, films: Catalogue, film: str, removal: Removal
    ) -> None:
        getattr(films, removal.name)(film, language="en-GB", at=GONE)
        everything = found(client, film, **{removal.option: True})
        assert sorted(everything) == ["cy", "en-GB"]
        sys = everything["en-GB"]
        assert (sys["version"][removal.mark], sys["version"][f"{removal.mark}By"]) == (GONE, "sandbox")
        assert (sys["workflow"]["state"], sys["isPublished"]) == (removal.state, False)
        assert everything["cy"]["version"][removal.mark] is None
        where = [
            {"field": "sys.id", "equalTo": film},
            {"field": f"sys.version.{removal.mark}", "exists": True},
        ]
        option: dict[str, Any] = {removal.option: True}
        assert client.search(where, **option).json()["totalCount"] == 1
        published = [
            {"field": "sys.id", "equalTo": film},
            {"field": "sys.versionStatus", "equalTo": "published"},
        ]
        assert client.search(published, **option).json()["totalCount"] == 1

    def test_option_is_off_by_default_and_in_delivery(
        self, client: Client, films: Catalogue, film: str, removal: Removal
    ) -> None:
        getattr(films, removal.name)(film)
        other = {"includeDeleted": "includeArchived", "includeArchived": "includeDeleted"}[removal.option]
        assert found(client, film) == found(client, film, **{removal.option: False, other: True}) == {}
        assert found(client, film, api="delivery", **{removal.option: True}) == {}
        where = f'[{{"field":"sys.id","equalTo":"{film}"}}]'
        by_get = client.get("/entries/search", where=where, **{removal.option: "true"})
        assert by_get.json()["totalCount"] == 2
        assert client.search([], **{removal.option: "perhaps"}).json()["data"][0]["field"] == removal.option

    def test_entry_returns_as_draft_with_old_times(
        self, client: Client, films: Catalogue, film: str, removal: Removal
    ) -> None:
        before = client.get(f"/entries/{film}").json()
        getattr(films, removal.name)(film, at=GONE)
        getattr(films, removal.opposite)(film, at=BACK)
        after = client.get(f"/entries/{film}").json()
        version = after["sys"]["version"]
        assert (version["created"], version["modified"]) == (ADDED, SAVED)
        assert version["published"] is version[removal.mark] is version[f"{removal.mark}By"] is None
        assert (after["sys"]["workflow"]["state"], after["sys"]["isPublished"]) == ("draft", False)
        assert after["sys"]["workflow"]["transition"]["invoked"] == BACK
        assert {**after, "sys": None} == {**before, "sys": None}
        assert client.get(f"/entries/{film}", "delivery").status_code == 404
        assert found(client, film, **{removal.option: True}) == found(client, film)
        films.publish(film)
        assert client.get(f"/entries/{film}", "delivery").json()["title"] == "Flood tide"
        with pytest.raises(KeyError):
            getattr(films, removal.opposite)(film)

    def test_other_languages_name_the_removed_one(
        self, client: Client, films: Catalogue, film: str, removal: Removal
    ) -> None:
        getattr(films, removal.name)(film, language="cy")
        for status in ("latest", "published"):
            sys = client.get(f"/entries/{film}", versionStatus=status).json()["sys"]
            assert (sys["availableLanguages"], sys["unavailableLanguages"]) == (["en-GB"], ["cy"])
            assert sys[f"{removal.mark}Languages"] == ["cy"]
        getattr(films, removal.opposite)(film, language="cy")
        sys = client.get(f"/entries/{film}", language="cy").json()["sys"]
        assert (sys["availableLanguages"], sys[f"{removal.mark}Languages"]) == (["cy", "en-GB"], [])


def test_recycle_bin_keeps_entry_for_90_days(films: Catalogue, film: str) -> None:
    films.delete(film, at="2040-01-01T00:00:00Z")
    with pytest.raises(KeyError):
        films.restore(film, at="2040-03-31T00:00:00.0000001Z")
    films.restore(film, at="2040-03-31T00:00:00Z")
    assert films.find(film, None, "latest")


def test_permanent_deletion_leaves_nothing_to_restore(client: Client, films: Catalogue, film: str) -> None:
    films.archive(film, language="cy")
    films.delete(film, permanent=True)
    assert found(client, film, includeDeleted=True, includeArchived=True) == {}
    for return_ in (films.restore, films.unarchive):
        with pytest.raises(KeyError):
            return_(film)


def test_permanent_deletion_empties_recycle_bin(client: Client, films: Catalogue, film: str) -> None:
    films.delete(film)
    films.delete(film, language="cy", permanent=True)
    assert list(found(client, film, includeDeleted=True)) == ["en-GB"]
    with pytest.raises(KeyError):
        films.delete(film)


def test_archived_entry_can_be_deleted_and_restored(client: Client, films: Catalogue, film: str) -> None:
    films.archive(film)
    films.delete(film)
    assert found(client, film, includeArchived=True) == {}
    with pytest.raises(KeyError):
        films.unarchive(film)
    films.restore(film)
    assert found(client, film)["en-GB"]["version"]["archived"] is None


def test_new_entry_with_same_id_replaces_deleted_one(client: Client, films: Catalogue, film: str) -> None:
    films.delete(film)
    films.add("film", {"title": "Second"}, entry_id=film)
    with pytest.raises(KeyError):
        films.restore(film, language="en-GB")
    assert found(client, film, includeDeleted=True)["en-GB"]["version"]["deleted"] is None
    films.restore(film, language="cy")
    assert sorted(found(client, film)) == ["cy", "en-GB"]
