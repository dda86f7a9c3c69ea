"""A folder and its manifest, which makes its files one export."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.sinks.manifest import file_names, schema_hash
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field, new_project

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.results import ExportResult
    from airflow_provider_contensis.export.storage.base import PendingFile


@pytest.fixture
def export(
    iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> Callable[..., ExportResult]:
    def run(storage: LocalStorage | None = None, **arguments: Any) -> ExportResult:
        request = ExportRequest.from_arguments(**{"destination": f"{tmp_path}/", **arguments})
        return export_entries(make_client(iso_sandbox), iso_sandbox.project_id, request, storage=storage)

    return run


def read_manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    return content


def test_manifest_lists_every_file_with_rows_size_and_hash(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    result = export(content_type_id=["country", "currency"], changed_from="2019-01-01")
    manifest = read_manifest(tmp_path)
    assert [file["path"] for file in manifest["files"]] == ["country.jsonl", "currency.jsonl"]
    for file in manifest["files"]:
        content = (tmp_path / file["path"]).read_bytes()
        assert file["bytes"] == len(content)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["rows"] == content.count(b"\n")
    assert manifest["entries"] == result.entries
    assert manifest["watermark"] == result.watermark
    assert manifest["project_id"] == "isoCodes"
    assert manifest["written_by"].startswith("airflow-provider-contensis ")


def test_manifest_records_query(export: Callable[..., ExportResult], tmp_path: Path) -> None:
    clause = {"field": "name", "startsWith": "Ca"}
    export(content_type_id="country", language="en-GB", where=[clause], version_status="latest")
    query = read_manifest(tmp_path)["query"]
    assert query["content_type_ids"] == ["country"]
    assert query["languages"] == ["en-GB"]
    assert query["where"] == [clause]
    assert query["version_status"] == "latest"


def test_manifest_records_version_and_schema_of_content_types(
    export: Callable[..., ExportResult], tmp_path: Path, iso_sandbox: Sandbox
) -> None:
    export(content_type_id="country")
    [(name, recorded)] = read_manifest(tmp_path)["content_types"].items()
    assert name == "country"
    assert recorded["schema_sha256"] == schema_hash(
        cast("ContentType", iso_sandbox.catalogue.content_types["country"])
    )
    assert recorded["version"]


def test_schema_hash_depends_on_fields_only() -> None:
    one: ContentType = {"id": "a", "fields": [{"id": "x", "dataType": "string"}], "name": {"en": "A"}}
    assert schema_hash(one) == schema_hash({**one, "name": {"en": "B"}})
    assert schema_hash(one) != schema_hash({**one, "fields": [{"id": "x", "dataType": "integer"}]})


@pytest.mark.slow
def test_files_of_older_export_are_removed_and_other_files_stay(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export()
    export(content_type_id="country")
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "country.jsonl", "notes.txt"}


@pytest.mark.parametrize("target_exists", [True, False])
def test_manifest_is_written_through_a_symbolic_link(
    export: Callable[..., ExportResult], tmp_path: Path, target_exists: bool
) -> None:
    folder, target = tmp_path / "folder", tmp_path / "elsewhere.json"
    folder.mkdir()
    (folder / "_manifest.json").symlink_to(target)
    if target_exists:
        target.write_text("{}")
    for _ in range(2):
        export(destination=f"{folder}/", content_type_id="currency", language="fr")
        assert (folder / "_manifest.json").is_symlink()
        assert read_manifest(folder)["files"][0]["path"] == "currency.jsonl"
        assert target.read_bytes() == (folder / "_manifest.json").read_bytes()


def test_file_that_cannot_be_removed_after_the_commit_is_a_warning(
    export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(content_type_id=["country", "currency"], language="fr")
    (tmp_path / "country.jsonl").unlink()
    (tmp_path / "country.jsonl").mkdir()
    result = export(content_type_id="currency", language="fr")
    assert [file["path"] for file in read_manifest(tmp_path)["files"]] == ["currency.jsonl"]
    assert result.entries == read_manifest(tmp_path)["entries"]
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "country.jsonl", "currency.jsonl"}
    assert f"{tmp_path}/country.jsonl is not part of this export, but could not be removed" in caplog.text


def test_hidden_files_and_files_outside_folder_are_never_removed() -> None:
    hidden = ["_manifest.json", "._manifest.json.lock", ".."]
    named = ["a.jsonl", "../b.jsonl", "/etc/passwd", ".", "", 7, *hidden]
    content = json.dumps({"files": [{"path": name} for name in named]}).encode()
    assert file_names(content) == {"a.jsonl"}
    for invalid in (None, b"", b"[]", b"{}", b'{"files": 7}', b"\xff"):
        assert file_names(invalid) == set()


def test_failed_export_leaves_manifest_and_files_unchanged(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    export(content_type_id=["country", "currency"])
    before = (tmp_path / "_manifest.json").read_bytes()

    class Full(LocalStorage):
        def create(self, path: str, *, owner: str) -> PendingFile:
            if path.endswith("_manifest.json"):
                raise DestinationError("full")
            return super().create(path, owner=owner)

    with pytest.raises(DestinationError):
        export(Full())
    assert (tmp_path / "_manifest.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "country.jsonl", "currency.jsonl"}


def test_interrupted_commit_leaves_no_manifest_and_next_export_removes_old_files(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    export(content_type_id=["country", "currency"])

    class Interrupted(LocalStorage):
        """Fails when a file of the new export should get its name."""

        def create(self, path: str, *, owner: str) -> PendingFile:
            file = super().create(path, owner=owner)
            if path.endswith("country.jsonl"):
                file.commit = fail  # type: ignore[method-assign]  # only this one
            return file

    def fail() -> None:
        raise DestinationError("interrupted")

    with pytest.raises(DestinationError, match="interrupted"):
        export(Interrupted(), content_type_id="country")
    assert not (tmp_path / "_manifest.json").exists()
    export(content_type_id="country")
    assert {path.name for path in tmp_path.iterdir()} == {"_manifest.json", "country.jsonl"}


class TestManyContentTypes:
    """Open files, threads and buffers do not grow with the number of content types."""

    @pytest.fixture
    def catalogue(self) -> Catalogue:
        project = new_project("many", "Many", "", ["en-GB"])
        types = [
            new_content_type(project, f"type{number:03}", "Type", [new_field("title", "string")])
            for number in range(300)
        ]
        catalogue = Catalogue(project, types)
        for number in range(0, 300, 2):
            for title in ("a", "b"):
                catalogue.add(f"type{number:03}", {"title": title}, at="2031-03-28T08:00:01.5Z")
        return catalogue

    @pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
    @pytest.mark.slow
    def test_open_files_and_threads_are_bounded(
        self,
        catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        file_format: str,
    ) -> None:
        most = Counter[str]()

        def look(request: Request) -> None:
            open_files = [each for each in Path("/proc/self/fd").iterdir() if is_open_below(tmp_path, each)]
            most["files"] = max(most["files"], len(open_files))
            writers = [
                thread for thread in threading.enumerate() if thread.name.startswith("contensis-write")
            ]
            most["threads"] = max(most["threads"], len(writers))

        request = ExportRequest.from_arguments(destination=f"{tmp_path}/", file_format=file_format)
        with Sandbox(catalogue, faults=look) as sandbox:
            result = export_entries(make_client(sandbox), "many", request)
        assert len(result.files) == 300
        assert result.entries == 300
        assert most["files"] <= 3
        assert most["threads"] <= 2
        assert len(list(tmp_path.glob(f"*.{file_format}"))) == 300
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_entries_of_content_types_that_are_not_listed_are_bounded_too(
        self, catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        def hide(request: Request) -> Response | None:
            listed = [item for name, item in catalogue.content_types.items() if name < "type280"]
            return Response.json(listed) if request.kind == "content_type" else None

        request = ExportRequest.from_arguments(destination=f"{tmp_path}/")
        with Sandbox(catalogue, faults=hide) as sandbox:
            result = export_entries(make_client(sandbox), "many", request)
        assert result.entries == 300
        assert [name for name in result.files if str(name) >= "type280"] == [
            f"type{number}" for number in range(280, 300, 2)
        ]


def is_open_below(folder: Path, descriptor: Path) -> bool:
    try:
        return descriptor.readlink().is_relative_to(folder)
    except OSError:
        return False
