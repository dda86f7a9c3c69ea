"""The definitions of content types, as JSON, for whoever reads the entries."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.export.storage import LocalStorage, write_whole

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.query import Api
    from airflow_provider_contensis.export.storage import Storage

log = logging.getLogger(__name__)


def export_content_types(
    client: ContensisClient,
    project_id: str,
    destination: str,
    *,
    data_format: str | None = None,
    version_status: str = "published",
    api: Api = "management",
    storage: Storage | None = None,
    root: str | None = None,
    owner: str = "export",
) -> dict[str, Any]:
    """Write the definitions of a project's content types to a file: a JSON array, sorted by id.

    :param destination: the file, as a person names it.
    :param data_format: `entry`, `asset` or `form`; None for all.
    :param version_status: `published` or `latest`.
    :param storage: where the file is written; None for this machine.
    :param root: the file as the storage names it; None if that is the destination.
    :param owner: names the task, the same for all its tries.
    :return: `destination`, `content_types` (their ids), `bytes`, `sha256` and `project_id`.
    :raises ContensisError: whatever was under the destination's name is untouched.
    """
    definitions = client.list_content_types(
        project_id, data_format=data_format, version_status=version_status, api=api
    )
    definitions.sort(key=lambda definition: str(definition.get("id")))
    content = json.dumps(definitions, indent=2, ensure_ascii=False).encode() + b"\n"
    write_whole(storage or LocalStorage(), root or destination, content, owner=owner)
    log.info("Wrote %s: the definitions of %d content types", destination, len(definitions))
    return {
        "destination": destination,
        "content_types": [str(definition.get("id")) for definition in definitions],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "project_id": project_id,
    }
