"""Object stores on this machine: S3 by moto, and Google Cloud Storage by its emulator."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.storage.object_store import ObjectStorage
from tests.kills import s3_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# gcsfs would look for zonal buckets by gRPC, which the emulator does not speak.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


class StoredFeed:
    """A feed in a bucket of its own, which tests read as a folder.

    :param scheme: of its URL.
    :param filesystem: of fsspec, without a cache of listings.
    :param mirror: the folder that `folder` fills.
    """

    def __init__(self, scheme: str, filesystem: Any, mirror: Path) -> None:
        self.store = filesystem
        self.bucket = f"feed{secrets.token_hex(8)}"
        self.root = f"{self.bucket}/films/"
        self.url = f"{scheme}://{self.root}"
        self._mirror = mirror
        if scheme == "s3":
            filesystem.call_s3("create_bucket", Bucket=self.bucket)
        else:
            filesystem.mkdir(self.bucket)

    def storage(self) -> ObjectStorage:
        return ObjectStorage(self.store)

    def files(self) -> dict[str, bytes]:
        """Return all objects by their names in the feed."""
        self.store.invalidate_cache()
        paths = {path.removeprefix(self.root): path for path in self.store.find(self.bucket)}
        return {name: self.store.cat_file(path) for name, path in paths.items()}

    def folder(self) -> Path:
        """Return a folder with the same files, as they are now."""
        target = self._mirror / secrets.token_hex(8)
        for name, content in self.files().items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return target


def gcs_filesystem(url: str) -> Any:
    """Return a new filesystem of the emulator, without a cache of listings."""
    import gcsfs

    return gcsfs.GCSFileSystem(
        project="test",
        token="anon",
        endpoint_url=url,
        use_listings_cache=False,
        skip_instance_cache=True,
    )


@contextmanager
def gcs_server(*, has_conditions: bool = True) -> Iterator[str]:
    """Run the emulator of Google Cloud Storage, and yield its address.

    :param has_conditions: whether it obeys `ifGenerationMatch`, which the emulator by itself ignores; it
        answers one request after the other, so that to look and to write is one step.
    """
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    upload = objects._media_upload

    def upload_on_condition(request: Any, response: Any, storage: Any) -> None:
        expected = request.query.get("ifGenerationMatch", [None])[0]
        try:
            bucket, name = request.params["bucket_name"], request.query["name"][0]
            found = storage.get_file_obj(bucket, name)["generation"]
        except NotFound:
            found = "0"
        if expected is not None and expected != found:
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": {"code": 412, "message": "conditionNotMet"}})
            return
        upload(request, response, storage)

    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        if has_conditions:
            patch.setattr(objects, "_media_upload", upload_on_condition)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = emulator.create_server("127.0.0.1", port, in_memory=True)
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop()


@contextmanager
def stored_feed(scheme: str, s3_url: str, mirror: Path) -> Iterator[StoredFeed]:
    """Yield an empty bucket of S3 or Google Cloud Storage."""
    if scheme == "s3":
        yield StoredFeed(scheme, s3_filesystem(s3_url), mirror)
        return
    with gcs_server() as url:
        yield StoredFeed(scheme, gcs_filesystem(url), mirror)
