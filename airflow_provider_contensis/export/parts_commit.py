"""The commit of an export by several workers: all parts are there, and add up to what the service counts."""

from __future__ import annotations

import base64
import json
import logging
import time
from array import array
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ExportError, IncompleteReadError
from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.export.parts import read_part
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.proof import check_distinct
from airflow_provider_contensis.export.results import SharedExportSummary
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.shared_plan import Part, check_partition
from airflow_provider_contensis.export.sinks.manifest import dump_manifest, plan_name
from airflow_provider_contensis.export.times import sort_key
from airflow_provider_contensis.export.where import typed_query
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.model import Window
    from airflow_provider_contensis.export.request import ReadOptions
    from airflow_provider_contensis.export.results import FileSummary
    from airflow_provider_contensis.export.shared_plan import SharedPlan
    from airflow_provider_contensis.export.sinks.parts import PartReceipt, SharedFolder

log = logging.getLogger(__name__)

_ATTEMPTS = 4


def commit_parts(
    client: ContensisClient, plan: SharedPlan, folder: SharedFolder, options: ReadOptions
) -> SharedExportSummary:
    """Make the parts of a plan the export of their folder, and return what was written.

    Parts that have grown since they were read are read again, as are content types that the project does not
    list. If the plan is the export already, nothing is read.

    :return: without files, if no entries matched and `on_empty` keeps what stands.
    :raises ExportError: a part is missing, or is not of this plan.
    :raises IncompleteReadError: the service has more than the parts.
    :raises ContensisError: what stands in the folder is untouched.
    """
    manifest = folder.published()
    if manifest is not None and plan_name(manifest) == plan.name:
        return _committed(manifest, plan, folder)
    sent_before = client.requests_sent
    request = plan.request
    url = request.destination.url
    commit = _Commit(client, plan, folder, options)
    receipts = commit.complete()
    entries = sum(sum(receipt["windows"]) for receipt in receipts)
    files: list[FileSummary] = [file for receipt in receipts for file in receipt["files"] or ()]
    marks = [request.query.changed_from, *(receipt["watermark"] for receipt in receipts)]
    summary: SharedExportSummary = {
        "destination": url,
        "files": files,
        "entries": entries,
        "project_id": plan.project_id,
        "version_status": request.query.version_status,
        "changed_from": request.query.changed_from,
        "changed_to": request.query.changed_to,
        "watermark": max(filter(None, marks), key=sort_key, default=None),
        "requests": plan.requests + commit.requests_of_workers() + client.requests_sent - sent_before,
        "seconds": round(time.time() - plan.begun, 3),
        "plan": plan.name,
        "parts": len(receipts),
    }
    if not entries and request.on_empty != "write":
        if request.on_empty == "fail":
            raise ExportError('No entries matched, and on_empty is "fail".')
        log.warning("Leaving %s as it is: no entries matched", url)
        folder.storage.remove(f"{folder.root}{plan.name}/")
        return summary
    content = dump_manifest(summary, query=asdict(request.query), content_types=plan.plan.content_types)
    folder.publish(plan, content, [file["path"] for file in files])
    log.info(
        "Exported %s in %s with %s in %.1f s: %s",
        count(entries, "entry", "entries"),
        count(len(receipts), "part"),
        count(summary["requests"], "request"),
        summary["seconds"],
        url,
    )
    return _with_urls(summary)


class _Commit:
    """Completes the parts of one plan; parameters as in `commit_parts`."""

    def __init__(
        self, client: ContensisClient, plan: SharedPlan, folder: SharedFolder, options: ReadOptions
    ) -> None:
        self._client = client
        self._plan = plan
        self._folder = folder
        self._options = options
        self._search = WindowSearch(client, plan.project_id, plan.request.query, options)
        self._search.query = typed_query(plan.request.query, plan.plan.content_types)
        self._receipts: list[PartReceipt] = []
        self._read_here: set[int] = set()

    def complete(self) -> list[PartReceipt]:
        """Return the receipts of parts that are disjoint, and together as much as the service counts.

        :raises ContensisError: they are not.
        """
        plan = self._plan
        check_partition(plan.plan.whole, [window for part in plan.parts for window in part.windows])
        self._receipts = self._folder.receipts(plan)
        for receipt in self._receipts:
            if receipt["files"] is None:  # an earlier attempt of this task was about to read it again
                self._read_again(receipt["part"])
        others = Planner(self._client, plan.project_id, self._search).unlisted(plan.plan)
        if others:
            self._plan = replace(plan, parts=(*plan.parts, Part(tuple(others), 0)))
            self._receipts.append(self._read(len(self._plan.parts)))
        self._prove()
        check_distinct(
            [array("q", base64.b64decode(keys)) for receipt in self._receipts for keys in receipt["undated"]]
        )
        return self._receipts

    def requests_of_workers(self) -> int:
        """Return how many requests it took to read the parts that were not read here."""
        return sum(
            receipt["requests"] for receipt in self._receipts if receipt["part"] not in self._read_here
        )

    def _prove(self) -> None:
        """Prove the sum against the count of the whole; read parts again that have grown.

        :raises IncompleteReadError: the service has more.
        """
        whole = self._plan.plan.whole
        for attempts_left in reversed(range(_ATTEMPTS)):
            found = sum(sum(receipt["windows"]) for receipt in self._receipts)
            [now] = self._search.counts([whole])
            if now < found:
                now = self._search.recount(whole)
            if now <= found:
                break
            counts = list(self._search.counts(self._windows))
            grown = [part for part, is_grown in enumerate(self._grown(counts), 1) if is_grown]
            # What is published while it is read again will be in the next export.
            if now <= sum(counts) and not (grown and attempts_left):
                break
            for part in grown if attempts_left else ():
                self._read_again(part)
        else:
            raise IncompleteReadError(
                f"{whole}: the service counts {count(now, 'entry', 'entries')}, but {sum(counts):,} in the "
                "parts of the export. Somebody may be changing much content: try again later. "
                + hint("content-types", "in", "not"),
                expected=now,
                found=sum(counts),
            )
        log.info(
            "Proof: %s in %s, as many as the service counts",
            count(found, "entry", "entries"),
            count(len(self._receipts), "part"),
        )

    @property
    def _windows(self) -> list[Window]:
        return [window for part in self._plan.parts for window in part.windows]

    def _grown(self, counts: Sequence[int]) -> list[bool]:
        """Return for each part whether one of its windows holds more than was read.

        :param counts: of all windows.
        """
        left = iter(counts)
        return [
            any([next(left) > read for read in receipt["windows"]])  # noqa: C419 - each takes its count
            for receipt in self._receipts
        ]

    def _read_again(self, part: int) -> None:
        log.warning("Part %d has grown since it was read, or was not read to its end: reading it again", part)
        receipt = self._receipts[part - 1]
        # Until it is whole again, the receipt must not vouch for its files.
        self._folder.write_receipt(self._plan, {**receipt, "files": None})
        self._receipts[part - 1] = self._read(part)

    def _read(self, part: int) -> PartReceipt:
        self._read_here.add(part)
        return read_part(self._client, self._plan, part, self._folder, self._options)


def _committed(manifest: bytes, plan: SharedPlan, folder: SharedFolder) -> SharedExportSummary:
    """Return the result of an earlier attempt, whose plan is the export already."""
    value = json.loads(manifest)
    log.info("An earlier attempt has committed this export: %s", plan.name)
    folder.clean(plan, [file["path"] for file in value["files"]])
    summary: Any = {name: value[name] for name in SharedExportSummary.__annotations__}
    return _with_urls(summary)


def _with_urls(summary: SharedExportSummary) -> SharedExportSummary:
    files: list[FileSummary] = [
        {**file, "path": f"{summary['destination']}{file['path']}"} for file in summary["files"]
    ]
    return {**summary, "files": files}
