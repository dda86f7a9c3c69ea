"""Operators that export changes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_contensis.export.arguments import take
from airflow_provider_contensis.export.changes_request import (
    DEFAULT_MAX_DELETE_SHARE,
    DEFAULT_OVERLAP,
    VIEW_ARGUMENTS,
    ChangesArguments,
    ChangesRequest,
)
from airflow_provider_contensis.export.destination import path_text
from airflow_provider_contensis.export.request import DEFAULT_CONCURRENCY, DEFAULT_PAGE_SIZE
from airflow_provider_contensis.lineage import Output, ReportsLineage
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
    run_name_of,
    source_of,
    storage_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.changes_request import Deletes
    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import FileFormat, TimestampUnit
    from airflow_provider_contensis.export.results import ChangesSummary

__all__ = ["ContensisExportChangesOperator"]

_REQUEST_ARGUMENTS = tuple(ChangesArguments.__annotations__)


class ContensisExportChangesOperator(ReportsLineage, BaseOperator):
    """Export what changed in Contensis since the last run to a feed, deletions included.

    A feed is a folder with a change set for each run that found something: entries that are new or differ,
    and entries that left. The first run writes everything. Which run is next is written in the feed itself,
    in `_feed.json`: it is replaced last, in one step, and makes a change set part of the feed. A retry or a
    cleared task whose run is in the feed already returns the same change set again, and reads nothing.

    All arguments are templated. The events of assets among the `outlets` record each run: their extra has
    `destination`, `project_id`, `change_set`, `upserts`, `deletes` and `horizon`.

    :param destination: a folder: a local path, or a URL that Airflow's ObjectStoragePath supports, such as
        `s3://bucket/feed/`, without credentials in it. The store needs conditional writes: S3 and Google
        Cloud Storage have them.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project, also those to come.
    :param language: one or several; None for all that the project supports, also those to come.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text. Times that depend on
        the moment of the search, such as `now()` or `-1d`, are refused.
    :param api: `management` or `delivery`.
    :param file_format: of upserts: `jsonl` (None), `json`, `csv` or `parquet`; deletions are JSON Lines.
    :param compression: of upserts: `gzip` or `zstd`; None for none.
    :param escape_formulas: CSV: put an apostrophe before text that a spreadsheet would run as a formula.
    :param bom: CSV: begin with a byte order mark, by which Excel recognises UTF-8.
    :param parquet_mode: Parquet: `typed` columns, by the definition that the content type has in this run,
        or `raw`: id, language, change mark and JSON.
    :param on_type_mismatch: Parquet: `fail` if a value does not fit its declared type, or `raw` to keep the
        entry's JSON in a column `_raw`.
    :param timestamp_unit: Parquet: `us` cuts times to microseconds, `ns` keeps all digits.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight, 1 to 32.
    :param overlap: seconds before the service's clock from which the next run reads again, for entries that
        a search finds late; with the Delivery API at least 3,900, because it caches.
    :param deletes: `detect` entries that left by counting, or `ignore` them and count nothing.
    :param max_delete_share: fail if more than 100 entries left that are also more than this share of the
        feed's, or all of a content type in one language; None for no limit.
    :param full_refresh: read everything, write what differs, and report `drift`.
    :param skip_if_unchanged: skip the task if nothing changed.
    :param write_snapshot: a `full_refresh` that writes everything, as a change set of kind `snapshot`, from
        which a consumer can start.
    :param keep_change_sets: remove change sets that a later snapshot replaces, except this many of the
        newest; None to keep all.
    :return: a small dict: `destination`, `change_set` (its folder in the feed, or None), `sequence`,
        `upserts`, `deletes`, `content_types` (each with both figures), `changed_from`, `horizon`, `drift`,
        `refreshed`, `unconfirmed`, `requests`, `seconds`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "contensis_conn_id",
        "project_id",
        "destination_conn_id",
        *_REQUEST_ARGUMENTS,
    )
    template_fields_renderers = {"where": "json"}  # noqa: RUF012 - as BaseOperator declares it
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
        api: Api | str = "management",
        file_format: FileFormat | str | None = None,
        compression: Compression | str | None = None,
        escape_formulas: bool | str = False,
        bom: bool | str = False,
        parquet_mode: Literal["typed", "raw"] | str = "typed",
        on_type_mismatch: Literal["fail", "raw"] | str = "fail",
        timestamp_unit: TimestampUnit | str = "us",
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        overlap: int | str = DEFAULT_OVERLAP,
        deletes: Deletes | str = "detect",
        max_delete_share: float | str | None = DEFAULT_MAX_DELETE_SHARE,
        full_refresh: bool | str = False,
        skip_if_unchanged: bool | str = False,
        write_snapshot: bool | str = False,
        keep_change_sets: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        self._refused = take(kwargs, VIEW_ARGUMENTS)
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
        self.api = api
        self.file_format = file_format
        self.compression = compression
        self.escape_formulas = escape_formulas
        self.bom = bom
        self.parquet_mode = parquet_mode
        self.on_type_mismatch = on_type_mismatch
        self.timestamp_unit = timestamp_unit
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests
        self.overlap = overlap
        self.deletes = deletes
        self.max_delete_share = max_delete_share
        self.full_refresh = full_refresh
        self.skip_if_unchanged = skip_if_unchanged
        self.write_snapshot = write_snapshot
        self.keep_change_sets = keep_change_sets
        self._kill = Kill()
        if not is_unmapped(self):
            # Templates are checked when the task starts, everything else now.
            self._request(skip_templates=True)

    def execute(self, context: Context) -> ChangesSummary:
        """Bring the feed up to date, and return what changed."""
        from airflow_provider_contensis.export.feed import export_changes

        with self._kill.ends(), fail_without_retry():
            request = self._request()
            storage, root = storage_for(request.destination.url, self.destination_conn_id)
            with closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
                self._kill.close = hook.close
                push_link(self, context, hook.settings.root_url)
                project_id = hook.project_id
                result = export_changes(
                    hook.client,
                    project_id,
                    request,
                    storage=storage,
                    root=root,
                    owner=owner_of(context),
                    run=run_name_of(context),
                    pointer=checkpoint_pointer(context),
                )
                self._read = source_of(hook, request.query)
        self._written = [Output(result["destination"], result["upserts"], deletes=result["deletes"])]
        if request.skip_if_unchanged and result["change_set"] is None:
            raise AirflowSkipException("Nothing changed, and skip_if_unchanged is set.")
        extra = {
            name: result[name] for name in ("destination", "change_set", "upserts", "deletes", "horizon")
        }
        record_asset_extra(context, self.outlets, {**extra, "project_id": project_id})
        return result

    def on_kill(self) -> None:
        """Stop at once, and leave the feed as it was; a retry can continue from the checkpoint."""
        self._kill()

    def _request(self, *, skip_templates: bool = False) -> ChangesRequest:
        arguments: Any = arguments_of(self, _REQUEST_ARGUMENTS, skip_templates=skip_templates)
        if skip_templates:
            arguments.setdefault("destination", "template/")
        return ChangesRequest.from_arguments(**arguments, **self._refused)
