"""What a sandbox serves: one project, its content types, and its entries in both version statuses."""

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
    """What all documents kept together have in common: the four dimensions of section 4.8."""

    status: VersionStatus
    content_type_id: str
    data_format: str
    language: str

    def values(self, path: str) -> tuple[str, ...]:
        """Return the value at one of the paths in `BUCKET_PATHS`, as a document would."""
        return (self[BUCKET_PATHS.index(path)],)


class Change(NamedTuple):
    """What became of one variation in one version status.

    :param revision: the catalogue's revision from which on this is so.
    :param key: the variation: id and language, in lower case.
    :param status: `latest` or `published`.
    :param document: what is found there now; None for nothing.
    """

    revision: int
    key: tuple[str, str]
    status: VersionStatus
    document: Document | None


BUCKET_PATHS = ("sys.versionStatus", "sys.contentTypeId", "sys.dataFormat", "sys.language")


class Catalogue:
    """The content of one project. Threads may read it while others change it.

    :param project: the project as the API shows it (section 3.1).
    :param content_types: its content types (section 3.2).
    :param documents: its entries, each in the version statuses in which it can be found.
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
        self._found: dict[tuple[str, str, VersionStatus], Document] = {}
        self._buckets: dict[Bucket, dict[str, Document]] = {}
        # Delivery JSON holds until any change, because links show other entries' paths.
        self._delivered: dict[Document, bytes] = {}
        self._bin: dict[tuple[str, str], list[Document]] = {}
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
        """The language meant where none is named."""
        return str(self.project["primaryLanguage"])

    @property
    def revision(self) -> int:
        """A number that grows with every change."""
        return self._revision

    @property
    def changes(self) -> list[Change]:
        """What was changed since the catalogue was made, in order."""
        with self._lock:
            return list(self._changes)

    def __len__(self) -> int:
        """Return the number of entry variations, published or not."""
        return sum(len(kept) for bucket, kept in self._buckets.items() if bucket.status == "latest")

    def find(self, entry_id: str, language: str | None, status: VersionStatus) -> Document | None:
        """Return one entry, or None.

        :param entry_id: its id, in any letter case.
        :param language: the variation; None means the project's primary language.
        :param status: `latest` or `published`.
        """
        key = (entry_id.lower(), (language or self.primary_language).lower(), status)
        return self._found.get(key)

    def select(self, accept: Callable[[Bucket], bool]) -> tuple[int, list[Document]]:
        """Return the revision, and the documents of all accepted buckets as they are at that revision."""
        with self._lock:
            chosen = sorted(bucket for bucket in self._buckets if accept(bucket))
            return self._revision, [
                document for bucket in chosen for document in self._buckets[bucket].values()
            ]

    def entries(
        self,
        version_status: VersionStatus = "published",
        *,
        api: ApiName = "management",
        content_type_id: str | None = None,
        language: str | None = None,
    ) -> list[bytes]:
        """Return entries exactly as they are served, by created time and then id.

        :param version_status: `latest` or `published`.
        :param api: the API whose JSON is wanted.
        :param content_type_id: one content type only; None means all.
        :param language: one language only; None means all.
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
        body = self._delivered.get(document)
        if body is None:
            body = self.delivery.render(document)
            with self._lock:
                if revision == self._revision:
                    self._delivered[document] = body
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
        """Add an entry, or a further language of one, as an editor would, and return its id.

        :param content_type_id: its content type.
        :param fields: the values of its fields; those not given are null.
        :param entry_id: the entry that gets a further language, or the id of the new one; None makes one up.
        :param language: None means the project's primary language.
        :param publish: publish it at once.
        :param at: ISO time of the save; None means now.
        :raises KeyError: there is no such content type.
        :raises ValueError: the entry exists already in this language.
        """
        content_type = self.content_types[content_type_id]
        language = language or self.primary_language
        entry_id = entry_id or str(uuid.uuid4())
        moment = at or timestamp(datetime.now(UTC))
        values = {**{field["id"]: None for field in content_type["fields"]}, **fields}
        with self._lock:
            if self.find(entry_id, language, "latest"):
                raise ValueError(f"Entry {entry_id} exists in {language}")
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
            self._bin.pop((entry_id.lower(), language.lower()), None)
            self._store(entry)
            self._tell_languages(entry_id)
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

        :param fields: the values to change.
        :param publish: publish the result; otherwise the published version stays what it was.
        :param at: ISO time of the save; None means now.
        :raises KeyError: there is no such entry.
        """
        moment = at or timestamp(datetime.now(UTC))
        with self._lock:
            entry = self._latest(entry_id, language)
            entry.update(fields)
            content_type = self.content_types[entry["sys"]["contentTypeId"]]
            for shown in ("entryTitle", "entryDescription"):
                source = content_type.get(f"{shown}Field")
                if source:
                    entry[shown] = entry.get(source)
            version = entry["sys"]["version"]
            major, _, minor = version["versionNo"].partition(".")
            version.update(modified=moment, versionNo=f"{major}.{int(minor) + 1}")
            _enter(entry, "draft", "sysUpdate", moment)
            if publish:
                _publish(entry, moment)
            self._store(entry)

    def publish(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Publish the latest version of an entry.

        :param at: ISO time of the publish; None means now.
        :raises KeyError: there is no such entry.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            _publish(entry, at or timestamp(datetime.now(UTC)))
            self._store(entry)

    def unpublish(self, entry_id: str, *, language: str | None = None) -> None:
        """Withdraw the published version of an entry; the latest version stays, as a draft.

        :raises KeyError: there is no such entry.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            _enter(entry, "draft", "sysUnpublish", timestamp(datetime.now(UTC)))
            entry["sys"]["isPublished"] = False
            entry["sys"]["version"].update(published=None, publishedBy=None)
            published = self.find(entry_id, language, "published")
            if published:
                self._drop(published)
            self._put(Document.of(entry, "latest"))

    def delete(self, entry_id: str, *, language: str | None = None) -> None:
        """Move one variation of an entry, or with no language all of them, to the recycle bin.

        :raises KeyError: there is no such entry.
        """
        with self._lock:
            gone = [
                document
                for document in self._variations(entry_id)
                if language is None or document.language.lower() == language.lower()
            ]
            if not gone:
                raise KeyError(entry_id)
            for document in gone:
                self._bin.setdefault(document.key, []).append(document)
            for document in gone:
                self._drop(document)
            self._tell_languages(entry_id)

    def restore(self, entry_id: str, *, language: str | None = None) -> None:
        """Take one variation, or with no language all of them, out of the recycle bin, as they were.

        What the real service makes of its versions is not known (section 11); the times staying as they were
        is what is hardest on whoever reads changes.

        :raises KeyError: the recycle bin has no such variation.
        """
        with self._lock:
            codes = [language] if language else self.project["supportedLanguages"]
            keys = [(entry_id.lower(), code.lower()) for code in codes]
            documents = [document for key in keys for document in self._bin.pop(key, ())]
            if not documents:
                raise KeyError(entry_id)
            for document in documents:
                self._put(document)
            self._tell_languages(entry_id)

    def _latest(self, entry_id: str, language: str | None) -> dict[str, Any]:
        document = self.find(entry_id, language, "latest")
        if document is None:
            raise KeyError(entry_id)
        entry: dict[str, Any] = document.entry()
        return entry

    def _variations(self, entry_id: str) -> list[Document]:
        kept = (
            self.find(entry_id, language, status)
            for language in self.project["supportedLanguages"]
            for status in VERSION_STATUSES
        )
        return [document for document in kept if document]

    def _store(self, entry: dict[str, Any]) -> None:
        """Keep an entry as the latest version and, when it is one, as the published version."""
        sys = entry["sys"]
        older = self.find(sys["id"], sys["language"], "published")
        complete = sys["workflow"]["state"] == "versionComplete"
        sys["isPublished"] = complete or older is not None
        latest = Document.of(entry, "latest")
        self._put(latest)
        if complete:
            self._put(latest.under("published"))

    def _tell_languages(self, entry_id: str) -> None:
        """Make every variation name the languages that now exist."""
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
        self._found[entry_id, language, document.status] = document
        self._changed(document, document)

    def _drop(self, document: Document) -> None:
        entry_id, language = document.key
        del self._buckets[_bucket(document)][entry_id]
        del self._found[entry_id, language, document.status]
        self._changed(document, None)

    def _changed(self, document: Document, now: Document | None) -> None:
        self._revision += 1
        self._changes.append(Change(self._revision, document.key, document.status, now))
        self._delivered.clear()


def _bucket(document: Document) -> Bucket:
    return Bucket(document.status, document.content_type_id, document.data_format, document.language)


def _enter(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    workflow = entry["sys"]["workflow"]
    workflow["transition"].update({"from": workflow["state"], "event": event, "invoked": moment})
    workflow.update(state=state, allowedEvents=WORKFLOW_EVENTS[state])


def _publish(entry: dict[str, Any], moment: str) -> None:
    """Make a version the published one. Its `modified` stays: publishing does not move it (section 4.7)."""
    version = entry["sys"]["version"]
    major = int(version["versionNo"].partition(".")[0])
    version.update(published=moment, publishedBy=version["modifiedBy"], versionNo=f"{major + 1}.0")
    _enter(entry, "versionComplete", "publish", moment)
