"""An export of content types: their definitions as JSON, for readers of the entries."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.storage.base import write_whole
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.utils.text import count, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Api, ContentType, ContentTypeFormat, VersionStatus
    from airflow_provider_contensis.export.results import ContentTypesSummary
    from airflow_provider_contensis.export.storage.base import Storage

log = logging.getLogger(__name__)


def export_content_types(
    client: ContensisClient,
    project_id: str,
    destination: str,
    *,
    data_format: ContentTypeFormat | None = None,
    version_status: VersionStatus = "published",
    api: Api = "management",
    storage: Storage | None = None,
    root: str | None = None,
    owner: str = "export",
) -> ContentTypesSummary:
    """Write the definitions of a project's content types to a file: a JSON array, sorted by id.

    :param destination: the file, as a person names it.
    :param data_format: `entry`, `asset` or `form`; None for all.
    :param version_status: `published` or `latest`.
    :param storage: where the file is written; None for this machine.
    :param root: the file as the storage names it; None if that is the destination.
    :param owner: names the task, the same for all its attempts.
    :return: `destination`, `content_types` (their ids), `bytes`, `sha256` and `project_id`.
    :raises ContensisError: whatever stands under the destination's name is untouched.
    """
    definitions = client.list_content_types(
        project_id, data_format=data_format, version_status=version_status, api=api
    )
    _check(definitions, data_format)
    definitions.sort(key=lambda definition: definition["id"])
    # What is no valid text stays escaped, as JSON has it.
    content = json.dumps(definitions, indent=2, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
    write_whole(storage or LocalStorage(), root or destination, content, owner=owner)
    log.info("Wrote %s: the definitions of %s", destination, count(len(definitions), "content type"))
    return {
        "destination": destination,
        "content_types": [definition["id"] for definition in definitions],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "project_id": project_id,
    }


def _check(definitions: Sequence[ContentType], data_format: ContentTypeFormat | None) -> None:
    """Refuse an answer that is not what was asked for.

    :raises InvalidResponseError: a content type has no id, is there twice, or is of another data format.
    """
    seen: set[str] = set()
    for definition in definitions:
        id_, found = definition.get("id"), str(definition.get("dataFormat") or "entry").lower()
        if not isinstance(id_, str) or not id_ or id_.lower() in seen:
            raise InvalidResponseError(
                f"The service lists the content type {show(id_)}, which is not an id, or is listed twice."
            )
        seen.add(id_.lower())
        if data_format is not None and found != data_format:
            raise InvalidResponseError(
                f"The service lists content type {show(id_)} with the data format {show(found)}, but "
                f"{data_format!r} was asked for."
            )
