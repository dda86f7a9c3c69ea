"""Checkpoints: a retry resumes from what an earlier attempt has read, and from nothing else."""

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
from airflow_provider_contensis.export.batch import Batch
from airflow_provider_contensis.export.checkpoint import Checkpoint
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.model import Cut, Plan, Window
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
    """Ends an attempt in a way that lets another one follow."""


# --- A checkpoint by itself ----------------------------------------------------------------------------


def make_window(number: int) -> Window:
    bounds = f"2031-01-0{number}T00:00:00.000Z", f"2031-01-0{number + 1}T00:00:00.000Z"
    query = ({"field": "a", "equalTo": 1.5},)
    return Window(("film",), ("cy",), query, created_from=bounds[0], created_to=bounds[1])


def make_batch(window: Window, count: int) -> Batch:
    entries = [
        msgspec.Raw(f'{{"sys":{{"id":"{number}","language":"cy"}},"é":1.10}}'.encode())
        for number in range(count)
    ]
    return Batch.of(window, entries, entry_metas(entries, "published"))


WINDOWS = tuple(map(make_window, range(1, 5)))
PLAN = Plan(({"id": "film", "fields": []},), replace(WINDOWS[0], created_to=None))
CUT = Cut(PLAN.whole, 9, WINDOWS)
HALVES = tuple(replace(WINDOWS[1], id_prefix=digit) for digit in "0f")


def begin(checkpoint: Checkpoint) -> None:
    checkpoint.begin(PLAN)
    checkpoint.cut(CUT)


@pytest.fixture
def pointer(tmp_path_factory: pytest.TempPathFactory) -> FilePointer:
    return FilePointer(tmp_path_factory.mktemp("pointer") / "pointer.json")


@pytest.fixture
def open_checkpoint(tmp_path: Path, pointer: FilePointer) -> Callable[..., Checkpoint]:
    def run(*, fingerprint: str = "fingerprint", owner: str = "the task", **arguments: Any) -> Checkpoint:
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
    """A checkpoint of an earlier attempt, which read one window and half of the next, and died."""
    with pytest.raises(KilledError), open_checkpoint() as checkpoint:
        begin(checkpoint)
        checkpoint.add(make_batch(WINDOWS[0], 2))
        checkpoint.cut(Cut(WINDOWS[1], 5, HALVES))
        checkpoint.add(make_batch(HALVES[0], 0))
        raise KilledError


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob(".*.checkpoint"))


def replayed(checkpoint: Checkpoint) -> list[tuple[Window, list[bytes]]]:
    return [
        (batch.window, [bytes(entry) for entry in batch.entries])
        for batch in checkpoint.replay(lambda _: None)
    ]


class TestCheckpoint:
    @pytest.mark.usefixtures("begun")
    def test_returns_plan_read_batches_and_remaining_windows(
        self, open_checkpoint: Callable[..., Checkpoint]
    ) -> None:
        with open_checkpoint() as checkpoint:
            assert checkpoint.plan == PLAN
            assert list(checkpoint.replay(lambda _: None)) == [
                make_batch(WINDOWS[0], 2),
                make_batch(HALVES[0], 0),
            ]
            assert checkpoint.remaining == (HALVES[1], *WINDOWS[2:])

    @pytest.mark.usefixtures("begun")
    def test_torn_at_any_byte_resumes_after_last_whole_record(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        [path] = checkpoints(tmp_path)
        whole, saved = path.read_bytes(), pointer.load()
        ends = [0]
        while ends[-1] < len(whole):  # a frame of 13 bytes, 8 of them for the length
            ends.append(ends[-1] + 13 + int.from_bytes(whole[ends[-1] + 1 : ends[-1] + 9], "big"))
        assert len(ends) == 6
        read: list[Window | None] = [None, None, WINDOWS[0], None, HALVES[0]]
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
                lefts = [
                    (PLAN.whole,),
                    WINDOWS,
                    WINDOWS[1:],
                    (*HALVES, *WINDOWS[2:]),
                    (HALVES[1], *WINDOWS[2:]),
                ]
                assert checkpoint.remaining == lefts[records - 1]
            path.write_bytes(whole[:size])
            pointer.save(saved)
            with pytest.raises(KilledError), open_checkpoint() as checkpoint:
                known = len(replayed(checkpoint))
                checkpoint.add(make_batch(checkpoint.remaining[0], 1))
                raise KilledError
            with open_checkpoint() as checkpoint:
                assert len(replayed(checkpoint)) == known + 1

    @pytest.mark.usefixtures("begun")
    def test_replay_ends_before_changed_bytes(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        [path] = checkpoints(tmp_path)
        path.write_bytes(path.read_bytes().replace(b"1.10", b"1.11"))
        with open_checkpoint() as checkpoint:
            assert replayed(checkpoint) == []
            assert checkpoint.remaining == WINDOWS

    def test_invalid_entries_disable_resume_and_are_read_again(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KilledError), open_checkpoint() as checkpoint:
            begin(checkpoint)
            checkpoint.add(make_batch(WINDOWS[0], 2))
            checkpoint.add(Batch.of(WINDOWS[1], [msgspec.Raw(b"{")], []))
            raise KilledError
        with pytest.raises(KilledError), open_checkpoint() as checkpoint:
            assert [window for window, _ in replayed(checkpoint)] == [WINDOWS[0]]
            assert checkpoint.remaining == WINDOWS[1:]
            checkpoint.add(make_batch(WINDOWS[1], 1))
            raise KilledError
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1
        assert checkpoints(tmp_path) == []

    def test_is_private_and_removed_after_success(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        with open_checkpoint() as checkpoint:
            begin(checkpoint)
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
            (ConfigurationError("Not retryable"), False),
            (ServerError("Forbidden", status_code=403), False),
        ],
        ids=str,
    )
    def test_stays_only_if_retry_can_use_it(
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
    def test_is_removed_if_everything_was_read_but_not_proven(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        with pytest.raises(IncompleteReadError), open_checkpoint() as checkpoint:
            replayed(checkpoint)
            for window in checkpoint.remaining:
                checkpoint.add(make_batch(window, 1))
            raise IncompleteReadError("The figures differ", expected=2, found=1)
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_is_removed_if_disk_is_full(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        with pytest.raises(DestinationError), open_checkpoint():
            raise DestinationError("x.jsonl could not be written.") from OSError(28, "No space left")
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_last_attempt_removes_it_after_replay(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        checkpoint = open_checkpoint()
        assert len(replayed(checkpoint)) == 2
        assert checkpoints(tmp_path) == []
        assert pointer.load() is None
        checkpoint.add(make_batch(checkpoint.remaining[0], 1))
        assert checkpoint.remaining == WINDOWS[2:]

    @pytest.mark.usefixtures("begun")
    def test_last_attempt_removes_it_without_replay(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        with pytest.raises(KilledError), open_checkpoint():
            raise KilledError
        assert checkpoints(tmp_path) == []

    def test_last_attempt_does_not_begin_one(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.is_last_attempt = True
        with open_checkpoint() as checkpoint:
            begin(checkpoint)
            checkpoint.add(make_batch(WINDOWS[0], 1))
            assert checkpoints(tmp_path) == []


class TestUnusableCheckpoint:
    """The attempt ignores an earlier checkpoint that it cannot use, and begins a new one."""

    def check_ignored(self, checkpoint: Checkpoint, folder: Path) -> None:
        with pytest.raises(KilledError), checkpoint:
            assert checkpoint.plan is None
            assert replayed(checkpoint) == []
            assert checkpoints(folder) == []
            begin(checkpoint)
            assert checkpoint.remaining == WINDOWS
            raise KilledError
        assert len(checkpoints(folder)) == 1

    @pytest.mark.usefixtures("begun")
    def test_of_another_query_is_ignored(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        self.check_ignored(open_checkpoint(fingerprint="another fingerprint"), tmp_path)

    @pytest.mark.usefixtures("begun")
    def test_older_than_a_day_is_ignored(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
        self.check_ignored(open_checkpoint(), tmp_path)

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
    def test_with_invalid_pointer_is_ignored(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer, saved: Any
    ) -> None:
        pointer.path.write_text(json.dumps(saved).replace("{folder}", str(tmp_path)))
        self.check_ignored(open_checkpoint(), tmp_path)

    @pytest.mark.usefixtures("begun")
    def test_behind_symbolic_link_is_ignored(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        [path] = checkpoints(tmp_path)
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        with open_checkpoint() as checkpoint:
            assert checkpoint.plan is None
        assert elsewhere.exists()

    def test_in_use_by_another_attempt_is_ignored(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        with open_checkpoint() as other:
            begin(other)
            with open_checkpoint() as checkpoint:
                assert "In use by an attempt that still runs" in caplog.text
                assert checkpoint.plan is None
                begin(checkpoint)
                assert len(checkpoints(tmp_path)) == 2
            assert len(checkpoints(tmp_path)) == 1
            other.add(make_batch(WINDOWS[0], 1))
        assert checkpoints(tmp_path) == []
        assert "WARNING" not in caplog.text


class TestLeftovers:
    @pytest.mark.usefixtures("begun")
    def test_of_same_task_are_removed(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path, pointer: FilePointer
    ) -> None:
        pointer.clear()
        open_checkpoint(pointer=None)
        assert checkpoints(tmp_path) == []

    @pytest.mark.usefixtures("begun")
    def test_of_other_tasks_are_removed_after_a_day(
        self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        open_checkpoint(owner="another task", pointer=None)
        [path] = checkpoints(tmp_path)
        os.utime(path, (time.time() - DAY - 1,) * 2)
        open_checkpoint(owner="another task", pointer=None)
        assert checkpoints(tmp_path) == []

    def test_in_use_are_kept(self, open_checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> None:
        with open_checkpoint() as checkpoint:
            begin(checkpoint)
            [path] = checkpoints(tmp_path)
            os.utime(path, (0, 0))
            open_checkpoint(pointer=None)
            open_checkpoint(owner="another task", pointer=None)
            assert checkpoints(tmp_path) == [path]


class TestTemporaryFolder:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path / f"airflow-provider-contensis-{os.geteuid()}"

    @pytest.fixture
    def open_remote(self, pointer: FilePointer) -> Callable[[], Checkpoint]:
        destination = Destination.from_arguments("s3://bucket/../../x.jsonl")
        return lambda: Checkpoint(
            destination, "fingerprint", change_mark="published", owner="../the task", pointer=pointer
        )

    def test_holds_checkpoints_of_exports_to_object_stores(
        self, open_remote: Callable[[], Checkpoint], folder: Path
    ) -> None:
        with pytest.raises(KilledError), open_remote() as checkpoint:
            assert not folder.exists()
            begin(checkpoint)
            checkpoint.add(make_batch(WINDOWS[0], 2))
            raise KilledError
        assert folder.stat().st_mode & 0o777 == 0o700
        [path] = folder.iterdir()
        assert re.fullmatch(r"export\.[0-9a-f]{12}\.[0-9a-f]{8}\.checkpoint", path.name)
        with open_remote() as checkpoint:
            assert [window for window, _ in replayed(checkpoint)] == [WINDOWS[0]]
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("kind", ["readable by others", "symbolic link"])
    def test_is_not_used_unless_private(
        self,
        open_remote: Callable[[], Checkpoint],
        folder: Path,
        kind: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        if kind == "symbolic link":
            (folder.parent / "target").mkdir(mode=0o700)
            folder.symlink_to(folder.parent / "target")
        else:
            folder.mkdir()
            folder.chmod(0o755)
        with open_remote() as checkpoint:
            begin(checkpoint)
            assert list(folder.iterdir()) == []
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1

    def test_export_continues_if_it_cannot_be_created(
        self,
        open_remote: Callable[[], Checkpoint],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "does" / "not" / "exist"))
        with open_remote() as checkpoint:
            begin(checkpoint)
            checkpoint.add(make_batch(WINDOWS[0], 1))
            assert checkpoint.remaining == WINDOWS[1:]
        assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1


class BrokenPointer(FilePointer):
    """A pointer that cannot be stored.

    :param broken: the method that fails.
    """

    def __init__(self, path: Path, broken: str) -> None:
        super().__init__(path)
        self.save(pointer={"path": "/nowhere"})
        setattr(self, broken, self._fail)

    def _fail(self, *_: Any) -> None:
        raise RuntimeError("The API server is away")


def test_invalid_destination_is_left_for_storage_to_refuse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    destination = Destination.from_arguments("/data/\ud800.jsonl")
    with Checkpoint(
        destination, "fingerprint", change_mark="published", owner="the task", pointer=None
    ) as checkpoint:
        begin(checkpoint)
        assert checkpoint.remaining == WINDOWS
    assert caplog.text == ""


@pytest.mark.parametrize("broken", ["load", "save", "clear"])
def test_broken_pointer_disables_resume_with_one_warning(
    open_checkpoint: Callable[..., Checkpoint],
    pointer: FilePointer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    with open_checkpoint(pointer=BrokenPointer(pointer.path, broken)) as checkpoint:
        begin(checkpoint)
        checkpoint.add(make_batch(WINDOWS[0], 1))
        assert checkpoints(tmp_path) == []
        assert checkpoint.remaining == WINDOWS[1:]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "Resume disabled: the checkpoint cannot be kept: The API server is away" in caplog.text


@pytest.mark.usefixtures("begun")
def test_full_disk_disables_resume_with_one_warning(
    open_checkpoint: Callable[..., Checkpoint],
    pointer: FilePointer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A limit on the size of files stands for the full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_checkpoint() as checkpoint:
        known = len(replayed(checkpoint))
        resource.setrlimit(resource.RLIMIT_FSIZE, (checkpoints(tmp_path)[0].stat().st_size + 20, limits[1]))
        try:
            for window in checkpoint.remaining:
                checkpoint.add(make_batch(window, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert known == 2
        assert checkpoint.remaining == ()
        assert checkpoints(tmp_path) == []
        assert pointer.load() is None
    assert caplog.text.count("Resume disabled: the checkpoint cannot be kept") == 1


def test_nearly_full_disk_disables_resume_with_one_warning(
    open_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open_checkpoint() as checkpoint:
        begin(checkpoint)
        checkpoint.add(make_batch(WINDOWS[0], 1))
        room = os.statvfs(tmp_path)
        nearly_full = os.statvfs_result([*room[:4], (64 << 20) // room.f_frsize, *room[5:]])
        monkeypatch.setattr(os, "fstatvfs", lambda _: nearly_full)
        checkpoint.add(make_batch(WINDOWS[1], 1))
        assert checkpoints(tmp_path) == []
    assert caplog.text.count("The disk is nearly full") == 1


# --- Exports over real HTTP ----------------------------------------------------------------------------


class Outage:
    """Answers searches with 503 after some pages, and records the windows that were requested before.

    :param after: how many pages are served.
    """

    def __init__(self, after: int) -> None:
        self.remaining = after
        self.windows: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response | None:
        window = window_of(request)
        if window is None:
            return None
        with self._lock:
            self.remaining -= 1
            if self.remaining < 0:
                return Response.json({"message": "Come back later"}, 503, {"Retry-After": "3600"})
            self.windows.append(window)
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
    """Let an attempt fail after some pages; return the windows that it requested."""
    sandbox.faults = outage = Outage(after)
    with pytest.raises(ContensisError, match="Come back later|asked to wait 3600"):
        export()
    sandbox.faults = None
    return outage.windows


def succeed(export: Callable[[], object], sandbox: Sandbox) -> list[str]:
    """Export; return the windows that were requested."""
    sandbox.faults = outage = Outage(sys.maxsize)
    export()
    sandbox.faults = None
    return outage.windows


class TestRetry:
    def test_repeats_at_most_windows_in_flight(
        self,
        catalogue: Catalogue,
        export: Callable[..., ExportResult],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        with Sandbox(catalogue) as sandbox:
            first = fail(lambda: export(sandbox), sandbox, 25)
            second = succeed(lambda: export(sandbox), sandbox)
        assert len(first) == 25
        assert len(set(first) & set(second)) <= IN_FLIGHT
        assert re.search(
            r"Resuming: an earlier attempt has read [\d,]+ entries in \d+ of \d+ windows", caplog.text
        )
        assert caplog.text.count("Content types: ") == 1
        assert sorted((tmp_path / "out.jsonl").read_bytes().splitlines()) == sorted(catalogue.entries())
        assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]

    def test_many_failures_repeat_few_windows(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        with Sandbox(catalogue) as sandbox:
            undisturbed = set(succeed(lambda: export(sandbox, "first.jsonl"), sandbox))
            windows = [set(fail(lambda: export(sandbox), sandbox, 15)) for _ in range(3)]
            windows.append(set(succeed(lambda: export(sandbox), sandbox)))
        assert sum(map(len, windows)) <= len(undisturbed) + 3 * IN_FLIGHT
        assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "first.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "x.jsonl.gz", "x.csv.zst", "x/"]
    )
    def test_writes_same_bytes_as_undisturbed_export(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path, name: str
    ) -> None:
        def content(where: str) -> dict[str, bytes]:
            path = tmp_path / where / name
            files = path.iterdir() if path.is_dir() else [path]
            return {file.name: file.read_bytes() for file in files if file.name != "_manifest.json"}

        with Sandbox(catalogue) as sandbox:
            export(sandbox, f"a/{name}", on_type_mismatch="raw")
            fail(lambda: export(sandbox, f"b/{name}", on_type_mismatch="raw"), sandbox, 25)
            requested = succeed(lambda: export(sandbox, f"b/{name}", on_type_mismatch="raw"), sandbox)
        assert len(set(requested)) < 25  # there are as many windows
        assert content("a") == content("b")

    def test_resumes_export_to_object_store(
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
                export(sandbox, "memory://bucket/x.jsonl", storage=ObjectStorage(store))

            first = fail(run, sandbox, 25)
            second = succeed(run, sandbox)
        assert len(set(first) & set(second)) <= IN_FLIGHT
        assert sorted(store.cat("/bucket/x.jsonl").splitlines()) == sorted(catalogue.entries())
        assert list(tmp_path.rglob("*.checkpoint")) == []

    def test_start_over_reads_everything(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        with Sandbox(catalogue) as sandbox:
            first = fail(lambda: export(sandbox), sandbox, 25)
            second = fail(lambda: export(sandbox, start_over=True), sandbox, 25)
            assert checkpoints(tmp_path) == []
            third = succeed(lambda: export(sandbox, start_over="true"), sandbox)
        assert set(first) | set(second) <= set(third)

    @pytest.mark.parametrize(
        "change", [{"language": "en-GB"}, {"version_status": "latest"}, {"changed_to": "2999-01-01"}]
    )
    def test_with_another_query_reads_everything(
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
        assert caplog.text.count("Content types: ") == 2

    def test_resumes_with_other_fields_and_page_size(
        self, catalogue: Catalogue, export: Callable[..., ExportResult], tmp_path: Path
    ) -> None:
        """The checkpoint keeps whole entries as served."""
        with Sandbox(catalogue) as sandbox:
            fail(lambda: export(sandbox), sandbox, 25)
            result = export(sandbox, fields=["entryTitle"], page_size=70)
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
        assert len(rows) == result.entries == 2_000
        assert all(set(row) == {"entryTitle", "sys"} for row in rows)

    def test_resumes_within_window_that_was_cut(
        self, export: Callable[..., ExportResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Most entries share a created time, so windows turn out too large only while they are read."""
        catalogue = synthetic_catalogue(200, body_bytes=50)
        [content_type] = catalogue.content_types
        for number in range(400):
            catalogue.add(content_type, {"title": str(number)}, at="2031-01-01T00:00:00Z")
        with Sandbox(catalogue) as sandbox:
            export(sandbox, "a.jsonl", page_size=20)
            requested: list[str] = []
            failures = 0
            while True:
                try:
                    requested += fail(lambda: export(sandbox, page_size=20), sandbox, 12)
                    failures += 1
                except pytest.fail.Exception:  # it succeeded
                    break
        assert failures >= 3
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()

    @pytest.mark.parametrize("seed", range(6))
    def test_after_edits_holds_each_unchanged_entry_once(
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

    def test_entry_published_between_attempts_is_read(
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
            catalogue.delete(entries[-1]["sys"]["id"])  # so that the count does not change
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


def test_retry_after_sigkill_repeats_at_most_windows_in_flight(
    catalogue: Catalogue, tmp_path: Path, pointer: FilePointer
) -> None:
    destination = tmp_path / "x.jsonl"

    def start(sandbox: Sandbox) -> subprocess.Popen[bytes]:
        place = str(destination), str(pointer.path)
        who = sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *who, *place])

    processes: list[subprocess.Popen[bytes]] = []
    first, second = Outage(sys.maxsize), Outage(sys.maxsize)

    def kill_in_the_middle(request: Request) -> Response | None:
        if len(first.windows) == 25:
            processes[0].send_signal(signal.SIGKILL)
        return first(request)

    with Sandbox(catalogue, faults=kill_in_the_middle) as sandbox:
        processes.append(start(sandbox))
        assert processes[0].wait(60) == -signal.SIGKILL
        assert len(checkpoints(tmp_path)) == 1
        sandbox.faults = second
        assert start(sandbox).wait(60) == 0
    assert len(set(first.windows) & set(second.windows)) <= IN_FLIGHT
    assert sorted(destination.read_bytes().splitlines()) == sorted(catalogue.entries())
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert pointer.load() is None
