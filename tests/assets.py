"""Assets for tests: a project with files of many sizes, and what an export of them has left."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox import Catalogue
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field, new_project

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIXES = (".jpg", ".pdf", ".DOCX", "", ".tar.gz", ".html")


def asset_catalogue() -> Catalogue:
    """Return a project with content types of assets, and without assets."""
    project = new_project("library", "Library", "Invented files", ["en-GB", "cy"])
    types = [
        new_content_type(
            project, name, name, [new_field("title", "Title")], title_field="title", data_format="asset"
        )
        for name in ("image", "pdf")
    ]
    return Catalogue(project, types)


def content_of(number: int, size: int) -> bytes:
    """Return the content of a file: the same for the same number."""
    return random.Random(number).randbytes(size)


def fill(catalogue: Catalogue, number: int, *, seed: int = 0, largest: int = 20_000) -> dict[str, bytes]:
    """Add assets with files of log-normal sizes, empty ones among them; return the contents by asset."""
    chance = random.Random(seed)
    contents: dict[str, bytes] = {}
    for index in range(number):
        size = 0 if index % 25 == 7 else min(int(chance.lognormvariate(7, 1.5)), largest)
        content = content_of(seed * 1_000_000 + index, size)
        asset = catalogue.add_asset(
            ("image", "pdf")[index % 2],
            f"file {index}{SUFFIXES[index % len(SUFFIXES)]}",
            content,
            folder=f"/library/{index % 7}/",
            fields={"title": f"File {index}"},
        )
        contents[asset] = content
    return contents


class Folder(NamedTuple):
    """What an export of assets has left on this machine."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.path / "_manifest.json").read_text())
        return manifest

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "assets.jsonl").read_text().splitlines()]

    @property
    def stored(self) -> set[str]:
        """The files under their final names, and all that is left over."""
        files = self.path / "files"
        return {str(path.relative_to(self.path)) for path in files.rglob("*") if path.is_file()}

    def contents(self) -> dict[str, bytes]:
        """Return the contents by asset, each checked against its record and the manifest."""
        [listed] = self.manifest["files"]
        text = (self.path / "assets.jsonl").read_bytes()
        assert listed["path"] == "assets.jsonl"
        assert (listed["bytes"], listed["sha256"]) == (len(text), hashlib.sha256(text).hexdigest())
        assert listed["rows"] == len(self.records) == self.manifest["assets"]
        found = {}
        for record in self.records:
            content = (self.path / record["path"]).read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            assert (record["bytes"], record["sha256"]) == (len(content), sha256)
            assert record["path"].startswith(f"files/{sha256[:2]}/{sha256}")
            found[record["id"]] = content
        return found

    def check_whole(self) -> None:
        """Check that each file under a final name holds what its name says."""
        for name in self.stored:
            if "/." not in name:
                content = (self.path / name).read_bytes()
                assert Path(name).name.partition(".")[0] == hashlib.sha256(content).hexdigest(), name


def only(contents: Mapping[str, bytes]) -> bytes:
    """Return the content of the only asset."""
    [content] = contents.values()
    return content
