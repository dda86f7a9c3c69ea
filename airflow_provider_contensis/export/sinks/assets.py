"""The folder of an export of assets: files by content, the list of assets, and the manifest.

files/0c/0c5f….jpg      by content: no file ever changes, and the same content is stored once
assets.jsonl            which asset has which file
_manifest.json          makes them one export; replaced last
_progress/              what an export has read so far that is not committed yet
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError
from airflow_provider_contensis.export.asset import FILES, dump_line
from airflow_provider_contensis.export.destination import MANIFEST, RETIRED_MANIFEST
from airflow_provider_contensis.export.sinks.feed_index import FEED
from airflow_provider_contensis.export.storage.base import write_whole
from airflow_provider_contensis.export.temporary import translate_temporary_errors
from airflow_provider_contensis.utils.json import loads_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_contensis.export.asset import AssetRecord
    from airflow_provider_contensis.export.asset_index import AssetIndex
    from airflow_provider_contensis.export.results import FileSummary
    from airflow_provider_contensis.export.storage.base import PendingFile, Storage

ASSETS = "assets.jsonl"
KIND = "assets"
_PROGRESS = "_progress/"
_CHUNK_BYTES = 1 << 20
_PAGE_RECORDS = 500

log = logging.getLogger(__name__)


class AssetFolder:
    """The folder of one export.

    :param storage: where it is.
    :param root: its path in the storage, ending in `/`.
    :param url: its URL, for messages.
    :param source: who was asked: records of another source are not used.
    :param owner: names the task, the same for all its attempts.
    """

    def __init__(self, storage: Storage, root: str, url: str, source: dict[str, Any], *, owner: str) -> None:
        self._storage = storage
        self._root = root
        self._url = url
        self._source = source
        self._owner = owner
        self._token = secrets.token_hex(4)
        self._pages = 0
        self._unsaved: list[AssetRecord] = []
        self._storing: set[str] = set()
        self._stored = threading.Condition()

    # --- what an earlier run has left ---------------------------------------------------------------------

    def load(self, index: AssetIndex) -> None:
        """Let an index know which files are in the folder, and whose they are.

        :raises ConfigurationError: the folder holds something else.
        """
        current = self._storage.read(f"{self._root}{MANIFEST}")
        manifests = [] if current is None else [_read_json(current)]
        if any(not _is_ours(manifest) for manifest in manifests) or self._storage.read(f"{self._root}{FEED}"):
            raise ConfigurationError(
                f"{self._url} holds another export. Export assets to a folder of their own."
            )
        # An export that was killed while it replaced them has left both here, the older one and its own.
        retired = _read_json(self._storage.read(f"{self._root}{RETIRED_MANIFEST}"))
        manifests += retired if isinstance(retired, list) else []
        hashes = {
            file["sha256"]
            for manifest in manifests
            if _is_ours(manifest) and manifest["source"] == self._source
            for file in manifest["files"]
        }
        if hashes and self._hash_of_list() in hashes:
            with self._storage.open(f"{self._root}{ASSETS}") as lines:
                index.hold(lines)
        for path, _ in self._storage.files(f"{self._root}{_PROGRESS}"):
            page = (self._storage.read(f"{self._root}{_PROGRESS}{path}") or b"").splitlines()
            if page and _read_json(page[0]) == {"source": self._source}:
                index.hold(page[1:])
        index.find_files(
            (f"{FILES}{path}", size) for path, size in self._storage.files(f"{self._root}{FILES}")
        )

    def _hash_of_list(self) -> str | None:
        """Return the SHA-256 of the list of assets in the folder; None if there is none."""
        try:
            with self._storage.open(f"{self._root}{ASSETS}") as listed:
                digest = hashlib.sha256()
                while chunk := listed.read(_CHUNK_BYTES):
                    digest.update(chunk)
                return digest.hexdigest()
        except DestinationError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    # --- files --------------------------------------------------------------------------------------------

    def store(self, path: str, content: IO[bytes]) -> None:
        """Store a file under its name; safe between threads.

        :param path: in the folder, by content.
        :raises DestinationError: it could not be stored.
        """
        with self._stored:
            while path in self._storing:  # two assets with the same file
                self._stored.wait()
            self._storing.add(path)
        try:
            file = self._storage.create(f"{self._root}{path}", owner=self._owner)
            try:
                while chunk := _read(content):
                    file.write(chunk)
                file.finish()
                file.commit()
            finally:
                file.discard()
        finally:
            with self._stored:
                self._storing.discard(path)
                self._stored.notify_all()

    def remember(self, record: AssetRecord) -> None:
        """Keep the record of a file for the next attempt, should this one not come to its end."""
        self._unsaved.append(record)
        if len(self._unsaved) >= _PAGE_RECORDS:
            self.save_progress()

    def save_progress(self) -> None:
        """Save the records that are not saved yet."""
        if not self._unsaved:
            return
        self._pages += 1
        lines = [dump_line({"source": self._source}), *map(dump_line, self._unsaved)]
        path = f"{self._root}{_PROGRESS}{self._token}-{self._pages:06}.jsonl"
        write_whole(self._storage, path, b"".join(lines), owner=self._owner)
        self._unsaved.clear()

    # --- the commit ---------------------------------------------------------------------------------------

    def commit(self, records: Iterable[AssetRecord], manifest: dict[str, Any]) -> None:
        """Replace the list of assets, then the manifest.

        Meanwhile the folder has no manifest: an export that is killed there leaves no export, rather than
        half of two.

        :param manifest: what it says beside the files.
        """
        path, retired = f"{self._root}{MANIFEST}", f"{self._root}{RETIRED_MANIFEST}"
        pending = self._storage.create(f"{self._root}{ASSETS}", owner=self._owner)
        try:
            listed = _write_lines(pending, records)
            pending.finish()
            new = json.dumps({**manifest, "kind": KIND, "source": self._source, "files": [listed]}, indent=2)
            current = self._storage.read(path)
            older = "null" if current is None else current.decode(errors="replace")
            both = f"[{older}, {new}]".encode()
            write_whole(self._storage, retired, both, owner=self._owner)
            self._storage.remove(path, keep_link=True)
            pending.commit()
            write_whole(self._storage, path, new.encode(), owner=self._owner)
        finally:
            pending.discard()
        self.remove([RETIRED_MANIFEST, _PROGRESS])

    def remove(self, paths: Iterable[str]) -> int:
        """Remove files, and return how many. The export is complete, so this cannot fail it."""
        removed = 0
        for path in paths:
            try:
                self._storage.remove(f"{self._root}{path}")
                removed += 1
            except DestinationError as error:
                log.warning("%s is not part of this export, but could not be removed. %s", path, error)
        return removed


def _write_lines(pending: PendingFile, records: Iterable[AssetRecord]) -> FileSummary:
    """Write the list of assets; return what the manifest says about it."""
    digest, size, rows = hashlib.sha256(), 0, 0
    for chunk, number in _chunks(records):
        pending.write(chunk)
        digest.update(chunk)
        size, rows = size + len(chunk), rows + number
    return {
        "path": ASSETS,
        "content_type_id": None,
        "rows": rows,
        "bytes": size,
        "sha256": digest.hexdigest(),
    }


def _chunks(records: Iterable[AssetRecord]) -> Iterator[tuple[bytes, int]]:
    lines: list[bytes] = []
    for record in records:
        lines.append(dump_line(record))
        if len(lines) >= _PAGE_RECORDS:
            yield b"".join(lines), len(lines)
            lines.clear()
    yield b"".join(lines), len(lines)


def _read(content: IO[bytes]) -> bytes:
    with translate_temporary_errors():
        return content.read(_CHUNK_BYTES)


def _is_ours(manifest: Any) -> bool:
    """Return whether JSON is the manifest of an export of assets."""
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND or "source" not in manifest:
        return False
    files = manifest.get("files")
    return isinstance(files, list) and all(isinstance(file, dict) and "sha256" in file for file in files)


def _read_json(content: bytes | None) -> Any:
    try:
        return loads_json(content or b"")
    except ValueError:
        return None
