"""Shared by the operators: templates, storages, checkpoints, and failures that no retry can fix."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException

from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError
from airflow_provider_contensis.export.arguments import optional_name
from airflow_provider_contensis.export.destination import show_destination
from airflow_provider_contensis.lineage import Source, is_listening
from airflow_provider_contensis.links.contensis import URL_KEY
from airflow_provider_contensis.utils.courtesy import courtesy

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.sinks.feed_index import RunName
    from airflow_provider_contensis.export.storage.base import FolderStorage
    from airflow_provider_contensis.hooks.contensis import ContensisHook

_PROVIDERS = {
    "abfs": "apache-airflow-providers-microsoft-azure",
    "gcs": "apache-airflow-providers-google",
    "gs": "apache-airflow-providers-google",
    "s3": "apache-airflow-providers-amazon[s3fs]",
}
# The first is the one to use; Airflow still reads the others.
_CONNECTION_TYPES = {
    "gcs": ("google_cloud_platform",),
    "gs": ("google_cloud_platform",),
    "s3": ("aws", "s3"),
}

_CHECKPOINT_KEY = "contensis.checkpoint"


def is_template(value: object) -> bool:
    """Return whether a value is only known when the task runs: a template, or another task's output."""
    try:
        return _holds_template(value)
    except RecursionError:  # too deep for any argument, as its own check will say
        return False


def _holds_template(value: object) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, dict):
        return any(_holds_template(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(_holds_template(item) for item in value)
    return hasattr(value, "resolve") and not isinstance(value, PathLike)


def arguments_of(operator: BaseOperator, names: Iterable[str], *, skip_templates: bool) -> dict[str, Any]:
    """Return some of an operator's arguments.

    :param skip_templates: leave out what has a template, whose value is only known when the task runs.
    """
    arguments = {name: getattr(operator, name) for name in names}
    if not skip_templates:
        return arguments
    known = {name: value for name, value in arguments.items() if not is_template(value)}
    if "api" not in known:
        for name in ("link_depth", "field_link_depths"):
            known.pop(name, None)  # whether the API fits is not known yet
    return known


def is_unmapped(operator: BaseOperator) -> bool:
    """Return whether Airflow makes the operator from a mapped task, just before it runs.

    A wrong argument is then left to `execute`, whose failures can be made final: Airflow retries a task whose
    operator cannot be made.
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def materialize(value: Any) -> Any:
    """Return an argument that can be read more than once: an iterator as a list."""
    return list(value) if isinstance(value, Iterator) else value


def plain(value: Any) -> Any:
    """Return an argument as JSON has it: the same at each parse, and after a way through a database."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def refuse_deferrable(arguments: dict[str, Any]) -> None:
    """Take `deferrable` out of an export's arguments; refuse it, as it would do nothing.

    :raises ConfigurationError: says what to use instead.
    """
    if arguments.pop("deferrable", False):
        raise ConfigurationError(
            "deferrable=True is not available for exports: the task itself reads and writes, so there is "
            "nothing to wait for in the triggerer. To wait for entries first, use ContensisEntriesSensor."
        )


def hook_for(contensis_conn_id: object, project_id: object) -> ContensisHook:
    """Return the hook of a task.

    :param contensis_conn_id: the Airflow connection; not given, it is the default one.
    :param project_id: not given, it is the connection's.
    :raises ConfigurationError: one of them is not a name.
    """
    from airflow_provider_contensis.hooks.contensis import ContensisHook

    return ContensisHook(
        optional_name("contensis_conn_id", contensis_conn_id) or ContensisHook.default_conn_name,
        project_id=optional_name("project_id", project_id),
    )


def from_context(context: Context, key: str) -> Any:
    """Return what Airflow has put into a task's context; None if it is not there, as in a unit test."""
    try:
        return cast("dict[str, Any]", context)[key]
    except (KeyError, TypeError):
        return None


def owner_of(context: Context) -> str:
    """Return a name of the task instance, the same for all its attempts; outside of Airflow, a new one."""
    name = run_name_of(context)
    return secrets.token_hex(8) if name is None else "/".join(map(str, name.values()))


def push_link(operator: BaseOperator, context: Context, url: str) -> None:
    """Keep the URL that the task's link leads to, unless the task is to push nothing."""
    ti = from_context(context, "ti")
    if ti is not None and operator.do_xcom_push:
        with courtesy("The link to Contensis is missing"):
            ti.xcom_push(key=URL_KEY, value=url)


def source_of(hook: ContensisHook, query: EntryQuery) -> Source | None:
    """Return what a task has read, for OpenLineage; None if its provider is not there to ask."""
    if not is_listening():
        return None
    source = Source(hook.settings.root_url, hook.project_id)
    with courtesy("OpenLineage will not know the fields of the content types"):
        # Everything is written by now: an environment that has just gone away must not hold the task up.
        with closing(hook.settings.client(is_patient=False)) as client:
            listed = client.list_content_types(
                source.project_id,
                data_format=query.data_format,
                version_status=query.version_status,
                api=query.api,
            )
        ids = query.content_type_ids
        read = [one for one in listed if ids is None or one["id"] in ids]
        source = replace(source, content_types=read)
    return source  # noqa: RET504 - also if they could not be read


class TaskKilledError(BaseException):
    """Airflow wants the task to stop. Like SystemExit, it is no failure that anything could handle."""


class Kill:
    """Ends `execute` when Airflow calls `on_kill`.

    Airflow does so in a signal handler of the thread that runs `execute`, which would otherwise go on. There
    an exception ends it, and it cleans up on the way out. Another thread can only close its client.
    """

    def __init__(self) -> None:
        self._thread: int | None = None
        self.close: Callable[[], None] | None = None  # ends the calls to Contensis

    @contextmanager
    def ends(self) -> Iterator[None]:
        """Let a kill end the block."""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = self.close = None

    def __call__(self) -> None:
        """End the block, if it runs.

        :raises TaskKilledError: in the thread of the block.
        """
        thread, close = self._thread, self.close
        self._thread = self.close = None  # a second signal must not interrupt the cleaning up
        if thread == threading.get_ident():
            raise TaskKilledError("The task was killed.")
        if close is not None:
            close()


def run_name_of(context: Context) -> RunName | None:
    """Return the task instance, the same for all its attempts; None outside of Airflow."""
    ti = from_context(context, "ti")
    dag_id, task_id, run_id = (getattr(ti, name, None) for name in ("dag_id", "task_id", "run_id"))
    if not (isinstance(dag_id, str) and isinstance(task_id, str) and isinstance(run_id, str)):
        return None  # a stand-in of a unit test
    map_index = getattr(ti, "map_index", None)
    return {
        "dag_id": dag_id,
        "task_id": task_id,
        "run_id": run_id,
        "map_index": map_index if isinstance(map_index, int) else -1,
    }


class TaskStatePointer:
    """Where a task instance's attempts find the checkpoint: in the task state store of Airflow 3.3.

    :param store: the context's `task_state_store`.
    :param is_last_attempt: whether no other attempt will follow this one.
    :param of: what the checkpoint is about, if the task instance does not tell: the store knows mapped tasks
        by their number, and another run of the plan may give it to something else.
    """

    def __init__(self, store: Any, *, is_last_attempt: bool, of: str = "") -> None:
        self._store = store
        self._key = f"{_CHECKPOINT_KEY}.{of}" if of else _CHECKPOINT_KEY
        self.is_last_attempt = is_last_attempt

    def load(self) -> Any:
        """Return what an earlier attempt saved; None if there is nothing."""
        saved = self._store.get(self._key)
        return saved if isinstance(saved, dict) else None

    def save(self, pointer: dict[str, str]) -> None:
        """Save where the checkpoint is."""
        self._store.set(self._key, pointer)

    def clear(self) -> None:
        """Forget what was saved."""
        self._store.delete(self._key)


def checkpoint_pointer(context: Context, of: str = "") -> TaskStatePointer | None:
    """Return where a task's attempts find the checkpoint; None if Airflow has no place for that.

    :param of: as in `TaskStatePointer`.
    """
    store, ti = from_context(context, "task_state_store"), from_context(context, "ti")
    if store is None:
        return None
    attempts = getattr(ti, "try_number", 1), getattr(ti, "max_tries", 0)
    another_follows = all(isinstance(number, int) for number in attempts) and attempts[0] <= attempts[1]
    return TaskStatePointer(store, is_last_attempt=not another_follows, of=of)


def storage_for(url: str, conn_id: object) -> tuple[FolderStorage, str]:
    """Return the storage of a destination, and the destination's name in it.

    :param url: a local path, or a URL that ObjectStoragePath supports.
    :param conn_id: the Airflow connection of the object store.
    :raises ConfigurationError: there is no filesystem for the URL, or the connection is for something else.
    """
    from airflow_provider_contensis.export.storage.local import LocalStorage
    from airflow_provider_contensis.export.storage.object_store import ObjectStorage

    if "://" not in url:
        return LocalStorage(), url
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    scheme = url.partition("://")[0]
    connection = optional_name("destination_conn_id", conn_id)
    from_url, _, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    if used := connection or from_url:
        _check_store_connection(scheme.lower(), used)
    try:
        path = ObjectStoragePath(url, conn_id=connection)
        filesystem = path.fs
    except (ImportError, ValueError) as error:
        way_out = f": pip install '{_PROVIDERS[scheme]}'" if scheme in _PROVIDERS else ""
        raise ConfigurationError(
            f"Airflow has no filesystem for destination {show_destination(url)}. Install the provider for "
            f"{scheme}://{way_out}, and restart Airflow."
        ) from error
    return ObjectStorage(filesystem), path.path.rstrip("/") + url[len(url.rstrip("/")) :]


def _check_store_connection(scheme: str, conn_id: str) -> None:
    """Refuse a connection that does not exist or is for something else: fallback credentials would be used.

    :raises ConfigurationError: says which type it has, and which it needs.
    """
    from airflow.providers.common.compat.sdk import BaseHook

    conn_type = BaseHook.get_connection(conn_id).conn_type
    wanted = _CONNECTION_TYPES.get(scheme)
    if conn_type == "contensis" or (wanted and conn_type and conn_type not in wanted):
        raise ConfigurationError(
            f"destination_conn_id {conn_id!r} is a connection of type {conn_type!r}, which is not for {scheme}://"
            f"{f': use one of type {wanted[0]!r}' if wanted else ''}."
        )


def record_asset_extra(context: Context, outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """Record what was written in the extra of the events of a task's outlets.

    Everything is written by now, so nothing here may fail the task.
    """
    events = from_context(context, "outlet_events")
    if events is None:
        return
    for outlet in outlets:
        with courtesy(f"The event of outlet {outlet!r} has no extra"):
            try:
                event = events[outlet]
            except (KeyError, TypeError):
                continue  # not an asset but, say, a table of lineage, which has no events
            event.extra = dict(extra)


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Re-raise retryable errors; turn the rest into AirflowFailException."""
    try:
        yield
    except ContensisError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from None
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"The Airflow connection does not exist: {error}") from None
