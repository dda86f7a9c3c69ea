"""What the suites share: clients without long waits that can be interrupted, faults, and counted warnings."""

from __future__ import annotations

import logging
import re
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.doctor.examination import CHECKS
from airflow_provider_contensis.sandbox import Mixture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from airflow_provider_contensis.api.buffers import Body
    from airflow_provider_contensis.sandbox import Sandbox

_SCOPES = ("Entry_Read", "ContentType_Read", "Project_Read")
# As many attempts as the product makes by default, with much shorter waits.
_FAST_RETRY = RetryPolicy(attempts=7, initial_wait=0.002, max_wait=2.0, total=20.0)
_TIMEOUT_SECONDS = 1.0
_OUTAGE_SECONDS = 0.02
_CHECK = re.compile(rf"airflow_provider_contensis\.doctor .*\b({'|'.join(check.id for check in CHECKS)})\b")


class Service(NamedTuple):
    """The access to a sandbox, also of another process."""

    url: str
    client_id: str
    client_secret: str
    project_id: str

    @classmethod
    def of(cls, sandbox: Sandbox) -> Service:
        """Return the access to a sandbox."""
        return cls(sandbox.url, sandbox.client_id, sandbox.client_secret, sandbox.project_id)


class TaskInterruptedError(Exception):
    """Interrupts a task from outside, as Airflow's timeout does."""


def interrupt() -> None:
    """Interrupt the task."""
    raise TaskInterruptedError


class _Client(ContensisClient):
    """A client that interrupts its task at a given search.

    :param searches: the number of that search; None to never interrupt.
    :param interruption: called then.
    """

    def __init__(
        self, *args: Any, searches: int | None, interruption: Callable[[], None], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._interrupt_at = searches
        self._interrupt = interruption
        self._number = count(1)

    def search(self, *args: Any, **kwargs: Any) -> Body:
        if next(self._number) == self._interrupt_at:
            self._interrupt()
        return super().search(*args, **kwargs)


class MemoryPointer:
    """Passes the pointer to a checkpoint from one attempt to the next."""

    def __init__(self) -> None:
        self.is_last_attempt = False
        self.recalled = 0
        self._pointer: dict[str, str] | None = None

    def load(self) -> dict[str, str] | None:
        """Return what an earlier attempt saved."""
        self.recalled += self._pointer is not None
        return self._pointer

    def save(self, pointer: dict[str, str]) -> None:
        """Save it for the next attempt."""
        self._pointer = pointer

    def clear(self) -> None:
        """Forget it."""
        self._pointer = None


def open_client(
    service: Service, searches: int | None = None, interruption: Callable[[], None] = interrupt
) -> ContensisClient:
    """Return a client.

    :param searches: the number of the search at which it interrupts its task; None to never interrupt.
    :param interruption: called then.
    """
    return _Client(
        Credentials(service.url, service.client_id, service.client_secret, _SCOPES),
        timeout=_TIMEOUT_SECONDS,
        retry=_FAST_RETRY,
        tokens=TokenCache(),
        searches=searches,
        interruption=interruption,
    )


class _Faulty(Protocol):
    """A scenario with faults."""

    @property
    def seed(self) -> int: ...
    @property
    def faults(self) -> Mapping[str, float]: ...
    @property
    def retry_after(self) -> int: ...
    @property
    def slow(self) -> float: ...


def mixture_of(scenario: _Faulty) -> Mixture:
    """Return the faults of a scenario."""
    return Mixture(
        scenario.seed,
        scenario.faults,
        retry_after=scenario.retry_after,
        slow=scenario.slow,
        outage=_OUTAGE_SECONDS,
    )


def names_check(error: Exception) -> bool:
    """Return whether an error names a check of the doctor."""
    return _CHECK.search(str(error)) is not None


class Warnings(logging.Handler):
    """Counts the product's warnings by module, and keeps them off the screen in a run of many."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()
        self._logger = logging.getLogger("airflow_provider_contensis")
        self._propagated = self._logger.propagate

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        # The replay of a single run shows the whole log.
        self._logger.propagate = self._propagated and logging.getLogger().isEnabledFor(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated

    def emit(self, record: logging.LogRecord) -> None:
        """Count a warning."""
        self.counts[record.name.rpartition(".")[2]] += 1
