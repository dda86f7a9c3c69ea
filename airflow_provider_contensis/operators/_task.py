"""What the operators share: templates, storage, and failing well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException

from airflow_provider_contensis.api.errors import ConfigurationError, ContensisError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.export.storage import Storage

_PROVIDERS = {"s3": "apache-airflow-providers-amazon[s3fs]", "gs": "apache-airflow-providers-google"}

_SPOOL_KEY = "contensis.spool"
_TOLD_TO_OUTLETS = ("destination", "project_id", "entries", "watermark")


def is_template(value: object) -> bool:
    """Return whether a value is only known once the task runs: a template, or another task's output."""
    try:
        return _holds_template(value)
    except RecursionError:  # no argument may be nested so deeply, as its own check will say
        return False


def _holds_template(value: object) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, dict):
        return any(_holds_template(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(_holds_template(item) for item in value)
    return hasattr(value, "resolve") and not isinstance(value, PathLike)


def settled(value: Any) -> Any:
    """Return an argument that can be read more than once."""
    return list(value) if isinstance(value, Iterator) else value


def owner_of(context: Context) -> str:
    """Name the task instance, the same for all its tries."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{ti.map_index}"


class TaskMemory:
    """What a task instance's tries tell each other, in the task state store of Airflow 3.3.

    :param store: the context's `task_state_store`.
    :param is_last: whether no other try will follow this one.
    """

    def __init__(self, store: Any, *, is_last: bool) -> None:
        self._store = store
        self.is_last = is_last

    def recall(self) -> Any:
        """Return what an earlier try has told; None if there is nothing."""
        return self._store.get(_SPOOL_KEY)

    def remember(self, pointer: dict[str, str]) -> None:
        """Tell the tries to come."""
        self._store.set(_SPOOL_KEY, pointer)

    def forget(self) -> None:
        """Tell them nothing any more."""
        self._store.delete(_SPOOL_KEY)


def memory_of(context: Context) -> TaskMemory | None:
    """Return what a task's tries tell each other; None where Airflow has no place for it."""
    store = context.get("task_state_store")
    if store is None:
        return None
    ti = context["ti"]
    return TaskMemory(store, is_last=getattr(ti, "try_number", 1) > getattr(ti, "max_tries", 0))


def storage_for(url: str, conn_id: str | None) -> tuple[Storage, str]:
    """Return where a destination's files go, and the destination's name there.

    :param url: a local path, or a URL that ObjectStoragePath serves.
    :param conn_id: the Airflow connection of the object store.
    :raises ConfigurationError: Airflow has no filesystem for the URL.
    """
    from airflow_provider_contensis.export.storage import LocalStorage, ObjectStorage

    if "://" not in url:
        return LocalStorage(), url
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    scheme = url.partition("://")[0]
    try:
        path = ObjectStoragePath(url, conn_id=conn_id)
        filesystem = path.fs
    except (ImportError, ValueError) as error:
        way_out = f": pip install '{_PROVIDERS[scheme]}'" if scheme in _PROVIDERS else ""
        raise ConfigurationError(
            f"Airflow has no filesystem for destination {url!r}; install the provider "
            f"that serves {scheme}://{way_out}."
        ) from error
    return ObjectStorage(filesystem), f"{path.path.rstrip('/')}{'/' if url.endswith('/') else ''}"


def tell_outlets(context: Context, outlets: Iterable[Any], result: dict[str, Any]) -> None:
    """Let the events of the assets that a task updates say what was written."""
    events = context.get("outlet_events")
    if events is not None:
        for outlet in outlets:
            events[outlet].extra = {name: result[name] for name in _TOLD_TO_OUTLETS}


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Let what a retry may mend be raised as it is, and fail the task at once for what none can."""
    try:
        yield
    except ContensisError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from None
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"There is no such Airflow connection: {error}") from None
