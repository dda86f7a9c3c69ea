"""A copy in PostgreSQL that follows a sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.export.postgres import update_postgres
from airflow_provider_contensis.export.postgres_request import PostgresRequest
from airflow_provider_contensis.export.sinks.postgres_database import connected
from tests.feeds import served
from tests.postgres import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import PostgresSummary
    from airflow_provider_contensis.sandbox import Catalogue, Sandbox
    from tests.postgres import Postgres


class Copy:
    """A sandbox, and a copy that follows it."""

    def __init__(
        self, catalogue: Catalogue, client: ContensisClient, sandbox: Sandbox, postgres: Postgres
    ) -> None:
        self.catalogue = catalogue
        self.client = client
        self.sandbox = sandbox
        self.postgres = postgres
        self.connect: Callable[[str], Any] = DRIVERS["psycopg3"]

    def run(self, run: Any = None, **arguments: Any) -> PostgresSummary:
        request = PostgresRequest.from_arguments(**{"page_size": 20, **arguments})
        with connected(lambda: self.connect(self.postgres.url)) as database:
            return update_postgres(database, self.client, self.sandbox.project_id, request, run=run)

    @property
    def is_exact(self) -> bool:
        return self.postgres.load() == served(self.catalogue)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.postgres.rows(sql)
