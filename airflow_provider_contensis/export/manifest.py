"""The manifest of a folder: what makes its files one export."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_contensis.export.formats.base import ContentType

MANIFEST_VERSION = 1


def manifest(
    summary: dict[str, Any], *, query: dict[str, Any], content_types: Iterable[ContentType]
) -> bytes:
    """Return a manifest's JSON.

    :param summary: what was written; the paths of its files are relative to the folder.
    :param query: what was asked for.
    :param content_types: the definitions of those in the folder.
    """
    return json.dumps(
        {
            "manifest_version": MANIFEST_VERSION,
            "written_by": f"airflow-provider-contensis {__version__}",
            **summary,
            "query": query,
            "content_types": {
                str(content_type["id"]): {
                    "version": (content_type.get("version") or {}).get("versionNo"),
                    "schema_sha256": schema_hash(content_type),
                }
                for content_type in content_types
            },
        },
        indent=2,
        ensure_ascii=False,
    ).encode()


def schema_hash(content_type: ContentType) -> str:
    """Return a hash of a content type's fields, which changes when and only when they do."""
    fields = json.dumps(content_type.get("fields"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(fields.encode()).hexdigest()


def file_names(content: bytes | None) -> set[str]:
    """Return the files that a manifest names; those it has no business to name are left out.

    These are what is elsewhere, and what is hidden: an export's own manifest and lock.
    """
    try:
        files = json.loads(content or b"")["files"]
        names = {file["path"] for file in files}
    except (KeyError, TypeError, ValueError):
        return set()
    return {
        name for name in names if isinstance(name, str) and "/" not in name and name[:1] not in {"", ".", "_"}
    }
