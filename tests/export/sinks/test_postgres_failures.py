"""Whatever fails in PostgreSQL: one sentence says what to do, and the copy is as it was."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.sinks import postgres_database
from airflow_provider_contensis.export.sinks.postgres_database import Database, connected
from airflow_provider_contensis.sandbox import Catalogue
from tests.export.test_changes import ids, several_types
from tests.feeds import served
from tests.postgres import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.export.copies import Copy
    from tests.postgres import Postgres


@pytest.fixture
def role(postgres: Postgres) -> Iterator[str]:
    """A role without any right."""
    name = f"role_{postgres.name}"
    postgres.rows(f"CREATE ROLE {name} LOGIN")
    postgres.rows(f"REVOKE TEMPORARY ON DATABASE {postgres.name} FROM PUBLIC")
    yield name
    postgres.rows(f"DROP OWNED BY {name}")
    postgres.rows(f"DROP ROLE {name}")


def acting_as(copy: Copy, role: str) -> Callable[[str], Any]:
    """Return what connects as a role."""

    def connect(url: str) -> Any:
        connection = psycopg.connect(url)
        connection.execute(f"SET ROLE {role}".encode())
        connection.commit()
        return connection

    return connect


class TestRights:
    @pytest.mark.parametrize(
        ("statements", "message"),
        [
            ([], "permission denied for database"),
            (["CREATE SCHEMA contensis"], "permission denied for schema contensis"),
        ],
    )
    def test_missing_ones_are_named(
        self, copy_of: Callable[..., Copy], role: str, statements: list[str], message: str
    ) -> None:
        copy = copy_of(several_types(2))
        for statement in statements:
            copy.rows(statement)
        copy.connect = acting_as(copy, role)
        with pytest.raises(
            DestinationError, match=f"{message}.*The role needs TEMP on the database"
        ) as error:
            copy.run()
        assert not error.value.retryable

    def test_those_that_the_message_names_are_enough(self, copy_of: Callable[..., Copy], role: str) -> None:
        copy = copy_of(several_types(2))
        copy.rows(f"CREATE SCHEMA contensis; GRANT USAGE, CREATE ON SCHEMA contensis TO {role}")
        copy.connect = acting_as(copy, role)
        copy.run()
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        with pytest.raises(DestinationError, match="permission denied to create temporary tables"):
            copy.run()
        copy.rows(f"GRANT TEMPORARY ON DATABASE {copy.postgres.name} TO {role}")
        assert copy.run()["upserts"] == 1
        assert copy.is_exact

    def test_tables_of_another_owner_are_left_alone(self, copy_of: Callable[..., Copy], role: str) -> None:
        copy = copy_of(several_types(2))
        copy.run()
        copy.rows(
            f"GRANT ALL ON SCHEMA contensis TO {role}; GRANT TEMP ON DATABASE {copy.postgres.name} TO {role}"
        )
        copy.rows(f"GRANT SELECT ON ALL TABLES IN SCHEMA contensis TO {role}")
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        before = copy.postgres.load()
        copy.connect = acting_as(copy, role)
        with pytest.raises(DestinationError, match="permission denied for table kind0.*must own the tables"):
            copy.run()
        assert copy.postgres.load() == before


class TestLocks:
    def test_table_that_somebody_has_locked_is_waited_for_and_named(
        self, copy_of: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_database, "LOCK_TIMEOUT_SECONDS", 0.1)
        copy = copy_of(several_types(2))
        copy.run()
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        with psycopg.connect(copy.postgres.url) as other:
            other.execute("LOCK TABLE contensis.kind0 IN SHARE MODE")
            with pytest.raises(DestinationError, match="lock timeout.*pg_stat_activity") as error:
                copy.run()
            assert error.value.retryable
        assert copy.run()["upserts"] == 1

    def test_readers_do_not_wait_for_a_run(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(6))
        copy.run()
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        waited: list[bool] = []

        class Slow(Database):
            """Looks at the copy as a reader would, just before the commit."""

            def commit(self) -> None:
                with psycopg.connect(copy.postgres.url) as reader:
                    reader.execute("SET lock_timeout = '1s'")
                    [(number,)] = reader.execute("SELECT count(*) FROM contensis.kind0").fetchall()
                waited.append(number != 12)
                super().commit()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres_database, "Database", Slow)
            assert copy.run()["upserts"] == 1
        assert waited == [False]


def failure_of(copy: Copy) -> DestinationError | None:
    try:
        copy.run()
    except DestinationError as error:
        return error
    return None


class TestLostConnections:
    @pytest.mark.slow
    @pytest.mark.parametrize(("driver", "step"), [("psycopg2", 7), ("psycopg3", 1)])
    def test_at_any_statement_leaves_the_copy_of_before(
        self, copy_of: Callable[..., Copy], driver: str, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server ends the session before one statement after another; the last one is the commit."""
        catalogue = several_types(3, types=2)
        copy = copy_of(catalogue)
        copy.connect = DRIVERS[driver]
        copy.run()
        before = copy.postgres.load()
        copy.catalogue.update(ids(catalogue)[0], {"title": "changed"})
        copy.catalogue.delete(ids(catalogue)[1], language="cy")
        copy.catalogue.content_types["kind1"]["name"] = {"en-GB": "changed"}
        remaining, ask = 0, Database.rows

        def counted(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(database: Database, *args: Any) -> Any:
                nonlocal remaining
                remaining -= 1
                if remaining == 0:
                    [(pid,)] = ask(database, "SELECT pg_backend_pid()")
                    copy.rows(f"SELECT pg_terminate_backend({pid}, 5000)")
                return method(database, *args)

            return call

        for method in ("rows", "execute", "copy", "commit"):
            monkeypatch.setattr(Database, method, counted(getattr(Database, method)))
        failures = 1 - step
        while remaining <= 0:  # otherwise the run had fewer statements
            failures += step
            remaining = failures
            error = failure_of(copy)
            if remaining <= 0:
                assert error is not None
                assert error.retryable, error
                assert copy.postgres.load() == before
        assert failures > 30
        assert copy.postgres.load().keys() == served(catalogue).keys()

    @pytest.mark.parametrize("driver", DRIVERS)
    def test_server_that_does_not_answer_is_named(self, driver: str) -> None:
        with closing(socket.socket()) as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
            port = taken.getsockname()[1]
            url = f"postgresql://someone:made-up-secret@127.0.0.1:{port}/db"
            with (
                pytest.raises(
                    DestinationError, match="could not be updated.*The connection was lost"
                ) as error,
                connected(lambda: DRIVERS[driver](url)),
            ):
                pass
        assert error.value.retryable
        assert "made-up-secret" not in str(error.value)


def test_database_of_another_encoding_is_refused(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(several_types(1))
    name = f"{copy.postgres.name}_latin"
    with psycopg.connect(copy.postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".encode())
        try:
            url = copy.postgres.url.replace(copy.postgres.name, name, 1)
            with (
                pytest.raises(DestinationError, match="encoding LATIN1.*needs UTF8"),
                connected(lambda: psycopg.connect(url)),
            ):
                pass
        finally:
            admin.execute(f"DROP DATABASE {name}".encode())


def test_no_setting_and_no_table_outlives_a_run(copy_of: Callable[..., Copy]) -> None:
    """pgbouncer hands the same session to others once the transaction has ended."""
    copy = copy_of(several_types(3))
    copy.run()
    copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
    copy.catalogue.delete(ids(copy.catalogue)[1])
    look = (
        "SELECT (SELECT json_agg(s ORDER BY name) FROM (SELECT name, setting FROM pg_settings) s)::text, "
        "(SELECT count(*) FROM pg_class WHERE relpersistence = 't'), "
        "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE name <> '')"
    )
    with psycopg.connect(copy.postgres.url) as connection:

        class Kept:
            """A session that is returned rather than closed."""

            def __getattr__(self, name: str) -> Any:
                return (lambda: None) if name == "close" else getattr(connection, name)

            def __setattr__(self, name: str, value: object) -> None:
                setattr(connection, name, value)

        before = connection.execute(look).fetchall()
        connection.commit()
        copy.connect = lambda url: Kept()
        assert copy.run()["upserts"] == 1
        assert connection.execute(look).fetchall() == before
    assert before[0][1:] == (0, 0, 0)


def test_message_holds_no_content(copy_of: Callable[..., Copy], caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue(several_types(1).project, several_types(1).content_types.values())
    catalogue.add("kind0", {"title": "top secret"})
    copy = copy_of(catalogue)
    copy.run()
    copy.rows("ALTER TABLE contensis.kind0 ADD CHECK (title = 'top secret')")
    catalogue.update(ids(catalogue)[0], {"title": "another secret"})
    with caplog.at_level(logging.DEBUG), pytest.raises(DestinationError, match="violates check") as error:
        copy.run()
    assert "secret" not in str(error.value) + caplog.text


def test_threads_are_gone_after_a_failure(copy_of: Callable[..., Copy]) -> None:
    copy = copy_of(several_types(2))
    copy.rows("CREATE SCHEMA contensis; CREATE VIEW contensis.kind0 AS SELECT 1")
    with pytest.raises(Exception, match=r"contensis\.kind0 exists"):
        copy.run()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("contensis")]
