"""Shared by the triggers: polls off the event loop, through times when the service does not answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from asgiref.sync import sync_to_async

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.operators._task import hook_for
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Return what a call returns that may ask Airflow, without blocking the event loop."""
    # Not by `asyncio.to_thread`: before Airflow 3.2, what reads a connection or masks a token in a thread
    # that the event loop does not know takes the triggerer's other answers, and the triggerer ends.
    return await sync_to_async(call, thread_sensitive=False)(*args)


class Polls:
    """Polls of one connection, one at a time, none of which raises.

    Each reads the Airflow connection anew, so that one that was corrected is used without a restart. Each
    sends a request once, as the next poll is the retry, and none is sent earlier than the service asked for.

    :param contensis_conn_id: the Airflow connection.
    :param project_id: None for the connection's project.
    :param poke_interval: seconds between polls.
    """

    def __init__(self, contensis_conn_id: str, project_id: str | None, poke_interval: float) -> None:
        self._conn_id = contensis_conn_id
        self._project_id = project_id
        self._poke_interval = poke_interval
        self._failed = 0  # polls since the last one that was answered
        self._not_before = 0.0  # the service may ask to wait
        self.error: Exception | None = None  # why the last poll failed; None if it did not

    async def ask(self, question: Callable[..., T], *args: Any) -> T | None:
        """Return what a question returns; None if it failed, which is logged once until one succeeds.

        :param question: takes a client, the project's id and the arguments; runs in a thread.
        """
        now = asyncio.get_running_loop().time
        if now() < self._not_before:
            return None
        before, self.error = self.error, None
        try:
            answer: T = await in_thread(self._ask, question, args)
        except Exception as error:  # noqa: BLE001 - a trigger that raises is only created again
            self.error = error
            self._failed += 1
            self._not_before = now() + (getattr(error, "retry_after", None) or 0.0)
            if before is None or self.is_temporary != _is_temporary(before):
                log.warning("No answer, polling again every %g s: %s", self._poke_interval, _text(error))
            return None
        if before is not None:
            log.info("Answers again, after %s that failed", count(self._failed, "poll"))
            self._failed = 0
        return answer

    @property
    def is_temporary(self) -> bool:
        """Whether the last poll failed for a reason that may pass by itself."""
        return self.error is not None and _is_temporary(self.error)

    def _ask(self, question: Callable[..., T], args: tuple[Any, ...]) -> T:
        hook = hook_for(self._conn_id, self._project_id)
        with closing(hook.settings.client(is_patient=False)) as client:
            return question(client, hook.project_id, *args)


def _is_temporary(error: Exception) -> bool:
    if isinstance(error, ContensisError):
        return error.retryable
    return not isinstance(error, AirflowNotFoundException)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ContensisError) else f"{type(error).__name__}: {error}"
