"""Exports that are killed at random moments, and what a reader of their destination sees then.

To a file and to a folder, on this machine and on an S3 server, over an older export or over nothing. Two
editions of the content take turns, so that a reader can tell old from new. Each is tried again, and goes on
from what the killed try has read.
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
PATIENCE = 120.0
# How long a folder's lock on S3 outlives its holder: a minute would be most of a long run's time.
EXPIRY = 5.0

# New processes fork from one that has imported all this already, so that none dies before it began.
PROCESSES: ForkServerContext = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.kills", "airflow_provider_contensis.export.pipeline", "s3fs"])


class Service(NamedTuple):
    """What a process needs to know of a sandbox, and of the S3 server if it writes to one."""

    url: str
    client_id: str
    client_secret: str
    project_id: str
    s3_url: str | None = None

    @classmethod
    def of(cls, sandbox: Sandbox, s3_url: str | None = None) -> Service:
        return cls(sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id, s3_url)


def edition(seed: int) -> Catalogue:
    """Return a project of six content types; another seed gives other entries."""
    parts = [
        synthetic_catalogue(60, body_bytes=300, content_type_id=kind, seed=seed * 100 + number)
        for number, kind in enumerate(KINDS)
    ]
    content_types = [item for part in parts for item in part.content_types.values()]
    documents = [document for part in parts for document in part.select(lambda _: True)[1]]
    return Catalogue(parts[0].project, content_types, documents)


def s3_filesystem(s3_url: str) -> Any:
    """Return a fresh filesystem of the S3 server, that remembers no listing."""
    import s3fs

    return s3fs.S3FileSystem(
        key="made-up-key",
        secret="made-up-secret",
        client_kwargs={"endpoint_url": s3_url, "region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def interrupt(storage: Storage, name: str, happen: Callable[[], object]) -> None:
    """Let something else happen right before one of the files of a storage gets its name."""
    create = storage.create

    def create_interrupted(path: str, *, owner: str) -> PendingFile:
        file = create(path, owner=owner)
        if path.endswith(name):
            commit = file.commit

            def interrupted() -> None:
                happen()
                commit()

            file.commit = interrupted  # type: ignore[method-assign]  # only this one
        return file

    storage.create = create_interrupted  # type: ignore[method-assign]  # only this one


class Asked:
    """Notes of which windows a sandbox is asked for pages; for `Sandbox(faults=…)`."""

    def __init__(self) -> None:
        self.windows: set[str] = set()

    def __call__(self, request: Request) -> None:
        if (window := window_of(request)) is not None:
            self.windows.add(window)


def export(
    service: Service, destination: str, begun: Event, pointer: Path | None, dies_at: str | None
) -> None:
    """Export everything; run in a process of its own; as `start`."""
    begun.set()
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.token_request import Credentials
    from airflow_provider_contensis.export.pipeline import export_entries
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.storage import s3_lock as lock
    from airflow_provider_contensis.export.storage.local import LocalStorage
    from airflow_provider_contensis.export.storage.object_store import ObjectStorage

    lock._EXPIRY = EXPIRY
    scopes = ("Entry_Read", "ContentType_Read", "Project_Read")
    client = ContensisClient(Credentials(service.url, service.client_id, service.client_secret, scopes))
    request = ExportRequest.from_arguments(destination=destination, page_size=30)
    storage = ObjectStorage(s3_filesystem(service.s3_url)) if service.s3_url else LocalStorage()
    if dies_at is not None:
        interrupt(storage, dies_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
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
    service: Service, destination: str, pointer: Path | None = None, *, dies_at: str | None = None
) -> ForkServerProcess:
    """Return a process that has begun to export.

    :param pointer: the file in which tries tell each other what was read; None for none.
    :param dies_at: the file before whose commit it is killed.
    """
    begun = PROCESSES.Event()
    process = PROCESSES.Process(
        target=export, args=(service, destination, begun, pointer, dies_at), daemon=True
    )
    process.start()
    assert begun.wait(PATIENCE)
    return process


def run(service: Service, destination: str, pointer: Path | None = None) -> float:
    """Export in a process of its own; return the seconds it took.

    :param pointer: as in `start`.
    :raises AssertionError: it failed.
    """
    process = start(service, destination, pointer)
    started = time.monotonic()
    process.join(PATIENCE)
    assert process.exitcode == 0
    return time.monotonic() - started


class Place(Protocol):
    """Where exports go."""

    destination: str

    def files(self) -> dict[str, bytes]:
        """Return what a reader finds, by name."""

    def leftovers(self) -> int:
        """Return how much lies there that no reader finds."""

    def clear(self) -> None:
        """Remove everything."""


class LocalPlace:
    """A folder on this machine.

    :param name: of the destination in it; empty for the folder itself.
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

    :param name: of the destination in it; empty for the bucket itself.
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


def what_is_seen(files: dict[str, bytes], old: dict[str, bytes], new: dict[str, bytes]) -> Seen:
    """Return what a reader takes the files for, who knows both whole exports.

    A folder without a manifest is nothing; one whose manifest tells other hashes than its files have is torn.
    """
    manifest = json.loads(files.pop("_manifest.json", b"null"))
    if any(content not in (old.get(name), new.get(name)) for name, content in files.items()):
        return "partial"
    named = files if manifest is None else {file["path"]: file["sha256"] for file in manifest["files"]}
    if manifest is None and "_manifest.json" in new:
        return "nothing"
    if manifest is not None and any(
        hashlib.sha256(files.get(name, b"")).hexdigest() != told for name, told in named.items()
    ):
        return "torn"
    for label, whole in (("old", old), ("new", new)):
        if named and all(files[name] == whole.get(name) for name in named):
            return label  # type: ignore[return-value]  # one of the two
    return "nothing"


class Kills:
    """Runs exports to one place and kills them.

    :param sandboxes: of the two editions.
    :param s3_url: of the S3 server, if the place is there.
    :param pointer: a file for what the tries tell each other.
    """

    def __init__(
        self,
        place: Place,
        sandboxes: list[Sandbox],
        s3_url: str | None,
        pointer: Path,
        chance: random.Random,
    ) -> None:
        self.place = place
        self.counted: Counter[str] = Counter()
        self._sandboxes = sandboxes
        self._services = [Service.of(sandbox, s3_url) for sandbox in sandboxes]
        self._pointer = pointer
        self._chance = chance
        self._wholes = []
        for service in self._services:
            self._lasts = run(service, place.destination)
            self._wholes.append(place.files())
        self._stands = 1  # the edition that was exported last

    def kill_one(self) -> None:
        """Kill an export once, look, and try it again."""
        while not self._killed():
            pass
        asked = self._ask_anew()
        old, new = self._wholes[self._stands], self._wholes[1 - self._stands]
        self.counted[what_is_seen(self.place.files(), old, new)] += 1
        self.counted["kills"] += 1
        # A try killed at its very end has removed its spool, and perhaps not yet what leads to it.
        pointer = json.loads(self._pointer.read_text()) if self._pointer.exists() else None
        continues = pointer is not None and Path(pointer["path"]).exists()
        run(self._services[1 - self._stands], self.place.destination, self._pointer)
        again = len(asked & self._ask_anew()) if continues else 0
        self.counted["continued"] += continues
        self.counted["again"] = max(self.counted["again"], again)
        self.counted["retries"] += what_is_seen(self.place.files(), old, new) == "new"
        self.counted["left over"] += self.place.leftovers()
        self._stands = 1 - self._stands

    def _ask_anew(self) -> set[str]:
        """Return of which windows the other edition was asked for pages since the last time."""
        sandbox = self._sandboxes[1 - self._stands]
        asked, sandbox.faults = sandbox.faults, Asked()
        return asked.windows if isinstance(asked, Asked) else set()

    def _killed(self) -> bool:
        """Start an export of the other edition and kill it; return whether it was still alive."""
        if self._chance.random() < 0.25:
            self.place.clear()
        # Half of them late, where the files get their names.
        moment = self._lasts * self._chance.choice((self._chance.random(), self._chance.uniform(0.7, 1.0)))
        self._ask_anew()
        process = start(self._services[1 - self._stands], self.place.destination, self._pointer)
        time.sleep(moment)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return True
        self._stands = 1 - self._stands
        return False


def kill_many(runs: int, seed: int, folder: Path) -> dict[str, Counter[str]]:
    """Return what was seen, by place.

    `again` is the most windows that a retry asked for again, of those that continued.
    """
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it tells every request
    chance = random.Random(seed)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with ExitStack() as stack:
        sandboxes = [stack.enter_context(Sandbox(edition(number), latency=0.005)) for number in (1, 2)]
        store.start()
        stack.callback(store.stop)
        host, port = store.get_host_and_port()
        s3_url = f"http://{host}:{port}"
        places = {
            name: Kills(place, sandboxes, url, folder / f"{name}.json", chance)
            for name, place, url in (
                ("local file", LocalPlace(folder / "file", "entries.jsonl"), None),
                ("local folder", LocalPlace(folder / "folder", ""), None),
                ("S3 object", S3Place(s3_url, "file", "entries.jsonl"), s3_url),
                ("S3 folder", S3Place(s3_url, "folder", ""), s3_url),
            )
        }
        for number in range(runs):
            list(places.values())[number % len(places)].kill_one()
    return {name: place.counted for name, place in places.items()}


def table(counted: dict[str, Counter[str]]) -> str:
    """Return what was seen, as a person reads it."""
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
    rows = {**counted, "all": sum(counted.values(), Counter())}
    rows["all"]["again"] = max(each["again"] for each in counted.values())
    lines = [f"{'':<14}" + "".join(f"{column:>11}" for column in columns)]
    lines += [f"{name:<14}" + "".join(f"{counts[c]:>11}" for c in columns) for name, counts in rows.items()]
    whole = rows["all"]
    return "\n".join(
        [
            *lines,
            f"{whole['partial']} partial files seen, {whole['retries']} successful retries, "
            f"{whole['continued']} of which continued and asked again for at most {whole['again']} windows",
        ]
    )
