"""The content a sandbox serves: one project, its content types, and its entries in both version statuses."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_contensis.sandbox import lifecycle
from airflow_provider_contensis.sandbox.assets import AssetFile, plain_path
from airflow_provider_contensis.sandbox.delivery import DeliveryView
from airflow_provider_contensis.sandbox.documents import (
    VERSION_STATUSES,
    Document,
    VersionStatus,
    instant,
    timestamp,
)
from airflow_provider_contensis.sandbox.index import LIVE, REMOVED
from airflow_provider_contensis.sandbox.shapes import new_entry
from airflow_provider_contensis.sandbox.store import Change, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_provider_contensis.sandbox.index import Bucket, State

ApiName = Literal["management", "delivery"]

_TICKS_PER_DAY = 24 * 3600 * 10_000_000
RECYCLE_BIN_DAYS = 90


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
        self._store = Store()
        # Any change invalidates all Delivery JSON, because links show the paths of other entries.
        self._delivery_cache: dict[Document, bytes] = {}
        self._delivery_revision = 0
        # Files by id, and the variations of assets by path.
        self._files: dict[str, AssetFile] = {}
        self._paths: dict[str, tuple[str, str]] = {}
        for document in documents:
            self._store.put(document)
        self._store.changes.clear()

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
        return self._store.revision

    @property
    def changes(self) -> list[Change]:
        """The changes since the catalogue was created, in order."""
        with self._lock:
            return list(self._store.changes)

    @property
    def index_lag(self) -> float:
        """Seconds until searches and lists show a change; a get by id shows it at once.

        0 by default. With `math.inf`, searches show no change before `refresh_index`.
        """
        return self._store.index.lag

    @index_lag.setter
    def index_lag(self, seconds: float) -> None:
        with self._lock:
            # What is due with the old lag stays visible.
            self._store.index.catch_up(self._store.index.lag)
            self._store.index.lag = seconds

    @property
    def index_revision(self) -> int:
        """A number that increases with every change that searches show."""
        with self._lock:
            self._store.index.catch_up(self._store.index.lag)
            return self._store.index.revision

    def refresh_index(self) -> None:
        """Show all changes so far in searches and lists, whatever the lag."""
        with self._lock:
            self._store.index.catch_up(0)

    def __len__(self) -> int:
        """Return the number of entry variations, published or not."""
        with self._lock:
            return len(self._store.all_live("latest"))

    def find(self, entry_id: str, language: str | None, status: VersionStatus) -> Document | None:
        """Return one entry, or None.

        :param entry_id: its id, in any letter case.
        :param language: its language; None means the project's primary language.
        :param status: `latest` or `published`.
        """
        return self._store.find(entry_id, language or self.primary_language, status)

    def select(
        self, accept: Callable[[Bucket], bool], states: Collection[State] = LIVE
    ) -> tuple[int, list[Document]]:
        """Return the documents of all accepted buckets, as searches find them, and the index's revision.

        :param accept: whether to return the documents of a bucket.
        :param states: `live`, `archived` and `deleted` documents.
        """
        with self._lock:
            return self.index_revision, self._store.index.select(accept, states)

    def entries(
        self,
        version_status: VersionStatus = "published",
        *,
        api: ApiName = "management",
        content_type_id: str | None = None,
        language: str | None = None,
    ) -> list[bytes]:
        """Return entries exactly as they are served, ordered by created time and then id.

        Neither the lag of the index nor the roles of the API key matter.

        :param version_status: `latest` or `published`.
        :param api: the API whose JSON to return.
        :param content_type_id: only this content type; None means all.
        :param language: only this language; None means all.
        """
        with self._lock:
            documents = [
                document
                for document in self._store.all_live(version_status)
                if content_type_id in (None, document.content_type_id)
                and language in (None, document.language)
            ]
        documents.sort(
            key=lambda document: (instant(*document.values("sys.version.created")) or 0, *document.key)
        )
        return [self.served(document, api) for document in documents]

    def served(self, document: Document, api: ApiName = "management") -> bytes:
        """Return a document's JSON as an API serves it."""
        if api == "management":
            return document.management
        with self._lock:
            revision = self.revision
            if revision != self._delivery_revision:
                self._delivery_cache.clear()
                self._delivery_revision = revision
            body = self._delivery_cache.get(document)
        if body is None:
            body = self.delivery.render(document)
            with self._lock:
                if revision == self.revision:
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
        :raises ValueError: the entry already exists in this language, or a field, the language or the time
            does not exist.
        """
        content_type = self.content_types[content_type_id]
        language = language or self.primary_language
        entry_id = entry_id or str(uuid.uuid4())
        moment = _moment(at)
        _check_fields(content_type, fields)
        supported = self.project["supportedLanguages"]
        if language.lower() not in [code.lower() for code in supported]:
            raise ValueError(
                f"Project {self.project_id} has no language {language!r}. Available: {', '.join(supported)}"
            )
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
            self._store.take((entry_id.lower(), language.lower()))
            self._save(entry)
            self._update_languages(entry_id)
        return entry_id

    def add_asset(
        self,
        content_type_id: str,
        filename: str,
        content: bytes | Callable[[], bytes],
        *,
        folder: str = "/library/",
        media_type: str | None = None,
        fields: Mapping[str, Any] | None = None,
        entry_id: str | None = None,
        language: str | None = None,
        publish: bool = True,
        at: str | None = None,
    ) -> str:
        """Add an asset with a file, as an editor would, and return its id.

        :param content_type_id: its content type, whose `dataFormat` is `asset`.
        :param filename: the name of the file.
        :param content: the bytes of the file, or a function that returns them.
        :param folder: the path of the folder, with a slash at both ends.
        :param media_type: the `Content-Type` of the file; None to tell it from the name.
        :param fields: the values of its fields; missing fields are null.
        :param entry_id: as in `add`, as are `language`, `publish` and `at`.
        :raises ValueError: as in `add`, or the content type is not one of assets.
        """
        if self.content_types[content_type_id]["dataFormat"] != "asset":
            raise ValueError(f"Content type {content_type_id} is not one of assets")
        with self._lock:
            entry_id = self.add(
                content_type_id, fields or {}, entry_id=entry_id, language=language, publish=False, at=at
            )
            entry = self._latest(entry_id, language)
            self._attach(entry, filename, folder, content, media_type)
            if publish:
                version = entry["sys"]["version"]
                lifecycle.publish(entry, version["modified"])
            self._save(entry)
        return entry_id

    def replace_file(
        self,
        entry_id: str,
        content: bytes | Callable[[], bytes],
        *,
        filename: str | None = None,
        media_type: str | None = None,
        language: str | None = None,
        publish: bool = True,
        at: str | None = None,
    ) -> None:
        """Replace the file of an asset.

        :param content: the bytes of the new file, or a function that returns them.
        :param filename: its name; None to keep the name.
        :param entry_id: as in `update`, as are `language`, `publish` and `at`.
        :raises KeyError: the asset does not exist.
        """
        moment = _moment(at)
        with self._lock:
            entry = self._latest(entry_id, language)
            properties = entry["sys"]["properties"]
            lifecycle.save(entry, {}, self.content_types[entry["sys"]["contentTypeId"]], moment)
            self._attach(
                entry, filename or properties["filename"], properties["filePath"], content, media_type
            )
            if publish:
                lifecycle.publish(entry, moment)
            self._save(entry)

    def file(self, path: str, status: VersionStatus = "published") -> AssetFile | None:
        """Return the file that the website serves at a path; None if it serves none.

        :param status: `latest` for the files of drafts.
        """
        key = self._paths.get(plain_path(path))
        document = self.find(*key, status) if key else None
        if document is None:
            return None
        [file_id] = document.values("sys.properties.fileId")
        return self._files.get(file_id)

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
        :raises ValueError: a field or the time does not exist.
        """
        moment = _moment(at)
        with self._lock:
            entry = self._latest(entry_id, language)
            content_type = self.content_types[entry["sys"]["contentTypeId"]]
            _check_fields(content_type, fields)
            lifecycle.save(entry, fields, content_type, moment)
            if publish:
                lifecycle.publish(entry, moment)
            self._save(entry)

    def publish(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Publish the latest version of an entry.

        :param entry_id: its id.
        :param language: its language; None means the project's primary language.
        :param at: ISO time of publishing; None means now.
        :raises KeyError: the entry does not exist.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            lifecycle.publish(entry, _moment(at))
            self._save(entry)

    def unpublish(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Unpublish an entry; its latest version stays as a draft.

        :param entry_id: its id.
        :param language: its language; None means the project's primary language.
        :param at: ISO time of unpublishing; None means now.
        :raises KeyError: the entry does not exist.
        """
        with self._lock:
            entry = self._latest(entry_id, language)
            lifecycle.unpublish(entry, _moment(at))
            published = self.find(entry_id, language, "published")
            if published:
                self._store.drop(published)
            self._store.put(Document.of(entry, "latest"))

    def delete(
        self, entry_id: str, *, language: str | None = None, permanent: bool = False, at: str | None = None
    ) -> None:
        """Delete one variation of an entry, or all of them. Archived entries can be deleted, too.

        :param entry_id: its id.
        :param language: the variation to delete; None means all.
        :param permanent: delete it for good, also from the recycle bin, instead of moving it there.
        :param at: ISO time of the deletion; None means now.
        :raises KeyError: the entry does not exist.
        """
        moment = _moment(at)
        with self._lock:
            codes = self._languages(language)
            found = self._store.live(entry_id, codes, "latest")
            found += self._store.removed(entry_id, codes, "archived")
            if permanent:
                found += self._store.removed(entry_id, codes, "deleted")
            if not found:
                raise KeyError(entry_id)
            for document in found:
                self._store.take(document.key)
                if not permanent:
                    entry = document.entry()
                    lifecycle.delete(entry, moment)
                    self._store.put_removed(Document.of(entry, "latest"), "deleted")
            self._update_languages(entry_id)

    def restore(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Restore one variation of an entry, or all of them, from the recycle bin, as a draft.

        Its `created` and `modified` times do not change. Whether the real service changes them is unknown:
        this is the hardest case for an incremental export.

        :param entry_id: its id.
        :param language: the variation to restore; None means all.
        :param at: ISO time of restoring; None means now.
        :raises KeyError: the recycle bin does not hold it, or has held it for more than 90 days.
        """
        self._bring_back(entry_id, language, "deleted", "sysRestore", _moment(at))

    def archive(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Archive one variation of an entry, or all of them. Archived entries are not published.

        :param entry_id: its id.
        :param language: the variation to archive; None means all.
        :param at: ISO time of archiving; None means now.
        :raises KeyError: the entry does not exist.
        """
        moment = _moment(at)
        with self._lock:
            found = self._store.live(entry_id, self._languages(language), "latest")
            if not found:
                raise KeyError(entry_id)
            for document in found:
                self._store.take(document.key)
                entry = document.entry()
                lifecycle.archive(entry, moment)
                self._store.put_removed(Document.of(entry, "latest"), "archived")
            self._update_languages(entry_id)

    def unarchive(self, entry_id: str, *, language: str | None = None, at: str | None = None) -> None:
        """Return one variation of an entry, or all of them, from the archive, as a draft.

        Its `created` and `modified` times do not change, as in `restore`.

        :param entry_id: its id.
        :param language: the variation to return; None means all.
        :param at: ISO time of the change; None means now.
        :raises KeyError: the archive does not hold it.
        """
        self._bring_back(entry_id, language, "archived", "sysUnarchive", _moment(at))

    def update_content_type(
        self, content_type_id: str, fields: Iterable[Mapping[str, Any]], *, at: str | None = None
    ) -> None:
        """Publish a new version of a content type, with other fields.

        All its entries change at once: they have null in new fields and lose removed ones. Their versions and
        times do not change.

        :param content_type_id: its id.
        :param fields: all of its fields, as `new_field` returns them or as the content type holds them.
        :param at: ISO time of the change; None means now.
        :raises KeyError: the content type does not exist.
        """
        with self._lock:
            old = self.content_types[content_type_id]
            new = lifecycle.redefine(old, fields, _moment(at))
            self.content_types[content_type_id] = new
            old_ids, new_ids = ([field["id"] for field in item["fields"]] for item in (old, new))
            for document in self._store.all():
                if document.content_type_id == content_type_id:
                    self._store.replace(document, lifecycle.conform(document.entry(), old_ids, new_ids))

    def add_language(self, language: str) -> None:
        """Add a language to the project and its content types.

        `sys.unavailableLanguages` of all entries gets longer; their versions and times do not change.

        :param language: its code, such as `fr`.
        :raises ValueError: the project has the language already.
        """
        with self._lock:
            supported = self.project["supportedLanguages"]
            if language.lower() in [code.lower() for code in supported]:
                raise ValueError(f"Project {self.project_id} has {language} already")
            self.project["supportedLanguages"] = [*supported, language]
            for content_type_id, item in self.content_types.items():
                languages = [*item["supportedLanguages"], language]
                self.content_types[content_type_id] = {**item, "supportedLanguages": languages}
            for entry_id in {document.key[0] for document in self._store.all()}:
                self._update_languages(entry_id)

    def _attach(
        self,
        entry: dict[str, Any],
        filename: str,
        folder: str,
        content: bytes | Callable[[], bytes],
        media_type: str | None,
    ) -> None:
        file_id = str(uuid.uuid4())
        file = self._files[file_id] = AssetFile.of(filename, file_id, content, media_type)
        sys = entry["sys"]
        sys["properties"] = {
            "filename": filename,
            "fileSize": file.size,
            "filePath": folder,
            "fileId": file_id,
        }
        self._paths[plain_path(folder + filename)] = sys["id"], sys["language"]

    def _latest(self, entry_id: str, language: str | None) -> dict[str, Any]:
        document = self.find(entry_id, language, "latest")
        if document is None:
            raise KeyError(entry_id)
        entry: dict[str, Any] = document.entry()
        return entry

    def _languages(self, language: str | None) -> Sequence[str]:
        return [language] if language else self.project["supportedLanguages"]

    def _bring_back(self, entry_id: str, language: str | None, state: State, event: str, moment: str) -> None:
        with self._lock:
            documents = self._store.removed(entry_id, self._languages(language), state)
            if state == "deleted":
                documents = [document for document in documents if not _has_expired(document, moment)]
            if not documents:
                raise KeyError(entry_id)
            for document in documents:
                self._store.drop_removed(document)
                entry = document.entry()
                lifecycle.bring_back(entry, event, moment)
                self._store.put(Document.of(entry, "latest"))
            self._update_languages(entry_id)

    def _save(self, entry: dict[str, Any]) -> None:
        """Store an entry as the latest version and, if it is published, as the published version."""
        sys = entry["sys"]
        older = self.find(sys["id"], sys["language"], "published")
        complete = sys["workflow"]["state"] == "versionComplete"
        sys["isPublished"] = complete or older is not None
        latest = Document.of(entry, "latest")
        self._store.put(latest)
        if complete:
            self._store.put(latest.with_status("published"))

    def _update_languages(self, entry_id: str) -> None:
        """Update the lists of languages in every variation."""
        codes = self._languages(None)
        live = self._store.live(entry_id, codes, *VERSION_STATUSES)
        archived, deleted = (self._store.removed(entry_id, codes, state) for state in REMOVED)
        languages = [{document.language for document in group} for group in (live, archived, deleted)]
        for document in (*live, *archived, *deleted):
            entry = document.entry()
            supported = self.content_types[document.content_type_id]["supportedLanguages"]
            lifecycle.set_languages(entry, supported, *languages)
            self._store.replace(document, entry)


def _moment(at: str | None) -> str:
    if at is None:
        return timestamp(datetime.now(UTC))
    if not isinstance(at, str) or instant(at) is None:
        raise ValueError(f"at must be an ISO 8601 time, such as 2026-04-02T00:00:00Z, not {at!r}")
    return at


def _check_fields(content_type: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    known = [str(field["id"]) for field in content_type["fields"]]
    if unknown := sorted(fields.keys() - known):
        raise ValueError(
            f"Content type {content_type['id']} has no field {unknown[0]!r}. Available: {', '.join(known)}"
        )


def _has_expired(document: Document, moment: str) -> bool:
    """Return whether a document has been in the recycle bin for too long to be restored."""
    [deleted] = document.values("sys.version.deleted")
    return (instant(moment) or 0) - (instant(deleted) or 0) > RECYCLE_BIN_DAYS * _TICKS_PER_DAY
