"""Operators that export content types."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_contensis.api.resources import Api, ContentTypeFormat, VersionStatus
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import Parser, choice, parse
from airflow_provider_contensis.export.destination import path_text, plain_url, show_destination
from airflow_provider_contensis.export.model import EntryQuery
from airflow_provider_contensis.lineage import Output, ReportsLineage
from airflow_provider_contensis.operators._task import (
    Kill,
    arguments_of,
    fail_without_retry,
    hook_for,
    is_template,
    is_unmapped,
    owner_of,
    refuse_deferrable,
    source_of,
    storage_for,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.export.results import ContentTypesSummary

__all__ = ["ContensisExportContentTypesOperator"]

_CHOICES: dict[str, Parser] = {
    "data_format": choice(ContentTypeFormat),
    "version_status": choice(VersionStatus),
    "api": choice(Api),
}


class ContensisExportContentTypesOperator(ReportsLineage, BaseOperator):
    """Export the definitions of a project's content types to a JSON file, beside its entries.

    The file holds an array of definitions as Contensis serves them, sorted by id.
    All arguments are templated.

    :param destination: a local path, or a URL that Airflow's ObjectStoragePath supports, ending in `.json`.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param data_format: `entry`, `asset` or `form`; None for all.
    :param version_status: `published` or `latest`.
    :param api: `management` or `delivery`.
    :return: a small dict: `destination`, `content_types` (their ids), `bytes`, `sha256`, `project_id`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "destination",
        "destination_conn_id",
        "contensis_conn_id",
        "project_id",
        "data_format",
        "version_status",
        "api",
    )
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        destination: str | PathLike[str],
        destination_conn_id: str | None = None,
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        data_format: ContentTypeFormat | str | None = None,
        version_status: VersionStatus | str = "published",
        api: Api | str = "management",
        **kwargs: Any,
    ) -> None:
        refuse_deferrable(kwargs)
        super().__init__(**kwargs)
        self.destination = path_text(destination)
        self.destination_conn_id = destination_conn_id
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.data_format = data_format
        self.version_status = version_status
        self.api = api
        self._kill = Kill()
        if not is_unmapped(self):
            self._check(skip_templates=True)

    def execute(self, context: Context) -> ContentTypesSummary:
        """Export, and return what was written."""
        from airflow_provider_contensis.export.content_types import export_content_types

        with self._kill.ends(), fail_without_retry():
            arguments = self._check()
            destination = arguments.pop("destination")
            storage, root = storage_for(destination, self.destination_conn_id)
            with closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
                self._kill.close = hook.close
                result = export_content_types(
                    hook.client,
                    hook.project_id,
                    destination,
                    storage=storage,
                    root=root,
                    owner=owner_of(context),
                    **arguments,
                )
                read = EntryQuery(
                    content_type_ids=tuple(result["content_types"]),
                    data_format=None,
                    version_status=arguments["version_status"],
                    api=arguments["api"],
                )
                self._read = source_of(hook, read)
        self._written = [Output(result["destination"], len(result["content_types"]), result["bytes"])]
        return result

    def on_kill(self) -> None:
        """Stop at once, and remove what was written."""
        self._kill()

    def _check(self, *, skip_templates: bool = False) -> dict[str, Any]:
        checked = parse(arguments_of(self, _CHOICES, skip_templates=skip_templates), _CHOICES)
        if not (skip_templates and is_template(self.destination)):
            checked["destination"] = _json_file(self.destination)
        return checked


def _json_file(destination: str | PathLike[str]) -> str:
    url = plain_url(destination)
    if not url.lower().endswith(".json"):
        raise ConfigurationError(
            f"destination {show_destination(url)} must end in .json, such as /data/content_types.json."
        )
    return url
