"""The source of an export: the entries of one query, planned, read and proven complete."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.batch import Receipt
from airflow_provider_contensis.export.order import by_slice
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.progress import Progress
from airflow_provider_contensis.export.proof import Proof
from airflow_provider_contensis.export.read import WindowReader
from airflow_provider_contensis.export.request import ReadOptions
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.times import sort_key
from airflow_provider_contensis.export.where import typed_query
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.checkpoint import Checkpoint
    from airflow_provider_contensis.export.model import Cut, EntryQuery, Kinds, Plan, Window

log = logging.getLogger(__name__)


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
        self._planner = Planner(client, project_id, self._search)
        self._reader = WindowReader(self._search, on_progress=self._progress.add)
        # The greatest change mark read; if nothing is read, the next export begins where this one did.
        self.watermark = query.changed_from
        self.entries = 0
        self._has_begun = False
        self._known_types: set[str | None] = set()

    def plan(self) -> Plan:
        """Return the content types and languages that are asked for.

        :raises ConfigurationError: the project has no such content type or language.
        :raises ContensisError: the service could not be asked.
        """
        return self._planner.plan()

    def read(self, plan: Plan, checkpoint: Checkpoint | None = None) -> Iterator[Batch]:
        """Yield the entries of a plan in order, each batch of one slice, each slice proven complete.

        Entries that the proof of a slice finds missing come last of it.

        :param checkpoint: replays what an earlier attempt has read, and keeps the rest.
        :raises IncompleteReadError: the read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        self._search.query = typed_query(self._search.query, plan.content_types)
        self._known_types.update(plan.whole.content_type_ids)
        resumed = checkpoint is not None and checkpoint.plan is not None
        proof = Proof(self._search, self._reader, plan_is_old=resumed)
        cut_slices: dict[Kinds, tuple[Window, int]] = {}

        def on_cut(cut: Cut) -> None:
            self._begin(cut.total)
            if cut.window.is_whole and cut.window.is_slice:
                cut_slices[cut.window.kinds] = cut.window, cut.total

        yield from self._proven(self._batches(plan, checkpoint, on_cut), cut_slices, proof)
        if not proof.covers(plan.whole):
            others = self._planner.unlisted(plan)
            yield from self._proven(self._reader.read(others, on_cut=on_cut), cut_slices, proof)
        proof.conclude(plan.whole)

    def _batches(
        self, plan: Plan, checkpoint: Checkpoint | None, on_cut: Callable[[Cut], None]
    ) -> Iterator[Batch]:
        """Yield windows as they are read."""
        if checkpoint is None:
            yield from self._reader.read([plan.whole], on_cut=on_cut)
            return
        for batch in checkpoint.replay(on_cut):
            self._progress.add(len(batch.entries))
            yield batch

        def keep_cut(cut: Cut) -> None:
            checkpoint.cut(cut)
            on_cut(cut)

        for batch in self._reader.read(checkpoint.remaining, on_cut=keep_cut):
            checkpoint.add(batch)
            yield batch

    def _proven(
        self, batches: Iterator[Batch], cut_slices: Mapping[Kinds, tuple[Window, int]], proof: Proof
    ) -> Iterator[Batch]:
        """Yield windows slice by slice, and prove each slice that was cut.

        :param cut_slices: those slices, and how many entries they had when they were cut.
        """
        for kinds, group in groupby(batches, key=lambda batch: batch.window.kinds):
            receipts: list[Receipt] = []
            for batch in group:
                self._begin(len(batch.entries))
                receipts.append(Receipt.of(batch))
                yield from map(self._counted, [batch] if batch.window.is_slice else by_slice(batch))
            if kinds in cut_slices:
                yield from map(self._counted, proof.complete(*cut_slices[kinds], receipts))
            else:
                proof.add(batch.window, receipts)

    def _begin(self, total: int) -> None:
        """Begin to log progress; the first answer shows how many entries there are."""
        if self._has_begun:
            return
        self._has_begun = True
        self._progress.begin(total)
        log.info("Found %s", count(total, "entry", "entries"))

    def _counted(self, batch: Batch) -> Batch:
        id_ = batch.window.content_type_id
        if id_ not in self._known_types:
            self._known_types.add(id_)
            log.warning("%s, which the project does not list, has entries: exporting them, too", id_)
        self.entries += len(batch.entries)
        marks = [self.watermark, *(meta.changed for meta in batch.metas)]
        self.watermark = max(filter(None, marks), key=sort_key, default=None)
        return batch
