"""The manifest of a folder: it makes the files of the folder one export."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis import __version__
from airflow_provider_contensis.export.shared_plan import is_plan_name
from airflow_provider_contensis.utils.json import loads_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.results import ExportSummary, Manifest

MANIFEST_VERSION = 1


def dump_manifest(
    summary: ExportSummary, *, query: dict[str, Any], content_types: Iterable[ContentType]
) -> bytes:
    """Return a manifest as JSON.

    :param summary: what was written; the paths of its files are relative to the folder.
    :param query: what was asked for.
    :param content_types: the definitions of those in the folder.
    """
    manifest: Manifest = {
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
    }
    return json.dumps(manifest, indent=2, ensure_ascii=False).encode()


def schema_hash(content_type: ContentType) -> str:
    """Return a hash of a content type's fields, which changes if and only if they do."""
    fields = json.dumps(content_type.get("fields"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(fields.encode()).hexdigest()


def file_names(content: bytes | None) -> set[str]:
    """Return the files that a manifest names, if they may be an export's.

    Files elsewhere are left out, and so are hidden ones: the manifest itself and the lock.
    """
    try:
        files = loads_json(content or b"")["files"]
        names = {file["path"] for file in files}
    except (KeyError, TypeError, ValueError):
        return set()
    return {
        name for name in names if isinstance(name, str) and "/" not in name and name[:1] not in {"", ".", "_"}
    }


def plan_name(content: bytes | None) -> str | None:
    """Return the plan whose parts are the export of a manifest; None if one task wrote it."""
    try:
        name = loads_json(content or b"")["plan"]
    except (KeyError, TypeError, ValueError):
        return None
    return name if isinstance(name, str) and is_plan_name(name) else None
