"""Operators that export the files of assets."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_contensis.export.assets_request import (
    DEFAULT_MAX_FILE_BYTES,
    AssetsArguments,
    AssetsRequest,
)
from airflow_provider_contensis.export.destination import path_text
from airflow_provider_contensis.export.request import DEFAULT_CONCURRENCY, DEFAULT_PAGE_SIZE
from airflow_provider_contensis.lineage import Output, ReportsLineage
from airflow_provider_contensis.links.contensis import ContensisLink
from airflow_provider_contensis.operators._task import (
    Kill,
    arguments_of,
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
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.api.resources import Api, Clause, VersionStatus
    from airflow_provider_contensis.export.assets_request import OnMissing, SendToken
    from airflow_provider_contensis.export.results import AssetsSummary

__all__ = ["ContensisExportAssetsOperator"]

# The data format is that of assets.
_REQUEST_ARGUMENTS = tuple(name for name in AssetsArguments.__annotations__ if name != "data_format")


class ContensisExportAssetsOperator(ReportsLineage, BaseOperator):
    """Export the files of assets, such as images and documents, from Contensis to a folder.

    The folder holds each file once, named by its content, and `assets.jsonl`, which lists the file of each
    asset with its size and SHA-256. The list is proven complete, as every export is. Each file has the size
    that its asset names, and appears under its name whole or not at all. A run asks only for files that are
    new or changed since the last one; a retry continues where the attempt before it stopped.

    All arguments are templated. The events of Airflow's assets among the `outlets` record each run: their
    extra has `destination`, `project_id`, `assets`, `files`, `bytes` and `missing`.

    :param destination: a local folder, or the URL of one that Airflow's ObjectStoragePath supports, such as
        `s3://bucket/assets/`, without credentials in it.
    :param destination_conn_id: the Airflow connection of the object store; local paths need none.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several, such as `image`; None for all of the project.
    :param language: one or several; None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param where: further search clauses in the API's own JSON; a list, or JSON text.
    :param api: `management` or `delivery`.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight, 1 to 32: that many files at a time.
    :param site_url: where files are served from, such as `https://www.example.com`; None for the
        environment's root.
    :param send_token: `never`, or `environment` to send the access token with requests for files, if
        `site_url` is the environment's own host.
    :param max_file_bytes: the size of the largest file to export; a larger one counts as missing.
    :param on_missing: `fail` if a file cannot be had, or `report` it in the manifest with the reason.
    :param prune: remove files that no asset names any more.
    :return: a small dict: `destination`, `assets` (how many have a file), `files` and `bytes` (of distinct
        files), `downloaded`, `unchanged`, `missing`, `removed`, `project_id`, `version_status`, `requests`,
        `seconds`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "destination_conn_id",
        "contensis_conn_id",
        "project_id",
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
        where: str | Clause | Iterable[Clause] | None = None,
        api: Api | str = "management",
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        site_url: str | None = None,
        send_token: SendToken | str = "never",  # noqa: S107 - a choice, not a secret
        max_file_bytes: int | str = DEFAULT_MAX_FILE_BYTES,
        on_missing: OnMissing | str = "fail",
        prune: bool | str = True,
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
        self.where = materialize(where)
        self.api = api
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests
        self.site_url = site_url
        self.send_token = send_token
        self.max_file_bytes = max_file_bytes
        self.on_missing = on_missing
        self.prune = prune
        self._kill = Kill()
        if not is_unmapped(self):
            # Templates are checked when the task starts, everything else now.
            self._request(skip_templates=True)

    def execute(self, context: Context) -> AssetsSummary:
        """Export, and return what the folder holds."""
        from airflow_provider_contensis.export.assets import export_assets

        with self._kill.ends(), fail_without_retry():
            request = self._request()
            storage, root = storage_for(request.url, self.destination_conn_id)
            with closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
                self._kill.close = hook.close
                push_link(self, context, hook.settings.root_url)
                result = export_assets(
                    hook.client,
                    hook.project_id,
                    request,
                    storage=storage,
                    root=root,
                    owner=owner_of(context),
                )
                self._read = source_of(hook, request.query)
        self._written = [Output(result["destination"], result["assets"], result["bytes"])]
        extra = {
            "destination": result["destination"],
            "project_id": result["project_id"],
            "assets": result["assets"],
            "files": result["files"],
            "bytes": result["bytes"],
            "missing": result["missing"],
        }
        record_asset_extra(context, self.outlets, extra)
        return result

    def on_kill(self) -> None:
        """Stop at once; files that were read stay for the next attempt."""
        self._kill()

    def _request(self, *, skip_templates: bool = False) -> AssetsRequest:
        arguments: Any = arguments_of(self, _REQUEST_ARGUMENTS, skip_templates=skip_templates)
        if skip_templates:
            arguments.setdefault("destination", "template/")
        return AssetsRequest.from_arguments(**arguments)
