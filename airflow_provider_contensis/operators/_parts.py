"""The tasks of `ContensisExportEntriesTaskGroup`: they plan, read one part, and commit."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_contensis.export.arguments import flag, given
from airflow_provider_contensis.export.destination import path_text
from airflow_provider_contensis.export.parts_request import PartsArguments, PartsRequest
from airflow_provider_contensis.export.request import ReadArguments, read_options
from airflow_provider_contensis.lineage import ReportsLineage, written_files
from airflow_provider_contensis.links.contensis import ContensisLink
from airflow_provider_contensis.operators._task import (
    Kill,
    arguments_of,
    checkpoint_pointer,
    fail_without_retry,
    hook_for,
    materialize,
    owner_of,
    push_link,
    record_asset_extra,
    source_of,
    storage_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.export.request import ReadOptions
    from airflow_provider_contensis.export.results import PartSummary, SharedExportSummary
    from airflow_provider_contensis.export.shared_plan import PartAddress
    from airflow_provider_contensis.export.sinks.parts import SharedFolder
    from airflow_provider_contensis.hooks.contensis import ContensisHook

REQUEST_ARGUMENTS = tuple(PartsArguments.__annotations__)
_READ_ARGUMENTS = tuple(ReadArguments.__annotations__)


class _PartsOperator(BaseOperator):
    """What the three have in common: two connections, and an end when Airflow kills the task."""

    template_fields: Sequence[str] = ("destination_conn_id", "contensis_conn_id", "project_id")
    operator_extra_links = (ContensisLink(),)
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        destination_conn_id: str | None = None,
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination_conn_id = destination_conn_id
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self._kill = Kill()

    def on_kill(self) -> None:
        """Stop at once; a retry of a part can continue from its checkpoint."""
        self._kill()

    @contextmanager
    def _running(self, context: Context) -> Iterator[ContensisHook]:
        with (
            self._kill.ends(),
            fail_without_retry(),
            closing(hook_for(self.contensis_conn_id, self.project_id)) as hook,
        ):
            self._kill.close = hook.close
            push_link(self, context, hook.settings.root_url)
            yield hook

    def _folder(self, url: str, context: Context) -> SharedFolder:
        from airflow_provider_contensis.export.sinks.parts import SharedFolder

        return SharedFolder(*storage_for(url, self.destination_conn_id), owner_of(context))


class ContensisPlanPartsOperator(_PartsOperator):
    """Cut an export into parts of about equal size, and write the plan.

    :param arguments: of the group, as `PartsArguments` names them.
    :return: where each worker finds its part.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (*_PartsOperator.template_fields, *REQUEST_ARGUMENTS)
    template_fields_renderers = {"where": "json", "fields": "json", "field_link_depths": "json"}  # noqa: RUF012 - as BaseOperator declares it

    def __init__(self, *, arguments: PartsArguments, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        values: dict[str, Any] = {**arguments}
        for name in REQUEST_ARGUMENTS:
            setattr(self, name, materialize(values[name]))
        self.destination = path_text(values["destination"])
        # Templates are checked when the task starts, everything else now.
        self._request(skip_templates=True)

    def execute(self, context: Context) -> list[PartAddress]:
        """Plan, and return where each worker finds its part."""
        from airflow_provider_contensis.export.parts import plan_parts

        with self._running(context) as hook:
            request = self._request()
            folder = self._folder(request.destination.url, context)
            return plan_parts(hook.client, hook.project_id, request, folder)

    def _request(self, *, skip_templates: bool = False) -> PartsRequest:
        arguments: Any = arguments_of(self, REQUEST_ARGUMENTS, skip_templates=skip_templates)
        if skip_templates:
            arguments.setdefault("destination", "template/")
        return PartsRequest.from_arguments(**arguments)


class _ReadingOperator(_PartsOperator):
    """A task that reads entries of a plan; parameters as in `ContensisExportEntriesTaskGroup`."""

    template_fields: Sequence[str] = (*_PartsOperator.template_fields, *_READ_ARGUMENTS)

    def __init__(self, *, page_size: int | str, max_concurrent_requests: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests

    def _options(self) -> ReadOptions:
        arguments: Any = arguments_of(self, _READ_ARGUMENTS, skip_templates=False)
        return read_options(**arguments)


class ContensisReadPartOperator(_ReadingOperator):
    """Read one part of a plan.

    :param part: where to find it.
    :param start_over: read it even if an earlier attempt has.
    """

    template_fields: Sequence[str] = (*_ReadingOperator.template_fields, "part", "start_over")

    def __init__(self, *, part: PartAddress, start_over: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = part
        self.start_over = start_over

    def execute(self, context: Context) -> PartSummary:
        """Read the part, and return how large it is."""
        from airflow_provider_contensis.export.parts import export_part

        part = self.part
        with self._running(context) as hook:
            start_over = flag("start_over", given(self.start_over) or False)
            return export_part(
                hook.client,
                hook.project_id,
                part,
                self._folder(part["destination"], context),
                self._options(),
                pointer=None if start_over else checkpoint_pointer(context, f"{part['plan']}.{part['part']}"),
                start_over=start_over,
            )


class ContensisCommitPartsOperator(ReportsLineage, _ReadingOperator):
    """Check that all parts of a plan are there and add up to the whole, and make them the export.

    :param plan: where the parts are: what the first task returned, `PartAddress`es.
    """

    template_fields: Sequence[str] = (*_ReadingOperator.template_fields, "plan")

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> SharedExportSummary:
        """Commit, and return what was written."""
        from airflow_provider_contensis.export.parts import load_plan
        from airflow_provider_contensis.export.parts_commit import commit_parts

        [address, *_] = self.plan
        with self._running(context) as hook:
            folder = self._folder(address["destination"], context)
            plan = load_plan(hook.client, hook.project_id, address["plan"], folder)
            result = commit_parts(hook.client, plan, folder, self._options())
            self._read = source_of(hook, plan.request.query)
        self._written = written_files(result["destination"], result["files"])
        if plan.request.on_empty == "skip" and not result["entries"]:
            raise AirflowSkipException('No entries matched, and on_empty is "skip".')
        extra = {name: result[name] for name in ("destination", "project_id", "entries", "watermark")}
        record_asset_extra(context, self.outlets, extra)
        return result
