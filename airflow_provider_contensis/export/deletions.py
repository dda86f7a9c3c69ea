"""Deletions, before a copy believes them: guarded against a lost role, and confirmed entry by entry.

A role taken from the API key looks like a deletion of everything that it could see, and a search index may
lag behind. So an entry that a search no longer finds is asked for by its id, which does not go through the
index, and only Contensis's own 404 confirms that it is gone.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from airflow_provider_contensis.exceptions import (
    ContensisError,
    ExportError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
)
from airflow_provider_contensis.export.diagnosis import add_hint, hint
from airflow_provider_contensis.export.ledger import HeldSlice, Part
from airflow_provider_contensis.export.temporary import temporary_database
from airflow_provider_contensis.export.times import query_millisecond
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.search import WindowSearch

Reason = Literal["unpublished", "deleted", "not_visible", "not_matching"]

# A copy may lose this many entries, and a slice this few, without a question.
_FREE_DELETIONS = 100
_SMALL_SLICE = 10
_AT_ONCE = 100


class Candidate(NamedTuple):
    """An entry that a copy holds and a search no longer finds.

    :param is_missing: whether no search finds it; otherwise it is no longer a draft.
    """

    held_slice: HeldSlice
    id: str
    is_missing: bool


@dataclass(frozen=True)
class Deletion:
    """An entry that has left the service, as far as the copy's query goes.

    :param reason: `unpublished`, `deleted` (in the recycle bin or the archive), `not_visible` (gone for good,
        or hidden from the API key) or `not_matching` (it exists, but the query no longer finds it).
    :param detected: when it was confirmed.
    """

    held_slice: HeldSlice
    id: str
    reason: Reason
    detected: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as a feed writes it."""
        content_type_id, language = self.held_slice
        sys = {"id": self.id, "language": language, "contentTypeId": content_type_id}
        return {"sys": sys, "reason": self.reason, "detected": self.detected}


class Candidates:
    """Entries that may be gone, each once, kept on disk: there may be as many as the copy holds.

    A context manager.
    """

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.execute(
            "CREATE TABLE candidate (content_type_id, language, id, is_missing, number INTEGER PRIMARY KEY, "
            "UNIQUE (content_type_id, language, id))"
        )
        self._taken = 0
        self.missing: Counter[HeldSlice] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, candidate: Candidate) -> None:
        """Add a candidate, unless it is one already."""
        values = (*candidate.held_slice, candidate.id, candidate.is_missing)
        done = self._database.execute("INSERT OR IGNORE INTO candidate VALUES (?, ?, ?, ?, NULL)", values)
        if done.rowcount and candidate.is_missing:
            self.missing[candidate.held_slice] += 1

    def take(self) -> Iterator[Candidate]:
        """Yield the candidates that were added since the last call."""
        rows = self._database.execute(
            "SELECT * FROM candidate WHERE number > ? ORDER BY number", (self._taken,)
        )
        for content_type_id, language, entry_id, is_missing, self._taken in rows:
            yield Candidate(HeldSlice(content_type_id, language), entry_id, bool(is_missing))


def check_deletions(
    missing: Mapping[HeldSlice, int], held: Mapping[HeldSlice, int], max_delete_share: float | None
) -> None:
    """Refuse more deletions than a person would expect.

    :param missing: how many entries of each slice may be gone.
    :param held: how many entries of each slice the copy holds.
    :param max_delete_share: the share of the copy that may go at once; None for no limit.
    :raises ExportError: says how many, and what to do.
    """
    if max_delete_share is None:
        return
    deletions, entries = sum(missing.values()), sum(held.values())
    advice = (
        "A role taken from the API key looks like that: check its roles in Contensis. If the deletions are "
        "meant, run the task once with max_delete_share=None."
    )
    if deletions > _FREE_DELETIONS and deletions > max_delete_share * entries:
        raise ExportError(
            f"Too many deletions: {deletions:,} of {count(entries, 'entry', 'entries')} are gone, and "
            f"max_delete_share is {max_delete_share:g}. Nothing was changed. {advice}"
        )
    for each, number in sorted(missing.items()):
        if held[each] >= _SMALL_SLICE and number >= held[each]:
            raise ExportError(
                f"Too many deletions: all {held[each]:,} entries of {each} are gone, which max_delete_share "
                f"does not allow. Nothing was changed. {advice}"
            )


class Confirmation:
    """Confirms deletions.

    :param client: asks for entries by id.
    :param project_id: the project that the copy follows.
    :param query: which entries the copy follows, whenever they changed.
    :param search: searches for entries that a get finds.
    """

    def __init__(
        self,
        client: ContensisClient,
        project_id: str,
        query: EntryQuery,
        search: WindowSearch,
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._query = query
        self._search = search
        self.unconfirmed = 0

    def confirm(self, candidates: Iterable[Candidate]) -> Iterator[list[Deletion] | Batch]:
        """Yield deletions that are confirmed, a few at a time, and entries that a search finds after all.

        Candidates that neither is true of are counted in `unconfirmed`.

        :raises ContensisError: the service could not be asked.
        """
        remaining = iter(candidates)
        with ThreadPoolExecutor(self._search.concurrency, thread_name_prefix="contensis-confirm") as executor:
            while some := list(islice(remaining, _AT_ONCE)):
                gone: list[Candidate] = []
                not_matching: list[Candidate] = []
                for candidate, found in zip(some, executor.map(self._look, some), strict=True):
                    if found is True:
                        gone.append(candidate)
                    elif found is None:
                        self.unconfirmed += 1
                    elif found.entries:
                        yield found
                    else:
                        not_matching.append(candidate)
                detected = query_millisecond(datetime.now(UTC))
                reasons = self._reasons(gone) | dict.fromkeys(not_matching, "not_matching")
                yield [
                    Deletion(each.held_slice, each.id, reasons[each], detected)
                    for each in some
                    if each in reasons
                ]

    def _look(self, candidate: Candidate) -> Batch | Literal[True] | None:
        """Return True if an entry is gone, None if that is not certain, else what the query finds of it."""
        content_type_id, language = candidate.held_slice
        try:
            self._client.get_entry(
                self._project_id,
                candidate.id,
                language=language,
                version_status=self._query.version_status,
                api=self._query.api,
            )
        except NotFoundError as error:
            # The 404 of a gateway, or of a moved API, says nothing about an entry.
            return True if error.detail and error.error_type else None
        except PermissionDeniedError:
            return None
        except RateLimitedError as error:
            add_hint(error, "concurrency")
            raise
        part = Part(content_type_ids=(content_type_id,), languages=(language,))
        window = part.window(self._query, candidate.id)
        batch = self._search.page(window, 1).batch
        if not batch.entries:
            batch = self._search.page(window, 1).batch
        if any(meta.id.lower() != candidate.id.lower() for meta in batch.metas):
            raise InvalidResponseError(
                f"A search for entry {candidate.id} found entry {batch.metas[0].id}. {hint('ids')}"
            )
        return batch

    def _reasons(self, gone: Sequence[Candidate]) -> dict[Candidate, Reason]:
        """Return why entries are gone, as far as the API key may know."""
        reasons: dict[Candidate, Reason] = dict.fromkeys(gone, "not_visible")
        by_language = sorted(gone, key=lambda each: each.held_slice.language)
        for language, group in groupby(by_language, key=lambda each: each.held_slice.language):
            some = list(group)
            states = self._states(language, [each.id for each in some])
            for each in some:
                state = states.get(each.id.lower())
                if state is not None:
                    is_draft = state == "live" and self._query.version_status == "published"
                    reasons[each] = "unpublished" if is_draft else "deleted"
        return reasons

    def _states(self, language: str, ids: Sequence[str]) -> dict[str, str]:
        """Return what the recycle bin, the archive and the drafts say about ids in lower case.

        This is no proof, and not documented for every installation (docs/contensis-api.md, "Known but not
        used yet"): a failure costs a reason only.
        """
        query = {
            "where": [
                {"field": "sys.versionStatus", "equalTo": "latest"},
                {"field": "sys.language", "equalTo": language},
                {"field": "sys.id", "in": list(ids)},
            ],
            "pageIndex": 0,
            "pageSize": len(ids),
            "includeDeleted": True,
            "includeArchived": True,
        }
        states: dict[str, str] = {}
        try:
            page = self._client.search_entries(self._project_id, query)
        except ContensisError:
            return states
        for entry in page.get("items", []):
            sys = entry.get("sys") or {}
            version = sys.get("version") or {}
            is_live = not (version.get("deleted") or version.get("archived"))
            states[str(sys.get("id")).lower()] = "live" if is_live else "deleted"
        return states
