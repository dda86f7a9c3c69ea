"""Operators that export entries."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_contensis.export.destination import path_text
from airflow_provider_contensis.export.request import (
    DEFAULT_CONCURRENCY,
    DEFAULT_PAGE_SIZE,
    ExportArguments,
    ExportRequest,
)
from airflow_provider_contensis.lineage import ReportsLineage, written_files
from airflow_provider_contensis.links.contensis import ContensisLink
from airflow_provider_contensis.operators._task import (
    Kill,
    arguments_of,
    checkpoint_pointer,
    fail_without_retry,
    hook_for,
    is_unmapped,
    materialize,
    owner_of,
    push_link,
    record_asset_extra,
    refuse_deferrable,
    source_of,
    storage_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import FileFormat, TimestampUnit
    from airflow_provider_contensis.export.request import OnEmpty
    from airflow_provider_contensis.export.results import ExportSummary

__all__ = ["ContensisExportEntriesOperator"]

_REQUEST_ARGUMENTS = tuple(ExportArguments.__annotations__)


class ContensisExportEntriesOperator(ReportsLineage, BaseOperator):
    """Export entries from Contensis to a file, or to a folder with a file for each content type.

    The export is complete or it fails: every window of entries is proven against the service's count, and the
    file appears under its name whole or not at all.

    All arguments are templated. The events of assets among the `outlets` record each export: their extra has
    `destination`, `project_id`, `entries` and `watermark`.

    :param destination: a local path, or a URL that Airflow's ObjectStoragePath supports, such as
        `s3://bucket/entries.jsonl`, without credentials in it. If it ends in `/`, it is a folder: one file
        for each content type, and `_manifest.json`. The suffix sets format and compression: `.jsonl.gz`,
        `.csv`, `.parquet`.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project.
    :param language: one or several; None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text.
    :param fields: field paths to keep, such as `title` or `sys.version`; None for whole entries.
        `sys.id`, `sys.language` and `sys.contentTypeId` are always kept.
    :param changed_from: ISO time, inclusive: only entries published since then (`latest`: saved since then).
        Without an offset it is UTC.
    :param changed_to: ISO time, exclusive.
    :param api: `management` or `delivery`.
    :param link_depth: levels of links that the Delivery API resolves, 0 to 10.
    :param field_link_depths: the same for single field paths, such as `{"director": 1}`; of several paths
        to a link, the longest counts. Contensis 16 or later.
    :param file_format: `jsonl`, `json`, `csv` or `parquet`; None to take it from the suffix.
    :param compression: `gzip` or `zstd`; None to take it from the suffix.
    :param escape_formulas: CSV: put an apostrophe before text that a spreadsheet would run as a formula.
    :param bom: CSV: begin with a byte order mark, by which Excel recognises UTF-8.
    :param parquet_mode: `typed`: columns from the content type; `raw`: id, language, change mark and JSON.
    :param on_type_mismatch: Parquet: `fail` if a value does not fit its declared type, or `raw` to keep the
        entry's JSON in a column `_raw`.
    :param timestamp_unit: Parquet: `us` cuts times to microseconds, which every reader knows; `ns` keeps all
        seven digits that Contensis serves.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight, 1 to 32.
    :param on_empty: what to do if no entries match: `write` an empty file, `keep` the existing one, `skip`
        the task and keep the existing one, or `fail` the task.
    :param start_over: read everything, even if an earlier attempt has read some of it. By default a retry
        continues from the checkpoint of an attempt in the last day (Airflow 3.3 and later).
    :return: a small dict: `destination`, `files` (each with path, content type, rows, bytes, sha256),
        `entries`, `project_id`, `version_status`, `changed_from`, `changed_to`, `watermark` (the greatest
        change mark exported), `requests`, `seconds`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "destination_conn_id",
        "contensis_conn_id",
        "project_id",
        *_REQUEST_ARGUMENTS,
    )
    # No template_ext: a destination that ends in .json would be taken for a template file.
    template_fields_renderers = {"where": "json", "fields": "json", "field_link_depths": "json"}  # noqa: RUF012 - as BaseOperator declares it
    operator_extra_links = (ContensisLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        destination: str | PathLike[str],
        destination_conn_id: str | None = None,
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: VersionStatus | str = "published",
        data_format: DataFormat | str | None = "entry",
        where: str | Clause | Iterable[Clause] | None = None,
        fields: str | Iterable[str] | None = None,
        changed_from: str | datetime | None = None,
        changed_to: str | datetime | None = None,
        api: Api | str = "management",
        link_depth: int | str | None = None,
        field_link_depths: str | Mapping[str, int | str] | None = None,
        file_format: FileFormat | str | None = None,
        compression: Compression | str | None = None,
        escape_formulas: bool | str = False,
        bom: bool | str = False,
        parquet_mode: Literal["typed", "raw"] | str = "typed",
        on_type_mismatch: Literal["fail", "raw"] | str = "fail",
        timestamp_unit: TimestampUnit | str = "us",
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        on_empty: OnEmpty | str = "write",
        start_over: bool | str = False,
        **kwargs: Any,
    ) -> None:
        refuse_deferrable(kwargs)
        super().__init__(**kwargs)
        self.destination = path_text(destination)
        self.destination_conn_id = destination_conn_id
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.content_type_id = materialize(content_type_id)
        self.language = materialize(language)
        self.version_status = version_status
        self.data_format = data_format
        self.where = materialize(where)
        self.fields = materialize(fields)
        self.changed_from = changed_from
        self.changed_to = changed_to
        self.api = api
        self.link_depth = link_depth
        self.field_link_depths = field_link_depths
        self.file_format = file_format
        self.compression = compression
        self.escape_formulas = escape_formulas
        self.bom = bom
        self.parquet_mode = parquet_mode
        self.on_type_mismatch = on_type_mismatch
        self.timestamp_unit = timestamp_unit
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests
        self.on_empty = on_empty
        self.start_over = start_over
        self._kill = Kill()
        if not is_unmapped(self):
            # Templates are checked when the task starts, everything else now.
            self._request(skip_templates=True)

    def execute(self, context: Context) -> ExportSummary:
        """Export, and return what was written."""
        from airflow_provider_contensis.export.pipeline import export_entries

        with self._kill.ends(), fail_without_retry():
            request = self._request()
            storage, root = storage_for(request.destination.url, self.destination_conn_id)
            with closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
                self._kill.close = hook.close
                push_link(self, context, hook.settings.root_url)
                result = export_entries(
                    hook.client,
                    hook.project_id,
                    request,
                    storage=storage,
                    root=root,
                    owner=owner_of(context),
                    pointer=checkpoint_pointer(context),
                ).as_dict()
                self._read = source_of(hook, request.query)
        self._written = written_files(result["destination"], result["files"])
        if request.on_empty == "skip" and not result["entries"]:
            raise AirflowSkipException('No entries matched, and on_empty is "skip".')
        extra = {name: result[name] for name in ("destination", "project_id", "entries", "watermark")}
        record_asset_extra(context, self.outlets, extra)
        return result

    def on_kill(self) -> None:
        """Stop at once, and remove what was written; a retry can continue from the checkpoint."""
        self._kill()

    def _request(self, *, skip_templates: bool = False) -> ExportRequest:
        arguments: Any = arguments_of(self, _REQUEST_ARGUMENTS, skip_templates=skip_templates)
        if skip_templates:
            arguments.setdefault("destination", "template.jsonl")
            arguments.setdefault("file_format", "jsonl")  # the destination need not tell it
        return ExportRequest.from_arguments(**arguments)
