"""What changed since a copy was last brought up to date: the engine behind feeds that follow a CMS.

It knows neither files nor SQL: a ledger says what the copy holds, and a change sink takes what differs. A run
reads the entries whose change mark is at or after the last run's horizon, then finds by counting what no
change mark shows: entries that left, and entries that came back with an old mark.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.batch import Batch
from airflow_provider_contensis.export.changes_report import Findings
from airflow_provider_contensis.export.deletions import (
    Candidate,
    Candidates,
    Confirmation,
    Deletion,
    check_deletions,
)
from airflow_provider_contensis.export.diagnosis import explain_refusal
from airflow_provider_contensis.export.differences import Differences
from airflow_provider_contensis.export.ledger import HeldSlice, Part, holdings
from airflow_provider_contensis.export.model import HEX_DIGITS
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.sinks.manifest import schema_hash
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.export.times import query_millisecond, sort_key
from airflow_provider_contensis.export.where import typed_query
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.changes_request import FollowOptions
    from airflow_provider_contensis.export.checkpoint import Checkpoint
    from airflow_provider_contensis.export.differences import Comparison
    from airflow_provider_contensis.export.ledger import Held, Ledger
    from airflow_provider_contensis.export.model import EntryQuery, Plan
    from airflow_provider_contensis.export.request import ReadOptions

log = logging.getLogger(__name__)

# Entries without a change mark are read in each run: more than that would hide how expensive it is.
_MAX_UNMARKED = 10_000


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where the last run left a copy.

    :param horizon: the time from which this run reads; None to read everything.
    :param schemas: a hash of the fields of each content type whose definition is older than the horizon.
    :param runs: how many runs have updated the copy; 0 for a new one.
    """

    horizon: str | None = None
    schemas: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0


class ChangeSink(Protocol):
    """Takes what differs. Nothing is visible before its commit, but its ledger shows it at once."""

    def define(self, content_types: Sequence[ContentType]) -> None:
        """Take the definitions of content types, before their entries."""

    def upsert(
        self,
        held_slice: HeldSlice,
        entries: Sequence[msgspec.Raw],
        metas: Sequence[EntryMeta],
        held: Sequence[Held],
        *,
        replaced: Sequence[str],
    ) -> None:
        """Take entries of a slice that are new or differ.

        :param held: the same entries, as the ledger will hold them.
        :param replaced: ids of those that the ledger holds already.
        """

    def keep(self, held_slice: HeldSlice, entries: Sequence[msgspec.Raw], held: Sequence[Held]) -> None:
        """Take entries of a slice, when everything is read, that are as the copy holds them."""

    def delete(self, deletions: Sequence[Deletion]) -> None:
        """Take deletions."""


class Follower:
    """One run that brings a copy up to date.

    :param client: sends the calls.
    :param project_id: the project to read from.
    :param query: which entries the copy follows.
    :param options: how they are read.
    :param rules: how the copy follows them.
    :param ledger: what the copy holds.
    :param sink: takes what differs.
    :param position: where the last run left the copy.
    """

    def __init__(
        self,
        client: ContensisClient,
        project_id: str,
        query: EntryQuery,
        options: ReadOptions,
        rules: FollowOptions,
        *,
        ledger: Ledger,
        sink: ChangeSink,
        position: Position,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._query = replace(query, for_copy=True)
        self._options = options
        self._rules = rules
        self._ledger = ledger
        self._sink = sink
        self._position = position
        self._is_snapshot = position.runs == 0
        self._is_full = rules.full_refresh and not self._is_snapshot
        self._since = replace(self._query, changed_from=position.horizon)
        self._is_check = False  # whether everything is read that an earlier run should have left right
        self._now = time.time_ns() // 1_000
        self._newest = 0  # the greatest change mark that is not in the future, in microseconds since 1970
        self._findings = Findings(Position(), None if self._is_snapshot else position.horizon)

    @property
    def main_query(self) -> EntryQuery:
        """The query whose entries a checkpoint keeps: what changed or, for a full refresh, everything."""
        return self._query if self._is_full else self._since

    def run(self, checkpoint: Checkpoint) -> Findings:
        """Read, count and compare, and hand over what differs.

        :param checkpoint: replays what an earlier attempt has read, and keeps the rest.
        :raises ContensisError: the copy could not be brought up to date.
        """
        position, findings = self._position, self._findings
        horizon = self._look_at_the_clock()
        # Without the service's time, a retry cannot know which changes came after its checkpoint.
        kept = checkpoint if horizon is not None else None
        plan = self._read(self._since, None if self._is_full else kept, horizon)
        schemas = {each["id"]: schema_hash(each) for each in plan.content_types}
        redefined = [id_ for id_, schema in schemas.items() if position.schemas.get(id_) != schema]
        if redefined and position.horizon is not None:
            log.info("Reading in full, as their definition changed: %s", ", ".join(redefined))
            self._read(replace(self._query, content_type_ids=tuple(redefined)))
        self._find_deletions(plan)
        if self._is_full:
            findings.drift = 0
            self._is_check = True
            self._find_deletions(self._read(self._query, kept, horizon))
        horizon = checkpoint.horizon or horizon or self._horizon_of_marks()
        horizon = max(filter(None, (horizon, position.horizon)), key=sort_key, default=None)
        # The index may still show entries as they were before a definition changed: read them again.
        for each in plan.content_types:
            if _changed_since(each, horizon):
                del schemas[each["id"]]
        findings.position = Position(horizon=horizon, schemas=schemas, runs=position.runs + 1)
        return findings

    def _look_at_the_clock(self) -> str | None:
        """Return the horizon of what is read from now on; None if the service does not give its time.

        It is the earlier of the service's clock and this machine's, less the overlap.
        """
        with explain_refusal(self._query.api):
            date = self._client.get_date(self._project_id, api=self._query.api)
        if date is None:
            return None
        return query_millisecond(min(date, datetime.now(UTC)) - timedelta(seconds=self._rules.overlap))

    def _horizon_of_marks(self) -> str | None:
        """Return the greatest change mark that was read and is not in the future, less the overlap."""
        if not self._newest:
            return None
        newest = datetime.fromtimestamp(self._newest / 1_000_000, UTC)
        return query_millisecond(newest - timedelta(seconds=self._rules.overlap))

    def _check_unmarked(self, languages: tuple[str, ...]) -> None:
        """Refuse a copy of many entries that hide their change mark, as each run would read them all.

        :raises ConfigurationError: names the argument to set.
        """
        if self._query.api != "delivery":  # the Management API hides nothing
            return
        types = self._query.content_type_ids
        part = Part(content_type_ids=types or (), languages=languages, is_rest=types is None)
        mark = f"sys.version.{'published' if self._query.change_mark == 'published' else 'modified'}"
        window = part.window(self._query)
        window = replace(window, query=(*window.query, {"field": mark, "exists": False}))
        search = WindowSearch(self._client, self._project_id, self._query, self._options)
        unmarked = search.page(window, 1).total
        if unmarked >= _MAX_UNMARKED:
            raise ConfigurationError(
                f"{unmarked:,} entries or more hide {mark} from the Delivery API, so each run would read "
                'them all. Set api="management".'
            )

    def _read(
        self, query: EntryQuery, checkpoint: Checkpoint | None = None, horizon: str | None = None
    ) -> Plan:
        """Read what a query asks for, and take what differs."""
        source = EntrySource(self._client, self._project_id, query, self._options)
        plan = (checkpoint.plan if checkpoint is not None else None) or source.plan()
        self._sink.define(plan.content_types)
        if query is self._since:  # the first that a run reads
            self._query = typed_query(self._query, plan.content_types)
            self._check_unmarked(plan.whole.languages)
        if checkpoint is not None:
            checkpoint.begin(plan, horizon=horizon)
        for batch in source.read(plan, checkpoint):
            self._take(batch)
        return plan

    def _take(self, batch: Batch) -> set[HeldSlice]:
        """Hand over the entries of a batch that are new or differ; return the slices that have such."""
        rows = zip(batch.entries, batch.metas, holdings(batch.entries, batch.metas), strict=True)
        by_slice = groupby(rows, key=lambda row: HeldSlice(row[1].content_type_id, row[1].language))
        return {held_slice for held_slice, group in by_slice if self._take_slice(held_slice, list(group))}

    def _take_slice(self, held_slice: HeldSlice, rows: Sequence[tuple[msgspec.Raw, EntryMeta, Held]]) -> bool:
        ids = [row[1].id for row in rows]
        known = {} if self._is_snapshot else self._ledger.find(held_slice, ids)
        # What came back after this run had deleted it is left to the next one.
        removed = self._ledger.removed(held_slice, ids)
        differing, same = [], []
        for row in rows:
            _, meta, held = row
            old = known.get(meta.id)
            if self._newest < (held.changed or 0) <= self._now:
                self._newest = held.changed or 0
            if meta.id not in removed and (old is None or (old.digest != held.digest and not old.is_fresh)):
                differing.append(row)
                if self._is_check:
                    self._tally(meta, held, old)
            elif self._is_check and old is not None and not old.is_fresh:
                same.append(row)
        if same:
            self._sink.keep(held_slice, [row[0] for row in same], [row[2] for row in same])
        if differing:
            entries, metas, holds = zip(*differing, strict=True)
            replaced = [meta.id for meta in metas if meta.id in known]
            self._sink.upsert(held_slice, entries, metas, holds, replaced=replaced)
            self._findings.changed[held_slice] += len(replaced)
            self._findings.new[held_slice] += len(differing) - len(replaced)
        return bool(differing)

    def _tally(self, meta: EntryMeta, held: Held, old: Held | None) -> None:
        """Count an entry that an earlier run should have left right."""
        horizon = self._position.horizon
        if meta.changed is not None and horizon is not None and sort_key(meta.changed) >= sort_key(horizon):
            return  # it changed after this run had read what changed
        if old is not None and old.changed == held.changed:
            self._findings.refreshed += 1
        else:
            self._findings.drift = (self._findings.drift or 0) + 1

    def _find_deletions(self, plan: Plan) -> None:
        """Compare counts, and hand over what they show."""
        if self._is_snapshot or not self._rules.detect_deletions:
            return
        held = self._ledger.slices()
        search = WindowSearch(self._client, self._project_id, self._query, self._options)
        listed = [
            HeldSlice(each["id"], language)
            for each in plan.content_types
            for language in plan.whole.languages
        ]
        digit = HEX_DIGITS[self._position.runs % len(HEX_DIGITS)]
        differences = Differences(search, self._query, self._ledger, held, listed, digit=digit)
        confirmation = Confirmation(self._client, self._project_id, self._query, search)
        differing: set[HeldSlice] = set()
        with Candidates() as candidates:
            for found in differences.passes():
                for comparison in differences.narrow(found):
                    differing |= self._compare(comparison, candidates)
                check_deletions(candidates.missing, held, self._rules.max_delete_share)
                for confirmed in confirmation.confirm(candidates.take()):
                    if isinstance(confirmed, Batch):
                        confirmation.unconfirmed += not self._take(confirmed)
                    elif confirmed:
                        self._delete(confirmed)
        self._findings.unconfirmed = confirmation.unconfirmed
        slices = len(differences.slices)
        log.info("Counts agree in %d of %s", slices - len(differing), count(slices, "slice"))

    def _compare(self, comparison: Comparison, candidates: Candidates) -> set[HeldSlice]:
        """Take what only the service has; note what only the copy has. Return the slices that differ."""
        part, batch = comparison.part, comparison.batch
        served: set[tuple[str, str, str]] = set()
        differing: set[HeldSlice] = set()
        if batch is not None:
            differing = self._take(batch)
            served = {(meta.content_type_id, meta.language, meta.id) for meta in batch.metas}
        for held_slice, held in self._ledger.held(part):
            # What left after this run had written it is left to the next one.
            if (*held_slice, held.id) not in served and not held.is_fresh:
                candidates.add(Candidate(held_slice, held.id, not part.only_drafts))
                differing.add(held_slice)
        return differing

    def _delete(self, deletions: Sequence[Deletion]) -> None:
        self._sink.delete(deletions)
        self._findings.deleted.update((each.held_slice, each.reason) for each in deletions)
        if self._findings.drift is not None:
            self._findings.drift += len(deletions)


def _changed_since(content_type: ContentType, horizon: str | None) -> bool:
    """Return whether a content type's definition says that it changed at or after a time."""
    version = content_type.get("version") or {}
    times = [version.get("modified"), version.get("published")]
    return horizon is not None and any(time and sort_key(time) >= sort_key(horizon) for time in times)
