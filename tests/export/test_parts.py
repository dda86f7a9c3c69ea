"""Exports by several workers: complete, the same bytes as those of one task, each part whole or absent."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import (
    APIError,
    ConfigurationError,
    ExportError,
    IncompleteReadError,
)
from airflow_provider_contensis.export.parts_request import PartsRequest
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import Document
from tests.catalogues import catalogue_of
from tests.file_pointer import FilePointer
from tests.kills import before_commit
from tests.parts import LocalPlace, S3Place, Workers, by_content_type
from tests.searches import IN_FLIGHT, window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from tests.parts import Place

TWO = ("en-GB", "cy")
PUBLISHED = 2 * (3 + 90 + 25 + 400)
NOTHING = {"where": [{"field": "sys.id", "equalTo": "none"}]}


def undated_catalogue() -> Catalogue:
    """Return several types in two languages: a bulk import at one millisecond, and undated entries."""
    few = catalogue_of({"actor": 3, "award": 90, "person": 25}, TWO)
    many = synthetic_catalogue(400, languages=TWO, same_created=90, content_type_id="film", body_bytes=20)
    documents = [*few.select(lambda _: True)[1], *many.select(lambda _: True)[1]]
    documents = [
        Document(document.management.replace(b'"created":', b'"formerly":'), document.status)
        if document.id.startswith(("7", "a"))
        else document
        for document in documents
    ]
    return Catalogue(few.project, [*few.content_types.values(), *many.content_types.values()], documents)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Only for tests that change nothing."""
    return undated_catalogue()


@pytest.fixture
def films() -> Catalogue:
    """One content type, for tests that change it."""
    return synthetic_catalogue(900, body_bytes=20)


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path / "shared")


@pytest.fixture(params=["local", "s3"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return LocalPlace(tmp_path / "shared")
    s3_url = request.getfixturevalue("s3_url")
    return S3Place(s3_url, f"parts-{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def workers(
    make_client: Callable[..., ContensisClient], place: LocalPlace
) -> Iterator[Callable[..., Workers]]:
    """A function that returns the workers of a catalogue's export."""
    sandboxes: list[Sandbox] = []

    def make(catalogue: Catalogue, *, options: Any = None, to: Place = place, **arguments: Any) -> Workers:
        sandbox = Sandbox(catalogue, **(options or {}))
        sandboxes.append(sandbox)
        sandbox.start()
        values = {"parts": 6, "page_size": 50, **arguments}
        return Workers(lambda: make_client(sandbox), sandbox.project_id, to, **values)

    yield make
    for sandbox in sandboxes:
        sandbox.stop()


@pytest.fixture
def by_one_task(
    make_client: Callable[..., ContensisClient], tmp_path: Path
) -> Callable[..., dict[str, bytes]]:
    """A function that returns what one task writes to a folder, by content type."""

    def run(catalogue: Catalogue, **arguments: Any) -> dict[str, bytes]:
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/one/", page_size=50, **arguments)
        with Sandbox(catalogue) as sandbox:
            result = export_entries(make_client(sandbox), sandbox.project_id, request)
        return {
            str(content_type_id): (tmp_path / "one" / file.path.rpartition("/")[2]).read_bytes()
            for content_type_id, file in result.files.items()
            if file.rows
        }

    return run


class TestContent:
    @pytest.mark.parametrize("compression", [None, "gzip"])
    @pytest.mark.parametrize("parts", [1, 5, 17])
    def test_parts_in_order_are_the_file_of_one_task(
        self,
        catalogue: Catalogue,
        workers: Callable[..., Workers],
        by_one_task: Callable[..., dict[str, bytes]],
        any_place: Place,
        compression: str | None,
        parts: int,
    ) -> None:
        summary = workers(catalogue, to=any_place, parts=parts, compression=compression).run()
        together = {
            content_type_id: b"".join(gzip.decompress(each) if compression else each for each in files)
            for content_type_id, files in by_content_type(any_place, summary).items()
        }
        assert together == by_one_task(catalogue)
        assert summary["parts"] == parts
        assert summary["entries"] == PUBLISHED

    @pytest.mark.parametrize("options", [{"aggregations": False}, {"cap_total_count": True}])
    @pytest.mark.parametrize("page_size", [7, 100])
    def test_other_services_and_pages_give_the_same_bytes(
        self,
        catalogue: Catalogue,
        workers: Callable[..., Workers],
        by_one_task: Callable[..., dict[str, bytes]],
        place: LocalPlace,
        options: dict[str, bool],
        page_size: int,
    ) -> None:
        summary = workers(catalogue, options=options, page_size=page_size).run()
        together = {type_: b"".join(files) for type_, files in by_content_type(place, summary).items()}
        assert together == by_one_task(catalogue)

    def test_csv_parts_can_be_read_by_themselves(
        self,
        catalogue: Catalogue,
        workers: Callable[..., Workers],
        by_one_task: Callable[..., dict[str, bytes]],
        place: LocalPlace,
    ) -> None:
        summary = workers(catalogue, file_format="csv").run()
        whole = by_one_task(catalogue, file_format="csv")
        for content_type_id, files in by_content_type(place, summary).items():
            [header] = {file.partition(b"\r\n")[0] for file in files}
            rows = b"".join(file.partition(b"\r\n")[2] for file in files)
            assert header + b"\r\n" + rows == whole[content_type_id]

    def test_parquet_parts_have_one_schema(
        self,
        catalogue: Catalogue,
        workers: Callable[..., Workers],
        by_one_task: Callable[..., dict[str, bytes]],
        place: LocalPlace,
    ) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow = pytest.importorskip("pyarrow")
        options: dict[str, Any] = {"file_format": "parquet", "on_type_mismatch": "raw"}
        summary = workers(catalogue, **options).run()
        whole = by_one_task(catalogue, **options)
        for content_type_id, files in by_content_type(place, summary).items():
            tables = [parquet.read_table(io.BytesIO(file)) for file in files]
            assert pyarrow.concat_tables(tables).equals(
                parquet.read_table(io.BytesIO(whole[content_type_id]))
            )

    def test_selected_fields_are_kept(
        self,
        catalogue: Catalogue,
        workers: Callable[..., Workers],
        by_one_task: Callable[..., dict[str, bytes]],
        place: LocalPlace,
    ) -> None:
        choice: dict[str, Any] = {
            "fields": ["title"],
            "content_type_id": ["film", "person"],
            "language": "cy",
        }
        summary = workers(catalogue, **choice).run()
        together = {type_: b"".join(files) for type_, files in by_content_type(place, summary).items()}
        assert together == by_one_task(catalogue, **choice)

    def test_hidden_times_are_exported(
        self, workers: Callable[..., Workers], place: LocalPlace, films: Catalogue
    ) -> None:
        films.project["deliverySysExclusions"] = ["sys.version.*"]
        summary = workers(films, api="delivery", parts=4).run()
        assert summary["parts"] > 1
        rows = b"".join(b"".join(files) for files in by_content_type(place, summary).values()).splitlines()
        assert len({json.loads(row)["sys"]["id"] for row in rows}) == len(rows) == 900

    def test_content_types_that_the_project_does_not_list_are_exported(
        self, catalogue: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        def hide_awards(request: Request) -> Response | None:
            if request.kind != "content_type":
                return None
            types = catalogue.content_types.values()
            return Response.json([each for each in types if each["id"] != "award"])

        summary = workers(catalogue, options={"faults": hide_awards}).run()
        found = by_content_type(place, summary)
        assert len(b"".join(found["award"]).splitlines()) == 180
        assert summary["entries"] == PUBLISHED

    def test_manifest_has_what_that_of_one_task_has(
        self, catalogue: Catalogue, workers: Callable[..., Workers], place: LocalPlace, tmp_path: Path
    ) -> None:
        export = workers(catalogue)
        summary = export.run()
        files = place.files()
        manifest = json.loads(files["_manifest.json"])
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/one/", page_size=50)
        export_entries(export.client, "synthetic", request)
        other = json.loads((tmp_path / "one" / "_manifest.json").read_bytes())
        assert manifest.keys() - other.keys() == {"plan", "parts"}
        assert other.keys() <= manifest.keys()
        same = ("entries", "watermark", "query", "content_types", "project_id", "version_status")
        assert {name: manifest[name] for name in same} == {name: other[name] for name in same}
        assert (manifest["plan"], manifest["parts"]) == (summary["plan"], 6)
        plan = f"{manifest['plan']}/"
        named = {file["path"] for file in manifest["files"]}
        receipts = {f"{plan}_part-{number:04}.json" for number in range(1, 7)}
        assert set(files) == {"_manifest.json", f"{plan}_plan.json", *receipts, *named}
        assert f"{plan}film/part-0003.jsonl" in named


class TestParts:
    def test_part_that_is_whole_is_not_read_again(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        export = workers(films)
        [address, *_] = export.plan()
        first = export.read(address)
        before, sent = place.files(), export.client.requests_sent
        assert export.read(address) == first
        assert (place.files(), export.client.requests_sent) == (before, sent)
        export.read(address, start_over=True)
        assert export.client.requests_sent > sent

    def test_retry_resumes_from_the_checkpoint_of_its_part(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace, tmp_path: Path
    ) -> None:
        requested: list[str] = []
        is_down: list[bool] = []

        def outage(request: Request) -> Response | None:
            if (window := window_of(request)) is None:
                return None
            if is_down and len(requested) >= 10:
                return Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})
            requested.append(window)
            return None

        export = workers(films, options={"faults": outage}, parts=3, page_size=10)
        addresses = export.plan()
        requested.clear()
        is_down.append(True)
        pointer = FilePointer(tmp_path / "pointer.json")
        with pytest.raises(APIError):
            export.read(addresses[1], pointer)
        is_down.clear()
        export.client = export.make_client()
        export.read(addresses[1], pointer)
        assert len(set(requested[:10]) & set(requested[10:])) <= IN_FLIGHT
        # The pointer of one part is not used for another one.
        pointer.save({"path": "gone"})
        for address in (addresses[0], addresses[2]):
            export.read(address, pointer)
        assert export.commit(addresses[0])["entries"] == 900
        assert not [path for path in place.files() if "checkpoint" in path]

    def test_part_that_is_killed_is_read_again_alone(
        self, films: Catalogue, workers: Callable[..., Workers], any_place: Place, tmp_path: Path
    ) -> None:
        """Each kill comes right before a file of the part gets its name."""
        export = workers(films, to=any_place, parts=3)
        addresses = export.plan()
        export.read(addresses[0])
        export.read(addresses[2])
        for name in ("part-0002.jsonl", "_part-0002.json"):
            process = multiprocessing.get_context("fork").Process(
                target=_read_and_die, args=(export, addresses[1], name)
            )
            process.start()
            process.join(60)
            assert process.exitcode == -signal.SIGKILL
            with pytest.raises(ExportError, match="Part 2 of 3 of plan .* it has no receipt"):
                export.commit(addresses[0])
            assert "_manifest.json" not in any_place.files()
        export.read(addresses[1])
        summary = export.commit(addresses[0])
        together = b"".join(by_content_type(any_place, summary)["article"])
        assert sorted(together.splitlines()) == sorted(films.entries("published"))
        left = {path for path in any_place.files() if path.rpartition("/")[2].startswith(".")}
        assert {path for path in left if path.startswith(summary["plan"])} == set()


def _read_and_die(export: Workers, address: Any, before: str) -> None:
    folder = export.place.again().open("read/2")
    before_commit(folder.storage, before, lambda: os.kill(os.getpid(), signal.SIGKILL))
    export.place.open = lambda owner: folder  # type: ignore[method-assign]  # in this process only
    export.client = export.make_client()
    export.read(address)


class TestCommit:
    def test_second_commit_returns_the_same_and_reads_nothing(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        export = workers(films)
        [address, *others] = export.plan()
        for each in (address, *others):
            export.read(each)
        first = export.commit(address)
        before, sent = place.files(), export.client.requests_sent
        assert export.commit(address) == first
        assert (place.files(), export.client.requests_sent) == (before, sent)
        assert first["files"][0]["path"].startswith(place.url)

    def test_part_that_has_grown_is_read_again_alone(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        ids = [json.loads(row)["sys"]["id"] for row in films.entries("published")]
        for entry_id in ids[450:455]:
            films.unpublish(entry_id)
        export = workers(films)
        addresses = export.plan()
        for address in addresses:
            export.read(address)
        before = place.files()
        for entry_id in ids[450:455]:
            films.publish(entry_id)
        summary = export.commit(addresses[0])
        assert summary["entries"] == 900
        after = place.files()
        changed = {path for path in before if before[path] != after.get(path)}
        [part] = [path.removesuffix(".jsonl")[-4:] for path in changed if path.endswith(".jsonl")]
        assert len(changed) == 2
        assert f"{summary['plan']}/_part-{part[:4]}.json" in changed
        together = b"".join(by_content_type(place, summary)["article"])
        assert sorted(together.splitlines()) == sorted(films.entries("published"))

    def test_commit_that_is_killed_while_it_reads_a_part_again_can_be_repeated(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        [first, *_] = films.entries("published")
        entry_id = json.loads(first)["sys"]["id"]
        films.unpublish(entry_id)
        export = workers(films, parts=3)
        addresses = export.plan()
        for address in addresses:
            export.read(address)
        films.publish(entry_id)
        folder = place.open("commit")

        def fail() -> None:
            raise KeyboardInterrupt

        before_commit(folder.storage, ".jsonl", fail)
        normal, place.open = place.open, lambda owner: folder  # type: ignore[method-assign]  # for one commit
        with pytest.raises(KeyboardInterrupt):
            export.commit(addresses[0])
        place.open = normal  # type: ignore[method-assign]  # as it was
        assert export.commit(addresses[0])["entries"] == 900

    def test_deletions_while_parts_are_read_do_not_fail_the_export(
        self, films: Catalogue, workers: Callable[..., Workers]
    ) -> None:
        ids = [json.loads(row)["sys"]["id"] for row in films.entries("published")]
        export = workers(films)
        addresses = export.plan()
        for number, address in enumerate(addresses):
            films.delete(ids[number])
            films.delete(ids[-number - 1])
            export.read(address)
        assert 900 - 2 * len(addresses) <= export.commit(addresses[0])["entries"] < 900

    def test_publishing_without_end_does_not_fail_the_export(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        ids = [json.loads(row)["sys"]["id"] for row in films.entries("published")][:200]
        for entry_id in ids:
            films.unpublish(entry_id)

        def publish(request: Request) -> None:
            if request.kind == "search" and ids:
                films.publish(ids.pop())

        summary = workers(films, options={"faults": publish}, parts=3).run()
        together = b"".join(by_content_type(place, summary)["article"]).splitlines()
        assert len(together) == len(set(together)) == summary["entries"] >= 700

    def test_entries_that_no_part_finds_fail_the_export(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        def add_one(request: Request) -> Response | None:
            """Count one more in everything than in its parts."""
            if request.kind != "search":
                return None
            body = json.loads(request.body)
            if any(
                str(clause.get("field")).startswith(("sys.contentTypeId", "sys.version.c")) or "not" in clause
                for clause in body["where"]
            ):
                return None
            page = json.loads(request.answer().body)
            page["totalCount"] += 1
            return Response.json(page) if body["pageSize"] == 1 else None

        export = workers(films, options={"faults": add_one}, parts=3)
        addresses = export.plan()
        for address in addresses:
            export.read(address)
        with pytest.raises(IncompleteReadError, match=r"counts 901 entries, but 900 in the parts") as failure:
            export.commit(addresses[0])
        assert (failure.value.expected, failure.value.found) == (901, 900)
        assert "_manifest.json" not in place.files()

    @pytest.mark.parametrize("damage", ["no receipt", "foreign", "other part", "no JSON", "no file", "short"])
    def test_part_that_is_not_whole_fails_the_export_until_it_is_read(
        self, films: Catalogue, workers: Callable[..., Workers], any_place: Place, damage: str
    ) -> None:
        export = workers(films, to=any_place, parts=3)
        other = export.plan()[1]
        export.read(other)
        addresses = export.plan()
        for address in addresses:
            export.read(address)
        folder = f"{addresses[0]['plan']}/"
        receipt, file = f"{folder}_part-0002.json", f"{folder}article/part-0002.jsonl"
        files = any_place.files()
        match damage:
            case "no receipt":
                any_place.remove(receipt)
            case "foreign":
                any_place.write(receipt, files[f"{other['plan']}/_part-0002.json"])
            case "other part":
                any_place.write(receipt, files[f"{folder}_part-0001.json"])
            case "no JSON":
                any_place.write(receipt, b"{")
            case "no file":
                any_place.remove(file)
            case "short":
                any_place.write(file, files[file][:-1])
        with pytest.raises(ExportError, match=r"^Part 2 of 3 of plan .* is incomplete: .*Clear its task"):
            export.commit(addresses[0])
        export.read(addresses[1])
        summary = export.commit(addresses[0])
        together = b"".join(by_content_type(any_place, summary)["article"])
        assert sorted(together.splitlines()) == sorted(films.entries("published"))

    def test_next_export_removes_the_files_of_the_last_one(
        self, films: Catalogue, workers: Callable[..., Workers], any_place: Place
    ) -> None:
        export = workers(films, to=any_place, parts=3)
        first = export.run()
        export.plan()  # of a run that came to no end
        any_place.write("mine.txt", b"kept")
        second = export.run()
        assert first["plan"] < second["plan"]
        kept = {path.partition("/")[0] for path in any_place.files()} - {second["plan"]}
        assert {path for path in kept if not path.startswith(".")} == {"_manifest.json", "mine.txt"}

    def test_earlier_plan_neither_replaces_a_later_one_nor_removes_it(
        self,
        films: Catalogue,
        workers: Callable[..., Workers],
        place: LocalPlace,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        export = workers(films, parts=2)
        old = export.plan()
        for address in old:
            export.read(address)
        monkeypatch.setattr("airflow_provider_contensis.export.parts.time.time", lambda: 2_000_000_000.0)
        new = export.plan()
        assert export.commit(old[0])["plan"] == old[0]["plan"]
        for address in new:
            export.read(address)
        kept = place.files()
        export.commit(new[0])
        for path, content in kept.items():
            if path.startswith(old[0]["plan"]):
                (place._folder / path).parent.mkdir(parents=True, exist_ok=True)
                place.write(path, content)
        with pytest.raises(ExportError, match="holds the export of a later run"):
            export.commit(old[0])

    def test_one_task_and_many_replace_each_other(
        self, films: Catalogue, workers: Callable[..., Workers], any_place: Place
    ) -> None:
        export = workers(films, to=any_place, parts=2)
        folder = any_place.open("one")
        request = ExportRequest.from_arguments(destination=any_place.url)

        def one_task() -> None:
            export_entries(
                export.client, "synthetic", request, storage=folder.storage, root=folder.root, owner="one"
            )

        one_task()
        assert set(any_place.files()) - {"._manifest.json.lock"} == {"_manifest.json", "article.jsonl"}
        summary = export.run()
        assert "article.jsonl" not in any_place.files()
        one_task()
        left = any_place.files()
        assert "article.jsonl" in left
        assert not [path for path in left if path.startswith(summary["plan"])]


class TestNoEntries:
    def test_write_makes_an_export_without_files(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        summary = workers(films, **NOTHING).run()
        assert (summary["files"], summary["entries"], summary["parts"]) == ([], 0, 1)
        assert json.loads(place.files()["_manifest.json"])["files"] == []

    @pytest.mark.parametrize("on_empty", ["keep", "skip"])
    def test_keep_leaves_the_last_export_alone(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace, on_empty: str
    ) -> None:
        workers(films, parts=2).run()
        before = place.files()
        assert workers(films, on_empty=on_empty, **NOTHING).run()["entries"] == 0
        assert place.files() == before

    def test_fail_fails(self, films: Catalogue, workers: Callable[..., Workers]) -> None:
        with pytest.raises(ExportError, match='No entries matched, and on_empty is "fail"'):
            workers(films, on_empty="fail", **NOTHING).run()


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"parts": 0}, "parts must be a whole number from 1 to 64, not 0"),
            ({"parts": "65"}, "parts must be a whole number from 1 to 64, not '65'"),
            ({"file_format": "json"}, "file_format 'json' is one array"),
            ({"destination": "/data/films.jsonl"}, "must be a folder and end in /"),
            ({"page_size": 0}, "page_size must be"),
        ],
    )
    def test_wrong_argument_is_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            PartsRequest.from_arguments(**{"destination": "/data/films/", **arguments})

    def test_destination_needs_no_slash(self) -> None:
        assert PartsRequest.from_arguments(destination="/data/films").destination.url == "/data/films/"

    def test_unknown_field_is_refused_by_the_plan(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        with pytest.raises(ConfigurationError, match="fields contains 'nmae'"):
            workers(films, fields=["nmae"]).plan()
        assert place.files() == {}

    def test_part_with_another_connection_is_refused(
        self, films: Catalogue, workers: Callable[..., Workers]
    ) -> None:
        [address, *_] = workers(films).plan()
        with pytest.raises(ConfigurationError, match="was made for another host, project or API key"):
            workers(films).read(address)

    def test_plan_that_the_worker_cannot_see_is_refused(
        self, films: Catalogue, workers: Callable[..., Workers], tmp_path: Path
    ) -> None:
        export = workers(films)
        [address, *_] = export.plan()
        export.place = LocalPlace(tmp_path / "another machine")
        with pytest.raises(ExportError, match="has no plan .*Either this worker sees another disk"):
            export.read(address)

    def test_plan_that_was_changed_is_refused(
        self, films: Catalogue, workers: Callable[..., Workers], place: LocalPlace
    ) -> None:
        export = workers(films)
        [address, *_] = export.plan()
        path = f"{address['plan']}/_plan.json"
        place.write(path, place.files()[path].replace(b"published", b"latest   "))
        with pytest.raises(ExportError, match="was changed after it was written"):
            export.read(address)
