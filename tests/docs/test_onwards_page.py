"""The SQL of the page about warehouses: what runs here works, what does not is what the example sends."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import BLOCKS, DOCS, EXAMPLES, section

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = DOCS / "onwards.md"
SQL = [block.text for block in BLOCKS if (block.page, block.language) == (PAGE, "sql")]
WAREHOUSES = {"Snowflake": "s3", "BigQuery": "gs", "Redshift": "s3"}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    folder = EXAMPLES[0].parent
    monkeypatch.syspath_prepend(folder)
    yield runpy.run_path(str(folder / "feed_to_warehouse.py"))
    monkeypatch.delitem(__import__("sys").modules, "feed_consumer")


def test_query_of_duckdb_works() -> None:
    duckdb = pytest.importorskip("duckdb")
    entry = {"entryTitle": "The Lantern Keeper", "sys": {"version": {"published": "2026-03-01T10:00:00Z"}}}
    with duckdb.connect() as database:
        database.execute("CREATE TABLE entries (content_type_id TEXT, language TEXT, id TEXT, entry JSON)")
        row = ["film", "en-GB", "1", json.dumps(entry)]
        database.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
        [(title, published)] = database.execute(f"SELECT title, epoch(published) FROM ({SQL[0]})").fetchall()
    assert (title, published) == ("The Lantern Keeper", 1772359200)


def test_each_other_block_is_marked_as_not_run() -> None:
    assert len(SQL) == 1 + len(WAREHOUSES)
    for name, sql in zip(WAREHOUSES, SQL[1:], strict=True):
        text = section(PAGE, name)
        assert text.lstrip().startswith("**Not run here.**")
        assert sql in text


@pytest.mark.parametrize("name", WAREHOUSES)
def test_page_shows_what_the_example_sends(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from feed_consumer import ChangeSet

    statements = example[name.lower()]
    monkeypatch.setitem(statements.__globals__, "FEED", f"{WAREHOUSES[name]}://my-bucket/feed/")
    files = [{"path": f"{each}s/film", "operation": each} for each in ("upsert", "delete")]
    folder: Any = PurePosixPath("000003-20261126T020000Z")
    change_set = ChangeSet(folder, {"kind": "changes", "sequence": 3, "files": files})
    [sql] = [sql for sql in SQL if sql in section(PAGE, name)]
    once, each_time = re.split(r"^-- .*\n", sql, flags=re.MULTILINE)[1:]
    assert each_time == ";\n".join(statements(change_set)) + ";\n"
    assert once.count("CREATE TABLE ") == 2
