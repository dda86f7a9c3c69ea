"""Did something change since the last time? Asked with a few small requests, whatever the size of a project.

A publish or an edit moves an entry's change mark, and a deletion lowers a count. An export of changes then
reads what changed: it does not matter if a poll reports a change twice, but no change may be missed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.changes_request import follow_options
from airflow_provider_contensis.export.model import MAX_COUNT
from airflow_provider_contensis.export.plan import Planner
from airflow_provider_contensis.export.request import ReadOptions
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.export.times import as_datetime, query_millisecond, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.model import EntryQuery, Window

# Entries whose change marks are compared. If more changed at once, it is said once more when they are fewer.
_PAGE_SIZE = 100
_PUBLISHED = "sys.version.published"
_MODIFIED = "sys.version.modified"


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far polls have looked. It is small, whatever the size of a project.

    :param changed_from: the time from which the next poll looks; None for the beginning.
    :param seen: a digest of each entry and change mark seen since then, the newest 100.
    :param entries: how many entries there were.
    :param drafts: how many of them had no published version; None if none can be one.
    :param is_partial: whether more changed than the last poll looked at.
    """

    changed_from: str | None
    seen: tuple[str, ...]
    entries: int
    drafts: int | None = None
    is_partial: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` makes a cursor of."""
        return {**asdict(self), "seen": list(self.seen)}

    @classmethod
    def from_json(cls, value: Any) -> Cursor | None:
        """Return the cursor that JSON was made of; None if it is anything else."""
        try:
            return cls(**{**value, "seen": tuple(value["seen"])})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one poll found.

    :param cursor: where the next poll begins.
    :param is_change: whether something changed since the last one; without a last one, it may have.
    :param changed: how many entries have a change mark that was not seen before; None without a last poll.
    :param entries: how many entries there are.
    :param entries_before: how many there were; None without a last poll.
    :param changed_from: the time from which it looked; None for the beginning.
    :param until: the time of the service's clock up to which it looked.
    """

    cursor: Cursor
    is_change: bool
    changed: int | None
    entries: int
    entries_before: int | None
    changed_from: str | None
    until: str

    @property
    def is_capped(self) -> bool:
        """Whether the service may count no further, so that a deletion does not show."""
        return self.entries == MAX_COUNT


def poll(client: ContensisClient, project_id: str, query: EntryQuery, cursor: Cursor | None) -> Answer:
    """Return whether entries changed since the last poll.

    It takes two requests: all entries are counted, and those are listed whose change mark is at or after the
    last poll's time, less the overlap that a search index may take. It takes one more if `query` names no
    languages, and one more for the latest versions, because to unpublish an entry moves no change mark.

    :param cursor: of the last poll; None for the first one.
    :raises ConfigurationError: entries hide their change mark.
    :raises ContensisError: the service could not be asked.
    """
    query = replace(query, changed_from=None, changed_to=None, for_copy=True)
    languages = query.languages or _planner(client, project_id, query).languages()
    everything = _window(query, languages).where
    entries, date = client.count_entries_at(project_id, everything, api=query.api)
    drafts = None
    if query.change_mark == "either":
        is_draft = {"field": _PUBLISHED, "exists": False}
        drafts = client.count_entries(project_id, [*everything, is_draft], api=query.api)
    now = datetime.now(UTC) if date is None else min(date, datetime.now(UTC))
    overlap = timedelta(seconds=follow_options(query).overlap)
    horizon = None if date is None else query_millisecond(now - overlap)

    since = horizon if cursor is None else cursor.changed_from
    metas, is_partial = _changed(client, project_id, replace(query, changed_from=since), languages)
    if horizon is None:  # without the service's time, only the change marks say how late it is
        marks = filter(None, (as_datetime(meta.changed) for meta in metas))
        newest = max((mark for mark in marks if mark <= now), default=None)
        horizon = None if newest is None else query_millisecond(newest - overlap)
    seen = tuple(map(_digest, metas))
    new = len(seen) if cursor is None else len(set(seen).difference(cursor.seen))
    is_change = cursor is None or bool(
        new or (entries, drafts) != (cursor.entries, cursor.drafts) or (cursor.is_partial and not is_partial)
    )
    return Answer(
        cursor=Cursor(
            changed_from=max(filter(None, (horizon, since)), key=sort_key, default=None),
            seen=seen,
            entries=entries,
            drafts=drafts,
            is_partial=is_partial and since is not None,
        ),
        is_change=is_change,
        changed=None if cursor is None else new,
        entries=entries,
        entries_before=None if cursor is None else cursor.entries,
        changed_from=since,
        until=query_millisecond(now),
    )


def matching(client: ContensisClient, project_id: str, query: EntryQuery) -> int:
    """Return how many entries a query matches; it takes three requests.

    :raises ConfigurationError: the project has no such content type, language or field.
    :raises ContensisError: the service could not be asked.
    """
    plan = check(client, project_id, query)
    return client.count_entries(project_id, plan.where, api=query.api)


def check(client: ContensisClient, project_id: str, query: EntryQuery) -> Window:
    """Return all that a query asks for, or say why it could never match.

    :raises ConfigurationError: the project has no such content type, language or field.
    :raises ContensisError: the service could not be asked.
    """
    return _planner(client, project_id, query).plan().whole


def _search(client: ContensisClient, project_id: str, query: EntryQuery) -> WindowSearch:
    return WindowSearch(client, project_id, query, ReadOptions(max_concurrent_requests=1))


def _planner(client: ContensisClient, project_id: str, query: EntryQuery) -> Planner:
    return Planner(client, project_id, _search(client, project_id, query))


def _window(query: EntryQuery, languages: Iterable[str]) -> Window:
    types = query.content_type_ids
    return query.window(types or (), tuple(languages), unlisted=types is None)


def _changed(
    client: ContensisClient, project_id: str, query: EntryQuery, languages: Iterable[str]
) -> tuple[list[EntryMeta], bool]:
    """Return the entries that changed last, and whether there are more.

    :raises ConfigurationError: one hides its change mark.
    """
    search = _search(client, project_id, query)
    window = _window(query, languages)
    metas: dict[str, EntryMeta] = {}
    for field in (_PUBLISHED, _MODIFIED) if query.change_mark == "either" else (_PUBLISHED,):
        page = search.page(window, _PAGE_SIZE, order_by=field, direction="desc")
        metas |= {_digest(meta): meta for meta in page.batch.metas}
        if page.total <= len(metas):
            break
    for meta in metas.values():
        if meta.changed is None:
            raise ConfigurationError(
                f"Entry {meta.id} hides its change mark from the Delivery API, so its changes cannot be "
                'noticed. Set api="management".'
            )
    return list(metas.values()), page.total > len(metas)


def _digest(meta: EntryMeta) -> str:
    text = f"{meta.id}\0{meta.language}\0{meta.changed}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=6).hexdigest()
