"""The source of an export: the entries of one query, planned, read and proven complete."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import IncompleteReadError
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
    from array import array
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.checkpoint import Checkpoint
    from airflow_provider_contensis.export.model import Cut, EntryQuery, Kinds, Plan, Window

    # Content types, languages, and whether it is about entries without a created time.
    _Stretch = tuple[Kinds, bool]
    _Cuts = dict[_Stretch, tuple[Window, int | None]]

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
        # Identity keys of entries whose times do not show that no other window holds them.
        self.undated: list[array[int]] = []
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

        Entries that the proof of a slice finds missing come last of it. If the plan is about a part, each of
        its windows is proven on its own.

        :param checkpoint: replays what an earlier attempt has read, and keeps the rest.
        :raises IncompleteReadError: the read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        self._search.query = typed_query(self._search.query, plan.content_types)
        self._known_types.update(plan.whole.content_type_ids)
        resumed = checkpoint is not None and checkpoint.plan is not None
        proof = Proof(self._search, self._reader, plan_is_old=resumed)
        # Ranges that are read at once are counted, too: nothing else counts the range of a part.
        cuts: _Cuts = {_stretch(window): (window, None) for window in plan.windows if not window.is_whole}
        with self._search.threads() as executor:
            unlisted: list[Future[list[Window]]] = []

            def on_cut(cut: Cut) -> None:
                self._begin(cut.total)
                window = cut.window
                if not (unlisted or plan.part):
                    # Asked beside the pages, so that nothing waits for the answer.
                    unlisted.append(executor.submit(self._planner.unlisted, plan))
                if window.is_slice and (window.is_whole or window in plan.part):
                    cuts[_stretch(window)] = window, cut.total

            yield from self._proven(self._batches(plan, checkpoint, on_cut), cuts, proof)
            others: list[Window] = []
            if not plan.part and not proof.covers(plan.whole):
                others = unlisted[0].result() if unlisted else self._planner.unlisted(plan)
                yield from self._proven(self._reader.read(others, on_cut=on_cut), cuts, proof)
            try:
                proof.conclude(None if plan.part else plan.whole)
            except IncompleteReadError:
                late = [] if plan.part else self._planner.unlisted(plan)
                late = [window for window in late if window not in others]
                if not late:
                    raise
                yield from self._proven(self._reader.read(late, on_cut=on_cut), cuts, proof)
                proof.conclude(plan.whole)
        self.undated = [receipt.keys for receipt in proof.undated]

    def _batches(
        self, plan: Plan, checkpoint: Checkpoint | None, on_cut: Callable[[Cut], None]
    ) -> Iterator[Batch]:
        """Yield windows as they are read."""
        if checkpoint is None:
            yield from self._reader.read(plan.windows, on_cut=on_cut, are_parts=bool(plan.part))
            return
        for batch in checkpoint.replay(on_cut):
            self._progress.add(len(batch.entries))
            yield batch

        def keep_cut(cut: Cut) -> None:
            checkpoint.cut(cut)
            on_cut(cut)

        for batch in self._reader.read(checkpoint.remaining, on_cut=keep_cut, are_parts=bool(plan.part)):
            checkpoint.add(batch)
            yield batch

    def _proven(self, batches: Iterator[Batch], cuts: _Cuts, proof: Proof) -> Iterator[Batch]:
        """Yield windows slice by slice, and prove each slice that was cut, and each range of one.

        :param cuts: those slices and ranges, and how many entries they had when they were cut.
        """
        for stretch, group in groupby(batches, key=lambda batch: _stretch(batch.window)):
            receipts: list[Receipt] = []
            for batch in group:
                self._begin(len(batch.entries))
                receipts.append(Receipt.of(batch))
                yield from map(self._counted, [batch] if batch.window.is_slice else by_slice(batch))
            if stretch in cuts:
                yield from map(self._counted, proof.complete(*cuts[stretch], receipts))
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


def _stretch(window: Window) -> _Stretch:
    """Return what the windows that are proven together have in common."""
    return window.kinds, window.undated
