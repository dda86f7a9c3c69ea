"""Sensors that wait for entries."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_contensis.export.arguments import number, optional_name, parse
from airflow_provider_contensis.export.model import MAX_COUNT
from airflow_provider_contensis.export.request import entry_query
from airflow_provider_contensis.operators._task import (
    arguments_of,
    fail_without_retry,
    hook_for,
    is_template,
    is_unmapped,
    materialize,
    plain,
)
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.model import EntryQuery

__all__ = ["ContensisEntriesSensor"]

_QUERY = (
    "content_type_id",
    "language",
    "version_status",
    "data_format",
    "where",
    "changed_from",
    "changed_to",
    "api",
)


class ContensisEntriesSensor(BaseSensorOperator):
    """Wait until at least `min_entries` entries match.

    With `changed_from` it waits until so many changed since a time, and with `where` for whatever a search
    can say, such as an entry with a certain id in a certain state of its workflow. It never sees a deletion:
    to react to those, use `ContensisEntriesChangedTrigger`.

    All arguments but `deferrable` and those of every sensor (`mode`, `poke_interval`, `timeout`, …) are
    templated.

    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project.
    :param language: one or several; None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text.
    :param changed_from: ISO time or datetime, inclusive, compared with the time of publishing (`latest`:
        saving). Without an offset it is UTC.
    :param changed_to: ISO time or datetime, exclusive.
    :param api: `management` or `delivery`.
    :param min_entries: how many entries have to match, 1 to 10,000.
    :param deferrable: look once, then wait in the triggerer, where a wait takes no worker; by default as
        `[operators] default_deferrable` says.
    :return: a small dict: `entries` (how many match), `project_id`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = ("contensis_conn_id", "project_id", *_QUERY, "min_entries")
    template_fields_renderers = {"where": "json"}  # noqa: RUF012 - as BaseOperator declares it
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: VersionStatus | str = "published",
        data_format: DataFormat | str | None = "entry",
        where: str | Clause | Iterable[Clause] | None = None,
        changed_from: str | datetime | None = None,
        changed_to: str | datetime | None = None,
        api: Api | str = "management",
        min_entries: int | str = 1,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.content_type_id = materialize(content_type_id)
        self.language = materialize(language)
        self.version_status = version_status
        self.data_format = data_format
        self.where = materialize(where)
        self.changed_from = changed_from
        self.changed_to = changed_to
        self.api = api
        self.min_entries = min_entries
        self.deferrable = deferrable
        if not is_unmapped(self):
            # Templates are checked when the task starts, everything else now.
            entry_query(**arguments_of(self, _QUERY, skip_templates=True))
            if not is_template(min_entries):
                self._least()  # which fails if it is wrong

    @property
    def _asked(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _QUERY}

    def _least(self) -> int:
        # The service may not count further than that (docs/contensis-api.md, "Paging").
        parsers = {"min_entries": number(1, MAX_COUNT)}
        return int(parse({"min_entries": self.min_entries}, parsers).get("min_entries", 1))

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - as Airflow calls it
        """Return whether enough entries match."""
        from airflow_provider_contensis.export.poll import matching

        with fail_without_retry(), closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
            least = self._least()
            entries = matching(hook.client, hook.project_id, entry_query(**self._asked))
            self.log.info("%s of at least %s", count(entries, "entry matches", "entries match"), f"{least:,}")
            return PokeReturnValue(entries >= least, {"entries": entries, "project_id": hook.project_id})

    def execute(self, context: Context) -> Any:
        """Wait; a deferrable sensor looks once, and then leaves its worker."""
        if not self.deferrable:
            return super().execute(context)
        if not (looked := self.poke(context)):
            self._wait_in_triggerer()
        return looked.xcom_value

    def _wait_in_triggerer(self) -> NoReturn:
        from airflow_provider_contensis.triggers.entries import ContensisEntriesTrigger

        self.defer(
            trigger=ContensisEntriesTrigger(
                contensis_conn_id=self.contensis_conn_id,
                project_id=optional_name("project_id", self.project_id),
                query=_plain_arguments(entry_query(**self._asked)),
                min_entries=self._least(),
                poke_interval=self.poke_interval,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - as Airflow calls it
        event: dict[str, Any],
    ) -> dict[str, Any]:
        """Return what the trigger found, or fail."""
        if event["status"] != "success":
            raise AirflowFailException(event["message"])
        self.log.info("%s", count(event["entries"], "entry matches", "entries match"))
        return {name: event[name] for name in ("entries", "project_id")}


def _plain_arguments(query: EntryQuery) -> dict[str, Any]:
    """Return the arguments that a query was made of, rendered and as plain JSON."""
    renamed = {"content_type_id": query.content_type_ids, "language": query.languages}
    return {name: plain(renamed[name] if name in renamed else getattr(query, name)) for name in _QUERY}
