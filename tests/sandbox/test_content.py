"""Content for a sandbox: the ISO lists, synthetic entries, an export."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import (
    Catalogue,
    Sandbox,
    iso_catalogue,
    load_catalogue,
    synthetic_catalogue,
)
from airflow_provider_contensis.sandbox.documents import instant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("at", ["2026-02-30", "2026-01-01T25:00:00Z", "yesterday", "", 5])
def test_impossible_time_is_refused(at: Any) -> None:
    catalogue = synthetic_catalogue(1)
    [entry_id] = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries("latest")]
    before = catalogue.entries("latest")
    for edit in ("publish", "unpublish", "delete", "restore", "archive", "unarchive"):
        with pytest.raises(ValueError, match="at must be an ISO 8601 time"):
            getattr(catalogue, edit)(entry_id, at=at)
    for edit in ("add", "update", "update_content_type"):
        with pytest.raises(ValueError, match="at must be an ISO 8601 time"):
            getattr(catalogue, edit)(entry_id if edit == "update" else "article", {}, at=at)
    assert catalogue.entries("latest") == before


def test_unknown_field_is_refused() -> None:
    catalogue = synthetic_catalogue(1)
    [entry_id] = [json.loads(entry)["sys"]["id"] for entry in catalogue.entries("latest")]
    with pytest.raises(ValueError, match=r"has no field 'titel'. Available: .*title"):
        catalogue.add("article", {"titel": "x"})
    with pytest.raises(ValueError, match=r"has no field 'titel'. Available: .*title"):
        catalogue.update(entry_id, {"titel": "x"})
    assert len(catalogue) == 1


def test_unknown_language_is_refused() -> None:
    catalogue = synthetic_catalogue(1)
    with pytest.raises(ValueError, match=r"has no language 'en-UK'. Available: en-GB"):
        catalogue.add("article", {}, language="en-UK")


@pytest.fixture(scope="module")
def iso() -> Catalogue:
    return iso_catalogue()


@pytest.fixture(scope="module")
def iso_latest(iso: Catalogue) -> list[Any]:
    return [json.loads(entry) for entry in iso.entries("latest")]


def test_iso_lists_are_complete_in_english(iso_latest: list[Any]) -> None:
    pycountry = pytest.importorskip("pycountry")
    counts = Counter(
        entry["sys"]["contentTypeId"] for entry in iso_latest if entry["sys"]["language"] == "en-GB"
    )
    assert counts == {
        "country": len(pycountry.countries),
        "subdivision": len(pycountry.subdivisions),
        "language": len(pycountry.languages),
        "currency": len(pycountry.currencies),
    }


def test_iso_translation_exists_if_name_is_translated(iso_latest: list[Any]) -> None:
    countries = {
        (entry["alpha2"], entry["sys"]["language"]): entry
        for entry in iso_latest
        if entry["sys"]["contentTypeId"] == "country"
    }
    assert countries["GB", "cy"]["name"].startswith("Y Deyrnas")
    assert countries["DE", "fr"]["name"].startswith("Allemagne")
    assert countries["FR", "fr"]["flag"] == "🇫🇷"
    counts = Counter((entry["sys"]["contentTypeId"], entry["sys"]["language"]) for entry in iso_latest)
    assert counts["country", "cy"] == counts["country", "fr"] == 249
    assert 0 < counts["currency", "cy"] < counts["currency", "fr"] < counts["currency", "en-GB"]
    for entry in iso_latest:
        sys = entry["sys"]
        assert sys["language"] in sys["availableLanguages"]
        assert sorted(sys["availableLanguages"] + sys["unavailableLanguages"]) == ["cy", "en-GB", "fr"]


def test_iso_subdivisions_link_to_country_and_parent(iso: Catalogue, iso_latest: list[Any]) -> None:
    subdivisions = [entry for entry in iso_latest if entry["sys"]["contentTypeId"] == "subdivision"]
    assert any(entry["parent"] for entry in subdivisions)
    for entry in subdivisions:
        for name, kind in (("country", "country"), ("parent", "subdivision")):
            if entry[name]:
                target = entry[name]["sys"]
                assert target["contentTypeId"] == kind
                assert iso.find(target["id"], target["language"], "latest")


def test_iso_entries_have_realistic_history(iso: Catalogue, iso_latest: list[Any]) -> None:
    published = {
        (entry["sys"]["id"], entry["sys"]["language"]): entry
        for entry in map(json.loads, iso.entries("published"))
    }
    drafts = newer_drafts = 0
    for entry in iso_latest:
        sys = entry["sys"]
        created, modified = (instant(sys["version"][name]) or 0 for name in ("created", "modified"))
        assert "2019" <= sys["version"]["created"][:4] <= sys["version"]["modified"][:4] <= "2025"
        assert created <= modified
        public = published.get((sys["id"], sys["language"]))
        assert sys["isPublished"] == (public is not None)
        if public is None:
            drafts += 1
            assert (sys["version"]["versionNo"], sys["workflow"]["state"]) == ("0.1", "draft")
        elif public != entry:
            newer_drafts += 1
            assert (sys["version"]["versionNo"], sys["workflow"]["state"]) == ("1.1", "draft")
        if public:
            times = [instant(public["sys"]["version"][name]) or 0 for name in ("modified", "published")]
            assert 0 < times[1] - times[0] < 100_000_000
    assert 0.01 < drafts / len(iso_latest) < 0.05
    assert 0.01 < newer_drafts / len(iso_latest) < 0.06
    seconds = Counter(entry["sys"]["version"]["created"][:19] for entry in iso_latest)
    assert max(seconds.values()) >= 500
    digits = Counter(len(entry["sys"]["version"]["created"].partition(".")[2]) - 1 for entry in iso_latest)
    assert set(digits) >= {3, 5, 6, 7}


def test_iso_entries_have_fields_of_their_content_type(iso: Catalogue, iso_latest: list[Any]) -> None:
    for entry in iso_latest:
        fields = [field["id"] for field in iso.content_types[entry["sys"]["contentTypeId"]]["fields"]]
        assert list(entry) == [*fields, "entryTitle", "entryDescription", "sys"]
        assert entry["entryTitle"] == entry["name"]


def test_iso_content_is_the_same_in_every_process(iso: Catalogue) -> None:
    script = (
        "import hashlib; from airflow_provider_contensis.sandbox import iso_catalogue; "
        "print(hashlib.sha256(b''.join(iso_catalogue().entries('latest'))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(b"".join(iso.entries("latest"))).hexdigest()


def test_iso_catalogues_do_not_share_edits(iso: Catalogue) -> None:
    other = iso_catalogue()
    other.add("currency", {"name": "Groat"})
    assert len(other) == len(iso) + 1


def test_missing_pycountry_error_says_how_to_install_it() -> None:
    script = (
        "import sys; sys.modules['pycountry'] = None\n"
        "import airflow_provider_contensis.sandbox as sandbox\n"
        "try: sandbox.Sandbox()\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'airflow-provider-contensis[sandbox]'" in completed.stdout


def test_importing_sandbox_imports_no_other_dependency() -> None:
    script = "import airflow_provider_contensis.sandbox, sys; print(*sorted(sys.modules))"
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    own = {name for name in modules if name.startswith("airflow_provider_contensis.")}
    assert all(name.startswith("airflow_provider_contensis.sandbox") for name in own)
    assert not {"airflow", "requests", "msgspec", "pycountry"} & set(modules)


def test_synthetic_entries_match_counts_and_contain_edge_cases() -> None:
    catalogue = synthetic_catalogue(
        200, languages=("en-GB", "cy"), same_created=30, drafts=10, edited=5, seed=3
    )
    assert len(catalogue) == 400
    latest, published = catalogue.entries("latest"), catalogue.entries("published")
    assert (len(latest), len(published)) == (400, 380)
    assert len(set(published) - set(latest)) == 10
    entries = [json.loads(entry) for entry in latest]
    created = Counter(entry["sys"]["version"]["created"] for entry in entries)
    assert max(created.values()) == 60
    fractions = {len(time.rstrip("Z").partition(".")[2]) for time in created}
    assert fractions == set(range(8))
    text = b"".join(latest).decode()
    for edge_case in ("\\n", "📰", "e-7,", '"settings":{}', '"remark":null', "\u2028", "👩\u200d🔬", '\\"'):
        assert edge_case in text
    assert all(10**19 <= entry["serial"] < 10**20 for entry in entries)
    decimals = json.loads(latest[0], parse_float=str)
    assert len(decimals["price"].partition(".")[2]) == 20


def test_decimals_keep_their_digits_in_both_apis_and_after_edits() -> None:
    catalogue = synthetic_catalogue(1)
    [management] = catalogue.entries()
    prices = [json.loads(management, parse_float=str)["price"]]
    prices += [json.loads(entry, parse_float=str)["price"] for entry in catalogue.entries(api="delivery")]
    catalogue.update(json.loads(management)["sys"]["id"], {"title": "Edited"})
    prices += [json.loads(entry, parse_float=str)["price"] for entry in catalogue.entries()]
    assert len(prices) == 3
    assert len(set(prices)) == 1


def test_synthetic_entries_depend_on_seed() -> None:
    first, again, other = (synthetic_catalogue(20, seed=seed).entries() for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


def test_synthetic_catalogue_rejects_more_special_entries_than_entries() -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        synthetic_catalogue(5, same_created=6)
    with pytest.raises(ValueError, match="must not exceed"):
        synthetic_catalogue(5, drafts=3, edited=3)


def test_export_is_served_again_byte_for_byte(tmp_path: Path) -> None:
    original = synthetic_catalogue(50, languages=("en-GB", "fr"), drafts=5, edited=5)
    path = tmp_path / "export.jsonl"
    lines = sorted(set(original.entries("latest")) | set(original.entries("published")))
    path.write_bytes(b"\n".join(lines) + b"\n")
    loaded = load_catalogue(path)
    assert loaded.project_id == "synthetic"
    assert loaded.project["supportedLanguages"] == ["en-GB", "fr"]
    for status in ("latest", "published"):
        assert loaded.entries(status) == original.entries(status)


def test_content_types_of_export_are_inferred_from_values(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"\n".join(synthetic_catalogue(3).entries()))
    fields = {
        field["id"]: (field["dataType"], field["dataFormat"])
        for field in load_catalogue(path).content_types["article"]["fields"]
    }
    assert fields == {
        "title": ("string", None),
        "summary": ("string", None),
        "body": ("string", None),
        "serial": ("integer", None),
        "ratio": ("decimal", None),
        "price": ("decimal", None),
        "eventDate": ("dateTime", None),
        "featured": ("boolean", None),
        "keywords": ("stringArray", None),
        "place": ("object", "location"),
        "settings": ("object", None),
        "remark": ("string", None),
    }


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n", '{"sys": {"id": 5}}\n', "[1]\n"])
def test_load_catalogue_rejects_file_that_is_not_an_export(tmp_path: Path, text: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="export.jsonl"):
        load_catalogue(path)


def test_sandbox_serves_iso_lists_by_default() -> None:
    assert Sandbox().project_id == "isoCodes"
