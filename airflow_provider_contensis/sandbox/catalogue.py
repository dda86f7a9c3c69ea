"""The content a sandbox serves: one project, its content types, and its entries in both version statuses."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_contensis.sandbox.delivery import DeliveryView
from airflow_provider_contensis.sandbox.documents import (
    VERSION_STATUSES,
    Document,
    VersionStatus,
    instant,
    timestamp,
)
from airflow_provider_contensis.sandbox.shapes import WORKFLOW_EVENTS, new_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ApiName = Literal["management", "delivery"]


class Bucket(NamedTuple):
    """The four values that all documents stored together share (docs/contensis-api.md)."""

    status: VersionStatus
    content_type_id: str
    data_format: str
    language: str

    def values(self, path: str) -> tuple[str, ...]:
        """Return the value at one of the paths in `BUCKET_PATHS`, as a document would."""
        return (self[BUCKET_PATHS.index(path)],)


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


BUCKET_PATHS = ("sys.versionStatus", "sys.contentTypeId", "sys.dataFormat", "sys.language")


class Catalogue:
    """The content of one project. Threads may read it while other threads change it.

    :param project: the project as the API returns it (docs/contensis-api.md).
    :param content_types: its content types (docs/contensis-api.md).
    :param documents: its entries, one document for each version status an entry has.
    """

    def __init__(
        self,
        project: Mapping[str, Any],
        content_types: Iterable[Mapping[str, Any]] = (),
        documents: Iterable[Document] = (),
    ) -> None:
        self.project = dict(project)
        self.content_types = {str(item["id"]): dict(item) for item in content_types}
        self.delivery = DeliveryView(self.project, self.find)
        self._lock = threading.RLock()
        self._revision = 0
        self._by_key: dict[tuple[str, str, VersionStatus], Document] = {}
        self._buckets: dict[Bucket, dict[str, Document]] = {}
        # Any change invalidates all Delivery JSON, because links show the paths of other entries.
        self._delivery_cache: dict[Document, bytes] = {}
        self._recycle_bin: dict[tuple[str, str], list[Document]] = {}
        self._changes: list[Change] = []
        for document in documents:
            self._put(document)
        self._changes.clear()

    @property
    def project_id(self) -> str:
        """The id of the project."""
        return str(self.project["id"])

    @property
    def primary_language(self) -> str:
        """The language used if none is given."""
        return str(self.project["primaryLanguage"])

    @property
    def revision(self) -> int:
        """A number that increases with every change."""
        return self._revision

    @property
    def changes(self) -> list[Change]:
        """The changes since the catalogue was created, in order."""
        with self._lock:
            return list(self._changes)

    def __len__(self) -> int:
        """Return the number of entry variations, published or not."""
        return sum(len(documents) for bucket, documents in self._buckets.items() if bucket.status == "latest")

    def find(self, entry_id: str, language: str | None, status: VersionStatus) -> Document | None:
        """Return one entry, or None.

        :param entry_id: its id, in any letter case.
        :param language: its language; None means the project's primary language.
        :param status: `latest` or `published`.
        """
        key = (entry_id.lower(), (language or self.primary_language).lower(), status)
        return self._by_key.get(key)

    def select(self, accept: Callable[[Bucket], bool]) -> tuple[int, list[Document]]:
        """Return the current revision and the documents of all accepted buckets at that revision."""
        with self._lock:
            accepted = sorted(bucket for bucket in self._buckets if accept(bucket))
            return self._revision, [
                document for bucket in accepted for document in self._buckets[bucket].values()
            ]

    def entries(
        self,
        version_status: VersionStatus = "published",
        *,
        api: ApiName = "management",
        content_type_id: str | None = None,
        language: str | None = None,
    ) -> list[bytes]:
        """Return entries exactly as they are served, ordered by created time and then id.

        :param version_status: `latest` or `published`.
        :param api: the API whose JSON to return.
        :param content_type_id: only this content type; None means all.
        :param language: only this language; None means all.
        """
        _, documents = self.select(
            lambda bucket: (
                bucket.status == version_status
                and content_type_id in (None, bucket.content_type_id)
                and language in (None, bucket.language)
            )
        )
        documents.sort(
            key=lambda document: (instant(*document.values("sys.version.created")) or 0, *document.key)
        )
        return [self.served(document, api) for document in documents]

    def served(self, document: Document, api: ApiName = "management") -> bytes:
        """Return a document's JSON as an API serves it."""
        if api == "management":
            return document.management
        revision = self._revision
        body = self._delivery_cache.get(document)
        if body is None:
            body = self.delivery.render(document)
            with self._lock:
                if revision == self._revision:
                    self._delivery_cache[document] = body
        return body

    def add(
        self,
        content_type_id: str,
        fields: Mapping[str, Any],
        *,
        entry_id: str | None = None,
        language: str | None = None,
        publish: bool = True,
        at: str | None = None,
    ) -> str:
        """Add an entry, or another language of one, as an editor would, and return its id.

        :param content_type_id: its content type.
        :param fields: the values of its fields; missing fields are null.
        :param entry_id: the entry that gets another language, or the id of the new entry; None generates one.
        :param language: its language; None means the project's primary language.
        :param publish: publish it immediately.
        :param at: ISO time of the save; None means now.
        :raises KeyError: the content type does not exist.
        :raises ValueError: the entry already exists in this language.
        """
        content_type = self.content_types[content_type_id]
        language = language or self.primary_language
        entry_id = entry_id or str(uuid.uuid4())
        moment = at or timestamp(datetime.now(UTC))
        values = {**{field["id"]: None for field in content_type["fields"]}, **fields}
        with self._lock:
            if self.find(entry_id, language, "latest"):
                raise ValueError(f"Entry {entry_id} already exists in {language}")
            entry = new_entry(
                self.project,
                content_type,
                values,
                entry_id=entry_id,
                language=language,
                available_languages=[language],
                title=values.get(content_type.get("entryTitleField", "")),
                description=values.get(content_type.get("entryDescriptionField", "")),
                slug=entry_id,
                created=moment,
                published=moment if publish else None,
                version="1.0" if publish else "0.1",
            )
            self._recycle_bin.pop((entry_id.lower(), language.lower()), None)
            self._store(entry)
            self._update_languages(entry_id)
        return entry_id

    def update(
        self,
        entry_id: str,
        fields: Mapping[str, Any],
        *,
        language: str | None = None,
        publish: bool = True,
        at: str | None = None,
    ) -> None:
        """Save new values of some fields of an entry.

        :param entry_id: its id.
        :param fields: the values to change.
        :param language: its language; None means the project's primary language.
        :param publish: publish the result; otherwise the published version does not change.
        :param at: ISO time of the save; None means now.
        :raises KeyError: the entry does not exist.
        """
        moment = at or timestamp(datetime.now(UTC))
        with self._lock:
            entry = self._latest(entry_id, language)
            entry.update(fields)
            content_type = self.content_types[entry["sys"]["contentTypeId"]]
            for name in ("entryTitle", "entryDescription"):
                source = content_type.get(f"{name}Field")
                if source:
                    entry[name] = entry.get(source)
            version = entry["sys"]["version"]
            major, _, minor = version["versionNo"].partition(".")
            version.update(modified=moment, versionNo=f"{major}.{int(minor) + 1}")
            _set_workflow_state(entry, "draft", "sysUpdate", moment)
            if publish:
                _publish(entry, moment)
            self._store(entry)

    def publish(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Publish the latest version of an entry.

        :param entry_id: its id.
        :param language: its language; None means the project's primary language.
        :param at: ISO time of publishing; None means now.
        :raises KeyError: the entry does not exist.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            _publish(entry, at or timestamp(datetime.now(UTC)))
            self._store(entry)

    def unpublish(self, entry_id: str, *, language: str | None = None) -> None:
        """Unpublish an entry; its latest version stays as a draft.

        :param entry_id: its id.
        :param language: its language; None means the project's primary language.
        :raises KeyError: the entry does not exist.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            _set_workflow_state(entry, "draft", "sysUnpublish", timestamp(datetime.now(UTC)))
            entry["sys"]["isPublished"] = False
            entry["sys"]["version"].update(published=None, publishedBy=None)
            published = self.find(entry_id, language, "published")
            if published:
                self._drop(published)
            self._put(Document.of(entry, "latest"))

    def delete(self, entry_id: str, *, language: str | None = None) -> None:
        """Move one variation of an entry, or all of them, to the recycle bin.

        :param entry_id: its id.
        :param language: the variation to delete; None means all.
        :raises KeyError: the entry does not exist.
        """
        with self._lock:
            deleted = [
                document
                for document in self._variations(entry_id)
                if language is None or document.language.lower() == language.lower()
            ]
            if not deleted:
                raise KeyError(entry_id)
            for document in deleted:
                self._recycle_bin.setdefault(document.key, []).append(document)
            for document in deleted:
                self._drop(document)
            self._update_languages(entry_id)

    def restore(self, entry_id: str, *, language: str | None = None) -> None:
        """Restore one variation of an entry, or all of them, from the recycle bin, unchanged.

        How the real service restores versions is unknown (docs/contensis-api.md). Unchanged times are the
        hardest case for an incremental export.

        :param entry_id: its id.
        :param language: the variation to restore; None means all.
        :raises KeyError: the recycle bin does not hold it.
        """
        with self._lock:
            codes = [language] if language else self.project["supportedLanguages"]
            keys = [(entry_id.lower(), code.lower()) for code in codes]
            documents = [document for key in keys for document in self._recycle_bin.pop(key, ())]
            if not documents:
                raise KeyError(entry_id)
            for document in documents:
                self._put(document)
            self._update_languages(entry_id)

    def _latest(self, entry_id: str, language: str | None) -> dict[str, Any]:
        document = self.find(entry_id, language, "latest")
        if document is None:
            raise KeyError(entry_id)
        entry: dict[str, Any] = document.entry()
        return entry

    def _variations(self, entry_id: str) -> list[Document]:
        found = (
            self.find(entry_id, language, status)
            for language in self.project["supportedLanguages"]
            for status in VERSION_STATUSES
        )
        return [document for document in found if document]

    def _store(self, entry: dict[str, Any]) -> None:
        """Store an entry as the latest version and, if it is published, as the published version."""
        sys = entry["sys"]
        older = self.find(sys["id"], sys["language"], "published")
        complete = sys["workflow"]["state"] == "versionComplete"
        sys["isPublished"] = complete or older is not None
        latest = Document.of(entry, "latest")
        self._put(latest)
        if complete:
            self._put(latest.with_status("published"))

    def _update_languages(self, entry_id: str) -> None:
        """Update the list of available languages in every variation."""
        documents = self._variations(entry_id)
        available = sorted({document.language for document in documents})
        for document in documents:
            entry = document.entry()
            supported = self.content_types[entry["sys"]["contentTypeId"]]["supportedLanguages"]
            entry["sys"]["availableLanguages"] = available
            entry["sys"]["unavailableLanguages"] = [code for code in supported if code not in available]
            self._put(Document.of(entry, document.status))

    def _put(self, document: Document) -> None:
        bucket = _bucket(document)
        entry_id, language = document.key
        self._buckets.setdefault(bucket, {})[entry_id] = document
        self._by_key[entry_id, language, document.status] = document
        self._record_change(document, document)

    def _drop(self, document: Document) -> None:
        entry_id, language = document.key
        del self._buckets[_bucket(document)][entry_id]
        del self._by_key[entry_id, language, document.status]
        self._record_change(document, None)

    def _record_change(self, document: Document, current: Document | None) -> None:
        self._revision += 1
        self._changes.append(Change(self._revision, document.key, document.status, current))
        self._delivery_cache.clear()


def _bucket(document: Document) -> Bucket:
    return Bucket(document.status, document.content_type_id, document.data_format, document.language)


def _set_workflow_state(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    workflow = entry["sys"]["workflow"]
    workflow["transition"].update({"from": workflow["state"], "event": event, "invoked": moment})
    workflow.update(state=state, allowedEvents=WORKFLOW_EVENTS[state])


def _publish(entry: dict[str, Any], moment: str) -> None:
    """Publish a version. Publishing does not change its `modified` time (docs/contensis-api.md)."""
    version = entry["sys"]["version"]
    major = int(version["versionNo"].partition(".")[0])
    version.update(published=moment, publishedBy=version["modifiedBy"], versionNo=f"{major + 1}.0")
    _set_workflow_state(entry, "versionComplete", "publish", moment)
