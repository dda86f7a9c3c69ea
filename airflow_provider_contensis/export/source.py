"""The source of an export: the entries of one query, planned, read and proven complete."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.model import Receipt
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.progress import Progress
from airflow_provider_contensis.export.proof import Proof
from airflow_provider_contensis.export.read import WindowReader
from airflow_provider_contensis.export.request import ReadOptions
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.times import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.checkpoint import Checkpoint
    from airflow_provider_contensis.export.model import Batch, EntryQuery, Plan


class EntrySource:
    """The entries of one query.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param query: which entries.
    :param options: how they are read.
    """

    def __init__(
        self, client: ContensisClient, project_id: str, query: EntryQuery, options: ReadOptions | None = None
    ) -> None:
        self._progress = Progress()
        self._search = WindowSearch(client, project_id, query, options or ReadOptions())
        self._planner = Planner(client, project_id, query, self._search)
        self._reader = WindowReader(self._search, on_progress=self._progress.add)
        # The greatest change mark read; if nothing is read, the next export begins where this one did.
        self.watermark = query.changed_from
        self.entries = 0

    def plan(self) -> Plan:
        """Return what there is, cut into windows.

        :raises ConfigurationError: the project has no such content type or language.
        :raises ContensisError: the service could not be asked.
        """
        return self._planner.plan()

    def read(self, plan: Plan, checkpoint: Checkpoint | None = None) -> Iterator[Batch]:
        """Yield the entries of a plan in order, each content type proven complete before the next begins.

        Entries that the proof finds missing come last of their content type.

        :param checkpoint: replays what an earlier attempt has read, and keeps the rest.
        :raises IncompleteReadError: the read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        resumed = checkpoint is not None and checkpoint.plan is not None
        proof = Proof(self._search, self._reader, plan_is_old=resumed)
        batches = self._planned(plan, checkpoint)
        for content_type_id, group in groupby(batches, key=lambda batch: batch.window.content_type_id):
            receipts: list[Receipt] = []
            for batch in group:
                receipts.append(Receipt.of(batch))
                self._count(batch)
                yield batch
            slices = [each for each in plan.slices if each.window.content_type_id == content_type_id]
            for batch in proof.complete(slices, receipts):
                self._count(batch)
                yield batch
        proof.conclude()

    def _planned(self, plan: Plan, checkpoint: Checkpoint | None) -> Iterator[Batch]:
        self._progress.begin(plan.total)
        if checkpoint is None:
            yield from self._reader.read(plan.windows)
            return
        for batch in checkpoint.replay():
            self._progress.add(len(batch.entries))
            yield batch
        for batch in self._reader.read(checkpoint.remaining, on_cut=checkpoint.cut):
            checkpoint.add(batch)
            yield batch

    def _count(self, batch: Batch) -> None:
        self.entries += len(batch.entries)
        marks = [self.watermark, *(meta.changed for meta in batch.metas)]
        self.watermark = max(filter(None, marks), key=sort_key, default=None)
