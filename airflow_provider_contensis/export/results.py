"""What an export returns, and what the manifest of a folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from airflow_provider_contensis.api.resources import VersionStatus
    from airflow_provider_contensis.export.request import ExportRequest


class FileSummary(TypedDict):
    """One file of an export."""

    path: str
    content_type_id: str | None
    rows: int
    bytes: int
    sha256: str


class ExportSummary(TypedDict):
    """What an export of entries returns, small enough for an XCom."""

    destination: str
    files: list[FileSummary]
    entries: int
    project_id: str
    version_status: VersionStatus
    changed_from: str | None
    changed_to: str | None
    watermark: str | None
    requests: int
    seconds: float


class ContentTypeChanges(TypedDict):
    """How much of one content type a run has changed."""

    upserts: int
    deletes: int


class ChangesSummary(TypedDict):
    """What an export of changes returns, small enough for an XCom.

    `change_set` is the folder of the change set within the feed; None if nothing changed. `drift` is None
    unless the run was a full refresh.
    """

    destination: str
    change_set: str | None
    sequence: int
    upserts: int
    deletes: int
    content_types: dict[str, ContentTypeChanges]
    changed_from: str | None
    horizon: str | None
    drift: int | None
    refreshed: int
    unconfirmed: int
    requests: int
    seconds: float


class TableChanges(ContentTypeChanges):
    """How much of one content type a run has changed, and its table."""

    table: str


class PostgresSummary(TypedDict):
    """What a run that keeps a copy in PostgreSQL in step returns, small enough for an XCom.

    `drift` is None unless the run was a full refresh.
    """

    schema: str
    upserts: int
    deletes: int
    content_types: dict[str, TableChanges]
    changed_from: str | None
    horizon: str | None
    drift: int | None
    refreshed: int
    unconfirmed: int
    misfits: int
    requests: int
    seconds: float


class AssetsSummary(TypedDict):
    """What an export of assets returns, small enough for an XCom.

    `assets` counts those with a file and `missing` those without; `files` and `bytes` are of distinct files.
    """

    destination: str
    assets: int
    files: int
    bytes: int
    downloaded: int
    unchanged: int
    missing: int
    removed: int
    project_id: str
    version_status: VersionStatus
    requests: int
    seconds: float


class ContentTypeSummary(TypedDict):
    """One content type in a manifest."""

    version: str | None
    schema_sha256: str


class Manifest(ExportSummary):
    """The manifest of a folder; the paths of its files are relative to the folder."""

    manifest_version: int
    written_by: str
    query: dict[str, Any]
    content_types: dict[str, ContentTypeSummary]


class SharedExportSummary(ExportSummary):
    """What an export by several workers returns, small enough for an XCom.

    `plan` is the folder of its files within `destination`; `parts` is how many tasks have read it.
    """

    plan: str
    parts: int


class PartSummary(TypedDict):
    """What a task that reads one part of an export returns."""

    destination: str
    plan: str
    part: int
    entries: int
    requests: int
    seconds: float


class ContentTypesSummary(TypedDict):
    """What an export of content types returns."""

    destination: str
    content_types: list[str]
    bytes: int
    sha256: str
    project_id: str


@dataclass(frozen=True)
class WrittenFile:
    """A finished file.

    :param path: as a person would name it.
    :param rows: number of entries.
    :param bytes: size as stored.
    :param sha256: of the content as stored, in hexadecimal.
    """

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ExportResult:
    """The result of an export of entries.

    :param files: by content type; None for a single file with all of them.
    :param content_type_id: the one that was asked for, if it was one; a single file holds no other.
    :param watermark: the greatest change mark exported, as served; `changed_from` if there is none.
    :param requests: number of HTTP requests.
    :param seconds: from the first request to the commit.
    """

    request: ExportRequest
    project_id: str
    files: dict[str | None, WrittenFile]
    content_type_id: str | None
    watermark: str | None
    requests: int
    seconds: float

    @property
    def entries(self) -> int:
        """How many entries were written."""
        return sum(file.rows for file in self.files.values())

    def as_dict(self) -> ExportSummary:
        """Return the result as JSON."""
        query = self.request.query
        return {
            "destination": self.request.destination.url,
            "files": [
                {
                    "path": file.path,
                    "content_type_id": content_type_id or self.content_type_id,
                    "rows": file.rows,
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                }
                for content_type_id, file in self.files.items()
            ],
            "entries": self.entries,
            "project_id": self.project_id,
            "version_status": query.version_status,
            "changed_from": query.changed_from,
            "changed_to": query.changed_to,
            "watermark": self.watermark,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }
