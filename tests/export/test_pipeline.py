"""Exports over real HTTP: complete, exact and repeatable, whatever the service does."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.export import progress as progress_module
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.sandbox import (
    Catalogue,
    Faults,
    Request,
    Response,
    Sandbox,
    iso_catalogue,
    synthetic_catalogue,
)
from tests.catalogues import catalogue_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult


@pytest.fixture
def export(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Callable[..., ExportResult]:
    """A function that exports from a sandbox, by default to `out.jsonl`."""

    def run(
        sandbox: Sandbox, destination: str = "out.jsonl", *, timeout: float = 5.0, **arguments: Any
    ) -> ExportResult:
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/{destination}", **arguments)
        return export_entries(make_client(sandbox, timeout=timeout), sandbox.project_id, request)

    return run


def lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()


def identities(rows: list[bytes]) -> list[tuple[str, str]]:
    return [(entry["sys"]["id"], entry["sys"]["language"]) for entry in map(json.loads, rows)]


class TestExport:
    def test_holds_every_entry_byte_for_byte(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        result = export(iso_sandbox)
        rows = lines(tmp_path / "out.jsonl")
        served = iso_sandbox.catalogue.entries("published")
        assert len(rows) == result.entries > 13_000
        assert len(set(identities(rows))) == len(rows)
        assert sorted(rows) == sorted(served)

    @pytest.mark.slow
    def test_bytes_do_not_depend_on_page_size_or_concurrency(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult]
    ) -> None:
        results = [
            export(iso_sandbox, page_size=500),
            export(iso_sandbox, page_size=333, max_concurrent_requests=7),
            export(iso_sandbox, page_size=10_000),
        ]
        assert len({result.files[None].sha256 for result in results}) == 1

    def test_requests_one_token(
        self, small_catalogue: Catalogue, export: Callable[..., ExportResult]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            result = export(sandbox)
            assert sandbox.count("token") == 1
            assert result.requests == sandbox.count()

    def test_opens_at_most_one_connection_more_than_requests_in_flight(
        self, small_catalogue: Catalogue, export: Callable[..., ExportResult]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            export(sandbox, page_size=20, max_concurrent_requests=4)
            assert sandbox.connections <= 5

    def test_folder_has_one_file_for_each_content_type(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        result = export(iso_sandbox, "folder/", compression="gzip")
        assert {path.name for path in (tmp_path / "folder").iterdir()} == {
            "_manifest.json",
            *(f"{name}.jsonl.gz" for name in ("country", "currency", "language", "subdivision")),
        }
        for content_type_id in ("country", "currency", "language", "subdivision"):
            rows = lines(tmp_path / "folder" / f"{content_type_id}.jsonl.gz")
            served = iso_sandbox.catalogue.entries("published", content_type_id=content_type_id)
            assert sorted(rows) == sorted(served)
            assert result.files[content_type_id].rows == len(rows)

    def test_empty_export_replaces_older_file(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        (tmp_path / "country.jsonl").write_text("yesterday")
        result = export(iso_sandbox, "./", content_type_id="country", changed_from="2999-01-01")
        assert (tmp_path / "country.jsonl").read_bytes() == b""
        assert result.entries == 0
        assert result.watermark == "2999-01-01T00:00:00Z"  # where the next export begins

    @pytest.mark.slow
    def test_result_is_small_json_dict(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        summary = export(iso_sandbox, "folder/", changed_from="2019-01-01").as_dict()
        assert json.loads(json.dumps(summary)) == summary
        assert list(summary) == [
            "destination",
            "files",
            "entries",
            "project_id",
            "version_status",
            "changed_from",
            "changed_to",
            "watermark",
            "requests",
            "seconds",
        ]
        assert summary["destination"] == f"{tmp_path}/folder/"
        assert sum(file["rows"] for file in summary["files"]) == summary["entries"]
        assert {file["content_type_id"] for file in summary["files"]} == {
            "country",
            "currency",
            "language",
            "subdivision",
        }

    def test_log_shows_plan_progress_proof_and_result(
        self,
        iso_sandbox: Sandbox,
        export: Callable[..., ExportResult],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(progress_module, "_INTERVAL_SECONDS", 0.05)
        with caplog.at_level(logging.INFO):
            export(iso_sandbox, page_size=250)
        for message in (
            "Exporting published entries of project isoCodes (management API)",
            "Content types: country, currency, language, subdivision; languages: en-GB, cy, fr",
            "Found 26,",
            "per second, about",
            "Proof: 26,",
            "Wrote ",
            "Exported 26,",
        ):
            assert message in caplog.text

    def test_first_line_of_log_is_the_whole_query(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            result = export(
                iso_sandbox,
                content_type_id="currency",
                language=["cy", "fr"],
                where=[{"field": "name", "exists": True}],
                fields="name",
                changed_from="2020-01-01T02:00:00+02:00",
                changed_to="2099-01-01 12:00",
            )
        destination = result.request.destination.url
        assert caplog.messages[0] == (
            "Exporting published entries of project isoCodes (management API) to "
            f"{destination}: content types: currency; languages: cy, fr; data format: entry; "
            'where: [{"field": "name", "exists": true}]; fields: name; '
            "published: from 2020-01-01T00:00:00Z to 2099-01-01T12:00:00Z"
        )

    def test_first_line_of_log_describes_an_open_query(
        self,
        small_catalogue: Catalogue,
        export: Callable[..., ExportResult],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with Sandbox(small_catalogue) as sandbox, caplog.at_level(logging.INFO):
            export(
                sandbox,
                data_format=None,
                version_status="published",
                api="delivery",
                link_depth=1,
                field_link_depths={"settings": 2},
            )
        assert caplog.messages[0].endswith(
            ": content types: all; languages: all; data format: entry and asset; where: none; fields: all; "
            'published: from the beginning to now; link depth: 1; field link depths: {"settings": 2}'
        )

    @pytest.mark.parametrize(
        ("asked", "found"), [("CURRENCY", "currency"), (["currency", "language"], None), (None, None)]
    )
    def test_file_names_the_content_type_that_was_asked_for(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], asked: Any, found: str | None
    ) -> None:
        [file] = export(iso_sandbox, content_type_id=asked, language="cy").as_dict()["files"]
        assert file["content_type_id"] == found

    @pytest.mark.parametrize(
        ("name", "library", "words"),
        [
            ("x.parquet", "pyarrow", r"Parquet needs pyarrow: pip install '.*\[parquet\]'"),
            ("x.jsonl.zst", "zstandard", r"compression zstd needs zstandard: pip install '.*\[zstd\]'"),
        ],
    )
    def test_missing_library_is_reported_before_anything_is_asked(
        self,
        small_catalogue: Catalogue,
        export: Callable[..., ExportResult],
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        library: str,
        words: str,
    ) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        with Sandbox(small_catalogue) as sandbox:
            with pytest.raises(errors.ConfigurationError, match=words):
                export(sandbox, name, content_type_id="film")
            assert sandbox.count() == 0


class TestQuery:
    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("changed", [{}, {"changed_from": "2000-01-01", "changed_to": "2099-01-01"}])
    def test_rejected_clause_is_named_by_its_place_among_those_given(
        self,
        iso_sandbox: Sandbox,
        export: Callable[..., ExportResult],
        connect: Callable[[Sandbox], None],
        number: int,
        changed: dict[str, str],
    ) -> None:
        where: list[dict[str, Any]] = [{"field": "name", "exists": True}] * 2
        where[number] = {"field": "name", "greaterThen": 90}
        connect(iso_sandbox)
        for read in (
            lambda: export(iso_sandbox, content_type_id="currency", where=where, **changed),
            lambda: list(ContensisHook().iter_entries(content_type_id="currency", where=where, **changed)),  # type: ignore[arg-type]  # times
        ):
            with pytest.raises(errors.ValidationError, match=rf"where\[{number}\].*'greaterThen'"):
                read()

    def where(self, iso_sandbox: Sandbox, status: Any, **tests: Any) -> list[bytes]:
        rows = iso_sandbox.catalogue.entries(status)
        return sorted(row for row in rows if all(test(json.loads(row)) for test in tests.values()))

    def test_selects_content_type_and_languages(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        export(iso_sandbox, content_type_id="currency", language=["cy", "FR"])
        expected = self.where(
            iso_sandbox,
            "published",
            type=lambda entry: entry["sys"]["contentTypeId"] == "currency",
            language=lambda entry: entry["sys"]["language"] in {"cy", "fr"},
        )
        assert sorted(lines(tmp_path / "out.jsonl")) == expected
        assert expected

    @pytest.mark.slow
    def test_selects_latest_versions(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        export(iso_sandbox, version_status="latest")
        latest = iso_sandbox.catalogue.entries("latest")
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(latest)
        assert len(latest) > len(iso_sandbox.catalogue.entries("published"))

    def test_adds_where_clauses(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        clause = {"field": "name", "startsWith": "Ca"}
        for where in (clause, [clause], json.dumps([clause])):
            export(iso_sandbox, content_type_id="country", language="en-GB", where=where)
            names = [json.loads(row)["name"] for row in lines(tmp_path / "out.jsonl")]
            assert "Canada" in names
            assert all(name.startswith("Ca") for name in names)

    @pytest.mark.parametrize(("status", "mark"), [("published", "published"), ("latest", "modified")])
    def test_changed_from_is_inclusive_and_changed_to_exclusive(
        self,
        iso_sandbox: Sandbox,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        status: str,
        mark: str,
    ) -> None:
        def marked(row: bytes) -> str:
            return str(json.loads(row)["sys"]["version"][mark])

        rows = sorted(iso_sandbox.catalogue.entries(status), key=marked)  # type: ignore[arg-type]  # either status
        begin, end = marked(rows[5_000]), marked(rows[15_000])
        result = export(iso_sandbox, version_status=status, changed_from=begin, changed_to=end)
        marks = [marked(row) for row in lines(tmp_path / "out.jsonl")]
        assert min(marks) == begin
        assert max(marks) < end
        assert len(marks) == sum(begin <= marked(row) < end for row in rows)
        assert result.watermark == max(marks)

    def test_keeps_selected_fields_and_identity(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        export(
            iso_sandbox, content_type_id="country", language="en-GB", fields=["name", "sys.version.published"]
        )
        for entry in map(json.loads, lines(tmp_path / "out.jsonl")):
            assert set(entry) == {"name", "sys"}
            assert set(entry["sys"]) == {"id", "language", "contentTypeId", "version"}
            assert set(entry["sys"]["version"]) == {"published"}

    def test_delivery_resolves_links_to_link_depth(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        export(iso_sandbox, content_type_id="subdivision", language="en-GB", api="delivery", link_depth=1)
        entries = [json.loads(row) for row in lines(tmp_path / "out.jsonl")]
        published = iso_sandbox.catalogue.entries("published", content_type_id="subdivision")
        assert len(entries) == sum(entry[1] == "en-GB" for entry in identities(published))
        assert all("alpha2" in entry["country"] for entry in entries if entry["country"])

    def test_delivery_resolves_links_of_single_fields(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        arguments = {"content_type_id": "subdivision", "language": "en-GB", "api": "delivery"}
        export(iso_sandbox, field_link_depths='{"country": 1}', **arguments)
        entries = [json.loads(row) for row in lines(tmp_path / "out.jsonl")]
        assert all("alpha2" in entry["country"] for entry in entries if entry["country"])
        parents = [entry["parent"] for entry in entries if entry["parent"]]
        assert parents
        assert all(set(parent) == {"sys"} for parent in parents)

    def test_delivery_serves_its_own_json(
        self, iso_sandbox: Sandbox, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        export(iso_sandbox, content_type_id="country", api="delivery")
        served = iso_sandbox.catalogue.entries("published", api="delivery", content_type_id="country")
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(served)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"content_type_id": "film"},
                "content_type_id 'film' is not in project 'isoCodes', which has: country",
            ),
            ({"language": "de"}, "language 'de' is not in project 'isoCodes', which has: cy, en-GB, fr"),
            ({"content_type_id": "country", "data_format": "asset"}, "set it to 'entry'"),
        ],
    )
    def test_fails_when_project_lacks_content_type_or_language(
        self,
        iso_sandbox: Sandbox,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        arguments: dict[str, str],
        message: str,
    ) -> None:
        with pytest.raises(errors.ConfigurationError, match=message):
            export(iso_sandbox, **arguments)
        assert list(tmp_path.iterdir()) == []

    def test_fails_when_project_does_not_exist(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/out.jsonl")
        with pytest.raises(errors.NotFoundError, match="project with ID 'other' does not exist"):
            export_entries(make_client(iso_sandbox), "other", request)


class TestFaults:
    @pytest.mark.slow
    def test_many_faults_at_once_lose_nothing(
        self, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        """25,000 entries, 3,000 sharing one created time, tokens of 3 s, 5 % of calls answered 503."""
        catalogue = synthetic_catalogue(25_000, same_created=3_000)
        with Sandbox(catalogue, token_lifetime=3, error_rate=0.05, latency=0.02) as sandbox:
            result = export(sandbox, max_concurrent_requests=2)
            assert sandbox.count("token") >= 2 or result.seconds < 3
            assert sum(record.status == 503 for record in sandbox.requests) > 0
        rows = lines(tmp_path / "out.jsonl")
        assert len(rows) == len(set(identities(rows))) == 25_000
        assert sorted(rows) == sorted(catalogue.entries("published"))

    @pytest.mark.slow
    def test_more_entries_with_one_created_time_than_a_query_returns_are_exported(
        self, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        catalogue = synthetic_catalogue(12_000, same_created=11_500, body_bytes=200)
        with Sandbox(catalogue) as sandbox:
            export(sandbox, page_size=1_000)
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(catalogue.entries("published"))

    @pytest.mark.slow
    def test_total_capped_at_10_000_loses_nothing(
        self, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        catalogue = synthetic_catalogue(23_000, body_bytes=200)
        with Sandbox(catalogue, cap_total_count=True) as sandbox:
            export(sandbox, page_size=1_000)
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(catalogue.entries("published"))

    @pytest.mark.parametrize("revoked_after", [3, 10])
    def test_revoked_token_is_replaced(
        self,
        small_catalogue: Catalogue,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        revoked_after: int,
    ) -> None:
        def revoke(request: Request) -> Response | None:
            if request.number == revoked_after:
                sandbox.revoke_tokens()
            return None

        with Sandbox(small_catalogue, faults=revoke) as sandbox:
            export(sandbox, page_size=50)
            assert sandbox.count("token") == 2
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(small_catalogue.entries("published"))

    def test_entries_of_unlisted_content_types_are_exported(
        self, export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def hide_currencies(request: Request) -> Response | None:
            if request.kind != "content_type":
                return None
            shown = [item for item in sandbox.catalogue.content_types.values() if item["id"] != "currency"]
            return Response.json(shown)

        catalogue = iso_catalogue()
        with Sandbox(catalogue, faults=hide_currencies) as sandbox:
            export(sandbox, "folder/")
        written = [row for path in (tmp_path / "folder").glob("*.jsonl") for row in lines(path)]
        assert sorted(written) == sorted(catalogue.entries("published"))
        assert (tmp_path / "folder" / "currency.jsonl").exists()
        assert "currency, which the project does not list, has entries: exporting them, too" in caplog.text

    def test_content_types_that_get_their_first_entry_during_the_read_are_exported(
        self, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        catalogue = catalogue_of({"article": 900, "event": 0})
        asked: list[str] = []

        def hide_events(request: Request) -> Response | None:
            if request.kind == "content_type":
                return Response.json([catalogue.content_types["article"]])
            if request.kind == "search" and b'"not"' in request.body:
                asked.append("for others")
            elif len(asked) == 2:  # and answered: there are none
                asked.append("for pages")
                catalogue.add("event", {"title": "Open day"})
            return None

        with Sandbox(catalogue, faults=hide_events) as sandbox:
            export(sandbox, "folder/", page_size=30, max_concurrent_requests=2)
        assert asked[:3] == ["for others", "for others", "for pages"]
        assert len(lines(tmp_path / "folder" / "event.jsonl")) == 1


def change_page(change: Callable[[dict[str, Any]], None], *, times: int) -> Faults:
    """Return a fault that changes the pages of some searches.

    :param times: how many pages it changes.
    """
    left = [times]

    def fault(request: Request) -> Response | None:
        if request.kind != "search" or json.loads(request.body)["pageSize"] == 1 or left[0] == 0:
            return None
        left[0] -= 1
        page = json.loads(request.answer().body)
        change(page)
        return Response.json(page)

    return fault


class TestProof:
    @pytest.mark.parametrize(
        "fault",
        ["repeated entry", "missing entry", "wrong total", "one entry only", "other language", "no id"],
    )
    def test_inconsistent_page_is_requested_again(
        self,
        small_catalogue: Catalogue,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        fault: str,
    ) -> None:
        def tamper(page: dict[str, Any]) -> None:
            if fault == "repeated entry":
                page["items"][1] = page["items"][0]
            elif fault == "missing entry":
                page["items"].pop()
            elif fault == "wrong total":
                page["totalCount"] = 1
            elif fault == "other language":
                page["items"][0]["sys"]["language"] = "de"
            elif fault == "no id":
                del page["items"][0]["sys"]["id"]
            else:
                page["items"] = page["items"][:1] * len(page["items"])

        with Sandbox(small_catalogue, faults=change_page(tamper, times=2)) as sandbox:
            export(sandbox)
        assert sorted(lines(tmp_path / "out.jsonl")) == sorted(small_catalogue.entries("published"))
        assert "Waiting" in caplog.text

    def test_page_that_stays_inconsistent_fails_export_with_both_figures(
        self, small_catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        (tmp_path / "out.jsonl").write_text("old")

        def tamper(page: dict[str, Any]) -> None:
            del page["items"][:1]

        faults = change_page(tamper, times=1_000)
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(
                errors.IncompleteReadError, match=r"counts [\d,]+ entries and a page should hold"
            ) as failure,
        ):
            export(sandbox)
        assert failure.value.expected == failure.value.found + 1
        assert failure.value.retryable
        assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
        assert (tmp_path / "out.jsonl").read_text() == "old"

    @pytest.mark.parametrize("api", ["management", "delivery"])
    @pytest.mark.parametrize("hidden", [[], ["version"]], ids=["times shown", "times hidden"])
    @pytest.mark.parametrize("delay", [0.0, 1.5], ids=["quick", "slow"])
    def test_deletion_and_restoration_between_pages_lose_no_other_entry(
        self,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        api: str,
        hidden: list[str],
        delay: float,
    ) -> None:
        """The count does not change, but with numbered pages an entry would move to a page already read."""
        catalogue = synthetic_catalogue(900, body_bytes=200)
        catalogue.project["deliverySysExclusions"] = hidden
        in_order = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
        victim, restored = in_order[10], in_order[-1]
        mark = json.loads(catalogue.entries("published")[-1])["sys"]["version"]["published"]
        catalogue.unpublish(restored)
        edited: list[bool] = []

        def edit(request: Request) -> Response | None:
            if request.kind != "search" or json.loads(request.body)["pageSize"] == 1 or edited:
                return None
            edited.append(True)
            answer = request.answer()
            catalogue.delete(victim)
            catalogue.publish(restored, at=mark)  # with its old change mark: nothing shows that it is new
            return dataclasses.replace(answer, delay=delay)

        with Sandbox(catalogue, faults=edit) as sandbox:
            export(sandbox, page_size=450, api=api, timeout=1.0)
        assert edited
        exported = {entry for entry, _ in identities(lines(tmp_path / "out.jsonl"))}
        assert exported >= set(in_order) - {victim, restored}

    def test_entry_published_into_window_already_read_is_exported(
        self, export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Another entry is deleted; otherwise the count would stay above the number read."""
        catalogue = synthetic_catalogue(900, body_bytes=200)
        in_order = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
        mark = json.loads(catalogue.entries("published")[0])["sys"]["version"]["published"]
        restored, victim = in_order[0], in_order[-1]
        catalogue.unpublish(restored)
        pages: list[Request] = []

        def edit(request: Request) -> Response | None:
            if request.kind == "search" and json.loads(request.body)["pageSize"] > 1:
                pages.append(request)
                if len(pages) == 2:
                    catalogue.delete(victim)
                    catalogue.publish(restored, at=mark)
            return None

        with Sandbox(catalogue, faults=edit) as sandbox:
            result = export(sandbox, page_size=200, max_concurrent_requests=1)
        exported = [entry for entry, _ in identities(lines(tmp_path / "out.jsonl"))]
        assert sorted(exported) == sorted(set(in_order) - {victim})
        assert result.entries == 899
        assert "Reading the window again" in caplog.text

    def test_edits_during_export_neither_hide_nor_duplicate_other_entries(
        self, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        catalogue = synthetic_catalogue(3_000, same_created=400, body_bytes=200)
        ids = [json.loads(row)["sys"]["id"] for row in catalogue.entries("published")]
        chance = random.Random(7)
        edited = set(chance.sample(ids, 600))
        busy = sorted(edited)

        def edit(request: Request) -> Response | None:
            for entry_id in chance.sample(busy, 20) if request.kind == "search" else []:
                if catalogue.find(entry_id, None, "published"):
                    catalogue.unpublish(entry_id)
                else:
                    catalogue.publish(entry_id)
            return None

        with Sandbox(catalogue, faults=edit) as sandbox:
            export(sandbox, page_size=100, max_concurrent_requests=8)
        exported = [entry for entry, _ in identities(lines(tmp_path / "out.jsonl"))]
        assert len(exported) == len(set(exported))
        assert set(exported) >= set(ids) - edited
        assert set(exported) <= set(ids)

    def test_missing_window_fails_export(self, export: Callable[..., ExportResult]) -> None:
        def lose_a_window(request: Request) -> Response | None:
            if request.kind != "search":
                return None
            query = json.loads(request.body)
            bounds = [clause for clause in query["where"] if clause.get("field") == "sys.version.created"]
            if len(bounds) != 2 or query["pageSize"] == 1:
                return None
            empty = {"pageIndex": 0, "totalCount": 0, "pageCount": 0, "items": []}
            return Response.json(empty | {"pageSize": query["pageSize"]})

        with (
            Sandbox(synthetic_catalogue(9_000, body_bytes=100), faults=lose_a_window) as sandbox,
            pytest.raises(errors.IncompleteReadError, match="counts 9,000 entries, but its windows hold"),
        ):
            export(sandbox)

    def test_smaller_pages_than_requested_lose_nothing(
        self, small_catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        def clamp(page: dict[str, Any]) -> None:
            page["pageSize"] = 100
            del page["items"][100:]

        with Sandbox(small_catalogue, faults=change_page(clamp, times=1_000)) as sandbox:
            export(sandbox)
        served = small_catalogue.entries("published")
        assert sorted(identities(lines(tmp_path / "out.jsonl"))) == sorted(identities(served))

    @pytest.mark.parametrize("total", [-1, 0, 10**12])
    def test_count_that_contradicts_pages_fails_export(
        self, small_catalogue: Catalogue, export: Callable[..., ExportResult], total: int
    ) -> None:
        def lie(request: Request) -> Response | None:
            if request.kind != "search":
                return None
            page = json.loads(request.answer().body)
            page["totalCount"] = total
            return Response.json(page)

        with Sandbox(small_catalogue, faults=lie) as sandbox, pytest.raises(errors.ContensisError):
            export(sandbox)


def test_source_cuts_large_slices_and_yields_batches_in_order(
    iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
) -> None:
    request = ExportRequest.from_arguments(destination="x.jsonl", content_type_id="language")
    source = EntrySource(make_client(iso_sandbox), iso_sandbox.project_id, request.query)
    batches = list(source.read(source.plan()))
    assert len(batches) > 3
    created = [
        (batch.window.language, meta.created[:19])
        for batch in batches
        for meta in batch.metas
        if meta.created
    ]
    order = {language: number for number, language in enumerate(("en-GB", "cy", "fr"))}
    keys = [(order[str(language)], time) for language, time in created]
    assert keys == sorted(keys)
    assert len(keys) == len(iso_sandbox.catalogue.entries(content_type_id="language"))
