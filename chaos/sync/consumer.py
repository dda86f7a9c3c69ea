"""A consumer of a feed: it applies change sets, in order, from the files alone."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.export.ledger import Part
from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
from airflow_provider_contensis.export.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chaos.sync.buckets import Bucket, StoredPath


class Key(NamedTuple):
    """An entry in one language."""

    content_type_id: str
    language: str
    id: str

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Key:
        """Return the key of an entry, or of a deletion."""
        sys = entry["sys"]
        return cls(sys["contentTypeId"], sys["language"], sys["id"])


@dataclass(frozen=True)
class ChangeSet:
    """A change set as a consumer reads it.

    :param folder: its name.
    :param manifest: its manifest.
    :param upserts: entries as served, in order.
    :param deletes: reasons, in order.
    """

    folder: str
    manifest: dict[str, Any]
    upserts: list[tuple[Key, bytes]]
    deletes: list[tuple[Key, str]]


class TornFeedError(Exception):
    """A feed that a reader cannot make sense of."""


class Consumer:
    """Reads a feed, and holds what it says the service has.

    :param folder: the feed, on this machine.
    :param bucket: where it is instead.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self.held: dict[Key, bytes] = {}
        self.sequence = 0
        self._bucket = bucket
        self._folder: Any = folder if bucket is None else bucket.folder
        self._checked: dict[Any, tuple[int, Any]] = {}

    @property
    def index(self) -> dict[str, Any] | None:
        """The content of `_feed.json`; None if there is no feed."""
        try:
            content = (self._folder / "_feed.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            index: dict[str, Any] = json.loads(content)
        except ValueError:
            raise TornFeedError("_feed.json is no JSON") from None
        # In a store, a run may begin the index so that a dead one cannot: no run has come to its end yet.
        return index if index["runs"] else None

    def check(self) -> None:
        """Check that everything that the feed refers to is there and whole.

        :raises TornFeedError: it is not.
        """
        index = self.index
        if index is None:
            return
        for name, manifest in self._chain(index, index["oldest_sequence"] or 1):
            for file in manifest["files"]:
                path = self._folder / name / file["path"]
                status = self._stat(path)
                seen = status.st_size, status.st_mtime_ns
                if self._checked.get(path) != seen:
                    self._read(path, file)
                    self._checked[path] = seen
        for path in [*(each["path"] for each in index["ledger"]), index["runs_path"]]:
            self._stat(self._folder / "_ledger" / path)

    def content(self) -> bytes | None:
        """Return the content of `_feed.json`; None if there is no feed."""
        path = self._folder / "_feed.json"
        if not path.exists():
            return None
        # In a store, a run may add blank space, so that a dead one cannot replace it any more.
        content: bytes = path.read_bytes().rstrip()
        return content if self.index is not None else None

    def latecomer(self) -> Consumer | None:
        """Return a consumer that started just now; None if there is nothing to start from.

        :raises TornFeedError: it cannot be done.
        """
        index = self.index
        if index is None or index["oldest_sequence"] is None:
            return None
        if index["oldest_sequence"] not in index["snapshots"]:
            raise TornFeedError(f"nobody can start at {index['oldest_sequence']}, the oldest change set")
        late = Consumer(self._folder, self._bucket)
        late.sequence = index["oldest_sequence"] - 1
        late.catch_up()
        return late

    def contradictions(self, result: Any, found: Sequence[ChangeSet]) -> list[str]:
        """Return what a run returned that is not what it did.

        :param found: the change sets that it committed.
        """
        complaints = []
        if (result["change_set"] is not None) != bool(found):
            complaints.append(f"a run returned change set {result['change_set']}, but committed {len(found)}")
        index = self.index or {}
        latest, sequence = index.get("latest"), index.get("sequence")
        if result["change_set"] not in (None, latest) or result["sequence"] != sequence:
            complaints.append(f"a run returned {result['change_set']}, but the feed's latest is {latest}")
        return complaints

    def digests(self) -> dict[Key, bytes]:
        """Return what the ledger holds."""
        index = self.index or {"ledger": []}
        bucket = self._bucket
        storage = LocalStorage() if bucket is None else bucket.storage()
        root = f"{self._folder}/" if bucket is None else bucket.root
        ledger = FeedLedger(storage, root, index["ledger"])
        found = {
            Key(*held_slice, held.id): held.digest
            for held_slice in ledger.slices()
            for _, held in ledger.held(
                Part(content_type_ids=(held_slice.content_type_id,), languages=(held_slice.language,))
            )
        }
        ledger.close()
        return found

    def wait(self) -> None:
        """Wait until the lock of a run that is gone has expired; on a disk, it is gone with the run."""
        if self._bucket is not None:
            self._bucket.expire_lock()

    def leftovers(self) -> list[str]:
        """Return the names of what is in the feed, but what it does not refer to."""
        index = self.index or {"oldest_sequence": None, "ledger": [], "runs_path": None}
        names = (
            [name for name, _ in self._chain(index, index["oldest_sequence"])]
            if index["oldest_sequence"]
            else []
        )
        used = {"_feed.json", *(f"_ledger/{each['path']}" for each in index["ledger"])}
        used.add(f"_ledger/{index['runs_path']}")
        uploads = [] if self._bucket is None else self._bucket.uploads()
        return uploads + [
            name
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
            and (name := str(path.relative_to(self._folder))) not in used
            and f"{name.partition('/')[0]}/" not in names
        ]

    def catch_up(self) -> list[ChangeSet]:
        """Apply the change sets that are new, and return them.

        :raises TornFeedError: they cannot be applied.
        """
        index = self.index
        if index is None:
            return []
        found = [self._load(name, manifest) for name, manifest in self._chain(index, self.sequence + 1)]
        for change_set in reversed(found):
            self._apply(change_set)
        if self.sequence != index["sequence"] or len(self.held) != index["entries"]:
            raise TornFeedError(
                f"_feed.json says {index['entries']} entries after change set {index['sequence']}, "
                f"but its change sets say {len(self.held)} after {self.sequence}"
            )
        return found[::-1]

    def _chain(self, index: dict[str, Any], first: int) -> list[tuple[str, dict[str, Any]]]:
        """Return the change sets from the last one back to a sequence number."""
        found = []
        name, expected = index.get("latest"), index.get("sequence", 0)
        while name is not None and expected >= first:
            path = self._folder / name / "_manifest.json"
            self._stat(path)
            manifest = json.loads(path.read_bytes())
            if manifest["sequence"] != expected:
                raise TornFeedError(f"{name} has sequence {manifest['sequence']}, not {expected}")
            found.append((name, manifest))
            name, expected = manifest["previous"], expected - 1
        return found

    def _load(self, name: str, manifest: dict[str, Any]) -> ChangeSet:
        upserts, deletes = [], []
        for file in manifest["files"]:
            for line in self._read(self._folder / name / file["path"], file):
                row = json.loads(line)
                if file["operation"] == "upsert":
                    upserts.append((Key.of(row), line))
                else:
                    deletes.append((Key.of(row), row["reason"]))
                if row["sys"]["contentTypeId"] != file["content_type_id"]:
                    raise TornFeedError(f"{file['path']} holds an entry of another content type")
        return ChangeSet(name, manifest, upserts, deletes)

    def _apply(self, change_set: ChangeSet) -> None:
        if change_set.manifest["kind"] == "snapshot":
            # What it repeats is no change; it has to hold all the rest, too.
            everything = dict(change_set.upserts)
            left = {key for key, _ in change_set.deletes}
            if not self.held:  # it starts here
                change_set.deletes.clear()
            elif everything.keys() != (self.held.keys() | everything.keys()) - left:
                raise TornFeedError(f"{change_set.folder} is a snapshot, but does not hold everything")
            change_set.upserts[:] = [
                (key, line) for key, line in change_set.upserts if self.held.get(key) != line
            ]
        for key, line in change_set.upserts:
            self.held[key] = line
        for key, _ in change_set.deletes:
            if self.held.pop(key, None) is None:
                raise TornFeedError(f"{change_set.folder} deletes {' '.join(key)}, which is not there")
        self.sequence = change_set.manifest["sequence"]

    def _read(self, path: Path | StoredPath, file: dict[str, Any]) -> list[bytes]:
        self._stat(path)
        content = path.read_bytes()
        if (len(content), hashlib.sha256(content).hexdigest()) != (file["bytes"], file["sha256"]):
            raise TornFeedError(f"{path.name} has another size or hash than in its manifest")
        lines = (gzip.decompress(content) if path.name.endswith(".gz") else content).split(b"\n")
        if lines.pop() or len(lines) != file["rows"]:
            raise TornFeedError(f"{path.name} has {len(lines)} rows, but {file['rows']} in its manifest")
        return lines

    def _stat(self, path: Path | StoredPath) -> Any:
        try:
            return path.stat()
        except FileNotFoundError:
            name = path.relative_to(self._folder)
            raise TornFeedError(f"the feed refers to {name}, which is not there") from None
