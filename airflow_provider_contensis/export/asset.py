"""One asset: what its entry says about its file, and what the export records of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from urllib.parse import quote

import msgspec

from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.utils.json import UNREADABLE

if TYPE_CHECKING:
    from airflow_provider_contensis.export.batch import EntryMeta

FILES = "files/"

# A name is content: only a plain suffix of it becomes part of a path.
_SUFFIX = re.compile(r"(?<=[^.])\.([A-Za-z0-9]{1,16})$")
_STORED = re.compile(r"files/([0-9a-f]{2})/\1[0-9a-f]{62}(\.[a-z0-9]{1,16})?")
_LEFT_OVER = re.compile(r"files/[0-9a-f]{2}/\.[^/]*\.(part|lock)")
_DOTS = re.compile(r"(^|/)\.{1,2}(/|$)")
# What a URL may hold, and escapes; not what would begin a query or a fragment.
_SAFE = "/%:@!$&'()*+,;=~-._"


class AssetRecord(TypedDict):
    """One line of `assets.jsonl`: an asset, and the file that holds its content."""

    id: str
    language: str
    version_no: str | None
    filename: str
    file_path: str | None
    content_type: str | None
    path: str
    bytes: int
    sha256: str
    uri: str
    file_id: str | None


class _Sys(msgspec.Struct):
    uri: Any = None
    properties: Any = None
    version: Any = None


class _Entry(msgspec.Struct):
    sys: _Sys


_DECODER = msgspec.json.Decoder(_Entry)


class Asset(NamedTuple):
    """What an entry says about its file.

    :param size: of the file, in bytes; None if the entry does not show it.
    :param uri: the path at which the website serves it, escaped; None if the entry names no file.
    """

    id: str
    language: str
    version_no: str | None
    file_id: str | None
    filename: str
    file_path: str | None
    size: int | None
    uri: str | None

    @classmethod
    def of(cls, entry: msgspec.Raw, meta: EntryMeta) -> Asset:
        """Return the asset that an entry describes.

        :param meta: of the entry.
        """
        try:
            sys = _DECODER.decode(entry).sys
        except UNREADABLE:
            sys = _DECODER.decode(lone_surrogates.replace(bytes(entry))).sys
        properties = sys.properties if isinstance(sys.properties, dict) else {}
        version = sys.version if isinstance(sys.version, dict) else {}
        filename, file_path = _text(properties.get("filename")), _text(properties.get("filePath"))
        size = properties.get("fileSize")
        return cls(
            meta.id,
            meta.language,
            _text(version.get("versionNo")),
            _text(properties.get("fileId")),
            filename or "",
            file_path,
            size if type(size) is int and size >= 0 else None,
            _uri(_text(sys.uri), file_path, filename),
        )

    @property
    def key(self) -> str:
        """Its identity, as text that any database holds."""
        return json.dumps([self.id.lower(), self.language.lower()])

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"{self.filename or 'the file'} of asset {self.id} ({self.language})"

    def is_as_recorded(self, record: AssetRecord) -> bool:
        """Return whether its file is still the one that an earlier run has recorded."""
        version = self.version_no, self.file_id
        return (
            any(version)
            and version == (record["version_no"], record["file_id"])
            and self.size in {None, record["bytes"]}
        )

    def path_of(self, sha256: str) -> str:
        """Return the path of its file in the folder, by content; nothing of its name can lead elsewhere."""
        suffix = _SUFFIX.search(self.filename)
        return f"{FILES}{sha256[:2]}/{sha256}{suffix[0].lower() if suffix else ''}"

    def record(self, *, path: str, bytes: int, sha256: str, content_type: str | None) -> AssetRecord:  # noqa: A002 - as in the record
        """Return its record."""
        return {
            "id": self.id,
            "language": self.language,
            "version_no": self.version_no,
            "filename": self.filename,
            "file_path": self.file_path,
            "content_type": content_type,
            "path": path,
            "bytes": bytes,
            "sha256": sha256,
            "uri": self.uri or "",
            "file_id": self.file_id,
        }


def is_stored(path: str) -> bool:
    """Return whether a path in the folder is the name of a file of an asset."""
    return _STORED.fullmatch(path) is not None


def is_left_over(path: str) -> bool:
    """Return whether a path in the folder is what a killed attempt leaves."""
    return _LEFT_OVER.fullmatch(path) is not None


def read_record(line: bytes | str) -> AssetRecord | None:
    """Return the record of a line; None if it is none, or names a file elsewhere."""
    try:
        record = msgspec.json.decode(line, type=AssetRecord)
    except UNREADABLE:
        return None
    return record if is_stored(record["path"]) and record["sha256"] in record["path"] else None


def dump_line(value: Any) -> bytes:
    """Return a value as a line of JSON Lines; lone surrogates, which are no valid text, stay escaped."""
    try:
        return f"{json.dumps(value, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(value)}\n".encode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _uri(uri: str | None, file_path: str | None, filename: str | None) -> str | None:
    """Return the path of a file on the website, escaped: as served, or of folder and name."""
    plain = uri is None and file_path and filename
    folder = (file_path or "").strip("/")
    path = f"/{folder}{'/' if folder else ''}{filename}" if plain else uri or ""
    try:
        escaped = quote(path, safe="/" if plain else _SAFE)
    except UnicodeEncodeError:
        return None
    # Segments of dots would lead to another path than the one that is named.
    return escaped if escaped.startswith("/") and not _DOTS.search(path) else None
