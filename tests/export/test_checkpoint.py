"""A retry goes on from what an earlier try has read, and from nothing else."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from airflow_provider_contensis.exceptions import (
    ConfigurationError,
    ContensisError,
    DestinationError,
    IncompleteReadError,
    ServerError,
)
from airflow_provider_contensis.export.checkpoint import Checkpoint
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.model import Batch, Plan, Slice, Window
from airflow_provider_contensis.export.page import entry_metas
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox, synthetic_catalogue
from tests.file_pointer import FilePointer
from tests.searches import IN_FLIGHT, window_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult

DAY = 24 * 3600


class KilledError(Exception):
    """Stands for whatever ends a try and lets another one follow."""


# --- A spool by itself ---------------------------------------------------------------------------------


def a_window(number: int) -> Window:
    bounds = f"2031-01-0{number}T00:00:00.000Z", f"2031-01-0{number + 1}T00:00:00.000Z"
    return Window("cy", "film", ({"field": "a", "equalTo": 1.5},), *bounds)


def a_block(window: Window, count: int) -> Batch:
    entries = [
        msgspec.Raw(f'{{"sys":{{"id":"{number}","language":"cy"}},"é":1.10}}'.encode())
        for number in range(count)
    ]
    return Batch(window, entries, entry_metas(entries, "published"))


WINDOWS = tuple(map(a_window, range(1, 5)))
PLAN = Plan(({"id": "film", "fields": []},), (Slice(replace(WINDOWS[0], created_to=None), 9),), WINDOWS)
HALVES = [replace(WINDOWS[1], id_prefix=digit) for digit in "0f"]


@pytest.fixture
def pointer(tmp_path_factory: pytest.TempPathFactory) -> FilePointer:
    return FilePointer(tmp_path_factory.mktemp("pointer") / "pointer.json")


@pytest.fixture
def open_checkpoint(tmp_path: Path, pointer: FilePointer) -> Callable[..., Checkpoint]:
    def run(*, fingerprint: str = "asked", owner: str = "the task", **arguments: Any) -> Checkpoint:
        destination = Destination.from_arguments(f"{tmp_path}/x.jsonl")
        return Checkpoint(
            destination,
            fingerprint,
            change_mark="published",
            owner=owner,
            **{"pointer": pointer, **arguments},
        )

    return run


@pytest.fixture
def begun(open_checkpoint: Callable[..., Checkpoint]) -> None:
    """An earlier try: it read one window, cut the next and read its first half, and died."""
    with pytest.raises(KilledError), open_checkpoint() as checkpoint:
        checkpoint.begin(PLAN)
        checkpoint.add(a_block(WINDOWS[0], 2))
        checkpoint.cut(HALVES)
        checkpoint.add(a_block(HALVES[0], 0))
        raise KilledError


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob(".*.checkpoint"))


def replayed(checkpoint: Checkpoint) -> list[tuple[Window, list[bytes]]]:
    return [(block.window, [bytes(entry) for entry in block.entries]) for block in checkpoint.replay()]


class TestASpool:
    @pytest.mark.usefixtures("begun")
    def test_gives_back_the_plan_what_was_read_and_what_is_left(
        self, open_checkpoint: Callable[..., Checkpoint]
    ) -> None:
        with open_checkpoint() as checkpoint:
            assert checkpoint.plan == PLAN
            blocks = list(checkpoint.replay())
            assert blocks == [a_block(WINDOWS[0], 2), a_block(HALVES[0], 0)]
            assert checkpoint.remaining == (HALVES[1], *WINDOWS[2:])

    @pytest.mark.usefixtures("begun")
    def test_torn_at_any_byte_gives_back_the_whole_records_and_goes_on_from_there(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        [path] = checkpoints(tmp_path)
        whole, saved = path.read_bytes(), pointer.load()
        ends = [0]
        while ends[-1] < len(whole):  # a frame of 13 bytes, of which 8 tell the length
            ends.append(ends[-1] + 13 + int.from_bytes(whole[ends[-1] + 1 : ends[-1] + 9], "big"))
        assert len(ends) == 5
        read: list[Window | None] = [None, WINDOWS[0], None, HALVES[0]]
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            pointer.save(saved)
            records = sum(end <= size for end in ends[1:])
            with open_checkpoint() as checkpoint:
                if not records:
                    assert checkpoint.plan is None
                    continue
                assert [window for window, _ in replayed(checkpoint)] == list(filter(None, read[:records]))
                assert path.stat().st_size == ends[records]
                lefts = [WINDOWS, WINDOWS[1:], (*HALVES, *WINDOWS[2:]), (HALVES[1], *WINDOWS[2:])]
                assert checkpoint.remaining == lefts[records - 1]
            path.write_bytes(whole[:size])
            pointer.save(saved)
            with pytest.raises(KilledError), open_checkpoint() as checkpoint:
                known = len(replayed(checkpoint))
                checkpoint.add(a_block(checkpoint.remaining[0], 1))
                raise KilledError
            with open_checkpoint() as checkpoint:
                assert len(replayed(checkpoint)) == known + 1

    @pytest.mark.usefixtures("begun")
    def test_whose_bytes_were_changed_ends_before_them(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        [path] = checkpoints(tmp_path)
        path.write_bytes(path.read_bytes().replace(b"1.10", b"1.11"))
        with open_checkpoint() as checkpoint:
            assert replayed(checkpoint) == []
            assert checkpoint.remaining == WINDOWS

    def test_that_can_not_be_understood_is_given_up_and_the_rest_is_read(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KilledError), open_checkpoint() as checkpoint:
            checkpoint.begin(PLAN)
            checkpoint.add(a_block(WINDOWS[0], 2))
            checkpoint.add(Batch(WINDOWS[1], [msgspec.Raw(b"{")], []))
            raise KilledError
        with pytest.raises(KilledError), open_checkpoint() as checkpoint:
            assert [window for window, _ in replayed(checkpoint)] == [WINDOWS[0]]
            assert checkpoint.remaining == WINDOWS[1:]
            checkpoint.add(a_block(WINDOWS[1], 1))
            raise KilledError
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1
        assert checkpoints(tmp_path) == []

    def test_is_private_and_gone_once_the_export_has_succeeded(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        with open_checkpoint() as checkpoint:
            checkpoint.begin(PLAN)
            [path] = checkpoints(tmp_path)
            assert path.stat().st_mode & 0o777 == 0o600
            assert pointer.load() == {"path": str(path)}
        assert checkpoints(tmp_path) == []
        assert pointer.load() is None

    @pytest.mark.usefixtures("begun")
    @pytest.mark.parametrize(
        ("error", "stays"),
        [
            (KeyboardInterrupt(), True),
            (ServerError("Busy", status_code=503), True),
            (IncompleteReadError("A page", expected=2, found=1), True),
            (ConfigurationError("No retry mends it"), False),
            (ServerError("Nor this", status_code=403), False),
        ],
        ids=str,
    )
    def test_stays_only_where_a_retry_can_go_on_from_it(
        self,
        open_checkpoint: Callable[..., Checkpoint],
        tmp_path: Path,
        pointer: FilePointer,
        error: BaseException,
        stays: bool,
    ) -> None:
        with pytest.raises(type(error)), open_checkpoint() as checkpoint:
            replayed(checkpoint)
            raise error
        assert len(checkpoints(tmp_path)) == stays
        assert (pointer.load() is not None) == stays

    @pytest.mark.usefixtures("begun")
    def test_of_which_all_was_read_but_nothing_proven_does_not_stay(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        with pytest.raises(IncompleteReadError), open_checkpoint() as checkpoint:
            replayed(checkpoint)
            for window in checkpoint.remaining:
                checkpoint.add(a_block(window, 1))
            raise IncompleteReadError("The figures differ", expected=2, found=1)
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_makes_room_when_the_disk_is_full(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        with pytest.raises(DestinationError), open_checkpoint():
            raise DestinationError("x.jsonl could not be written.") from OSError(28, "No space left")
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_that_the_last_try_has_replayed_is_gone_even_if_that_try_is_killed(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        checkpoint = open_checkpoint()
        assert len(replayed(checkpoint)) == 2
        assert checkpoints(tmp_path) == []
        assert pointer.load() is None
        checkpoint.add(a_block(checkpoint.remaining[0], 1))
        assert checkpoint.remaining == WINDOWS[2:]

    @pytest.mark.usefixtures("begun")
    def test_that_the_last_try_could_not_replay_is_gone_too(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        with pytest.raises(KilledError), open_checkpoint():
            raise KilledError
        assert checkpoints(tmp_path) == []

    def test_is_not_begun_by_the_last_try(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        with open_checkpoint() as checkpoint:
            checkpoint.begin(PLAN)
            checkpoint.add(a_block(WINDOWS[0], 1))
            assert checkpoints(tmp_path) == []


class TestASpoolIsNotUsed:
    """Then the earlier one is removed, and a new one begun."""

    def not_used(self, checkpoint: Checkpoint, folder: Path) -> None:
        with pytest.raises(KilledError), checkpoint:
            assert checkpoint.plan is None
            assert replayed(checkpoint) == []
            assert checkpoints(folder) == []
            checkpoint.begin(PLAN)
            assert checkpoint.remaining == WINDOWS
            raise KilledError
        assert len(checkpoints(folder)) == 1

    @pytest.mark.usefixtures("begun")
    def test_if_something_else_is_asked_for(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        self.not_used(open_checkpoint(fingerprint="something else"), tmp_path)

    @pytest.mark.usefixtures("begun")
    def test_a_day_after_it_was_begun(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
        self.not_used(open_checkpoint(), tmp_path)

    @pytest.mark.usefixtures("begun")
    @pytest.mark.parametrize(
        "saved",
        [
            7,
            {},
            {"path": 7},
            {"path": "/etc/passwd"},
            {"path": "{folder}/../x.checkpoint"},
            {"path": "{folder}/a\0"},
        ],
    )
    def test_if_what_leads_to_it_leads_elsewhere(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer, saved: Any
    ) -> None:
        pointer.path.write_text(json.dumps(saved).replace("{folder}", str(tmp_path)))
        self.not_used(open_checkpoint(), tmp_path)

    @pytest.mark.usefixtures("begun")
    def test_if_it_is_a_link(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        [path] = checkpoints(tmp_path)
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        with open_checkpoint() as checkpoint:
            assert checkpoint.plan is None
        assert elsewhere.exists()

    def test_while_a_try_that_has_it_still_lives(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        with open_checkpoint() as living:
            living.begin(PLAN)
            with open_checkpoint() as checkpoint:
                assert "In use by an attempt that still runs" in caplog.text
                assert checkpoint.plan is None
                checkpoint.begin(PLAN)
                assert len(checkpoints(tmp_path)) == 2
            assert len(checkpoints(tmp_path)) == 1
            living.add(a_block(WINDOWS[0], 1))
        assert checkpoints(tmp_path) == []
        assert "WARNING" not in caplog.text


class TestLeftovers:
    @pytest.mark.usefixtures("begun")
    def test_of_the_task_s_dead_tries_are_removed_by_its_next(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.clear()
        open_checkpoint(pointer=None)
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_of_another_task_are_removed_once_they_are_idle_for_a_day(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        open_checkpoint(owner="another task", pointer=None)
        [path] = checkpoints(tmp_path)
        os.utime(path, (time.time() - DAY - 1,) * 2)
        open_checkpoint(owner="another task", pointer=None)
        assert checkpoints(tmp_path) == []

    def test_of_the_living_are_left_alone(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        with open_checkpoint() as checkpoint:
            checkpoint.begin(PLAN)
            [path] = checkpoints(tmp_path)
            os.utime(path, (0, 0))
            open_checkpoint(pointer=None)
            open_checkpoint(owner="another task", pointer=None)
            assert checkpoints(tmp_path) == [path]


class TestTheFolderForTemporaryFiles:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path / f"airflow-provider-contensis-{os.geteuid()}"

    @pytest.fixture
    def open_remote(self, pointer: FilePointer) -> Callable[[], Checkpoint]:
        destination = Destination.from_arguments("s3://bucket/../../x.jsonl")
        return lambda: Checkpoint(
            destination, "asked", change_mark="published", owner="../the task", pointer=pointer
        )

    def test_holds_the_spools_of_exports_to_elsewhere(
        self, open_remote: Callable[[], Checkpoint], folder: Path
    ) -> None:
        with pytest.raises(KilledError), open_remote() as checkpoint:
            assert not folder.exists()
            checkpoint.begin(PLAN)
            checkpoint.add(a_block(WINDOWS[0], 2))
            raise KilledError
        assert folder.stat().st_mode & 0o777 == 0o700
        [path] = folder.iterdir()
        assert re.fullmatch(r"export\.[0-9a-f]{12}\.[0-9a-f]{8}\.checkpoint", path.name)
        with open_remote() as checkpoint:
            assert [window for window, _ in replayed(checkpoint)] == [WINDOWS[0]]
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("made", ["by others", "as a link"])
    def test_is_not_used_if_it_is_not_private(
        self,
        open_remote: Callable[[], Checkpoint],
        folder: Path,
        made: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        if made == "as a link":
            (folder.parent / "there").mkdir(mode=0o700)
            folder.symlink_to(folder.parent / "there")
        else:
            folder.mkdir()
            folder.chmod(0o755)
        with open_remote() as checkpoint:
            checkpoint.begin(PLAN)
            assert list(folder.iterdir()) == []
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1

    def test_that_can_not_be_made_costs_the_spool_alone(
        self,
        open_remote: Callable[[], Checkpoint],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "not" / "there"))
        with open_remote() as checkpoint:
            checkpoint.begin(PLAN)
            checkpoint.add(a_block(WINDOWS[0], 1))
            assert checkpoint.remaining == WINDOWS[1:]
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1


class BrokenMemory(FilePointer):
    """A store that fails.

    :param broken: which of its methods.
    """

    def __init__(self, path: Path, broken: str) -> None:
        super().__init__(path)
        self.save(pointer={"path": "/nowhere"})
        setattr(self, broken, self._fail)

    def _fail(self, *_: Any) -> None:
        raise RuntimeError("The API server is away")


def test_a_destination_that_no_file_can_have_is_left_for_the_storage_to_refuse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    destination = Destination.from_arguments("/data/\ud800.jsonl")
    with Checkpoint(
        destination, "asked", change_mark="published", owner="the task", pointer=None
    ) as checkpoint:
        checkpoint.begin(PLAN)
        assert checkpoint.remaining == WINDOWS
    assert caplog.text == ""


@pytest.mark.parametrize("broken", ["load", "save", "clear"])
def test_without_a_store_the_export_goes_on_and_one_warning_says_so(
    open_checkpoint: Callable[..., Checkpoint],
    pointer: FilePointer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    with open_checkpoint(pointer=BrokenMemory(pointer.path, broken)) as checkpoint:
        checkpoint.begin(PLAN)
        checkpoint.add(a_block(WINDOWS[0], 1))
        assert checkpoints(tmp_path) == []
        assert checkpoint.remaining == WINDOWS[1:]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "Resume disabled: the checkpoint cannot be kept: The API server is away" in caplog.text


@pytest.mark.usefixtures("begun")
def test_a_disk_that_is_full_ends_the_spool_alone_and_one_warning_says_so(
    open_checkpoint: Callable[..., Checkpoint],
    pointer: FilePointer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The system refuses to let any file grow beyond a limit, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_checkpoint() as checkpoint:
        known = len(replayed(checkpoint))
        resource.setrlimit(resource.RLIMIT_FSIZE, (checkpoints(tmp_path)[0].stat().st_size + 20, limits[1]))
        try:
            for window in checkpoint.remaining:
                checkpoint.add(a_block(window, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert known == 2
        assert checkpoint.remaining == ()
        assert checkpoints(tmp_path) == []
        assert pointer.load() is None
    assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1


def test_a_spool_does_not_take_the_last_of_the_room(
    open_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_checkpoint() as checkpoint:
        checkpoint.begin(PLAN)
        checkpoint.add(a_block(WINDOWS[0], 1))
        room = os.statvfs(tmp_path)
        nearly_full = os.statvfs_result([*room[:4], (64 << 20) // room.f_frsize, *room[5:]])
        monkeypatch.setattr(os, "fstatvfs", lambda _: nearly_full)
        checkpoint.add(a_block(WINDOWS[1], 1))
        assert checkpoints(tmp_path) == []
    assert caplog.text.count("The disk is nearly full") == 1


# --- Exports over real HTTP ----------------------------------------------------------------------------


class Trouble:
    """Ends an export after some searches for entries, in a way that a retry may mend; notes the windows."""

    def __init__(self, after: int) -> None:
        self.remaining = after
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        window = window_of(request)
        if window is None:
            return None
        with self._lock:
            self.remaining -= 1
            if self.remaining < 0:
                return Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})
            self.asked.append(window)
            return None


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return synthetic_catalogue(2_000, body_bytes=100)


@pytest.fixture
def export(
    make_client: Callable[..., ContensisClient], tmp_path: Path, pointer: FilePointer
) -> Callable[..., ExportResult]:
    def run(sandbox: Sandbox, destination: str = "out.jsonl", **arguments: Any) -> ExportResult:
        storage = arguments.pop("storage", LocalStorage())
        if not destination.startswith("memory://"):
            destination = f"{tmp_path}/{destination}"
        request = ExportRequest.from_arguments(**{"destination": destination, "page_size": 50, **arguments})
        return export_entries(
            make_client(sandbox),
            sandbox.project_id,
            request,
            storage=storage,
            root=destination.removeprefix("memory:/"),
            owner="the task",
            pointer=pointer,
        )

    return run


def fail(export: Callable[[], object], sandbox: Sandbox, after: int) -> list[str]:
    """Let a try fail after some pages; return of which windows it asked for them."""
    sandbox.faults = trouble = Trouble(after)
    with pytest.raises(ContensisError, match="Come back later"):
        export()
    sandbox.faults = None
    return trouble.asked


def ask(export: Callable[[], object], sandbox: Sandbox) -> list[str]:
    """Export; return of which windows pages were asked for."""
    sandbox.faults = trouble = Trouble(sys.maxsize)
    export()
    sandbox.faults = None
    return trouble.asked


class TestARetry:
    def test_asks_again_at_most_for_what_was_in_flight(
        self,
        catalogue: Catalogue,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        with Sandbox(catalogue) as sandbox:
            first = fail(lambda: export(sandbox), sandbox, 25)
            second = ask(lambda: export(sandbox), sandbox)
        assert len(first) == 25
        assert len(set(first) & set(second)) <= IN_FLIGHT
        assert re.search(
            r"Resuming: an earlier attempt has read [\d,]+ entries in \d+ of \d+ windows", caplog.text
        )
        assert caplog.text.count("Plan:") == 1
        assert sorted((tmp_path / "out.jsonl").read_bytes().splitlines()) == sorted(catalogue.entries())
        assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]

    def test_after_many_failures_has_asked_for_few_windows_more_than_one_try_would(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        with Sandbox(catalogue) as sandbox:
            undisturbed = set(ask(lambda: export(sandbox, "first.jsonl"), sandbox))
            windows = [set(fail(lambda: export(sandbox), sandbox, 15)) for _ in range(3)]
            windows.append(set(ask(lambda: export(sandbox), sandbox)))
        assert sum(map(len, windows)) <= len(undisturbed) + 3 * IN_FLIGHT
        assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "first.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "x.jsonl.gz", "x.csv.zst", "x/"]
    )
    def test_writes_the_bytes_of_an_undisturbed_export(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path, name: str
    ) -> None:
        def content(where: str) -> dict[str, bytes]:
            path = tmp_path / where / name
            files = path.iterdir() if path.is_dir() else [path]
            return {file.name: file.read_bytes() for file in files if file.name != "_manifest.json"}

        with Sandbox(catalogue) as sandbox:
            export(sandbox, f"a/{name}", on_type_mismatch="raw")
            fail(lambda: export(sandbox, f"b/{name}", on_type_mismatch="raw"), sandbox, 25)
            asked = ask(lambda: export(sandbox, f"b/{name}", on_type_mismatch="raw"), sandbox)
        assert len(set(asked)) < 25  # windows, of which there are as many
        assert content("a") == content("b")

    def test_to_an_object_store_goes_on_too(
        self,
        catalogue: Catalogue,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fsspec = pytest.importorskip("fsspec")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        store = fsspec.filesystem("memory")
        with Sandbox(catalogue) as sandbox:

            def run() -> None:
                export(sandbox, "memory://spool/x.jsonl", storage=ObjectStorage(store))

            first = fail(run, sandbox, 25)
            second = ask(run, sandbox)
        assert len(set(first) & set(second)) <= IN_FLIGHT
        assert sorted(store.cat("/spool/x.jsonl").splitlines()) == sorted(catalogue.entries())
        assert list(tmp_path.rglob("*.checkpoint")) == []

    def test_told_to_start_over_reads_everything(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        with Sandbox(catalogue) as sandbox:
            first = fail(lambda: export(sandbox), sandbox, 25)
            second = fail(lambda: export(sandbox, start_over=True), sandbox, 25)
            assert checkpoints(tmp_path) == []
            third = ask(lambda: export(sandbox, start_over="true"), sandbox)
        assert set(first) | set(second) <= set(third)

    @pytest.mark.parametrize(
        "change", [{"language": "en-GB"}, {"version_status": "latest"}, {"changed_to": "2999-01-01"}]
    )
    def test_that_asks_for_something_else_reads_everything(
        self,
        catalogue: Catalogue,
        export: Callable[..., ExportResult],
        caplog: pytest.LogCaptureFixture,
        change: dict[str, str],
    ) -> None:
        caplog.set_level("INFO")
        with Sandbox(catalogue) as sandbox:
            fail(lambda: export(sandbox), sandbox, 25)
            export(sandbox, **change)
        assert "Resuming" not in caplog.text
        assert caplog.text.count("Plan:") == 2

    def test_keeps_other_fields_in_another_format_of_what_was_read(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        """What was read is kept as it was served."""
        with Sandbox(catalogue) as sandbox:
            fail(lambda: export(sandbox), sandbox, 25)
            result = export(sandbox, fields=["entryTitle"], page_size=70)
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
        assert len(rows) == result.entries == 2_000
        assert all(set(row) == {"entryTitle", "sys"} for row in rows)

    def test_reads_the_parts_of_a_window_that_had_to_be_cut(
        self, export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Most entries are of one moment, so that windows turn out too large only while they are read."""
        catalogue = synthetic_catalogue(200, body_bytes=50)
        [content_type] = catalogue.content_types
        for number in range(400):
            catalogue.add(content_type, {"title": str(number)}, at="2031-01-01T00:00:00Z")
        with Sandbox(catalogue) as sandbox:
            export(sandbox, "a.jsonl", page_size=20)
            asked: list[str] = []
            failures = 0
            while True:
                try:
                    asked += fail(lambda: export(sandbox, page_size=20), sandbox, 12)
                    failures += 1
                except pytest.fail.Exception:  # it did not fail any more
                    break
        assert failures >= 3
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()

    @pytest.mark.parametrize("seed", range(6))
    def test_after_edits_holds_what_was_there_all_the_time_once_and_proves_it(
        self, export: Callable[..., ExportResult], tmp_path: Path, seed: int
    ) -> None:
        chance = random.Random(seed)
        catalogue = synthetic_catalogue(600, body_bytes=50, seed=seed)
        [content_type] = catalogue.content_types
        before = {json.loads(entry)["sys"]["id"] for entry in catalogue.entries()}
        with Sandbox(catalogue) as sandbox:
            fail(lambda: export(sandbox, page_size=20), sandbox, chance.randint(9, 35))
            for entry_id in chance.sample(sorted(before), 40):
                edit = chance.choice([catalogue.delete, catalogue.unpublish, catalogue.publish])
                edit(entry_id)
            for number in range(chance.randint(0, 60)):
                catalogue.add(content_type, {"title": str(number)}, at=f"20{chance.randint(10, 40)}-02-03")
            export(sandbox, page_size=20)
        after = {json.loads(entry)["sys"]["id"] for entry in catalogue.entries()}
        lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
        written = [json.loads(line)["sys"]["id"] for line in lines]
        assert len(written) == len(set(written))
        assert before & after <= set(written) <= before | after

    def test_reads_again_a_window_into_which_something_was_published_between_the_tries(
        self, export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        catalogue = synthetic_catalogue(600, body_bytes=50)
        [content_type] = catalogue.content_types
        entries = sorted(
            map(json.loads, catalogue.entries()), key=lambda entry: entry["sys"]["version"]["created"]
        )
        with Sandbox(catalogue) as sandbox:
            fail(lambda: export(sandbox, page_size=20), sandbox, 20)
            catalogue.add(content_type, {"title": "New"}, at=entries[0]["sys"]["version"]["created"])
            catalogue.delete(entries[-1]["sys"]["id"])  # so that the service counts as many as before
            export(sandbox, page_size=20)
        assert "Reading the window again" in caplog.text
        assert sorted((tmp_path / "out.jsonl").read_bytes().splitlines()) == sorted(catalogue.entries())


PROGRAM = """
import sys
from pathlib import Path
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from tests.file_pointer import FilePointer

url, client_id, client_secret, project_id, destination, pointer = sys.argv[1:]
scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
client = ContensisClient(Credentials(url, client_id, client_secret, scopes))
request = ExportRequest.from_arguments(destination=destination, page_size=50)
export_entries(client, project_id, request, owner="the task", pointer=FilePointer(Path(pointer)))
"""


def test_after_sigkill_a_retry_asks_for_no_window_that_was_written(
    catalogue: Catalogue, tmp_path: Path, pointer: FilePointer
) -> None:
    destination = tmp_path / "x.jsonl"

    def start(sandbox: Sandbox) -> subprocess.Popen[bytes]:
        place = str(destination), str(pointer.path)
        who = sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *who, *place])

    processes: list[subprocess.Popen[bytes]] = []
    first, second = Trouble(sys.maxsize), Trouble(sys.maxsize)

    def kill_in_the_middle(request: Request) -> Response | None:
        if len(first.asked) == 25:
            processes[0].send_signal(signal.SIGKILL)
        return first(request)

    with Sandbox(catalogue, faults=kill_in_the_middle) as sandbox:
        processes.append(start(sandbox))
        assert processes[0].wait(60) == -signal.SIGKILL
        assert len(checkpoints(tmp_path)) == 1
        sandbox.faults = second
        assert start(sandbox).wait(60) == 0
    assert len(set(first.asked) & set(second.asked)) <= IN_FLIGHT
    assert sorted(destination.read_bytes().splitlines()) == sorted(catalogue.entries())
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert pointer.load() is None
