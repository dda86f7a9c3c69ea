"""Exports by several workers, without Airflow, on this machine and in an object store."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_contensis.export.parts import export_part, load_plan, plan_parts
from airflow_provider_contensis.export.parts_commit import commit_parts
from airflow_provider_contensis.export.parts_request import PartsRequest
from airflow_provider_contensis.export.sinks.parts import SharedFolder
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.checkpoint import CheckpointPointer
    from airflow_provider_contensis.export.results import PartSummary, SharedExportSummary
    from airflow_provider_contensis.export.shared_plan import PartAddress


class Place(Protocol):
    """A folder that all workers see."""

    url: str

    def open(self, owner: str) -> SharedFolder:
        """Return the folder as a task opens it."""

    def files(self) -> dict[str, bytes]:
        """Return all files in it by their paths, hidden ones included."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def again(self) -> Place:
        """Return the same place for a process that was forked."""


class LocalPlace:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"{folder}/"

    def open(self, owner: str) -> SharedFolder:
        return SharedFolder(LocalStorage(), self.url, owner)

    def files(self) -> dict[str, bytes]:
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self._folder)): path.read_bytes() for path in paths}

    def write(self, path: str, content: bytes) -> None:
        (self._folder / path).write_bytes(content)

    def remove(self, path: str) -> None:
        (self._folder / path).unlink()

    def again(self) -> LocalPlace:
        return self


class S3Place:
    """A folder in a bucket of its own."""

    def __init__(self, s3_url: str, bucket: str) -> None:
        self._store = s3_filesystem(s3_url)
        self._s3_url, self._bucket = s3_url, bucket
        with suppress(Exception):  # a test before this one may have made it
            self._store.call_s3("create_bucket", Bucket=bucket)
        self._root = f"{bucket}/films/"
        self.url = f"s3://{self._root}"

    def open(self, owner: str) -> SharedFolder:
        return SharedFolder(ObjectStorage(self._store), self._root, owner)

    def files(self) -> dict[str, bytes]:
        self._store.invalidate_cache()
        paths = self._store.find(self._root)
        return {path.removeprefix(self._root): self._store.cat_file(path) for path in paths}

    def write(self, path: str, content: bytes) -> None:
        self._store.pipe_file(f"{self._root}{path}", content)

    def remove(self, path: str) -> None:
        self._store.rm_file(f"{self._root}{path}")

    def again(self) -> S3Place:
        return S3Place(self._s3_url, self._bucket)


class Workers:
    """The tasks of exports to one place.

    :param make_client: makes a new client of the service.
    :param arguments: of the exports.
    """

    def __init__(
        self, make_client: Callable[[], ContensisClient], project_id: str, place: Place, **arguments: Any
    ) -> None:
        self.make_client = make_client
        self.client = make_client()
        self.place = place
        self._project_id = project_id
        self._request = PartsRequest.from_arguments(destination=place.url, **arguments)

    def plan(self) -> list[PartAddress]:
        return plan_parts(self.client, self._project_id, self._request, self.place.open("plan"))

    def read(
        self, address: PartAddress, pointer: CheckpointPointer | None = None, *, start_over: bool = False
    ) -> PartSummary:
        return export_part(
            self.client,
            self._project_id,
            address,
            self.place.open(f"read/{address['part']}"),
            self._request.options,
            pointer=pointer,
            start_over=start_over,
        )

    def commit(self, address: PartAddress) -> SharedExportSummary:
        folder = self.place.open("commit")
        plan = load_plan(self.client, self._project_id, address["plan"], folder)
        return commit_parts(self.client, plan, folder, self._request.options)

    def run(self) -> SharedExportSummary:
        """Plan, read all parts, the last one first, and commit."""
        addresses = self.plan()
        for address in reversed(addresses):
            self.read(address)
        return self.commit(addresses[0])


def by_content_type(place: Place, summary: SharedExportSummary) -> dict[str, list[bytes]]:
    """Return the files of each content type, in order."""
    files = place.files()
    found: dict[str, list[bytes]] = defaultdict(list)
    for file in summary["files"]:
        content = files[file["path"].removeprefix(place.url)]
        assert file["bytes"] == len(content)
        found[str(file["content_type_id"])].append(content)
    return found
