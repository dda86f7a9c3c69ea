"""The search index, which may lag behind the content."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_contensis.sandbox.documents import Document, VersionStatus

State = Literal["live", "archived", "deleted"]
LIVE: tuple[State, ...] = ("live",)
REMOVED: tuple[State, ...] = ("archived", "deleted")

BUCKET_PATHS = ("sys.versionStatus", "sys.contentTypeId", "sys.dataFormat", "sys.language")


class Bucket(NamedTuple):
    """The values that all documents stored together share: four that searches name most, and the state."""

    status: VersionStatus
    content_type_id: str
    data_format: str
    language: str
    state: State = "live"

    @classmethod
    def of(cls, document: Document, state: State) -> Bucket:
        """Return the bucket of a document."""
        return cls(document.status, document.content_type_id, document.data_format, document.language, state)

    def values(self, path: str) -> tuple[str, ...]:
        """Return the value at one of the paths in `BUCKET_PATHS`, as a document would."""
        return (self[BUCKET_PATHS.index(path)],)


class _Update(NamedTuple):
    """An update of the index.

    :param moment: when the content changed, by the monotonic clock.
    :param bucket: the document's bucket.
    :param entry_id: the document's id, in lower case.
    :param document: the new document; None if it was removed.
    """

    moment: float
    bucket: Bucket
    entry_id: str
    document: Document | None


class Index:
    """Documents by bucket. It has no lock: its catalogue has one.

    `lag` is the number of seconds until an update takes effect; `revision` counts the updates that did.
    """

    def __init__(self) -> None:
        self.lag = 0.0
        self.revision = 0
        self._buckets: dict[Bucket, dict[str, Document]] = {}
        self._pending: deque[_Update] = deque()

    def put(self, document: Document, state: State) -> None:
        """Add a document, or replace it."""
        self._record(_Update(time.monotonic(), Bucket.of(document, state), document.key[0], document))

    def drop(self, document: Document, state: State) -> None:
        """Remove a document."""
        self._record(_Update(time.monotonic(), Bucket.of(document, state), document.key[0], None))

    def catch_up(self, lag: float) -> None:
        """Apply all updates that are older than a number of seconds."""
        if not self._pending:
            return
        now = time.monotonic()
        while self._pending and now - self._pending[0].moment >= lag:
            self._apply(self._pending.popleft())

    def select(self, accept: Callable[[Bucket], bool], states: Collection[State]) -> list[Document]:
        """Return the documents of all accepted buckets in these states."""
        buckets = sorted(bucket for bucket in self._buckets if bucket.state in states and accept(bucket))
        return [document for bucket in buckets for document in self._buckets[bucket].values()]

    def _record(self, update: _Update) -> None:
        self._pending.append(update)
        self.catch_up(self.lag)

    def _apply(self, update: _Update) -> None:
        documents = self._buckets.setdefault(update.bucket, {})
        if update.document is None:
            del documents[update.entry_id]
        else:
            documents[update.entry_id] = update.document
        self.revision += 1
