"""An export of the files of assets: one run, from the lock to the commit."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis import __version__
from airflow_provider_contensis.api.environment import origin
from airflow_provider_contensis.export.asset import Asset, is_left_over, is_stored
from airflow_provider_contensis.export.asset_index import AssetIndex
from airflow_provider_contensis.export.downloads import Downloads
from airflow_provider_contensis.export.sinks.assets import AssetFolder
from airflow_provider_contensis.export.sinks.manifest import MANIFEST_VERSION
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.export.storage.local import LocalStorage
from airflow_provider_contensis.export.temporary import translate_temporary_errors
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.asset_index import Totals
    from airflow_provider_contensis.export.assets_request import AssetsRequest
    from airflow_provider_contensis.export.results import AssetsSummary
    from airflow_provider_contensis.export.storage.base import Storage

log = logging.getLogger(__name__)

_STAYS = "where files are not looked for"  # neither a token nor trust may follow
_SHOWN = 5


def export_assets(
    client: ContensisClient,
    project_id: str,
    request: AssetsRequest,
    *,
    storage: Storage | None = None,
    root: str | None = None,
    owner: str = "export",
) -> AssetsSummary:
    """Export the files of assets to a folder, and the list of which asset has which file.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param request: which assets, and the folder.
    :param storage: where files are written; None for this machine.
    :param root: the folder as the storage names it; None if that is its URL.
    :param owner: names the task, the same for all its attempts; leftovers of dead attempts are removed.
    :raises ContensisError: what the manifest describes is untouched; files that were read stay for the next
        attempt.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    site = request.site_url or client.root_url
    log.info(
        "Exporting the files of %s assets of project %s (%s API), served by %s, to %s: %s",
        request.query.version_status,
        project_id,
        request.query.api,
        site,
        request.url,
        request.query,
    )
    sends_token = request.sends_token
    if sends_token and origin(site) != origin(client.root_url):
        log.info("No token is sent to %s, which is not the environment", site)
    storage, root = storage or LocalStorage(), root or request.url
    source = {"url": client.root_url, "project_id": project_id, "site_url": site}
    folder = AssetFolder(storage, root, request.url, source, owner=owner)
    with ExitStack() as stack:
        stack.enter_context(translate_temporary_errors())
        index = AssetIndex()
        stack.callback(index.close)
        stack.enter_context(storage.exclusive(root, owner=owner))
        folder.load(index)
        entries = EntrySource(client, project_id, request.query, request.options)
        for batch in entries.read(entries.plan()):
            index.add(map(Asset.of, batch.entries, batch.metas))
        found, wanted = index.counts()
        log.info("Found %s: %s to read", count(found, "asset"), count(wanted, "file"))
        session = stack.enter_context(
            client.session.for_files(site, send_token=sends_token, redirect_advice=_STAYS)
        )
        downloads = Downloads(client, session, request, folder, index)
        downloads.run()

        totals = index.conclude()
        summary: AssetsSummary = {
            "destination": request.url,
            "assets": totals.assets,
            "files": totals.files,
            "bytes": totals.bytes,
            "downloaded": downloads.done,
            "unchanged": found - wanted,
            "missing": totals.missing,
            "removed": 0,
            "project_id": project_id,
            "version_status": request.query.version_status,
            "requests": client.requests_sent - sent_before + session.requests_sent,
            "seconds": round(time.monotonic() - started, 3),
        }
        folder.commit(index.records(), _manifest(summary, request, index))
        summary["removed"] = _prune(folder, index, request, found)
    log.info(
        "Exported %s: %s, %s; %s read, %s unchanged, %s removed, with %s in %.1f s",
        count(totals.assets, "asset"),
        count(totals.files, "file"),
        count(totals.bytes, "byte"),
        f"{summary['downloaded']:,}",
        f"{summary['unchanged']:,}",
        f"{summary['removed']:,}",
        count(summary["requests"], "request"),
        summary["seconds"],
    )
    if totals.missing:
        _warn(totals, downloads.reasons)
    return summary


def _manifest(summary: AssetsSummary, request: AssetsRequest, index: AssetIndex) -> dict[str, Any]:
    """Return what the manifest says beside the files."""
    names = ("destination", "assets", "bytes", "project_id", "version_status", "requests", "seconds")
    return {
        "manifest_version": MANIFEST_VERSION,
        "written_by": f"airflow-provider-contensis {__version__}",
        **{name: summary[name] for name in names},  # type: ignore[literal-required]  # of these names
        "query": asdict(request.query),
        "missing": [
            {"id": asset.id, "language": asset.language, "filename": asset.filename, "reason": reason}
            for asset, reason in index.missing()
        ],
    }


def _prune(folder: AssetFolder, index: AssetIndex, request: AssetsRequest, found: int) -> int:
    """Remove what no asset names any more, and what killed attempts have left; return the number of files."""
    folder.remove(filter(is_left_over, index.unnamed()))
    if not request.prune:
        return 0
    if not found:
        # A role taken from the API key looks like this.
        log.warning("No assets matched, so no file was removed. Check where and the API key's role")
        return 0
    return folder.remove(filter(is_stored, index.unnamed()))  # whatever else there is stays


def _warn(totals: Totals, reasons: dict[str, int]) -> None:
    """Log how many files are missing, and why: the last line of the log."""
    most = sorted(reasons.items(), key=lambda item: -item[1])
    shown = "; ".join(f"{number:,} because {reason}" for reason, number in most[:_SHOWN])
    more = "; and others" if len(most) > _SHOWN else ""
    log.warning("Missing: %s, listed in the manifest: %s%s", count(totals.missing, "file"), shown, more)
