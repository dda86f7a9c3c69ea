"""Every value of every data type, as `_entry` and as column."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.postgres import update_postgres
from airflow_provider_contensis.export.postgres_request import PostgresRequest
from airflow_provider_contensis.export.sinks.postgres_database import connected
from airflow_provider_contensis.export.sinks.postgres_tables import snake_case
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.sandbox.documents import Document
from tests.export.formats.every_type import EVERY_TYPE, FULL, NULLS, content_type, field, parse_exact
from tests.export.formats.every_type import sys_json as sys_of
from tests.postgres import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import ContentType
    from tests.postgres import Postgres

PROJECT = {"id": "filmArchive", "primaryLanguage": "en-GB", "supportedLanguages": ["en-GB"]}

TYPES = {
    "string": "text",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "datetime": "timestamp with time zone",
}


@pytest.fixture
def copy(make_client: Callable[..., ContensisClient], postgres: Postgres) -> Callable[..., dict[str, Any]]:
    """Load entries, and return their rows by id."""

    def run(
        definition: ContentType, entries: list[bytes], *, driver: str = "psycopg3"
    ) -> dict[str, dict[str, Any]]:
        documents = [Document(entry, "published") for entry in entries]
        full = {**definition, "defaultLanguage": "en-GB", "supportedLanguages": ["en-GB"]}
        with (
            Sandbox(Catalogue(PROJECT, [full], documents)) as sandbox,
            connected(lambda: DRIVERS[driver](postgres.url)) as database,
        ):
            request = PostgresRequest.from_arguments()
            update_postgres(database, make_client(sandbox), "filmArchive", request)
        [table] = postgres.tables().values()
        names = [name for (name,) in postgres.rows(_COLUMNS, table)]
        columns = ", ".join(f'"{name}"::text' for name in names)
        return {
            row[0]: dict(zip(names, row, strict=True))
            for row in postgres.rows(f'SELECT {columns} FROM contensis."{table}"')
        }

    return run


_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'contensis' AND table_name = %s "
    "ORDER BY ordinal_position"
)


def entry_of(entry_id: str = "one", **values: str) -> bytes:
    """Return an entry with values as JSON."""
    members = [f'"{name}":{value}' for name, value in values.items()]
    return ("{" + ",".join([*members, f'"sys":{sys_of(entry_id).decode()}']) + "}").encode()


def is_the_same(value: Any, shown: str | None, each: Mapping[str, Any]) -> bool:
    """Compare a served value with its column, shown as text."""
    data_type, data_format = each["dataType"].lower(), str(each["dataFormat"]).lower()
    if value is None or shown is None:
        return value is shown
    if data_type in {"string", "boolean"}:
        return shown == (value if data_type == "string" else str(value).lower())
    if data_type in {"integer", "decimal"}:
        return Decimal(shown) == Decimal(value)
    if data_type == "datetime":
        moment = datetime.fromisoformat(value[:26])
        utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return datetime.fromisoformat(shown) == utc
    if data_type == "object" and data_format in {"entry", "asset"}:
        return bool(shown == value["sys"]["id"])
    return bool(parse_exact(shown) == value)


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_data_type_and_format_round_trips(
    copy: Callable[..., dict[str, Any]], postgres: Postgres, driver: str
) -> None:
    rows = copy(EVERY_TYPE, [FULL, NULLS], driver=driver)
    names = json.loads(postgres.rows("SELECT tables::text FROM contensis._contensis_sync")[0][0])
    for entry in (FULL, NULLS):
        values = parse_exact(entry)
        row = rows[values["sys"]["id"]]
        assert row["_entry"] == entry.decode()
        assert row["_language"] == "en-GB"
        assert datetime.fromisoformat(row["_changed"]) == datetime(2031, 3, 30, 10, 15, 12, tzinfo=UTC)
        for each in EVERY_TYPE["fields"]:
            column = names["everything"]["columns"][each["id"]]
            assert is_the_same(values[each["id"]], row[column], each), each["id"]
    types = dict(
        postgres.rows(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'everything'"
        )
    )
    for each in EVERY_TYPE["fields"]:
        data_type, data_format = each["dataType"].lower(), str(each["dataFormat"]).lower()
        is_link = data_type == "object" and data_format in {"entry", "asset"}
        expected = "text" if is_link else TYPES.get(data_type, "json")
        assert types[names["everything"]["columns"][each["id"]]] == expected, each["id"]
    assert {name: kind for name, kind in types.items() if name.startswith("_")} == {
        "_id": "text",
        "_language": "text",
        "_digest": "bytea",
        "_created": "timestamp with time zone",
        "_changed": "timestamp with time zone",
        "_entry": "json",
    }


EXACT = [
    ("string", r'"a\u0001b\u0002c\\d\\.\n\\.\n,\"\t"', 'a\x01b\x02c\\d\\.\n\\.\n,"\t'),
    ("string", '""', ""),
    ("string", r'"\ud83d\ude00"', "\U0001f600"),
    ("integer", "9223372036854775807", "9223372036854775807"),
    ("integer", "-9223372036854775808", "-9223372036854775808"),
    ("integer", "94.0", "94"),
    ("integer", "1e3", "1000"),
    ("decimal", "1.10", "1.10"),
    ("decimal", "1e-7", "0.0000001"),
    ("decimal", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"),
    ("decimal", "1E+400", "1" + "0" * 400),
    ("dateTime", '"2031-03-30T10:15:10.7048499Z"', "2031-03-30 10:15:10.704849+00"),
    ("dateTime", '"2031-04-02T09:30:00-05:00"', "2031-04-02 14:30:00+00"),
    ("dateTime", '"2031-04-02"', "2031-04-02 00:00:00+00"),
    ("dateTime", '"0001-01-01T00:00:00"', "0001-01-01 00:00:00+00"),
    ("object", r'{"a":"\u0000\ud83d","b":1.10}', r'{"a":"\u0000\ud83d","b":1.10}'),
    ("stringArray", "[]", "[]"),
]


def test_values_are_exact(copy: Callable[..., dict[str, Any]], postgres: Postgres) -> None:
    postgres.rows(f"ALTER DATABASE {postgres.name} SET timezone = 'UTC'")
    fields = [field(f"my{data_type}", data_type) for data_type in {each[0]: None for each in EXACT}]
    entries = [
        entry_of(f"id{number:02}", **{f"my{data_type}": served})
        for number, (data_type, served, _) in enumerate(EXACT)
    ]
    rows = copy(content_type("everything", fields), entries)
    for number, (data_type, served, shown) in enumerate(EXACT):
        row = rows[f"id{number:02}"]
        assert row[snake_case(f"my{data_type}")] == shown, (data_type, served)
        assert row["_entry"] == entries[number].decode()


MISFITS = {
    "string": [r'"a\u0000b"', r'"\ud83d"', "7", "{}"],
    "integer": ["9223372036854775808", "1.5", "1e400", '"7"', "true"],
    "decimal": ["1e200000", "1e-20000", '"1"'],
    "boolean": ["1", '"true"'],
    "dateTime": ['"2031-02-30T00:00:00Z"', '"soon"', '"0001-01-01T00:00:00+05:00"', "5"],
    "object": [],
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_value_that_does_not_fit_is_null_and_the_rest_is_loaded(
    copy: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture, driver: str
) -> None:
    fields = [field(f"my{data_type}", data_type) for data_type in MISFITS]
    fields += [field("link", "object", "entry"), field("title", "string")]
    values = [(f"my{data_type}", value) for data_type, some in MISFITS.items() for value in some]
    values += [("link", '"9a0d"'), ("link", "{}"), ("link", '{"sys":null}')]
    entries = [
        entry_of(f"id{number:02}", title='"kept"', **{name: value})
        for number, (name, value) in enumerate(values)
    ]
    with caplog.at_level(logging.WARNING):
        rows = copy(content_type("everything", fields), entries, driver=driver)
    assert len(rows) == len(values)
    for number, entry in enumerate(entries):
        row = rows[f"id{number:02}"]
        assert row["_entry"] == entry.decode()
        assert row["title"] == "kept"
        others = {name: value for name, value in row.items() if name[0] != "_" and name != "title"}
        assert set(others.values()) == {None}, values[number]
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith(
        f"{len(values)} values do not fit the column and are null there, first field myst"
    )
    assert "of entry id00 (en-GB)" in warning
