"""Triggers that wait for entries: one starts DAGs when entries change, one resumes a sensor."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_contensis.export.arguments import optional_name, seconds
from airflow_provider_contensis.export.changes_request import followed_query
from airflow_provider_contensis.export.request import QueryArguments, entry_query
from airflow_provider_contensis.operators._task import plain
from airflow_provider_contensis.triggers._polls import Polls, in_thread
from airflow_provider_contensis.utils.text import count

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2 has no asset watchers
    BaseEventTrigger = BaseTrigger  # type: ignore[misc,assignment]  # the one it has in its place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Iterable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.poll import Answer, Cursor

log = logging.getLogger(__name__)

__all__ = ["ContensisEntriesChangedTrigger"]

_DEFAULT_CONNECTION = "contensis_default"
_QUERY = tuple(QueryArguments.__annotations__)
# Seconds after which an event is in Airflow's database. A cursor saved earlier could outlive its event.
_UNTIL_STORED = 5.0


class ContensisEntriesChangedTrigger(BaseEventTrigger):
    """Fire an event when entries were published, edited, unpublished or deleted: for an `AssetWatcher`.

    An event says that something changed, not what: run `ContensisExportChangesOperator` in the DAG that it
    starts. Changes between two polls are one event. None is missed: an event may come twice, which costs a
    run that finds nothing. On Airflow 3.3 and later the trigger keeps its position in the state store of its
    asset; without one, each start of the trigger fires an event, because what happened before is not known.

    A service that does not answer is waited for. The payload is a dict: what was asked for under the names of
    the arguments, `changed` (entries whose change mark is new; None for the first event), `entries` and
    `entries_before` (how many there are and were), `changed_from` and `until` (the times between which it
    looked; entries that the search index finds late are looked for from 600 seconds before the last poll).

    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project, also those to come.
    :param language: one or several; None for all that the project supports, also those to come.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text. Times that depend on
        the moment of the search, such as `now()` or `-1d`, are refused.
    :param api: `management` or `delivery`.
    :param poke_interval: seconds between polls. A poll takes two to four requests. On Airflow 3.3 and later,
        all triggers of one project with the same interval share them while nothing happens.
    :raises ConfigurationError: an argument is wrong; raised when the DAG is parsed.
    """

    def __init__(
        self,
        *,
        contensis_conn_id: str = _DEFAULT_CONNECTION,
        project_id: str | None = None,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: VersionStatus | str = "published",
        data_format: DataFormat | str | None = "entry",
        where: str | Clause | Iterable[Clause] | None = None,
        api: Api | str = "management",
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        for name, value in (("contensis_conn_id", contensis_conn_id), ("project_id", project_id)):
            optional_name(name, value)  # which fails if it is none
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.content_type_id = plain(content_type_id)
        self.language = plain(language)
        self.version_status = version_status
        self.data_format = data_format
        self.where = plain(where)
        self.api = api
        self.poke_interval = seconds("poke_interval", poke_interval)
        self._query = followed_query(**self._asked)
        self._is_checked = False
        self._warned: set[str] = set()

    @property
    def _asked(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _QUERY}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make this trigger, as plain JSON."""
        arguments = {
            "contensis_conn_id": self.contensis_conn_id,
            "project_id": self.project_id,
            **self._asked,
            "poke_interval": self.poke_interval,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and yield an event for each poll that finds a change; never end, and never raise."""
        async for event in self.filter_shared_stream(_always(self.poke_interval)):
            yield event

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers have in common that can share polls (Airflow 3.3 and later)."""
        shared = (self.contensis_conn_id, self.project_id, self.version_status, self.api, self.poke_interval)
        return (f"{type(self).__module__}.{type(self).__qualname__}", *shared)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[bool]:
        """Poll the whole project, and yield for each poll whether a trigger should look for itself."""
        from airflow_provider_contensis.export.poll import poll

        query = entry_query(version_status=kwargs["version_status"], api=kwargs["api"], data_format=None)
        polls = Polls(kwargs["contensis_conn_id"], kwargs["project_id"], kwargs["poke_interval"])
        cursor: Cursor | None = None
        while True:
            answer = await polls.ask(poll, query, cursor)
            if answer is not None:
                cursor = answer.cursor
                yield answer.is_change or answer.is_capped
            elif not polls.is_temporary:  # what the whole project cannot tell, a part of it may
                yield True
            await asyncio.sleep(kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[bool]) -> AsyncIterator[TriggerEvent]:
        """Poll what this trigger asks for whenever the project changed, and yield its events."""
        polls = Polls(self.contensis_conn_id, self.project_id, self.poke_interval)
        cursor = await self._load()
        unsaved: tuple[float, Cursor] | None = None
        # Twice for each change, as the answers of a service with several nodes can differ for a moment.
        due = 2
        async for is_change in shared_stream:
            if unsaved is not None and _now() >= unsaved[0] and await self._save(unsaved[1]):
                unsaved = None
            due = 2 if is_change else due
            if not due:
                continue
            found = await polls.ask(self._poll, cursor)
            if found is None:
                continue
            project_id, answer = found
            due -= 1
            cursor = answer.cursor
            if answer.is_capped:
                self._warn_once(
                    "The service counts %d entries, and may count no further: a deletion may not show. "
                    "Set content_type_id or language to watch fewer.",
                    answer.entries,
                )
            if answer.is_change:
                yield _event(self._payload(project_id, answer))
                unsaved = _now() + _UNTIL_STORED, cursor

    def _poll(self, client: ContensisClient, project_id: str, cursor: Cursor | None) -> tuple[str, Answer]:
        from airflow_provider_contensis.export.poll import check, poll

        if not self._is_checked:
            check(client, project_id, self._query)
            self._is_checked = True
        return project_id, poll(client, project_id, self._query, cursor)

    def _payload(self, project_id: str, answer: Answer) -> dict[str, Any]:
        names = ("changed", "entries", "entries_before", "changed_from", "until")
        counts = {name: getattr(answer, name) for name in names}
        if answer.changed is None:
            log.info("Starting with an event: %s", count(answer.entries, "entry", "entries"))
        else:
            log.info(
                "%s changed since %s; %s, before %s",
                count(answer.changed, "entry", "entries"),
                answer.changed_from,
                count(answer.entries, "entry", "entries"),
                answer.entries_before,
            )
        return {"project_id": project_id, **self._asked, **counts}

    # --- the position, in the asset's state store of Airflow 3.3 ------------------------------------------

    @property
    def _key(self) -> str:
        """The name of the position: watchers of one asset that ask for something else have another one."""
        arguments = {**self.serialize()[1], "poke_interval": None}
        digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode())
        return f"contensis.cursor.{digest.hexdigest()[:16]}"

    async def _load(self) -> Cursor | None:
        from airflow_provider_contensis.export.poll import Cursor

        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        try:
            # Only Airflow 3.3.2 and later can also be asked without a thread.
            return Cursor.from_json(await in_thread(store.get, self._key))
        except Exception as error:  # noqa: BLE001 - without a position, it starts with an event
            log.warning("The position cannot be read, starting with an event: %s", error)
            return None

    async def _save(self, cursor: Cursor) -> bool:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return True
        try:
            await in_thread(store.set, self._key, cursor.as_json())
        except Exception as error:  # noqa: BLE001 - without a position, the next start fires an event
            self._warn_once("The position cannot be saved, trying again at each poll: %s", error)
            return False
        return True

    def _warn_once(self, message: str, value: object) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, value)


class ContensisEntriesTrigger(BaseTrigger):
    """Fire one event when at least `min_entries` match: for `ContensisEntriesSensor`, while it is deferred.

    The parameters are those of the sensor. A service that does not answer is waited for; an error that no
    retry can fix ends the wait with an event whose `status` is `error`.
    """

    def __init__(
        self,
        *,
        contensis_conn_id: str,
        project_id: str | None,
        query: dict[str, Any],
        min_entries: int,
        poke_interval: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.query = query
        self.min_entries = min_entries
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make this trigger, as plain JSON."""
        names = ("contensis_conn_id", "project_id", "query", "min_entries", "poke_interval")
        arguments = {name: getattr(self, name) for name in names}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until enough entries match."""
        polls = Polls(self.contensis_conn_id, self.project_id, self.poke_interval)
        while True:
            # First: the sensor has just looked, and Airflow may not have stored yet that it deferred.
            await asyncio.sleep(self.poke_interval)
            found = await polls.ask(self._look)
            if found is not None and found["entries"] >= self.min_entries:
                yield _event({"status": "success", **found})
                return
            if polls.error is not None and not polls.is_temporary:
                yield _event({"status": "error", "message": str(polls.error)})
                return

    def _look(self, client: ContensisClient, project_id: str) -> dict[str, Any]:
        from airflow_provider_contensis.export.poll import matching

        query = entry_query(**self.query)
        return {"entries": matching(client, project_id, query), "project_id": project_id}


def _event(payload: dict[str, Any]) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # likewise


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _always(poke_interval: float) -> AsyncIterator[bool]:
    while True:
        yield True
        await asyncio.sleep(poke_interval)
