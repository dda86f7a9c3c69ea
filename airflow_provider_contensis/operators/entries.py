"""Operators that export entries."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_contensis.export.request import (
    DEFAULT_CONCURRENCY,
    DEFAULT_PAGE_SIZE,
    ExportRequest,
)
from airflow_provider_contensis.links.contensis import URL_KEY, ContensisLink
from airflow_provider_contensis.operators._task import (
    failing_for_good,
    is_template,
    memory_of,
    owner_of,
    settled,
    storage_for,
    tell_outlets,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context


class ContensisExportEntriesOperator(BaseOperator):
    """Export entries from Contensis to a file, or to a folder with a file for each content type.

    The export is complete or it fails: every window of entries is proven against the count that
    the service tells, and the file appears under its name whole or not at all.

    All arguments are templated. Assets among the `outlets` learn of each export what it wrote: their
    event's extra has `destination`, `project_id`, `entries` and `watermark`.

    :param destination: a local path, or a URL that Airflow's ObjectStoragePath serves, such as
        `s3://bucket/entries.jsonl`. Ending in `/`, a folder: one file for each content type, and
        `_manifest.json`. The suffix may carry format and compression: `.jsonl.gz`, `.csv`, `.parquet`.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project.
    :param language: one or several; None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version whether published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text.
    :param fields: the field paths to keep, such as `title` or `sys.version`; None for whole entries.
        `sys.id`, `sys.language` and `sys.contentTypeId` are always kept.
    :param changed_from: ISO time, inclusive: only entries published then or later (for `latest`: saved).
    :param changed_to: ISO time, exclusive.
    :param api: `management` or `delivery`.
    :param link_depth: how deep the Delivery API resolves links, 0 to 10.
    :param field_link_depths: the same for single field paths, such as `{"director": 1}`; of several paths
        to a link, the longest counts. Contensis 16 or later.
    :param file_format: `jsonl`, `json`, `csv` or `parquet`; None to take it from the suffix.
    :param compression: `gzip` or `zstd`; None to take it from the suffix.
    :param guard_formulas: CSV: put an apostrophe before text that a spreadsheet would take for a formula.
    :param parquet_mode: `typed`: columns from the content type; `raw`: id, language, change mark and JSON.
    :param misfits: Parquet: `fail` where a value does not fit its declared type, or `raw` to keep the
        entry's JSON in a column `_raw`.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: pages asked for at the same time, 1 to 32.
    :param start_over: read everything afresh, even if an earlier try has read some of it. Otherwise a retry
        goes on from what an earlier try has read in the last day (Airflow 3.3 and later).
    :return: a small dict: `destination`, `files` (each with path, content type, rows, bytes, sha256),
        `entries`, `project_id`, `version_status`, `changed_from`, `changed_to`, `watermark` (the greatest
        change mark exported), `requests`, `seconds`.
    :raises ConfigurationError: an argument without a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "destination",
        "destination_conn_id",
        "contensis_conn_id",
        "project_id",
        "content_type_id",
        "language",
        "version_status",
        "data_format",
        "where",
        "fields",
        "changed_from",
        "changed_to",
        "api",
        "link_depth",
        "field_link_depths",
        "file_format",
        "compression",
        "guard_formulas",
        "parquet_mode",
        "misfits",
        "page_size",
        "max_concurrent_requests",
        "start_over",
    )
    # No template_ext: a destination that ends in .json would be taken for a template file.
    template_fields_renderers = {"where": "json", "fields": "json", "field_link_depths": "json"}  # noqa: RUF012 - as BaseOperator declares it
    operator_extra_links = (ContensisLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        destination: str,
        destination_conn_id: str | None = None,
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: str = "published",
        data_format: str | None = "entry",
        where: str | Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        fields: str | Iterable[str] | None = None,
        changed_from: str | datetime | None = None,
        changed_to: str | datetime | None = None,
        api: str = "management",
        link_depth: int | str | None = None,
        field_link_depths: str | Mapping[str, int | str] | None = None,
        file_format: str | None = None,
        compression: str | None = None,
        guard_formulas: bool | str = False,
        parquet_mode: str = "typed",
        misfits: str = "fail",
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        start_over: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.content_type_id = settled(content_type_id)
        self.language = settled(language)
        self.version_status = version_status
        self.data_format = data_format
        self.where = settled(where)
        self.fields = settled(fields)
        self.changed_from = changed_from
        self.changed_to = changed_to
        self.api = api
        self.link_depth = link_depth
        self.field_link_depths = field_link_depths
        self.file_format = file_format
        self.compression = compression
        self.guard_formulas = guard_formulas
        self.parquet_mode = parquet_mode
        self.misfits = misfits
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests
        self.start_over = start_over
        # What a template will fill in is checked when the task starts; all the rest now.
        self._request(skip_templates=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Export, and return what was written."""
        from airflow_provider_contensis.export.entries import export_entries
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        with failing_for_good():
            request = self._request()
            storage, root = storage_for(request.destination.url, self.destination_conn_id)
            with closing(ContensisHook(self.contensis_conn_id, project_id=self.project_id)) as hook:
                context["ti"].xcom_push(key=URL_KEY, value=hook.settings.root_url)
                result = export_entries(
                    hook.client,
                    hook.project_id,
                    request,
                    storage=storage,
                    root=root,
                    owner=owner_of(context),
                    memory=memory_of(context),
                ).as_dict()
        tell_outlets(context, self.outlets, result)
        return result

    def _request(self, *, skip_templates: bool = False) -> ExportRequest:
        arguments = {name: getattr(self, name) for name in _REQUEST_ARGUMENTS}
        if skip_templates:
            arguments = {name: value for name, value in arguments.items() if not is_template(value)}
            arguments.setdefault("destination", "template.jsonl")
            if "api" not in arguments:
                for name in ("link_depth", "field_link_depths"):
                    arguments.pop(name, None)  # whether it fits is not known yet
        return ExportRequest.from_arguments(**arguments)


_REQUEST_ARGUMENTS = tuple(
    name
    for name in ContensisExportEntriesOperator.template_fields
    if name not in {"destination_conn_id", "contensis_conn_id", "project_id"}
)
