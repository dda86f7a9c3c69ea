"""Where a run of a copy keeps what has to wait: on this machine's disk, so that memory stays small."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import DestinationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE_KIB = 8_192


def temporary_database() -> sqlite3.Connection:
    """Return a database in a private file, which is gone when the database is closed."""
    database = sqlite3.connect("", isolation_level=None)
    for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
        database.execute(f"PRAGMA {setting}")
    return database


@contextmanager
def translate_temporary_errors() -> Iterator[None]:
    """Translate errors of temporary files.

    :raises DestinationError: says in one sentence what happened.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise DestinationError(
            f"{tempfile.gettempdir()}, the folder for temporary files, could not be written: {error}."
        ) from error
