"""The script that people write first: one request per page, each page inserted with `execute_values`.

It fills the same columns as this provider, so that a second run would update what the first one has written.
The variant `json` writes only the key and the entry.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg2
import requests
from psycopg2.extras import execute_values

from benchmarks.contenders.measure import Outcome, Setting, measure
from benchmarks.contenders.postgres import database_url, stored

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY = {"id": "text", "language": "text", "entry": "json"}
_FIELDS = {
    "created": "timestamptz",
    "published": "timestamptz",
    "title": "text",
    "tagline": "text",
    "runtime": "bigint",
    "release_date": "timestamptz",
    "director": "text",
    "poster": "json",
    "body": "text",
    "entry_title": "text",
    "entry_description": "text",
}


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that runs the loop."""
    is_json = setting.variant == "json"
    columns = _KEY if is_json else _KEY | _FIELDS
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns)
    insert = (
        f"INSERT INTO film ({', '.join(columns)}) VALUES %s "  # noqa: S608 - the names above
        f"ON CONFLICT (id, language) DO UPDATE SET {changes}"
    )

    def work() -> Outcome:
        number, pages = 0, 1
        database = psycopg2.connect(database_url())
        with requests.Session() as session, database, database.cursor() as cursor:
            cursor.execute(f"CREATE TABLE film ({declared}, PRIMARY KEY (id, language))")
            while number < pages:
                answer = session.get(
                    setting.listing, params={"pageIndex": number, "pageSize": setting.page_size}, timeout=60
                )
                answer.raise_for_status()
                page = answer.json()
                rows = [_row(entry)[: len(columns)] for entry in page["items"]]
                execute_values(cursor, insert, rows, page_size=1000)
                number, pages = number + 1, page["pageCount"]
        database.close()
        return Outcome(check=lambda: stored("film"))

    return work


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    sys = entry["sys"]
    return (
        sys["id"],
        sys["language"],
        json.dumps(entry),
        sys["version"]["created"],
        sys["version"]["published"],
        entry["title"],
        entry["tagline"],
        entry["runtime"],
        entry["releaseDate"],
        entry["director"]["sys"]["id"],
        json.dumps(entry["poster"]),
        entry["body"],
        entry["entryTitle"],
        entry["entryDescription"],
    )


if __name__ == "__main__":
    measure(prepare, "requests", "psycopg2-binary")
