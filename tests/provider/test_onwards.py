"""Example DAGs that carry a feed onwards: what arrives is what the service has, entry by entry."""

from __future__ import annotations

import json
import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from tests.feeds import feed_index, key_of, served
from tests.kills import edition, s3_filesystem
from tests.object_stores import StoredFeed
from tests.provider.dags import run
from tests.provider.test_changes_operator import context
from tests.search_server import search_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import DAG

    from airflow_provider_contensis.sandbox import Catalogue
    from tests.feeds import Key

EXAMPLES = Path(__file__).parents[2] / "dags_examples"


@pytest.fixture
def catalogue() -> Catalogue:
    """Six content types with sixty entries each."""
    return edition(1)


@pytest.fixture
def dags_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Airflow puts the DAGs folder on the path: the examples import feed_consumer.py."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    yield EXAMPLES
    sys.modules.pop("feed_consumer", None)


def follow(dag: DAG, catalogue: Catalogue, feed: Path, held: Callable[[], dict[Key, bytes]]) -> None:
    """Let a service change, follow it with a DAG, fall behind, and catch up.

    :param feed: the folder of the feed, which the DAG exports to.
    :param held: returns what the DAG's copy holds.
    """
    day = datetime(2026, 3, 1, tzinfo=UTC)
    export = dag.get_task("export")
    assert isinstance(export, ContensisExportChangesOperator)
    for task in dag.tasks:
        task.retries = 0  # a failure shows at once

    def ids() -> list[str]:
        return [json.loads(entry)["sys"]["id"] for entry in catalogue.entries()]

    def run_dag() -> None:
        nonlocal day
        day += timedelta(days=1)
        assert run(dag, logical_date=day).state == "success"
        assert held() == served(catalogue)

    def run_export(number: int, **arguments: Any) -> None:
        """Export a change set that the DAG does not load."""
        for name, value in {"write_snapshot": False, "keep_change_sets": None, **arguments}.items():
            monkey.setattr(export, name, value)
        export.execute(context(str(number)))
        monkey.undo()

    monkey = pytest.MonkeyPatch()
    run_dag()
    catalogue.update(ids()[0], {"title": "changed"})
    catalogue.add("kind1", {"title": "new"})
    catalogue.delete(ids()[1])
    run_dag()

    # Several change sets at once: an entry that leaves, returns and changes.
    away = ids()[2]
    catalogue.unpublish(away)
    run_export(1)
    catalogue.publish(away)
    run_export(2)
    catalogue.update(away, {"title": "back"})
    catalogue.delete(ids()[3])
    run_dag()
    assert feed_index(feed)["sequence"] == 5

    # A snapshot in between, whose change sets before are gone: the copy has to start there.
    catalogue.delete(ids()[4])
    run_export(3)
    catalogue.delete(ids()[5])
    run_export(4, write_snapshot=True, keep_change_sets=1)
    assert feed_index(feed)["oldest_sequence"] == 7
    catalogue.update(ids()[6], {"title": "after the snapshot"})
    run_dag()
    assert feed_index(feed)["sequence"] == 8


@pytest.mark.usefixtures("airflow_database", "sandbox")
def test_feed_in_duckdb_is_what_the_service_has(
    dags_folder: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    duckdb = pytest.importorskip("duckdb")

    def held() -> dict[Key, bytes]:
        with duckdb.connect(str(tmp_path / "contensis.duckdb"), read_only=True) as database:
            rows = database.execute("SELECT content_type_id, language, id, entry FROM entries").fetchall()
        found = {(content_type, language, id_): entry.encode() for content_type, language, id_, entry in rows}
        assert len(found) == len(rows)
        return found

    dag: DAG = runpy.run_path(str(dags_folder / "feed_to_duckdb.py"))["dag"]
    follow(dag, catalogue, tmp_path / "feed", held)


@pytest.mark.usefixtures("airflow_database", "sandbox")
def test_feed_in_search_index_is_what_the_service_has(
    dags_folder: Path, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a server that answers as the documentation of Elasticsearch and OpenSearch says."""
    with search_server() as server:
        connection = {"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": server.server_port}
        monkeypatch.setenv("AIRFLOW_CONN_SEARCH_DEFAULT", json.dumps(connection))

        def held() -> dict[Key, bytes]:
            found = server.documents("contensis")
            assert [key_of(json.loads(entry)) for entry in found.values()] == [
                tuple(id_.split(":")) for id_ in found
            ]
            return {key_of(json.loads(entry)): entry for entry in found.values()}

        dag: DAG = runpy.run_path(str(dags_folder / "feed_to_search.py"))["dag"]
        follow(dag, catalogue, tmp_path / "feed", held)
        assert list(server.indexes) == ["contensis-000007"]

        # An attempt that fails halfway is made again.
        catalogue.add("kind1", {"title": "newer"})
        for entry in catalogue.entries(content_type_id="kind2")[:9]:
            catalogue.delete(json.loads(entry)["sys"]["id"])
        server.fail_bulk_at = server.bulk_requests + 1
        assert run(dag, logical_date=datetime(2026, 4, 1, tzinfo=UTC)).state == "failed"
        catalogue.add("kind1", {"title": "newest"})
        assert run(dag, logical_date=datetime(2026, 4, 2, tzinfo=UTC)).state == "success"
        assert held() == served(catalogue)


class TestWarehouse:
    """No warehouse is here: what all of them do in their transaction runs in DuckDB, loads do not run."""

    @pytest.fixture
    def example(self, dags_folder: Path) -> dict[str, Any]:
        return runpy.run_path(str(dags_folder / "feed_to_warehouse.py"))

    @pytest.mark.usefixtures("sandbox")
    def test_transactions_leave_what_the_service_has(
        self, example: dict[str, Any], catalogue: Catalogue, tmp_path: Path
    ) -> None:
        duckdb = pytest.importorskip("duckdb")
        from feed_consumer import new_change_sets

        columns = "content_type_id TEXT, language TEXT, id TEXT, entry TEXT"
        with duckdb.connect() as database:
            database.execute(f"CREATE TABLE entries ({columns}); CREATE TABLE applied (sequence INTEGER)")
            for number in range(4):
                for entry in catalogue.entries()[:3]:
                    catalogue.delete(json.loads(entry)["sys"]["id"])
                catalogue.update(json.loads(catalogue.entries()[0])["sys"]["id"], {"title": f"{number}"})
                export = ContensisExportChangesOperator(
                    task_id="export", destination=f"{tmp_path}/feed/", write_snapshot=number == 2
                )
                export.execute(context(str(number)))
                if number == 1:
                    continue  # it falls behind
                [(applied,)] = database.execute("SELECT coalesce(max(sequence), 0) FROM applied").fetchall()
                for change_set in new_change_sets(ObjectStoragePath(f"{tmp_path}/feed"), applied):
                    rows = [
                        (*key_of(json.loads(line)), line.decode() if operation == "upsert" else None)
                        for operation in ("upsert", "delete")
                        for file in change_set.files(operation)
                        for line in file.read_bytes().splitlines()
                    ]
                    database.execute(f"CREATE OR REPLACE TABLE changes ({columns})")
                    database.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", rows)
                    database.execute(f"BEGIN; {'; '.join(example['apply'](change_set))}; COMMIT")
                found = database.execute("FROM entries").fetchall()
                assert {tuple(key): entry.encode() for *key, entry in found} == served(catalogue)
                assert len(found) == len(served(catalogue))

    @pytest.mark.parametrize("conn_type", ["snowflake", "redshift", "gcpbigquery"])
    @pytest.mark.usefixtures("sandbox")
    def test_each_change_set_is_sent_in_order(
        self, example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conn_type: str
    ) -> None:
        ContensisExportChangesOperator(task_id="export", destination=f"{tmp_path}/feed/").execute(context())
        sent: list[str] = []

        def query(statement: str) -> list[tuple[int]]:
            sent.append(statement)
            return [(0,)]

        hook = SimpleNamespace(
            get_first=lambda statement: query(statement)[0],
            run=lambda statements, autocommit: sent.append(";\n".join(statements)),
            get_client=lambda: SimpleNamespace(query_and_wait=query),
        )
        connection = SimpleNamespace(conn_type=conn_type, get_hook=lambda: hook)
        load = example["dag"].get_task("load").python_callable
        monkeypatch.setitem(load.__globals__, "FEED", f"{tmp_path}/feed/")
        monkeypatch.setitem(
            load.__globals__, "BaseHook", SimpleNamespace(get_connection=lambda conn_id: connection)
        )
        load()
        position, change_set = sent
        assert position.startswith("SELECT coalesce(max(sequence), 0) FROM ")
        assert "DELETE FROM entries WHERE true;\nINSERT INTO entries" in change_set
        assert "/upserts/" in change_set
        assert "/deletes/" not in change_set


@pytest.mark.usefixtures("sandbox", "dags_folder")
def test_feed_on_s3_is_read_alike(
    catalogue: Catalogue, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feed_consumer import new_change_sets

    extra = {"endpoint_url": s3_url, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "made-up-key", "password": "made-up-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection))
    stored = StoredFeed("s3", s3_filesystem(s3_url), tmp_path)
    for run_id in ("one", "two"):
        ContensisExportChangesOperator(
            task_id="export", destination=stored.url, destination_conn_id="store"
        ).execute(context(run_id))
        catalogue.delete(json.loads(catalogue.entries()[0])["sys"]["id"])
    feed = ObjectStoragePath(stored.url, conn_id="store")
    first, second = new_change_sets(feed, 0)
    assert [first.sequence, second.sequence] == [1, 2]
    assert f"{stored.root}{first.folder.name}/upserts/" in str(first.files("upsert")[0])
    assert first.folder.name.startswith("000001-")
    [deletes] = second.files("delete")
    assert len(deletes.read_bytes().splitlines()) == 1
    assert new_change_sets(feed, 1) == [second]
    assert new_change_sets(feed, 2) == []
    with pytest.raises(ValueError, match="begins anew"):
        new_change_sets(feed, 3)
