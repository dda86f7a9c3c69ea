"""A feed in other formats than JSON Lines, read as people read it."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.sandbox import Catalogue, Sandbox, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import Document
from tests.export.formats.every_type import EVERY_TYPE, FULL, NULLS, Number, parse_exact
from tests.feeds import manifests

duckdb = pytest.importorskip("duckdb")
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pq = pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Field
    from airflow_provider_contensis.export.results import ChangesSummary

PROJECT = {"id": "filmArchive", "primaryLanguage": "en-GB", "supportedLanguages": ["en-GB"]}

_EVENTS = (
    b'"allowedEvents":["a"],"transition":{"invoked":"2031-03-30T10:15:12Z","invokedBy":"jo","from":"draft",'
    b'"event":"publish","data":null}'
)

READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "DuckDB": lambda path: duckdb.sql(f"FROM read_parquet('{path}')").to_arrow_table().to_pylist(),
    "pandas": lambda path: pandas.read_parquet(path, dtype_backend="pyarrow").to_dict("records"),
    "Polars": lambda path: polars.read_parquet(path).to_dicts(),
    "PyArrow": lambda path: pq.read_table(path).to_pylist(),
}


def check(served: Any, actual: Any, path: str = "") -> None:
    """Check that a reader's value is as served; a member that is absent may be null."""
    if served is None:
        assert actual is None or actual != actual or str(actual) in {"<NA>", "NaT"}, path
    elif isinstance(actual, dict):
        for name, value in served.items():
            check(value, actual.get(name), f"{path}.{name}")
    elif isinstance(actual, str):
        assert served == actual or served == parse_exact(actual), path
    elif isinstance(actual, datetime):
        assert actual.astimezone(UTC) == moment(served), path
    elif isinstance(served, Number):
        assert Decimal(repr(actual) if isinstance(actual, float) else actual) == Decimal(served), path
    elif isinstance(served, list):
        assert len(served) == len(actual), path
        for number, (value, item) in enumerate(zip(served, actual, strict=True)):
            check(value, item, f"{path}.{number}")
    else:
        assert served == bool(actual), path


def moment(served: str) -> datetime:
    """Return a time as a column holds it, cut to microseconds."""
    found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", served))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@pytest.fixture
def catalogue() -> Catalogue:
    # The sandbox changes entries whose workflow is complete.
    entries = [each.replace(b'"allowedEvents":["a"]', _EVENTS) for each in (FULL, NULLS)]
    documents = [Document(entry, status) for entry in entries for status in ("published", "latest")]
    definition = {**EVERY_TYPE, "defaultLanguage": "en-GB", "supportedLanguages": ["en-GB"]}
    return Catalogue(PROJECT, [definition], documents)


@pytest.fixture
def follow(make_client: Callable[..., ContensisClient], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Bring a feed up to date, and return what the run returned."""
    sandboxes: dict[int, Sandbox] = {}

    def run(catalogue: Catalogue, **arguments: Any) -> ChangesSummary:
        if id(catalogue) not in sandboxes:
            sandboxes[id(catalogue)] = Sandbox(catalogue)
            sandboxes[id(catalogue)].__enter__()
        sandbox = sandboxes[id(catalogue)]
        request = ChangesRequest.from_arguments(destination=f"{tmp_path}/feed/", **arguments)
        return export_changes(make_client(sandbox), sandbox.project_id, request)

    yield run
    for sandbox in sandboxes.values():
        sandbox.__exit__(None, None, None)


def files(folder: Path, operation: str) -> list[Path]:
    """Return the files of all change sets, in order."""
    return [
        change_set / file["path"]
        for change_set, manifest in manifests(folder)
        for file in manifest["files"]
        if file["operation"] == operation
    ]


def exact(entries: Iterable[bytes]) -> dict[str, Any]:
    return {entry["sys"]["id"]: entry for entry in map(parse_exact, entries)}


@pytest.mark.parametrize("reader", READERS)
def test_parquet_is_read_as_it_was_served(
    catalogue: Catalogue, follow: Callable[..., Any], tmp_path: Path, reader: str
) -> None:
    follow(catalogue, file_format="parquet")
    first = exact(catalogue.entries())
    catalogue.update("full", {"title": "changed", "runtime": 7})
    catalogue.delete("nulls")
    result = follow(catalogue, file_format="parquet")
    assert (result["upserts"], result["deletes"]) == (1, 1)
    second = exact(catalogue.entries())
    snapshot, changes = files(tmp_path / "feed", "upsert")
    assert snapshot.name == changes.name == "everything.parquet"
    for path, served in ((snapshot, first), (changes, second)):
        rows = {row["sys"]["id"]: row for row in READERS[reader](path)}
        assert rows.keys() == served.keys()
        for key, entry in served.items():
            check(entry, rows[key])
    [deleted] = files(tmp_path / "feed", "delete")
    assert json.loads(deleted.read_text())["sys"]["id"] == "nulls"


def test_columns_follow_the_definition_of_their_run(follow: Callable[..., Any], tmp_path: Path) -> None:
    catalogue = synthetic_catalogue(5, body_bytes=20)
    arguments = {"file_format": "parquet", "on_type_mismatch": "raw"}
    follow(catalogue, **arguments)
    entry_id = json.loads(next(iter(catalogue.entries())))["sys"]["id"]
    definition = catalogue.content_types["article"]
    mood: Field = {"id": "mood", "name": {}, "dataType": "string", "dataFormat": None}
    catalogue.update_content_type("article", fields=[*definition["fields"], mood])
    catalogue.update(entry_id, {"mood": "grey"})
    follow(catalogue, **arguments)
    first, second = (READERS["PyArrow"](path) for path in files(tmp_path / "feed", "upsert"))
    assert "mood" not in first[0]
    assert [row["mood"] for row in second].count("grey") == 1
    united = ", ".join(f"'{path}'" for path in files(tmp_path / "feed", "upsert"))
    rows = duckdb.sql(f"SELECT mood FROM read_parquet([{united}], union_by_name = true)").fetchall()
    assert sorted(rows, key=str) == [("grey",), *[(None,)] * (len(first) + len(second) - 1)]


def test_raw_parquet_holds_entries_as_served(
    catalogue: Catalogue, follow: Callable[..., Any], tmp_path: Path
) -> None:
    follow(catalogue, file_format="parquet", parquet_mode="raw", timestamp_unit="ns")
    [path] = files(tmp_path / "feed", "upsert")
    table = pq.read_table(path)
    assert {row.encode() for row in table.column("entry").to_pylist()} == set(catalogue.entries())
    assert str(table.schema.field("changed").type) == "timestamp[ns, tz=UTC]"


def test_value_that_does_not_fit_fails_the_run_and_leaves_the_feed(
    follow: Callable[..., Any], tmp_path: Path
) -> None:
    catalogue = synthetic_catalogue(5, body_bytes=20)
    entry_id = json.loads(next(iter(catalogue.entries())))["sys"]["id"]
    for entry in catalogue.entries():
        catalogue.update(json.loads(entry)["sys"]["id"], {"serial": 7})
    follow(catalogue, file_format="parquet")
    catalogue.update(entry_id, {"serial": "seven"})
    with pytest.raises(ExportError, match='Set on_type_mismatch="raw"'):
        follow(catalogue, file_format="parquet")
    assert len(manifests(tmp_path / "feed")) == 1
    follow(catalogue, file_format="parquet", on_type_mismatch="raw")
    [row] = READERS["PyArrow"](files(tmp_path / "feed", "upsert")[1])
    assert (row["serial"], json.loads(row["_raw"])["serial"]) == (None, "seven")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_csv_is_read_as_it_was_served(
    catalogue: Catalogue, follow: Callable[..., Any], tmp_path: Path, compression: str | None
) -> None:
    follow(catalogue, file_format="csv", compression=compression)
    catalogue.update("full", {"title": 'Fog, "thick"\n'})
    follow(catalogue, file_format="csv", compression=compression)
    served = exact(catalogue.entries())["full"]
    path = files(tmp_path / "feed", "upsert")[1]
    assert path.name == ("everything.csv.gz" if compression else "everything.csv")
    rows = duckdb.sql(f"FROM read_csv('{path}', all_varchar = true)").to_arrow_table().to_pylist()
    assert [(row["sys.id"], row["title"], row["runtime"]) for row in rows] == [
        ("full", served["title"], str(served["runtime"]))
    ]


def test_choices_of_csv_apply(catalogue: Catalogue, follow: Callable[..., Any], tmp_path: Path) -> None:
    follow(catalogue, file_format="csv", escape_formulas=True, bom="true")
    [path] = files(tmp_path / "feed", "upsert")
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert "'=1+1" in {row["reference"] for row in rows}


def test_format_may_change_between_runs(
    catalogue: Catalogue, follow: Callable[..., Any], tmp_path: Path
) -> None:
    follow(catalogue)
    catalogue.update("full", {"title": "changed"})
    follow(catalogue, file_format="parquet")
    assert [path.suffix for path in files(tmp_path / "feed", "upsert")] == [".jsonl", ".parquet"]
