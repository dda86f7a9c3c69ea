"""The files of assets, as the website serves them: by path, with strong ETags and ranges."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HASH = re.compile(r"\.x[0-9a-f]{8}(?=\.[^./]*$|$)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_LONG, _SHORT = "max-age=31536000", "max-age=86400"  # of a path with a hash, and of one without


@dataclass(frozen=True)
class AssetFile:
    """The content of one file.

    :param content: its bytes, or a function that returns them, so that large ones need not stay in memory.
    :param size: the number of bytes.
    :param media_type: the `Content-Type`.
    :param etag: a strong ETag.
    """

    content: bytes | Callable[[], bytes]
    size: int
    media_type: str
    etag: str

    @classmethod
    def of(
        cls, filename: str, file_id: str, content: bytes | Callable[[], bytes], media_type: str | None
    ) -> AssetFile:
        """Return the file of an upload.

        :param media_type: None to tell it from the name.
        """
        body = content() if callable(content) else content
        guessed = media_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        return cls(content, len(body), guessed, f'"{file_id}"')

    def body(self) -> bytes:
        """Return its bytes."""
        return self.content() if callable(self.content) else self.content


def hashed_path(path: str, file_id: str) -> str:
    """Return a path with a hash of its content before the suffix (docs/contensis-api.md, "Assets")."""
    folder, _, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    mark = f".x{hashlib.sha256(file_id.encode()).hexdigest()[:8]}"
    return f"{folder}/{stem}{mark}{dot}{suffix}" if stem and dot else f"{folder}/{name}{mark}"


def plain_path(path: str) -> str:
    """Return a path without a hash, in lower case."""
    return _HASH.sub("", path).lower()


def serve(file: AssetFile, path: str, headers: Mapping[str, str]) -> Response:
    """Return the response to a request for a file.

    :param headers: of the request, names in lower case.
    """
    common = {
        "content-type": file.media_type,
        "etag": file.etag,
        "accept-ranges": "bytes",
        "cache-control": _LONG if _HASH.search(path) else _SHORT,
    }
    if headers.get("if-none-match") == file.etag:
        return Response(304, b"", common)
    whole = Response(200, file.body(), common)
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or headers.get("if-range", file.etag) != file.etag:
        return whole
    first, last = int(wanted[1]), min(int(wanted[2] or file.size), file.size - 1)
    if first > last:
        return Response(416, b"", {**common, "content-range": f"bytes */{file.size}"})
    part = {**common, "content-range": f"bytes {first}-{last}/{file.size}"}
    return replace(whole, status=206, body=whole.body[first : last + 1], headers=part)
