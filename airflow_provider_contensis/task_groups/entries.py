"""Task groups that export entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import TaskGroup

from airflow_provider_contensis.export.parts_request import DEFAULT_PARTS
from airflow_provider_contensis.export.request import DEFAULT_CONCURRENCY, DEFAULT_PAGE_SIZE
from airflow_provider_contensis.operators._parts import (
    ContensisCommitPartsOperator,
    ContensisPlanPartsOperator,
    ContensisReadPartOperator,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from os import PathLike

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.destination import Compression
    from airflow_provider_contensis.export.formats.base import FileFormat, TimestampUnit
    from airflow_provider_contensis.export.request import OnEmpty, ReadArguments

__all__ = ["ContensisExportEntriesTaskGroup"]


class ContensisExportEntriesTaskGroup(TaskGroup):
    """Export entries from Contensis to a folder with many tasks, which may run on as many workers.

    One task plans, one task for each part reads it, and one task commits: it proves that all parts together
    are what the service counts, reads parts again that have grown meanwhile, and writes `_manifest.json`,
    which makes them one export. A part that fails is retried by itself. The files of a content type, one
    after the other, are what `ContensisExportEntriesOperator` would write.

    All arguments are templated, except those of Airflow. The requests in flight are the parts that run at
    once times `max_concurrent_requests`. The events of assets among the `outlets` record each export, as
    those of the operator do.

    :param group_id: names the group; its tasks are `plan`, `read` and `commit`.
    :param destination: a folder that all workers see: on a shared disk, or a URL that Airflow's
        ObjectStoragePath supports, such as `s3://bucket/entries/`, without credentials in it.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param parts: into how many parts of about equal size the export is cut, 1 to 64; fewer if a part would
        hold less than a page.
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
    :param file_format: `jsonl` (None), `csv` or `parquet`.
    :param compression: `gzip` or `zstd`; None for none.
    :param escape_formulas: CSV: put an apostrophe before text that a spreadsheet would run as a formula.
    :param bom: CSV: begin with a byte order mark, by which Excel recognises UTF-8.
    :param parquet_mode: `typed`: columns from the content type; `raw`: id, language, change mark and JSON.
    :param on_type_mismatch: Parquet: `fail` if a value does not fit its declared type, or `raw` to keep the
        entry's JSON in a column `_raw`.
    :param timestamp_unit: Parquet: `us` cuts times to microseconds, which every reader knows; `ns` keeps all
        seven digits that Contensis serves.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight of each task, 1 to 32.
    :param on_empty: what to do if no entries match: `write` an export without files, `keep` the existing one,
        `skip` the last task and keep the existing export, or `fail`.
    :param start_over: read each part anew, even if an earlier attempt has read it or some of it.
    :param pool: the Airflow pool of the tasks that read parts; None for the default pool.
    :param max_active_tis_per_dag: how many parts may be read at once, in all runs of the DAG; None for no
        limit.
    :param max_active_tis_per_dagrun: how many parts may be read at once in one run; None for no limit.
    :param outlets: assets that the export updates; they belong to the last task.
    :param default_args: further arguments of all three tasks, such as `retries`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    def __init__(
        self,
        group_id: str = "export_entries",
        *,
        destination: str | PathLike[str],
        destination_conn_id: str | None = None,
        parts: int | str = DEFAULT_PARTS,
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
        pool: str | None = None,
        max_active_tis_per_dag: int | None = None,
        max_active_tis_per_dagrun: int | None = None,
        outlets: Sequence[Any] = (),
        default_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        of_tasks: Any = dict(default_args or {})  # mypy takes the type of a converter's argument for unknown
        super().__init__(group_id, default_args=of_tasks, **kwargs)
        connections: dict[str, Any] = {
            "destination_conn_id": destination_conn_id,
            "contensis_conn_id": contensis_conn_id,
            "project_id": project_id,
        }
        options: ReadArguments = {
            "page_size": page_size,
            "max_concurrent_requests": max_concurrent_requests,
        }
        limits: dict[str, Any] = {
            "pool": pool,
            "max_active_tis_per_dag": max_active_tis_per_dag,
            "max_active_tis_per_dagrun": max_active_tis_per_dagrun,
        }
        with self:
            plan = ContensisPlanPartsOperator(
                task_id="plan",
                arguments={
                    "destination": destination,
                    "parts": parts,
                    "content_type_id": content_type_id,
                    "language": language,
                    "version_status": version_status,
                    "data_format": data_format,
                    "where": where,
                    "fields": fields,
                    "changed_from": changed_from,
                    "changed_to": changed_to,
                    "api": api,
                    "link_depth": link_depth,
                    "field_link_depths": field_link_depths,
                    "file_format": file_format,
                    "compression": compression,
                    "escape_formulas": escape_formulas,
                    "bom": bom,
                    "parquet_mode": parquet_mode,
                    "on_type_mismatch": on_type_mismatch,
                    "timestamp_unit": timestamp_unit,
                    "on_empty": on_empty,
                    "start_over": start_over,
                    **options,
                },
                **connections,
            )
            read = ContensisReadPartOperator.partial(
                task_id="read",
                map_index_template="{{ task.part['name'] }}",
                start_over=start_over,
                **options,
                **connections,
                **{name: value for name, value in limits.items() if value is not None},
            ).expand(part=plan.output)
            commit = ContensisCommitPartsOperator(
                task_id="commit", plan=plan.output, outlets=list(outlets), **options, **connections
            )
            read >> commit
