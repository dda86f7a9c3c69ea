"""A sink that is a feed: a folder of change sets, each committed as a whole by the feed's index."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec

from airflow_provider_contensis import __version__
from airflow_provider_contensis.exceptions import DestinationError, ExportError
from airflow_provider_contensis.export.destination import MANIFEST
from airflow_provider_contensis.export.formats import open_writer
from airflow_provider_contensis.export.page import entry_metas
from airflow_provider_contensis.export.sinks.feed_index import (
    FEED,
    dump,
    forget_change_sets,
    remove_leftovers,
    unused,
    write_runs,
)
from airflow_provider_contensis.export.sinks.output import OutputFile, writer_thread
from airflow_provider_contensis.export.storage.base import write_whole
from airflow_provider_contensis.export.temporary import temporary_database
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.changes_request import ChangesRequest
    from airflow_provider_contensis.export.deletions import Deletion
    from airflow_provider_contensis.export.destination import Destination
    from airflow_provider_contensis.export.formats.base import ByteSink, EntryWriter
    from airflow_provider_contensis.export.ledger import Held, HeldSlice
    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.sinks.feed_index import FeedIndex, RunName
    from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
    from airflow_provider_contensis.export.storage.base import FolderStorage, Stored

log = logging.getLogger(__name__)

Operation = Literal["upsert", "delete"]

MANIFEST_VERSION = 1
_ROWS_AT_ONCE = 100


class ChangeFile(TypedDict):
    """One file of a change set, in its manifest."""

    path: str
    content_type_id: str
    operation: Operation
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """Where a feed is.

    :param storage: writes its files.
    :param root: its folder as the storage names it, ending in `/`.
    :param request: which entries it has, in which format, and whether a snapshot is asked for.
    :param owner: names the task, the same for all its attempts.
    """

    storage: FolderStorage
    root: str
    request: ChangesRequest
    owner: str


class FeedSink:
    """Writes one change set.

    What changes comes in any order, so it waits on this machine's disk for its content type's turn; a
    snapshot, which comes in order, is written at once.

    :param place: where the feed is.
    :param index: of the feed, as the last run left it.
    :param known: `_feed.json` as the last run left it.
    :param ledger: records what is written.
    """

    def __init__(self, place: Place, index: FeedIndex, known: Stored, ledger: FeedLedger) -> None:
        self._place = place
        self._index = index
        self._known = known
        self._is_committing = False
        self._ledger = ledger
        self._change_mark = place.request.query.change_mark
        self._is_first = self._is_snapshot = index["runs"] == 0
        self.change_set = f"{index['sequence'] + 1:06d}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}/"
        self._folder = f"{place.root}{self.change_set}"
        self._definitions: dict[str, ContentType] = {}
        self._open: tuple[Operation, str, OutputFile] | None = None
        self._thread = writer_thread()
        self.files: list[ChangeFile] = []
        self._waiting = temporary_database()
        self._waiting.execute("CREATE TABLE change (operation, content_type_id, language, created, id, line)")
        # What a snapshot has besides: entries that are as the feed holds them.
        self._waiting.execute(
            "CREATE TABLE same (content_type_id, language, created, id, line, "
            "PRIMARY KEY (content_type_id, language, id)) WITHOUT ROWID"
        )

    def define(self, content_types: Sequence[ContentType]) -> None:
        """Take the definitions of content types; as `ChangeSink.define`."""
        self._definitions.update((str(each["id"]), each) for each in content_types)

    def upsert(
        self,
        held_slice: HeldSlice,
        entries: Sequence[msgspec.Raw],
        metas: Sequence[EntryMeta],
        held: Sequence[Held],
        *,
        replaced: Sequence[str],
    ) -> None:
        """Take entries of a slice that are new or differ; as `ChangeSink.upsert`."""
        if self._is_first:
            self._output("upsert", held_slice.content_type_id).write(entries, metas)
        else:
            rows = ((each.created, each.id, bytes(entry)) for each, entry in zip(held, entries, strict=True))
            self._wait("upsert", held_slice, rows)
            self._drop(held_slice, [each.id for each in held])
        self._ledger.put(held_slice, held, replaced=replaced)

    def keep(self, held_slice: HeldSlice, entries: Sequence[msgspec.Raw], held: Sequence[Held]) -> None:
        """Take entries that are as the feed holds them, for a snapshot; as `ChangeSink.keep`."""
        if self._place.request.write_snapshot:
            pairs = zip(entries, held, strict=True)
            rows = ((*held_slice, each.created, each.id, bytes(entry)) for entry, each in pairs)
            self._insert("INSERT OR REPLACE INTO same VALUES (?, ?, ?, ?, ?)", rows)

    def delete(self, deletions: Sequence[Deletion]) -> None:
        """Take deletions."""
        by_slice = sorted(deletions, key=lambda each: each.held_slice)
        for held_slice, group in groupby(by_slice, key=lambda each: each.held_slice):
            some = list(group)
            rows = ((None, each.id, json.dumps(each.as_dict(), ensure_ascii=False).encode()) for each in some)
            self._wait("delete", held_slice, rows)
            self._drop(held_slice, [each.id for each in some])
            self._ledger.remove(held_slice, [each.id for each in some])

    def prepare(self) -> None:
        """Store the files of the change set, so that `files` is complete."""
        if self._place.request.write_snapshot and not self._is_first:
            self._complete_snapshot()
        # By the content alone, not by how it was read.
        order = "operation DESC, content_type_id, language, created IS NULL, created, id"
        self._waiting.execute(f"CREATE INDEX in_order ON change ({order})")
        rows = self._waiting.execute(f"SELECT operation, content_type_id, line FROM change ORDER BY {order}")
        while some := rows.fetchmany(_ROWS_AT_ONCE):
            for (operation, content_type_id), group in groupby(some, key=lambda row: row[:2]):
                entries = [msgspec.Raw(row[2]) for row in group]
                metas = entry_metas(entries, self._change_mark) if operation == "upsert" else []
                self._output(operation, content_type_id).write(entries, metas)
        self._finish()

    def commit(
        self,
        index: FeedIndex,
        manifest: dict[str, Any],
        runs: list[tuple[RunName, ChangesSummary]],
        *,
        keep_change_sets: int | None,
    ) -> None:
        """Make the change set, if there is one, and the new index visible in one step.

        :param index: its source, query, horizon, schemas and number of runs.
        :param manifest: of the change set, but for what this sink knows.
        :param runs: the last runs and what they returned, this one included.
        :param keep_change_sets: how many change sets stay; None for all.
        :raises DestinationError: the feed is as it was.
        """
        storage, root, owner = self._place.storage, self._place.root, self._place.owner
        index = {**index, "ledger": self._ledger.save(owner=owner)}
        index["entries"] = sum(each["entries"] for each in index["ledger"])
        if self.files:
            sequence = index["sequence"] + 1
            content = {
                "manifest_version": MANIFEST_VERSION,
                "written_by": f"airflow-provider-contensis {__version__}",
                "kind": "snapshot" if self._is_snapshot else "changes",
                "sequence": sequence,
                "previous": index["latest"],
                **manifest,
                "files": self.files,
            }
            write_whole(storage, f"{self._folder}{MANIFEST}", dump(content), owner=owner)
            index["sequence"], index["latest"] = sequence, self.change_set
            index["oldest_sequence"] = index["oldest_sequence"] or sequence
            if self._is_snapshot or sequence == 1:  # nothing came before it
                index["snapshots"] = [*index["snapshots"], sequence]
        if keep_change_sets is not None:
            forget_change_sets(index, keep_change_sets)
        index["runs_path"] = write_runs(storage, root, runs, owner=owner) if runs else None
        self._is_committing = True
        self._known = storage.replace(f"{root}{FEED}", dump(index), self._known, owner=owner)
        self._is_committing = False
        self._index = index

    def close(self) -> None:
        """Remove what was not committed, and what is no longer needed; never raises."""
        if self._open is not None:
            self._open[-1].discard()
        self._thread.shutdown()
        self._waiting.close()
        self._ledger.close()
        storage, root, owner = self._place.storage, self._place.root, self._place.owner
        with contextlib.suppress(DestinationError):  # the next run tries again
            if self._is_committing:  # and failed, as far as is known
                remove_leftovers(storage, root, self._index, self._known, owner=owner)
            elif storage.read(f"{root}{FEED}") == self._known.content:  # otherwise another run has taken over
                for path in unused(storage, root, self._index):
                    storage.remove(path)

    def _output(self, operation: Operation, content_type_id: str) -> OutputFile:
        """Return the file of a content type; only one is open at a time."""
        if self._open is not None and self._open[:2] == (operation, content_type_id):
            return self._open[-1]
        self._finish()
        output = OutputFile(
            self._place.storage,
            f"{self._folder}{self._path(operation, content_type_id)}",
            owner=self._place.owner,
            thread=self._thread,
            compression=self._destination(operation).compression,
            make_writer=lambda sink: self._writer(operation, content_type_id, sink),
        )
        self._open = operation, content_type_id, output
        return output

    def _writer(self, operation: Operation, content_type_id: str, sink: ByteSink) -> EntryWriter:
        request = self._place.request
        return open_writer(
            self._destination(operation).file_format,
            sink,
            [self._definitions.get(content_type_id, {"id": content_type_id, "fields": []})],
            request.format_options,
            version_status=request.query.version_status,
            fields=None,
        )

    def _finish(self) -> None:
        """Finish the open file. It may get its name: no feed refers to its folder yet."""
        if self._open is None:
            return
        operation, content_type_id, output = self._open
        path = self._path(operation, content_type_id)
        if any(file["path"] == path for file in self.files):
            raise ExportError(f"Entries of content type {content_type_id!r} came in two places.")
        output.finish()
        written = output.commit()
        self._open = None
        self.files.append(
            {
                "path": path,
                "content_type_id": content_type_id,
                "operation": operation,
                "rows": written.rows,
                "bytes": written.bytes,
                "sha256": written.sha256,
            }
        )

    def _path(self, operation: Operation, content_type_id: str) -> str:
        """Return a file's path in the change set."""
        return f"{operation}s/{self._destination(operation).name_for(content_type_id)}"

    def _destination(self, operation: Operation) -> Destination:
        """Return the feed with the format of its files: of deletions, always the same."""
        destination = self._place.request.destination
        return (
            destination
            if operation == "upsert"
            else replace(destination, file_format="jsonl", compression=None)
        )

    def _wait(
        self, operation: Operation, held_slice: HeldSlice, rows: Iterable[tuple[int | None, str, bytes]]
    ) -> None:
        values = ((operation, *held_slice, *row) for row in rows)
        self._insert("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", values)

    def _drop(self, held_slice: HeldSlice, ids: Sequence[str]) -> None:
        """Forget entries that are not as the feed holds them any more."""
        if self._place.request.write_snapshot:
            condition = "content_type_id = ? AND language = ? AND id = ?"
            self._insert(f"DELETE FROM same WHERE {condition}", ((*held_slice, id_) for id_ in ids))

    def _insert(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        self._waiting.execute("BEGIN")
        self._waiting.executemany(statement, rows)
        self._waiting.execute("COMMIT")

    def _complete_snapshot(self) -> None:
        """Make the change set a snapshot, if the run has read all that the feed holds."""
        [(known,)] = self._waiting.execute(
            "SELECT (SELECT count(*) FROM same) + (SELECT count(*) FROM change WHERE operation = 'upsert')"
        )
        missing = sum(self._ledger.slices().values()) - known
        if missing:
            log.warning(
                "No snapshot was written, only what changed: a search did not find %s that the feed holds. "
                "The next run with write_snapshot may",
                count(missing, "entry", "entries"),
            )
            return
        self._is_snapshot = True
        self._waiting.execute("INSERT INTO change SELECT 'upsert', * FROM same")
