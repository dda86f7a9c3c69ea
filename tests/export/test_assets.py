"""Exports of the files of assets, over HTTP: complete, right, resumed, and nothing outside of the folder."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import (
    ConfigurationError,
    ContensisError,
    DestinationError,
    ExportError,
    ServerError,
)
from airflow_provider_contensis.export import downloads, file_download
from airflow_provider_contensis.export.assets import export_assets
from airflow_provider_contensis.export.assets_request import AssetsRequest
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.sandbox import Catalogue, Mixture, Request, Response, Sandbox
from tests.assets import Folder, asset_catalogue, content_of, fill, only
from tests.kills import before_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import AssetsSummary

CHUNK = file_download._CHUNK_BYTES
LOGGER = "airflow_provider_contensis.export"
LOGIN_PAGE = Response(200, b"<!doctype html><title>Sign in</title>", {"content-type": "text/html"})


@pytest.fixture
def catalogue() -> Catalogue:
    return asset_catalogue()


class Exporter:
    """Exports the assets of a sandbox to one folder."""

    def __init__(self, sandbox: Sandbox, client: ContensisClient, path: Path) -> None:
        self.sandbox = sandbox
        self.client = client
        self.folder = Folder(path)

    def __call__(self, *, storage: LocalStorage | None = None, **arguments: Any) -> AssetsSummary:
        request = AssetsRequest.from_arguments(**{"destination": f"{self.folder.path}/", **arguments})
        self.sandbox.forget_requests()
        return export_assets(self.client, self.sandbox.project_id, request, storage=storage, owner="t")

    @property
    def asked(self) -> list[str]:
        """The paths of the files that the last run asked for."""
        return [record.path for record in self.sandbox.requests if record.kind == "file"]


@pytest.fixture
def export(sandbox: Sandbox, make_client: Callable[..., ContensisClient], tmp_path: Path) -> Exporter:
    return Exporter(sandbox, make_client(sandbox), tmp_path / "assets")


class OnFiles:
    """Answers requests for files in its own way, and records them.

    :param answers: what to answer to the first request, the second and so on; None for the normal answer.
        After the last one, every answer is normal.
    """

    def __init__(self, *answers: Callable[[Request], Response | None] | Response | None) -> None:
        self.requests: list[Request] = []
        self._answers = iter(answers)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        if request.kind != "file":
            return None
        with self._lock:
            self.requests.append(request)
            answer = next(self._answers, None)
        return answer(request) if callable(answer) else answer


def always(answer: Callable[[Request], Response | None] | Response) -> OnFiles:
    return OnFiles(*itertools.repeat(answer, 10_000))


def cut(request: Request) -> Response:
    return replace(request.answer(), cut=0.5)


class TestRuns:
    def test_every_file_is_stored_under_its_content_and_listed(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 120)
        result = export()
        assert export.folder.contents() == contents
        assert len(export.asked) == 120
        assert {
            name: result[name] for name in ("assets", "downloaded", "unchanged", "missing", "removed")
        } == {
            "assets": 120,
            "downloaded": 120,
            "unchanged": 0,
            "missing": 0,
            "removed": 0,
        }
        distinct = set(contents.values())
        assert result["bytes"] == sum(map(len, distinct))
        assert result["files"] == len(export.folder.stored)
        assert sorted(path.name for path in export.folder.path.iterdir()) == [
            "_manifest.json",
            "assets.jsonl",
            "files",
        ]

    def test_record_describes_asset_and_file(self, export: Exporter, catalogue: Catalogue) -> None:
        asset = catalogue.add_asset("image", "Lantern 1.JPG", b"picture", folder="/library/posters/")
        export()
        [record] = export.folder.records
        sha256 = record["sha256"]
        assert record == {
            "id": asset,
            "language": "en-GB",
            "version_no": "1.0",
            "filename": "Lantern 1.JPG",
            "file_path": "/library/posters/",
            "content_type": "image/jpeg",
            "path": f"files/{sha256[:2]}/{sha256}.jpg",
            "bytes": 7,
            "sha256": sha256,
            "uri": "/library/posters/Lantern%201.JPG",
            "file_id": json.loads(only_entry(catalogue))["sys"]["properties"]["fileId"],
        }

    def test_manifest_describes_the_export(self, export: Exporter, catalogue: Catalogue) -> None:
        fill(catalogue, 3)
        export(content_type_id="image")
        manifest = export.folder.manifest
        assert (manifest["kind"], manifest["assets"], manifest["missing"]) == ("assets", 2, [])
        assert manifest["query"]["content_type_ids"] == ["image"]
        assert manifest["source"] == {
            "url": export.sandbox.url,
            "project_id": "library",
            "site_url": export.sandbox.url,
        }

    def test_second_run_asks_for_no_file(self, export: Exporter, catalogue: Catalogue) -> None:
        contents = fill(catalogue, 30)
        export()
        result = export()
        assert export.asked == []
        assert (result["unchanged"], result["downloaded"]) == (30, 0)
        assert export.folder.contents() == contents

    def test_only_new_and_changed_files_are_asked_for(self, export: Exporter, catalogue: Catalogue) -> None:
        contents = fill(catalogue, 30)
        export()
        first, second, third, *_ = contents
        catalogue.replace_file(first, b"another")
        catalogue.update(second, {"title": "Another title"})  # another version, perhaps with another file
        catalogue.delete(third)
        new = catalogue.add_asset("pdf", "new.pdf", b"new")
        result = export()
        assert len(export.asked) == 3
        del contents[third]
        assert export.folder.contents() == contents | {first: b"another", new: b"new"}
        assert result["removed"] == 2
        assert len(export.folder.stored) == result["files"]

    def test_files_that_no_asset_names_stay_if_asked_for(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        first, *_ = fill(catalogue, 3)
        export()
        before = export.folder.stored
        catalogue.delete(first)
        assert export(prune=False)["removed"] == 0
        assert export.folder.stored == before
        assert export()["removed"] == 1

    def test_files_of_others_stay(self, export: Exporter, catalogue: Catalogue) -> None:
        fill(catalogue, 3)
        (export.folder.path / "files" / "ab").mkdir(parents=True)
        others = [export.folder.path / name for name in ("files/notes.txt", "files/ab/x.jpg", "README")]
        for path in others:
            path.write_text("of somebody else")
        assert export()["removed"] == 0
        assert all(path.exists() for path in others)

    def test_same_content_is_stored_once_and_stays_while_an_asset_names_it(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        assets = [catalogue.add_asset("image", f"{number}.jpg", b"same") for number in range(12)]
        result = export(max_concurrent_requests=8)
        assert (result["assets"], result["files"], len(export.folder.stored)) == (12, 1, 1)
        for asset in assets[1:]:
            catalogue.delete(asset)
        export()
        assert export.folder.contents() == {assets[0]: b"same"}

    def test_file_that_somebody_removed_or_damaged_is_asked_for_again(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 10)
        export()
        first, second, *_ = [export.folder.path / record["path"] for record in export.folder.records]
        first.unlink()
        second.write_bytes(b"cut short")
        export()
        assert len(export.asked) == 2
        assert export.folder.contents() == contents

    def test_languages_of_an_asset_have_their_own_files(self, export: Exporter, catalogue: Catalogue) -> None:
        asset = catalogue.add_asset("pdf", "guide-en.pdf", b"English")
        catalogue.add_asset("pdf", "guide-cy.pdf", b"Cymraeg", entry_id=asset, language="cy")
        export()
        files = {
            record["language"]: (export.folder.path / record["path"]).read_bytes()
            for record in export.folder.records
        }
        assert files == {"en-GB": b"English", "cy": b"Cymraeg"}

    def test_delivery_api_names_the_path_with_the_hash(self, export: Exporter, catalogue: Catalogue) -> None:
        contents = fill(catalogue, 6)
        export(api="delivery")
        assert export.folder.contents() == contents
        assert all(".x" in path for path in export.asked)

    def test_drafts_need_the_token(self, export: Exporter, catalogue: Catalogue) -> None:
        catalogue.add_asset("image", "draft.jpg", b"draft", publish=False)
        with pytest.raises(ExportError, match="the website answers 404"):
            export(version_status="latest")
        export(version_status="latest", send_token="environment")
        assert only(export.folder.contents()) == b"draft"

    def test_no_assets_leave_the_files_alone(
        self, export: Exporter, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(catalogue, 3)
        export()
        export.sandbox.api.hidden_types = ["image", "pdf"]
        result = export(content_type_id=None, where=[{"field": "sys.id", "equalTo": "none"}])
        assert (result["assets"], result["removed"], len(export.folder.stored)) == (0, 0, 3)
        assert "No assets matched, so no file was removed" in caplog.text
        assert export.folder.records == []

    def test_another_source_is_asked_for_everything(
        self, export: Exporter, make_client: Callable[..., ContensisClient]
    ) -> None:
        fill(export.sandbox.catalogue, 5)
        export()
        with Sandbox(export.sandbox.catalogue) as other:
            again = Exporter(other, make_client(other), export.folder.path)
            assert again()["downloaded"] == 5

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("_manifest.json", '{"files": []}'),
            ("_manifest.json", '{"kind": "assets", "source": {}, "files": [1]}'),
            ("_manifest.json", "x"),
            ("_feed.json", "{}"),
        ],
    )
    def test_folder_of_another_export_is_refused(self, export: Exporter, name: str, content: str) -> None:
        export.folder.path.mkdir()
        (export.folder.path / name).write_text(content)
        with pytest.raises(ConfigurationError, match="holds another export"):
            export()
        assert (export.folder.path / name).read_text() == content


def only_entry(catalogue: Catalogue) -> bytes:
    [entry] = catalogue.entries()
    return entry


FAULTS = {
    **dict.fromkeys(("cut", "cut-chunked", "cut-without-length", "reset", "reset-in-body", "503"), 0.02),
    **dict.fromkeys(("closed", "html", "wrong-length", "elsewhere"), 0.02),
}


class TestFaults:
    @pytest.mark.parametrize("seed", range(3))
    def test_every_file_is_right_under_faults_of_every_kind(
        self, export: Exporter, catalogue: Catalogue, seed: int
    ) -> None:
        contents = fill(catalogue, 200, seed=seed)
        mixture = Mixture(seed, FAULTS)
        export.sandbox.faults = lambda request: mixture(request) if request.kind == "file" else None
        result = export(max_concurrent_requests=8)
        assert export.folder.contents() == contents
        assert mixture.injected.keys() == FAULTS.keys()
        assert result["downloaded"] == 200

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (LOGIN_PAGE, "the website sent an HTML page, such as one to log in"),
            (Response(200, b""), "the website sends 0 bytes, and fileSize is 5,000"),
            (Response(200, b"short"), "the website sends 5 bytes, and fileSize is 5,000"),
            (Response(200, bytes(5_001)), "the website sends 5,001 bytes, and fileSize is 5,000"),
            (Response(200, bytes(5_001), framing="chunked"), "bytes or more, and fileSize is 5,000"),
            (Response(200, bytes(4_999), framing="close"), "4,999 bytes, and fileSize is 5,000"),
            (Response(302, headers={"location": "https://login.invalid/"}), "redirects to https://login.inv"),
            (Response(302, headers={"location": "http://[/"}), "redirects to an invalid URL"),
            (Response(404), "the website answers 404"),
            (Response(403), "the website answers 403"),
            (Response(204), "the website answers 204"),
            (Response(206, bytes(5_000), {"content-range": "bytes 1-5000/5001"}), "the website answers 206"),
        ],
    )
    def test_answer_that_is_no_file_is_missing(
        self, export: Exporter, catalogue: Catalogue, answer: Response, reason: str
    ) -> None:
        catalogue.add_asset("image", "a.jpg", content_of(1, 5_000))
        export.sandbox.faults = always(answer)
        with pytest.raises(ExportError, match="a.jpg of asset .* cannot be exported") as failure:
            export()
        assert reason in str(failure.value)
        assert failure.value.retryable
        assert export.folder.stored == set()
        assert not (export.folder.path / "_manifest.json").exists()

        export.sandbox.faults = always(answer)
        result = export(on_missing="report")
        assert (result["assets"], result["missing"]) == (0, 1)
        [missing] = export.folder.manifest["missing"]
        assert missing["filename"] == "a.jpg"
        assert reason in missing["reason"]

    def test_log_ends_with_how_many_files_are_missing(
        self, export: Exporter, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(catalogue, 10)
        export.sandbox.faults = OnFiles(Response(404), None, Response(410), None, Response(404))
        with caplog.at_level(logging.INFO, LOGGER):
            export(on_missing="report", max_concurrent_requests=1)
        assert caplog.records[-1].getMessage() == (
            "Missing: 3 files, listed in the manifest: 2 because the website answers 404; "
            "1 because the website answers 410"
        )
        assert export.folder.manifest["assets"] == 7

    def test_file_that_always_fails_the_website_is_missing(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 12)
        broken = list(contents)[3]

        def fail(request: Request) -> Response | None:
            return Response(500) if request.path.endswith("/file 3") else None

        export.sandbox.faults = always(fail)
        with pytest.raises(ServerError):
            export()
        export.sandbox.faults = always(fail)
        export(on_missing="report")
        [missing] = export.folder.manifest["missing"]
        assert (missing["id"], missing["reason"]) == (broken, "the website answers 500")
        del contents[broken]
        assert export.folder.contents() == contents

    def test_outage_is_not_reported_as_missing_files(self, export: Exporter, catalogue: Catalogue) -> None:
        fill(catalogue, 30)
        export.sandbox.faults = OnFiles(*[None] * 10, *[Response(drop=True)] * 10_000)
        with pytest.raises(ContensisError, match="connection to .* broke"):
            export(on_missing="report")
        assert not (export.folder.path / "_manifest.json").exists()

    def test_missing_file_is_asked_for_again_by_the_next_run(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 5)
        export.sandbox.faults = OnFiles(Response(404))
        export(on_missing="report")
        assert export(on_missing="report")["missing"] == 0
        assert len(export.asked) == 1
        assert export.folder.contents() == contents

    def test_export_without_a_single_file_fails_even_if_missing_ones_are_reported(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        fill(catalogue, 40)
        export.sandbox.faults = always(Response(404))
        with pytest.raises(ExportError, match="None of the first 20 files can be exported.*Check site_url"):
            export(on_missing="report")
        assert len(export.asked) < 40

    def test_outage_fails_the_export_and_the_next_one_goes_on(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 60)
        export.sandbox.faults = OnFiles(*[None] * 40, *[Response(503)] * 10_000)
        with pytest.raises(ServerError, match="the website failed"):
            export()
        assert not (export.folder.path / "_manifest.json").exists()
        export.sandbox.faults = None
        result = export()
        assert result["unchanged"] >= 30  # but for those that were being stored
        assert len(export.asked) == result["downloaded"] == 60 - result["unchanged"]
        assert export.folder.contents() == contents
        assert not (export.folder.path / "_progress").exists()

    def test_file_that_cannot_be_stored_fails_the_export(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        fill(catalogue, 5)
        (export.folder.path / "files").mkdir(parents=True)
        for prefix in range(256):
            (export.folder.path / "files" / f"{prefix:02x}").write_text("no folder")
        with pytest.raises(DestinationError, match="could not be written"):
            export()

    def test_folder_for_temporary_files_that_is_missing_is_named(
        self, export: Exporter, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        catalogue.add_asset("pdf", "large.pdf", bytes(1_000_000))
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
        with pytest.raises(DestinationError, match="/nowhere, the folder for temporary files, could not be"):
            export()

    def test_compressed_answer_is_stored_as_the_file(self, export: Exporter, catalogue: Catalogue) -> None:
        def compressed(request: Request) -> Response:
            answer = request.answer()
            assert request.headers["accept-encoding"] == "identity"
            headers = {**answer.headers, "content-encoding": "gzip"}
            return replace(answer, body=gzip.compress(answer.body), headers=headers)

        catalogue.add_asset("pdf", "a.txt", b"text " * 1_000)
        export.sandbox.faults = always(compressed)
        export()
        assert only(export.folder.contents()) == b"text " * 1_000

    def test_file_too_large_is_not_asked_for(self, export: Exporter, catalogue: Catalogue) -> None:
        catalogue.add_asset("pdf", "a.pdf", bytes(100))
        large = catalogue.add_asset("pdf", "b.pdf", bytes(101))
        export(max_file_bytes=100, on_missing="report")
        assert len(export.asked) == 1
        [missing] = export.folder.manifest["missing"]
        assert (missing["id"], missing["reason"]) == (large, "it has 101 bytes, more than max_file_bytes")

    def test_empty_asset_is_an_empty_file(self, export: Exporter, catalogue: Catalogue) -> None:
        catalogue.add_asset("pdf", "a.txt", b"")
        export()
        assert only(export.folder.contents()) == b""


class TestWithoutProperties:
    """Some projects do not show `sys.properties`: then nothing says how large a file is."""

    @pytest.fixture(autouse=True)
    def _hidden(self, export: Exporter, catalogue: Catalogue) -> None:
        export.sandbox.api.quirks = frozenset({"no-asset-properties"})
        catalogue.add_asset("pdf", "a.pdf", b"content")

    def test_path_of_delivery_is_enough(self, export: Exporter) -> None:
        export(api="delivery")
        assert only(export.folder.contents()) == b"content"
        [record] = export.folder.records
        assert (record["filename"], record["file_id"]) == ("", None)

    def test_nothing_tells_where_the_file_is(self, export: Exporter) -> None:
        with pytest.raises(ExportError, match="its entry does not say where it is"):
            export()

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (Response(200, b""), "an empty body"),
            (LOGIN_PAGE, "an HTML page"),
            (Response(200, bytes(101)), "it has 101 bytes, more than max_file_bytes"),
            (Response(200, bytes(101), framing="chunked"), "more than max_file_bytes"),
        ],
    )
    def test_no_file_is_still_recognised(self, export: Exporter, answer: Response, reason: str) -> None:
        export.sandbox.faults = always(answer)
        with pytest.raises(ExportError, match=reason):
            export(api="delivery", max_file_bytes=100)

    def test_empty_body_is_no_file(self, export: Exporter) -> None:
        export.sandbox.faults = OnFiles(Response(200, b""))
        export(api="delivery")
        assert only(export.folder.contents()) == b"content"


class TestResume:
    @pytest.fixture
    def content(self, catalogue: Catalogue) -> bytes:
        content = content_of(1, 1_500_000)  # more than stays in memory
        catalogue.add_asset("pdf", "large.pdf", content)
        return content

    @staticmethod
    def ranges(faults: OnFiles) -> list[str | None]:
        return [request.headers.get("range") for request in faults.requests]

    def test_broken_file_is_resumed(self, export: Exporter, content: bytes) -> None:
        export.sandbox.faults = faults = OnFiles(cut, cut, Response(503), None)
        export()
        assert only(export.folder.contents()) == content
        first, second, third, fourth = self.ranges(faults)
        assert first is None
        assert second == f"bytes={750_000 // CHUNK * CHUNK}-"
        assert third == fourth != second
        etag = json.dumps(export.folder.records[0]["file_id"])
        assert [request.headers.get("if-range") for request in faults.requests] == [None, etag, etag, etag]

    @pytest.mark.parametrize("etag", ['W/"weak"', "", "unquoted", '"'])
    def test_without_a_strong_etag_it_begins_again(self, export: Exporter, content: bytes, etag: str) -> None:
        def broken(request: Request) -> Response:
            answer = cut(request)
            return replace(answer, headers={**answer.headers, "etag": etag})

        export.sandbox.faults = faults = OnFiles(broken, None)
        export()
        assert self.ranges(faults) == [None, None]
        assert only(export.folder.contents()) == content

    def test_file_that_was_replaced_meanwhile_is_read_from_the_beginning(
        self, export: Exporter, catalogue: Catalogue, content: bytes
    ) -> None:
        changed = content[:-1] + b"!"
        asset = json.loads(only_entry(catalogue))["sys"]["id"]

        def cut_and_change(request: Request) -> Response:
            answer = cut(request)
            catalogue.replace_file(asset, changed)
            return answer

        export.sandbox.faults = OnFiles(cut_and_change)
        export()
        assert only(export.folder.contents()) == changed

    @pytest.mark.parametrize(
        "headers",
        [
            {"content-range": "bytes 0-1499999/1500000"},
            {"content-range": "bytes 750001-1499999/1500000"},
            {"content-range": "bytes */1500000"},
            {"etag": '"another"'},
            {"content-range": "a lot"},
        ],
    )
    def test_range_that_does_not_fit_is_not_used(
        self, export: Exporter, content: bytes, headers: dict[str, str]
    ) -> None:
        def other(request: Request) -> Response:
            answer = request.answer()
            return replace(answer, headers={**answer.headers, **headers})

        export.sandbox.faults = faults = OnFiles(cut, other)
        export()
        assert self.ranges(faults)[2:] == [None]
        assert only(export.folder.contents()) == content

    @pytest.mark.parametrize(
        "answer",
        [
            LOGIN_PAGE,
            Response(200, b"short"),
            Response(302, headers={"location": "https://login.invalid/"}),
            Response(502, LOGIN_PAGE.body),
            Response(204),
        ],
    )
    def test_accident_does_not_end_what_was_read(
        self, export: Exporter, content: bytes, answer: Response
    ) -> None:
        export.sandbox.faults = faults = OnFiles(cut, answer, None)
        export()
        first, second, third = self.ranges(faults)
        assert first is None
        assert second == third
        assert second is not None
        assert only(export.folder.contents()) == content

    def test_range_past_the_end_begins_again(self, export: Exporter, content: bytes) -> None:
        export.sandbox.faults = OnFiles(cut, Response(416), None)
        export()
        assert only(export.folder.contents()) == content

    def test_download_outlasts_the_retry_policy_while_it_makes_progress(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        catalogue.add_asset("pdf", "large.pdf", content_of(2, 5_000_000))
        # Six attempts in a row are all that the policy of these tests allows.
        export.sandbox.faults = OnFiles(*[lambda request: replace(request.answer(), cut=0.1)] * 10)
        export()
        assert only(export.folder.contents()) == content_of(2, 5_000_000)

    def test_download_without_progress_fails(self, export: Exporter, content: bytes) -> None:
        export.sandbox.faults = always(lambda request: replace(request.answer(), cut=0, framing="length"))
        with pytest.raises(ContensisError, match="cut short"):
            export()
        assert len(export.asked) <= 12


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "../../outside.jpg",
            "..",
            ".hidden",
            "/etc/passwd",
            "a\\..\\b.jpg",
            "line\nbreak.jpg",
            "null\0.jpg",
            "a.jpg/../../x",
            "x.(jpg)",
            "ŵyl 🎉.jpg",
            "percent%2e%2e.jpg",
            "question?.jpg",
            "hash#.jpg",
            "x" * 300 + ".jpg",
        ],
    )
    def test_name_is_never_a_path(
        self, export: Exporter, catalogue: Catalogue, tmp_path: Path, name: str
    ) -> None:
        asset = catalogue.add_asset("image", name, b"content", folder="/library/")
        export(on_missing="report")
        for path in tmp_path.rglob("*"):
            assert path.resolve().is_relative_to(export.folder.path)
        export.folder.check_whole()
        if ".." in name.split("/"):
            assert [each["id"] for each in export.folder.manifest["missing"]] == [asset]
        else:
            assert export.folder.contents() == {asset: b"content"}
            assert export.folder.records[0]["filename"] == name

    @pytest.mark.parametrize("folder", ["//elsewhere.invalid/", "/../", "/library/../../", "library/", ""])
    def test_folder_is_a_path_on_the_site_only(
        self, export: Exporter, catalogue: Catalogue, folder: str
    ) -> None:
        catalogue.add_asset("image", "a.jpg", b"content", folder=folder)
        export(on_missing="report")  # elsewhere.invalid cannot be resolved: a request to it would fail
        reasons = [missing["reason"] for missing in export.folder.manifest["missing"]]
        assert ".." not in folder or reasons == [
            "its entry does not say where it is: sys.properties or sys.uri is missing or invalid"
        ]


class TestSites:
    """Where files come from, and what is sent there."""

    @pytest.fixture
    def site(self, catalogue: Catalogue) -> Iterator[Sandbox]:
        with Sandbox(catalogue, faults=OnFiles()) as site:
            yield site

    @staticmethod
    def headers(sandbox: Sandbox) -> dict[str, str]:
        faults = sandbox.faults
        assert isinstance(faults, OnFiles)
        [request] = faults.requests
        return dict(request.headers)

    @pytest.mark.parametrize("send_token", ["never", "environment"])
    def test_token_and_headers_go_to_the_environment_only(
        self,
        catalogue: Catalogue,
        site: Sandbox,
        sandbox: Sandbox,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        send_token: str,
    ) -> None:
        catalogue.add_asset("image", "a.jpg", b"content")
        client = make_client(sandbox, headers={"X-Gateway-Key": "made-up-key"})
        sandbox.faults = OnFiles()
        Exporter(sandbox, client, tmp_path / "own")(send_token=send_token)
        own = self.headers(sandbox)
        assert own.get("authorization", "").startswith("Bearer ") is (send_token == "environment")
        assert own["x-gateway-key"] == "made-up-key"

        Exporter(sandbox, client, tmp_path / "site")(send_token=send_token, site_url=site.url)
        elsewhere = self.headers(site)
        assert "authorization" not in elsewhere
        assert "x-gateway-key" not in elsewhere
        assert elsewhere["accept"] == "*/*"

    def test_redirect_to_another_host_is_not_followed(
        self, export: Exporter, catalogue: Catalogue, site: Sandbox
    ) -> None:
        catalogue.add_asset("image", "a.jpg", b"content")
        export.sandbox.faults = always(Response(302, headers={"location": f"{site.url}/library/a.jpg"}))
        with pytest.raises(ExportError, match="redirects to http://127.0.0.1, where files are not looked"):
            export(send_token="environment")
        assert site.count() == 0

    def test_redirect_within_the_site_is_followed(self, export: Exporter, catalogue: Catalogue) -> None:
        catalogue.add_asset("image", "a.jpg", b"content")
        export.sandbox.faults = OnFiles(Response(301, headers={"location": "/library/A.JPG"}))
        export()
        assert only(export.folder.contents()) == b"content"

    def test_expired_token_is_renewed(self, export: Exporter, catalogue: Catalogue) -> None:
        fill(catalogue, 5)

        def revoke(request: Request) -> Response | None:
            request.revoke_tokens()
            return Response(401)

        export.sandbox.faults = OnFiles(None, revoke)
        assert export(send_token="environment", max_concurrent_requests=1)["downloaded"] == 5
        assert export.sandbox.count("token") == 2

    def test_netrc_is_not_used(
        self, export: Exporter, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password made-up\n")
        monkeypatch.setenv("NETRC", str(netrc))
        catalogue.add_asset("image", "a.jpg", b"content")
        export.sandbox.faults = OnFiles()
        export()
        assert "authorization" not in self.headers(export.sandbox)

    def test_retry_after_of_the_site_holds_back_its_requests(
        self, export: Exporter, catalogue: Catalogue
    ) -> None:
        contents = fill(catalogue, 10)
        export.sandbox.faults = OnFiles(Response(429, headers={"retry-after": "1"}))
        assert export()["seconds"] >= 1
        assert export.folder.contents() == contents


class TestCommit:
    @pytest.mark.parametrize("name", ["assets.jsonl", "_manifest.json"])
    def test_run_that_ends_while_it_commits_leaves_no_half(
        self, export: Exporter, catalogue: Catalogue, name: str
    ) -> None:
        contents = fill(catalogue, 20)
        export()
        catalogue.replace_file(next(iter(contents)), b"another")
        storage = LocalStorage()

        def fail() -> None:
            raise DestinationError("made up")

        before_commit(storage, f"/assets/{name}", fail)
        with pytest.raises(DestinationError, match="made up"):
            export(storage=storage)
        assert not (export.folder.path / "_manifest.json").exists()
        result = export()
        assert export.asked == []
        assert result["unchanged"] == 20
        assert export.folder.contents() == contents | {next(iter(contents)): b"another"}
        assert [path for path in export.folder.path.iterdir() if path.name[0] == "."] == []

    def test_leftovers_of_killed_attempts_are_removed(self, export: Exporter, catalogue: Catalogue) -> None:
        fill(catalogue, 5)
        export()
        kept = export.folder.stored
        leftover = export.folder.path / "files" / "ab" / ".x.jpg.1234.part"
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_bytes(b"half")
        assert export(prune=False)["removed"] == 0
        assert export.folder.stored == kept

    def test_second_run_waits_for_the_first(
        self, export: Exporter, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, LOGGER)
        contents = fill(catalogue, 10)
        running = threading.Thread(target=export)

        def begin_another(_: Request) -> None:
            running.start()

        export.sandbox.faults = OnFiles(begin_another)
        export()
        running.join(30)
        assert not running.is_alive()
        assert len(export.asked) <= 10  # each file was asked for once
        assert f"Waiting: another export is writing to {export.folder.path}/" in caplog.messages
        assert export.folder.contents() == contents

    def test_progress_is_saved_now_and_then(
        self, export: Exporter, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "_SAVE_SECONDS", 0)
        fill(catalogue, 40)
        pages: list[int] = []

        def look(_: Request) -> None:
            pages.append(len(list(export.folder.path.glob("_progress/*.jsonl"))))

        export.sandbox.faults = always(look)
        export(max_concurrent_requests=1)
        assert pages[-1] > 5


def test_many_threads_write_to_one_folder(tmp_path: Path) -> None:
    storage = LocalStorage()

    def write(thread: int) -> None:
        for number in range(30):
            file = storage.create(f"{tmp_path}/files/ab/{thread}-{number}", owner="t")
            file.write(b"x" * thread)
            file.finish()
            file.commit()
            file.discard()

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(write, range(8)))
    files = dict(storage.files(f"{tmp_path}/files/"))
    assert files == {f"ab/{thread}-{number}": thread for thread in range(8) for number in range(30)}
