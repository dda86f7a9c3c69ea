"""Where a catalogue keeps its documents: live ones, the archive and the recycle bin, and the search index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.documents import VERSION_STATUSES, Document, VersionStatus
from airflow_provider_contensis.sandbox.index import REMOVED, Index, State

if TYPE_CHECKING:
    from collections.abc import Sequence


class Change(NamedTuple):
    """A change to one variation in one version status.

    :param revision: the catalogue's revision after the change.
    :param key: the variation: id and language, in lower case.
    :param status: `latest` or `published`.
    :param document: the new document; None if it was removed.
    """

    revision: int
    key: tuple[str, str]
    status: VersionStatus
    document: Document | None


class Store:
    """Documents by key. It has no lock: its catalogue has one.

    A variation is live, with one document for each version status, or archived, or deleted. `revision` counts
    the changes of live documents.
    """

    def __init__(self) -> None:
        self.index = Index()
        self.revision = 0
        self.changes: list[Change] = []
        self._live: dict[tuple[str, str, VersionStatus], Document] = {}
        self._removed: dict[tuple[str, str], tuple[State, Document]] = {}

    def find(self, entry_id: str, language: str, status: VersionStatus) -> Document | None:
        """Return a live document, or None."""
        return self._live.get((entry_id.lower(), language.lower(), status))

    def live(self, entry_id: str, languages: Sequence[str], *statuses: VersionStatus) -> list[Document]:
        """Return the live documents of some variations of an entry in these version statuses."""
        found = (self.find(entry_id, language, status) for language in languages for status in statuses)
        return [document for document in found if document]

    def removed(self, entry_id: str, languages: Sequence[str], *states: State) -> list[Document]:
        """Return the documents of some variations of an entry that are in one of these states."""
        found = (self._removed.get((entry_id.lower(), language.lower())) for language in languages)
        return [document for state, document in filter(None, found) if state in states]

    def all_live(self, status: VersionStatus) -> list[Document]:
        """Return all live documents in a version status."""
        return [document for document in self._live.values() if document.status == status]

    def all(self) -> list[Document]:
        """Return all documents, live or not."""
        return [*self._live.values(), *(document for _, document in self._removed.values())]

    def put(self, document: Document) -> None:
        """Add a live document, or replace it."""
        self._live[*document.key, document.status] = document
        self.index.put(document, "live")
        self._record(document, document)

    def drop(self, document: Document) -> None:
        """Remove a live document."""
        del self._live[*document.key, document.status]
        self.index.drop(document, "live")
        self._record(document, None)

    def put_removed(self, document: Document, state: State) -> None:
        """Add an archived or deleted document, or replace it."""
        self._removed[document.key] = (state, document)
        self.index.put(document, state)

    def drop_removed(self, document: Document) -> None:
        """Remove an archived or deleted document."""
        state, _ = self._removed.pop(document.key)
        self.index.drop(document, state)

    def take(self, key: tuple[str, str]) -> None:
        """Remove a variation, whatever its state."""
        entry_id, language = key
        for document in self.removed(entry_id, [language], *REMOVED):
            self.drop_removed(document)
        for document in self.live(entry_id, [language], *VERSION_STATUSES):
            self.drop(document)

    def replace(self, document: Document, entry: dict[str, Any]) -> None:
        """Replace a document's JSON, whatever its state."""
        new = Document.of(entry, document.status)
        removed = self._removed.get(document.key)
        if removed:
            self.put_removed(new, removed[0])
        else:
            self.put(new)

    def _record(self, document: Document, current: Document | None) -> None:
        self.revision += 1
        self.changes.append(Change(self.revision, document.key, document.status, current))
