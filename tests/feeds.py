"""A consumer of a feed, as strict as it can be: what it loads is what the feed says the service has."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.sandbox import Catalogue

# Content type, language and id.
Key = tuple[str, str, str]


def key_of(entry: dict[str, Any]) -> Key:
    sys = entry["sys"]
    return sys["contentTypeId"], sys["language"], sys["id"]


def served(catalogue: Catalogue, version_status: Any = "published", **choice: Any) -> dict[Key, bytes]:
    """Return what the service has, by key."""
    return {key_of(json.loads(entry)): entry for entry in catalogue.entries(version_status, **choice)}


def feed_index(folder: Path | str) -> dict[str, Any]:
    index: dict[str, Any] = json.loads(Path(folder, "_feed.json").read_text())
    return index


def manifests(folder: Path | str) -> list[tuple[Path, dict[str, Any]]]:
    """Return the change sets of a feed, in order, as its index and their manifests link them."""
    name = feed_index(folder)["latest"]
    found: list[tuple[Path, dict[str, Any]]] = []
    while name is not None and Path(folder, name).exists():
        manifest = json.loads(Path(folder, name, "_manifest.json").read_text())
        found.append((Path(folder, name), manifest))
        name = manifest["previous"]
    return found[::-1]


def rows(change_set: Path, manifest: dict[str, Any], operation: str) -> Iterator[bytes]:
    """Yield the lines of a change set's files for one operation, each file checked against the manifest."""
    for file in manifest["files"]:
        if file["operation"] == operation:
            content = (change_set / file["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert len(content) == file["bytes"]
            lines = (gzip.decompress(content) if file["path"].endswith(".gz") else content).splitlines()
            assert len(lines) == file["rows"] > 0
            yield from lines


def load(folder: Path | str) -> dict[Key, bytes]:
    """Apply all change sets of a feed, in order, and return what it says the service has.

    :raises AssertionError: a change set says something twice, needlessly or in contradiction.
    """
    held: dict[Key, bytes] = {}
    for change_set, manifest in manifests(folder):
        changed: set[Key] = set()
        if manifest["kind"] == "snapshot":
            lines = list(rows(change_set, manifest, "upsert"))
            everything = {key_of(json.loads(line)): line for line in lines}
            assert len(everything) == len(lines)
            # A consumer that is in step may apply it like any other, and holds the same then.
            left = {key_of(json.loads(line)) for line in rows(change_set, manifest, "delete")}
            assert not held or {*held, *everything} - left == everything.keys()
            held = everything
            continue
        for line in rows(change_set, manifest, "upsert"):
            key = key_of(json.loads(line))
            assert key not in changed, f"{key} came twice"
            assert held.get(key) != line, f"{key} came as it was"
            changed.add(key)
            held[key] = line
        for line in rows(change_set, manifest, "delete"):
            key = key_of(json.loads(line))
            assert key not in changed, f"{key} came and left in one change set"
            changed.add(key)
            del held[key]
    assert feed_index(folder)["entries"] == len(held)
    return held
