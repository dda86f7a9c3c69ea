"""Exports that are killed at random moments, and what a reader of their destination then sees.

They go to a file and to a folder, on this machine and on an S3 server, with or without an older export in
their place. Two editions of the content alternate, so that a reader can tell old from new. Each export is
retried, and resumes from what the killed attempt has read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from airflow_provider_contensis.sandbox import Catalogue, Request, Sandbox, synthetic_catalogue
from tests.file_pointer import FilePointer
from tests.searches import window_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from multiprocessing.synchronize import Event

    from airflow_provider_contensis.export.storage.base import PendingFile, Storage

Seen = Literal["nothing", "old", "new", "partial", "torn"]
KINDS = tuple(f"kind{number}" for number in range(6))
TIMEOUT = 120.0
# Seconds after which a folder's lock on S3 expires: with a minute, most of a long run would be waiting.
EXPIRY = 5.0

# New processes fork from one that has imported everything, so that none is killed before its export begins.
PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.kills", "airflow_provider_contensis.export.pipeline", "s3fs"])


class Service(NamedTuple):
    """The access of another process to a sandbox, and to the S3 server if it writes there."""

    url: str
    client_id: str
    client_secret: str
    project_id: str
    s3_url: str | None = None

    @classmethod
    def of(cls, sandbox: Sandbox, s3_url: str | None = None) -> Service:
        return cls(sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id, s3_url)


def edition(seed: int) -> Catalogue:
    """Return a project of six content types; its entries depend on the seed."""
    catalogues = [
        synthetic_catalogue(60, body_bytes=300, content_type_id=kind, seed=seed * 100 + number)
        for number, kind in enumerate(KINDS)
    ]
    content_types = [item for catalogue in catalogues for item in catalogue.content_types.values()]
    documents = [document for catalogue in catalogues for document in catalogue.select(lambda _: True)[1]]
    return Catalogue(catalogues[0].project, content_types, documents)


def s3_filesystem(s3_url: str) -> Any:
    """Return a new filesystem of the S3 server, without a cache of listings."""
    import s3fs

    return s3fs.S3FileSystem(
        key="made-up-key",
        secret="made-up-secret",
        client_kwargs={"endpoint_url": s3_url, "region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def before_commit(storage: Storage, name: str, action: Callable[[], object]) -> None:
    """Make a storage run an action right before a file gets its name.

    :param name: the end of that file's path.
    """
    create = storage.create

    def create_with_action(path: str, *, owner: str) -> PendingFile:
        file = create(path, owner=owner)
        if path.endswith(name):
            commit = file.commit

            def commit_after_action() -> None:
                action()
                commit()

            file.commit = commit_after_action  # type: ignore[method-assign]  # on this instance only
        return file

    storage.create = create_with_action  # type: ignore[method-assign]  # on this instance only


class WindowRecorder:
    """Records the windows that a sandbox is asked for; for `Sandbox(faults=…)`."""

    def __init__(self) -> None:
        self.windows: set[str] = set()

    def __call__(self, request: Request) -> None:
        if (window := window_of(request)) is not None:
            self.windows.add(window)


def export(
    service: Service, destination: str, begun: Event, pointer: Path | None, killed_before: str | None
) -> None:
    """Export everything; runs in a process of its own. Parameters as in `start`."""
    begun.set()
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials
    from airflow_provider_contensis.export.pipeline import export_entries
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.storage import store_lock as lock
    from airflow_provider_contensis.export.storage.local import LocalStorage
    from airflow_provider_contensis.export.storage.object_store import ObjectStorage

    lock._EXPIRY = EXPIRY
    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    request = ExportRequest.from_arguments(destination=destination, page_size=30)
    storage = ObjectStorage(s3_filesystem(service.s3_url)) if service.s3_url else LocalStorage()
    if killed_before is not None:
        before_commit(storage, killed_before, lambda: os.kill(os.getpid(), signal.SIGKILL))
    root = destination.removeprefix("s3://")
    export_entries(
        client,
        service.project_id,
        request,
        storage=storage,
        root=root,
        owner=str(pointer or "the task"),
        pointer=FilePointer(pointer) if pointer else None,
    )


def start(
    service: Service, destination: str, pointer: Path | None = None, *, killed_before: str | None = None
) -> ForkServerProcess:
    """Return a process that has begun to export.

    :param pointer: the file with the pointer to the checkpoint; None for no checkpoint.
    :param killed_before: the file before whose commit the process kills itself; None for none.
    """
    begun = PROCESSES.Event()
    process = PROCESSES.Process(
        target=export, args=(service, destination, begun, pointer, killed_before), daemon=True
    )
    process.start()
    assert begun.wait(TIMEOUT)
    return process


def run(service: Service, destination: str, pointer: Path | None = None) -> float:
    """Export in a process of its own; return how many seconds that took.

    :param pointer: as in `start`.
    :raises AssertionError: the export failed.
    """
    process = start(service, destination, pointer)
    started = time.monotonic()
    process.join(TIMEOUT)
    assert process.exitcode == 0
    return time.monotonic() - started


class Place(Protocol):
    """A destination of exports."""

    destination: str

    def files(self) -> dict[str, bytes]:
        """Return the files that a reader finds, by name."""

    def leftovers(self) -> int:
        """Return the number of hidden files and unfinished uploads."""

    def clear(self) -> None:
        """Remove everything."""


class LocalPlace:
    """A folder on this machine.

    :param name: the name of the destination in it; empty for the folder itself.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.destination = f"{folder}/{name}"

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.iterdir() if path.name[0] != "."}

    def leftovers(self) -> int:
        return sum(path.name[0] == "." for path in self._folder.iterdir())

    def clear(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()


class S3Place:
    """A bucket.

    :param name: the name of the destination in it; empty for the bucket itself.
    """

    def __init__(self, s3_url: str, bucket: str, name: str) -> None:
        self._store = s3_filesystem(s3_url)
        self._bucket = bucket
        self._store.call_s3("create_bucket", Bucket=bucket)
        self.destination = f"s3://{bucket}/{name}"

    def files(self) -> dict[str, bytes]:
        paths = {path.rpartition("/")[2]: path for path in self._store.find(self._bucket)}
        return {name: self._store.cat_file(path) for name, path in paths.items() if name[0] != "."}

    def hidden(self) -> set[str]:
        names = {path.rpartition("/")[2] for path in self._store.find(self._bucket)}
        return {name for name in names if name[0] == "."}

    def leftovers(self) -> int:
        return len(self.hidden()) + len(self._store.list_multipart_uploads(self._bucket))

    def clear(self) -> None:
        for path in self._store.find(self._bucket):
            self._store.rm_file(path)
        self._store.clear_multipart_uploads(self._bucket)


def observe(files: dict[str, bytes], old: dict[str, bytes], new: dict[str, bytes]) -> Seen:
    """Return what the files are to a reader who knows both whole exports.

    A folder without a manifest is nothing; one whose files do not match the hashes in its manifest is torn.
    """
    manifest = json.loads(files.pop("_manifest.json", b"null"))
    if any(content not in (old.get(name), new.get(name)) for name, content in files.items()):
        return "partial"
    named = files if manifest is None else {file["path"]: file["sha256"] for file in manifest["files"]}
    if manifest is None and "_manifest.json" in new:
        return "nothing"
    if manifest is not None and any(
        hashlib.sha256(files.get(name, b"")).hexdigest() != sha256 for name, sha256 in named.items()
    ):
        return "torn"
    for label, whole in (("old", old), ("new", new)):
        if named and all(files[name] == whole.get(name) for name in named):
            return label  # type: ignore[return-value]  # one of the two
    return "nothing"


class Kills:
    """Kills exports to one place, and counts what a reader sees.

    :param sandboxes: one for each of the two editions.
    :param s3_url: the S3 server, if the place is there.
    :param pointer: the file with the pointer to the checkpoint.
    """

    def __init__(
        self,
        place: Place,
        sandboxes: list[Sandbox],
        s3_url: str | None,
        pointer: Path,
        rng: random.Random,
    ) -> None:
        self.place = place
        self.counts: Counter[str] = Counter()
        self._sandboxes = sandboxes
        self._services = [Service.of(sandbox, s3_url) for sandbox in sandboxes]
        self._pointer = pointer
        self._rng = rng
        self._exports = []
        for service in self._services:
            self._duration = run(service, place.destination)
            self._exports.append(place.files())
        self._current = 1  # the edition that was exported last

    def kill_one(self) -> None:
        """Kill an export, observe its destination, and retry it."""
        while not self._kill():
            pass
        requested = self._take_requested()
        old, new = self._exports[self._current], self._exports[1 - self._current]
        self.counts[observe(self.place.files(), old, new)] += 1
        self.counts["kills"] += 1
        # An attempt killed at its very end has removed its checkpoint, and perhaps not yet the pointer to it.
        pointer = json.loads(self._pointer.read_text()) if self._pointer.exists() else None
        continues = pointer is not None and Path(pointer["path"]).exists()
        run(self._services[1 - self._current], self.place.destination, self._pointer)
        again = len(requested & self._take_requested()) if continues else 0
        self.counts["continued"] += continues
        self.counts["again"] = max(self.counts["again"], again)
        self.counts["retries"] += observe(self.place.files(), old, new) == "new"
        self.counts["left over"] += self.place.leftovers()
        self._current = 1 - self._current

    def _take_requested(self) -> set[str]:
        """Return the windows of the other edition that were requested since the last call."""
        sandbox = self._sandboxes[1 - self._current]
        recorder, sandbox.faults = sandbox.faults, WindowRecorder()
        return recorder.windows if isinstance(recorder, WindowRecorder) else set()

    def _kill(self) -> bool:
        """Start an export of the other edition and kill it; return whether it still ran."""
        if self._rng.random() < 0.25:
            self.place.clear()
        # Half of the kills come late, when the files get their names.
        moment = self._duration * self._rng.choice((self._rng.random(), self._rng.uniform(0.7, 1.0)))
        self._take_requested()
        process = start(self._services[1 - self._current], self.place.destination, self._pointer)
        time.sleep(moment)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return True
        self._current = 1 - self._current
        return False


def kill_many(runs: int, seed: int, folder: Path) -> dict[str, Counter[str]]:
    """Return what was seen, by place.

    `again` is the largest number of windows that a retry requested again after it resumed.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    rng = random.Random(seed)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with ExitStack() as stack:
        sandboxes = [stack.enter_context(Sandbox(edition(number), latency=0.005)) for number in (1, 2)]
        store.start()
        stack.callback(store.stop)
        host, port = store.get_host_and_port()
        s3_url = f"http://{host}:{port}"
        places = {
            name: Kills(place, sandboxes, url, folder / f"{name}.json", rng)
            for name, place, url in (
                ("local file", LocalPlace(folder / "file", "entries.jsonl"), None),
                ("local folder", LocalPlace(folder / "folder", ""), None),
                ("S3 object", S3Place(s3_url, "file", "entries.jsonl"), s3_url),
                ("S3 folder", S3Place(s3_url, "folder", ""), s3_url),
            )
        }
        for number in range(runs):
            list(places.values())[number % len(places)].kill_one()
    return {name: place.counts for name, place in places.items()}


def table(counts: dict[str, Counter[str]]) -> str:
    """Return what was seen as a table."""
    columns = (
        "kills",
        "nothing",
        "old",
        "new",
        "partial",
        "torn",
        "retries",
        "continued",
        "again",
        "left over",
    )
    rows = {**counts, "all": sum(counts.values(), Counter())}
    rows["all"]["again"] = max(each["again"] for each in counts.values())
    lines = [f"{'':<14}" + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{name:<14}" + "".join(f"{row[c]:>11}" for c in columns) for name, row in rows.items()]
    total = rows["all"]
    return "\n".join(
        [
            *lines,
            f"{total['partial']} partial files seen, {total['retries']} successful retries; "
            f"{total['continued']} of them resumed, and requested at most {total['again']} windows again",
        ]
    )
