"""One transaction of PostgreSQL, through whichever driver made the connection: psycopg2 or psycopg 3.

It also works through pgbouncer in transaction mode: no prepared statement and no setting outlives the
transaction. A failure becomes a `DestinationError` of one sentence.
"""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import DestinationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

LOCK_TIMEOUT_SECONDS = 60

_MIN_VERSION = 140_000
_ROWS_AT_ONCE = 100

# SQLSTATE, or its class: what to do, and whether a later attempt may succeed.
_ADVICE: dict[str, tuple[str, bool]] = {
    "42501": (
        "The role needs TEMP on the database, USAGE and CREATE on the schema (or CREATE on the database, for "
        "a new schema), and must own the tables of the copy",
        False,
    ),
    "25006": ("The server is read-only: use a connection to the primary", False),
    "55P03": (
        f"Another session has locked a table of the copy for more than {LOCK_TIMEOUT_SECONDS} s: look for it "
        "in pg_stat_activity",
        True,
    ),
    "57014": ("Raise statement_timeout for the role, or set it to 0", True),
    "25P04": ("Raise transaction_timeout for the role, or set it to 0", True),
    "53200": ("Raise max_locks_per_transaction: a copy has a table for each content type", False),
    "42": ("A table of the copy may have been changed by hand", False),
    "23": ("A table of the copy may have been changed by hand", True),
    "28": ("Check user and password of the connection", False),
    "3D": ("Check the database of the connection", False),
    "08": ("The connection was lost", True),
    "25": ("The connection was lost", True),
    "40": ("Another session held a conflicting lock", True),
    "53": ("The server lacks a resource", True),
    "57": ("The server ended the connection", True),
}


class Database:
    """One transaction. Nothing of it is visible before `commit`.

    :param connection: a new connection of psycopg2 or psycopg 3.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = itertools.count()
        self._copier = ThreadPoolExecutor(1, "contensis-copy")
        self._copying: Future[None] | None = None
        with _translated(connection):
            connection.autocommit = False
            if hasattr(connection, "prepare_threshold"):
                from psycopg.rows import tuple_row

                connection.prepare_threshold = None
                self._options: dict[str, Any] = {"row_factory": tuple_row}
            else:
                from psycopg2.extensions import cursor

                self._options = {"cursor_factory": cursor}
        self._set_up()

    def _set_up(self) -> None:
        settings = (
            f"lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'",
            "idle_in_transaction_session_timeout = 0",  # it waits for Contensis
            # A worker that vanished would keep its locks for hours.
            "tcp_keepalives_idle = 60",
            "tcp_keepalives_interval = 10",
            "tcp_keepalives_count = 6",
            "client_encoding = 'UTF8'",
            "standard_conforming_strings = on",
        )
        self.execute("; ".join(f"SET LOCAL {setting}" for setting in settings))
        [(version, shown, encoding, has_lz4)] = self.rows(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_version'), "
            "current_setting('server_encoding'), EXISTS (SELECT FROM pg_settings "
            "WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))"
        )
        problem = None
        if version < _MIN_VERSION:
            problem = f"The server is PostgreSQL {shown}, and a copy needs 14 or later"
        elif encoding != "UTF8":
            problem = f"The database has the encoding {encoding}, and a copy needs UTF8"
        if problem:
            error = DestinationError(f"{problem}: use another database.")
            error.retryable = False
            raise error
        if has_lz4:  # pglz takes more time than all else of a first load
            self.execute("SET LOCAL default_toast_compression = 'lz4'")

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a statement that has few."""
        with self._cursor() as cursor:
            cursor.execute(sql, values or None)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def execute(self, sql: str, *values: object) -> int:
        """Run a statement; return the number of rows it changed."""
        with self._cursor() as cursor:
            cursor.execute(sql, values or None)
            changed: int = cursor.rowcount
            return changed

    def stream(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement that may have many, a few at a time."""
        name = f"contensis_{next(self._numbers)}"
        self.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", *values)
        try:
            while rows := self.rows(f"FETCH {_ROWS_AT_ONCE} FROM {name}"):
                yield from rows
        finally:
            with suppress(DestinationError):  # of a transaction that failed
                self.execute(f"CLOSE {name}")

    def copy(self, table: str, columns: str, lines: bytes) -> None:
        r"""Add rows to a table, in the background: whatever comes next waits for it, and raises its failure.

        :param lines: CSV with `\x02` between values and `\x01` around text: JSON contains neither.
        """
        sql = rf"COPY {table} ({columns}) FROM STDIN (FORMAT csv, DELIMITER E'\x02', QUOTE E'\x01')"
        self._wait()
        self._copying = self._copier.submit(self._copy, sql, lines)

    def commit(self) -> None:
        """Make everything visible."""
        self._wait()
        with _translated(self._connection):
            self._connection.commit()

    def _copy(self, sql: str, lines: bytes) -> None:
        with _translated(self._connection), self._connection.cursor(**self._options) as cursor:
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(sql, io.BytesIO(lines), size=1 << 20)
            else:
                with cursor.copy(sql) as copy:
                    copy.write(lines)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        self._wait()
        with _translated(self._connection), self._connection.cursor(**self._options) as cursor:
            yield cursor

    def _wait(self) -> None:
        """Wait for the rows that are being copied: a connection does one thing at a time."""
        copying, self._copying = self._copying, None
        if copying is not None:
            copying.result()

    def close(self) -> None:
        """Roll back what was not committed."""
        self._copier.shutdown()
        with suppress(self._connection.Error):
            self._connection.rollback()  # the server may take a while to notice that the connection is closed


@contextmanager
def connected(connect: Callable[[], Any]) -> Iterator[Database]:
    """Yield a transaction of its own, and close its connection: that rolls back what was not committed.

    :param connect: opens a connection of psycopg2 or psycopg 3.
    :raises DestinationError: it cannot be opened.
    """
    try:
        connection = connect()
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"psycopg", "psycopg2"}:
            raise
        raise as_destination_error(error) from None
    try:
        with closing(Database(connection)) as database:
            yield database
    finally:
        with suppress(connection.Error):
            connection.close()


@contextmanager
def _translated(connection: Any) -> Iterator[None]:
    try:
        yield
    except connection.Error as error:
        raise as_destination_error(error) from None


def as_destination_error(error: Exception) -> DestinationError:
    """Return a failure of the driver as one of ours, in one sentence."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "08"
    advice, retryable = _ADVICE.get(state) or _ADVICE.get(state[:2]) or ("Nothing was changed", False)
    # Further lines may quote what was sent.
    [said, *_] = str(error).strip().splitlines() or [type(error).__name__]
    failure = DestinationError(f"PostgreSQL could not be updated: {said.rstrip('.')}. {advice}.")
    failure.retryable = retryable
    return failure


def identifier(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"{}"'.format(name.replace('"', '""'))


def literal(text: str) -> str:
    """Return text as SQL writes it, where a statement takes no parameters."""
    return "'{}'".format(text.replace("\0", "").replace("'", "''"))
