"""Shared by the contenders that write to PostgreSQL."""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import Any

from benchmarks.contenders.measure import DESTINATION


def database_url() -> str:
    """Return the URL of the database; it is also an Airflow connection."""
    return os.environ[DESTINATION]


def stored(table: str) -> dict[str, Any]:
    """Return how many rows a table has, and its size with indexes."""
    driver = importlib.import_module("psycopg2" if find_spec("psycopg2") else "psycopg")
    database = driver.connect(database_url())
    cursor = database.cursor()
    cursor.execute(f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}")  # noqa: S608 - ours
    [(rows, size)] = cursor.fetchall()
    database.close()
    return {"rows": rows, "bytes": size}
