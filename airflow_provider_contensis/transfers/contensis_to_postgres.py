"""Keep a copy of Contensis in PostgreSQL."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseOperator

from airflow_provider_contensis.export.arguments import optional_name, take
from airflow_provider_contensis.export.changes_request import (
    DEFAULT_MAX_DELETE_SHARE,
    DEFAULT_OVERLAP,
    VIEW_ARGUMENTS,
)
from airflow_provider_contensis.export.postgres_request import (
    DEFAULT_SCHEMA,
    PostgresArguments,
    PostgresRequest,
)
from airflow_provider_contensis.export.request import DEFAULT_CONCURRENCY, DEFAULT_PAGE_SIZE
from airflow_provider_contensis.lineage import Output, ReportsLineage, is_listening, table_url
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
)
from airflow_provider_contensis.utils.courtesy import courtesy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_contensis.api.resources import Api, Clause, DataFormat, VersionStatus
    from airflow_provider_contensis.export.results import PostgresSummary
    from airflow_provider_contensis.export.sinks.postgres_database import Database
    from airflow_provider_contensis.export.sinks.postgres_tables import Deletes, OnSchemaChange

__all__ = ["ContensisToPostgresOperator"]

_REQUEST_ARGUMENTS = tuple(PostgresArguments.__annotations__)


class ContensisToPostgresOperator(ReportsLineage, BaseOperator):
    """Keep a copy of Contensis in PostgreSQL in step, deletions included.

    The schema has a table for each content type, with a row for each entry and language. The first run loads
    everything; each later run applies what changed since the run before. A run is one transaction: readers
    see the copy as it was before the run, or after it. Where the next run begins is written in the schema
    itself, in `_contensis_sync`. A retry or a cleared task whose run has already updated the copy returns
    the same result, and reads nothing.

    It needs PostgreSQL 14 or later and the extra `postgres` of this package. All arguments are templated. The
    events of assets among the `outlets` record each run: their extra has `schema`, `project_id`, `upserts`,
    `deletes` and `horizon`.

    :param postgres_conn_id: the Airflow connection of type `postgres`. Its role needs TEMP on the database,
        USAGE and CREATE on the schema (CREATE on the database, if the schema is new), and owns the tables.
    :param schema: the schema of the tables; created if it does not exist.
    :param table_prefix: how the names of the tables begin, for more than one copy in a schema.
    :param contensis_conn_id: the Airflow connection of type `contensis`.
    :param project_id: None for the connection's project.
    :param content_type_id: one or several; None for all of the project, also those to come.
    :param language: one or several; None for all that the project supports, also those to come.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses in the API's own JSON; a list, or JSON text. Times that depend on
        the moment of the search, such as `now()` or `-1d`, are refused.
    :param api: `management` or `delivery`.
    :param page_size: entries a page, 1 to 10,000.
    :param max_concurrent_requests: requests in flight, 1 to 32.
    :param overlap: seconds before the service's clock from which the next run reads again, for entries that
        a search finds late; with the Delivery API at least 3,900, because it caches.
    :param deletes: `delete` the rows of entries that left, or `mark` them with a time and a reason.
    :param max_delete_share: fail if more than 100 entries left that are also more than this share of the
        copy's, or all of a content type in one language; None for no limit.
    :param on_schema_change: `evolve` adds a column for a new field and keeps the column of a field that is
        gone; `fail` fails. A field that gets another type fails either way.
    :param full_refresh: read everything, write what differs, and report `drift`.
    :param skip_if_unchanged: skip the task if nothing changed.
    :return: a small dict: `schema`, `upserts`, `deletes`, `content_types` (each with its table and both
        figures), `changed_from`, `horizon`, `drift`, `refreshed`, `unconfirmed`, `misfits` (values that did
        not fit their column and are null there), `requests`, `seconds`.
    :raises ConfigurationError: an argument that is not a template is wrong; raised when the DAG is parsed.
    """

    template_fields: Sequence[str] = (
        "postgres_conn_id",
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
        postgres_conn_id: str = "postgres_default",
        schema: str = DEFAULT_SCHEMA,
        table_prefix: str = "",
        contensis_conn_id: str = "contensis_default",
        project_id: str | None = None,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: VersionStatus | str = "published",
        data_format: DataFormat | str | None = "entry",
        where: str | Clause | Iterable[Clause] | None = None,
        api: Api | str = "management",
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        overlap: int | str = DEFAULT_OVERLAP,
        deletes: Deletes | str = "delete",
        max_delete_share: float | str | None = DEFAULT_MAX_DELETE_SHARE,
        on_schema_change: OnSchemaChange | str = "evolve",
        full_refresh: bool | str = False,
        skip_if_unchanged: bool | str = False,
        **kwargs: Any,
    ) -> None:
        self._refused = take(kwargs, VIEW_ARGUMENTS)
        refuse_deferrable(kwargs)
        super().__init__(**kwargs)
        self.postgres_conn_id = postgres_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.contensis_conn_id = contensis_conn_id
        self.project_id = project_id
        self.content_type_id = materialize(content_type_id)
        self.language = materialize(language)
        self.version_status = version_status
        self.data_format = data_format
        self.where = materialize(where)
        self.api = api
        self.page_size = page_size
        self.max_concurrent_requests = max_concurrent_requests
        self.overlap = overlap
        self.deletes = deletes
        self.max_delete_share = max_delete_share
        self.on_schema_change = on_schema_change
        self.full_refresh = full_refresh
        self.skip_if_unchanged = skip_if_unchanged
        self._kill = Kill()
        if not is_unmapped(self):
            # Templates are checked when the task starts, everything else now.
            self._request(skip_templates=True)

    def execute(self, context: Context) -> PostgresSummary:
        """Bring the copy up to date, and return what changed."""
        from airflow_provider_contensis.export.postgres import update_postgres

        with self._kill.ends(), fail_without_retry():
            request = self._request()
            with closing(hook_for(self.contensis_conn_id, self.project_id)) as hook:
                self._kill.close = hook.close
                push_link(self, context, hook.settings.root_url)
                project_id = hook.project_id
                with self._database() as database:
                    result = update_postgres(
                        database,
                        hook.client,
                        project_id,
                        request,
                        owner=owner_of(context),
                        run=run_name_of(context),
                        pointer=checkpoint_pointer(context),
                    )
                    if is_listening():
                        self._written = self._tables(database, result)
                self._read = source_of(hook, request.query)
        if request.skip_if_unchanged and not result["content_types"]:
            raise AirflowSkipException("Nothing changed, and skip_if_unchanged is set.")
        extra = {name: result[name] for name in ("schema", "upserts", "deletes", "horizon")}
        record_asset_extra(context, self.outlets, {**extra, "project_id": project_id})
        return result

    def on_kill(self) -> None:
        """Stop at once, and leave the copy as it was; a retry can continue from the checkpoint."""
        self._kill()

    @contextmanager
    def _database(self) -> Iterator[Database]:
        """Yield a transaction of a new connection; what was not committed in the end is rolled back."""
        try:
            from airflow.providers.postgres.hooks.postgres import PostgresHook
        except ImportError:
            raise AirflowFailException(
                "Airflow's PostgreSQL provider is missing: "
                "pip install 'airflow-provider-contensis[postgres]'."
            ) from None
        from airflow_provider_contensis.export.sinks.postgres_database import connected

        conn_id = optional_name("postgres_conn_id", self.postgres_conn_id) or PostgresHook.default_conn_name
        with connected(PostgresHook(postgres_conn_id=conn_id).get_conn) as database:
            yield database

    def _tables(self, database: Database, result: PostgresSummary) -> list[Output]:
        """Return the tables that a run has changed, named as Airflow's SQL operators name them."""
        tables: list[Output] = []
        with courtesy("OpenLineage will not know the tables"):
            from airflow.providers.postgres.hooks.postgres import PostgresHook

            from airflow_provider_contensis.export.sinks.postgres_tables import relations

            name = optional_name("postgres_conn_id", self.postgres_conn_id)
            connection = PostgresHook.get_connection(name or PostgresHook.default_conn_name)
            place = connection.host or "localhost", connection.port
            names = connection.schema or connection.login or "", result["schema"]
            existing = relations(database, result["schema"])
            for one in result["content_types"].values():
                # A retry returns the result of the attempt that has committed; a table may be gone since.
                columns = existing[one["table"]].columns if one["table"] in existing else {}
                tables.append(
                    Output(
                        table_url(*place, [*names, one["table"]]),
                        one["upserts"],
                        deletes=one["deletes"],
                        columns={column: kind for column, (kind, _) in columns.items()},
                    )
                )
        return tables

    def _request(self, *, skip_templates: bool = False) -> PostgresRequest:
        arguments: Any = arguments_of(self, _REQUEST_ARGUMENTS, skip_templates=skip_templates)
        return PostgresRequest.from_arguments(**arguments, **self._refused)
