"""A folder that several workers fill: one folder for each plan, a receipt for each part, a manifest last."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from airflow_provider_contensis.exceptions import DestinationError, ExportError
from airflow_provider_contensis.export.destination import MANIFEST, RETIRED_MANIFEST, safe_name
from airflow_provider_contensis.export.shared_plan import SharedPlan, is_plan_name
from airflow_provider_contensis.export.sinks.manifest import file_names, plan_name
from airflow_provider_contensis.export.sinks.output import OutputFile, open_output, writer_thread
from airflow_provider_contensis.export.storage.base import write_whole
from airflow_provider_contensis.utils.json import loads_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.results import FileSummary
    from airflow_provider_contensis.export.storage.base import FolderStorage

log = logging.getLogger(__name__)

PLAN = "_plan.json"


class PartReceipt(TypedDict):
    """What a worker has read: a part is whole if its receipt stands.

    `windows` has the number of entries in each window of the part; `undated` the identity keys of entries
    whose times do not show that no other part holds them, in base 64; `files` is None while the part is read
    again.
    """

    plan: str
    part: int
    files: list[FileSummary] | None
    windows: list[int]
    undated: list[str]
    watermark: str | None
    requests: int
    seconds: float


@dataclass(frozen=True)
class SharedFolder:
    """The destination of an export by several workers.

    :param storage: where files are written.
    :param root: the folder as the storage names it, ending in `/`.
    :param owner: names the task, the same for all its attempts.
    """

    storage: FolderStorage
    root: str
    owner: str

    def write_plan(self, plan: SharedPlan) -> SharedPlan:
        """Write a plan for all workers; return it with its name."""
        plan, content = plan.dump()
        write_whole(self.storage, f"{self.root}{plan.name}/{PLAN}", content, owner=self.owner)
        return plan

    def read_plan(self, name: str) -> SharedPlan:
        """Return a plan.

        :raises ExportError: it is not there.
        """
        content = self.storage.read(f"{self.root}{name}/{PLAN}") if is_plan_name(name) else None
        if content is None:
            raise ExportError(
                f"{self.root} has no plan {name!r}. Either this worker sees another disk, and needs one that "
                "all workers share; or a later run has removed it: set max_active_runs=1."
            )
        return SharedPlan.load(name, content)

    def sizes(self, plan: SharedPlan) -> dict[str, int]:
        """Return the size of each file of a plan, by its path in the destination."""
        return {f"{plan.name}/{path}": size for path, size in self.storage.files(f"{self.root}{plan.name}/")}

    def receipt(
        self, plan: SharedPlan, part: int, sizes: Mapping[str, int] | None = None
    ) -> PartReceipt | None:
        """Return the receipt of a part; None if it has none yet.

        :param sizes: of the plan's files, if they have been listed.
        :raises ExportError: it is of something else, or its files are not all there.
        """
        content = self.storage.read(self._receipt_path(plan, part))
        if content is None:
            return None
        try:
            receipt: PartReceipt = loads_json(content)
            is_of_part = (receipt["plan"], receipt["part"]) == (plan.digest, part)
            is_of_part &= len(receipt["windows"]) == len(plan.parts[part - 1].windows)
            files = receipt["files"] or []
        except (KeyError, TypeError, ValueError):
            is_of_part, files = False, []
        if not is_of_part:
            raise _incomplete(plan, part, "its receipt belongs to another plan or part")
        sizes = self.sizes(plan) if sizes is None else sizes
        for file in files:
            if (size := sizes.get(file["path"])) != file["bytes"]:
                found = "is missing" if size is None else f"has {size:,} bytes, not {file['bytes']:,}"
                raise _incomplete(plan, part, f"{file['path']} {found}")
        return receipt

    def receipts(self, plan: SharedPlan) -> list[PartReceipt]:
        """Return the receipts of all parts.

        :raises ExportError: names a part that is not whole.
        """
        sizes = self.sizes(plan)
        found = []
        for part in range(1, len(plan.parts) + 1):
            receipt = self.receipt(plan, part, sizes)
            if receipt is None:
                reason = "it has no receipt: its task did not succeed, or wrote to another machine's disk"
                raise _incomplete(plan, part, reason)
            found.append(receipt)
        return found

    def write_receipt(self, plan: SharedPlan, receipt: PartReceipt) -> None:
        """Write a receipt, which makes its part whole."""
        path = self._receipt_path(plan, receipt["part"])
        write_whole(self.storage, path, json.dumps(receipt, indent=1).encode(), owner=self.owner)

    def _receipt_path(self, plan: SharedPlan, part: int) -> str:
        return f"{self.root}{plan.name}/_part-{part:04}.json"

    def published(self) -> bytes | None:
        """Return the manifest; None if there is none."""
        return self.storage.read(f"{self.root}{MANIFEST}")

    def publish(self, plan: SharedPlan, manifest: bytes, files: Iterable[str]) -> None:
        """Make a plan's parts the export of the folder, in one step; then remove what is no part of it.

        :param files: the plan's files, by their path in the destination.
        :raises ExportError: a later plan is the export already.
        """
        storage, path, retired = self.storage, f"{self.root}{MANIFEST}", f"{self.root}{RETIRED_MANIFEST}"
        pending = storage.create(path, owner=self.owner)
        try:
            pending.write(manifest)
            pending.finish()
            with storage.exclusive(self.root, owner=self.owner):
                current = storage.read(path)
                if (other := plan_name(current)) and other > plan.name:
                    raise ExportError(
                        f"{self.root} holds the export of a later run, {other}, which stays. Let one run end "
                        "before the next begins, with max_active_runs=1."
                    )
                if current is not None and file_names(current):
                    # It still names the files to remove, if this task does not come to its end.
                    write_whole(storage, retired, current, owner=self.owner)
                pending.commit()
                self.clean(plan, files)
        finally:
            pending.discard()

    def clean(self, plan: SharedPlan, files: Iterable[str]) -> None:
        """Remove what earlier exports, and killed tasks of this one, have left; never fails the export.

        :param files: as in `publish`.
        """
        storage, root = self.storage, self.root
        try:
            stale = {name for name in storage.names(root) if is_plan_name(name) and name < plan.name}
            paths = [f"{name}/" for name in sorted(stale)]
            retired = storage.read(f"{root}{RETIRED_MANIFEST}")
            if retired is not None:
                paths += [*sorted(file_names(retired)), RETIRED_MANIFEST]
            own = f"{plan.name}/_"
            paths += sorted(
                path for path in set(self.sizes(plan)).difference(files) if path[: len(own)] != own
            )
            for path in paths:
                storage.remove(f"{root}{path}")
        except DestinationError as error:
            log.warning("The export is complete, but what is no part of it could not be removed. %s", error)


class PartSink:
    """Writes the files of one part, one for each content type.

    A file may get its name at once: nothing refers to it before the receipt is written.
    """

    def __init__(self, folder: SharedFolder, plan: SharedPlan, part: int) -> None:
        self._folder = folder
        self._plan = plan
        self._part = part
        self._content_types: dict[str, ContentType] = {
            str(each["id"]): each for each in plan.plan.content_types
        }
        self._open: tuple[str, OutputFile] | None = None
        self._thread = writer_thread()
        self.files: list[FileSummary] = []

    def write(self, batch: Batch) -> None:
        """Append entries; each content type's come one after the other."""
        if not batch.entries:
            return
        content_type_id = str(batch.window.content_type_id)
        if self._open is None or self._open[0] != content_type_id:
            self.finish()
            unlisted: ContentType = {"id": content_type_id, "fields": []}
            output = open_output(
                self._plan.request,
                [self._content_types.get(content_type_id, unlisted)],
                self._folder.storage,
                f"{self._folder.root}{self._path(content_type_id)}",
                owner=self._folder.owner,
                thread=self._thread,
            )
            self._open = content_type_id, output
        self._open[1].write(batch.entries, batch.metas)

    def finish(self) -> None:
        """Finish the open file."""
        if self._open is None:
            return
        content_type_id, output = self._open
        path = self._path(content_type_id)
        if any(file["path"] == path for file in self.files):
            raise ExportError(f"Entries of content type {content_type_id!r} came in two places.")
        output.finish()
        written = output.commit()
        self._open = None
        self.files.append(
            {
                "path": path,
                "content_type_id": content_type_id,
                "rows": written.rows,
                "bytes": written.bytes,
                "sha256": written.sha256,
            }
        )

    def abort(self) -> None:
        """Remove the open file; never raises."""
        if self._open is not None:
            self._open[1].discard()
        self._thread.shutdown()

    def _path(self, content_type_id: str) -> str:
        """Return a file's path in the destination."""
        suffix = self._plan.request.destination.suffix
        return f"{self._plan.name}/{safe_name(content_type_id)}/part-{self._part:04}{suffix}"


def _incomplete(plan: SharedPlan, part: int, reason: str) -> ExportError:
    return ExportError(
        f"Part {part} of {len(plan.parts)} of plan {plan.name} is incomplete: {reason}. Clear its task "
        "together with those behind it."
    )
