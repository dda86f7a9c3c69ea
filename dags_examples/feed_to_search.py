"""Keep an index of Elasticsearch or OpenSearch in step with Contensis.

Copy this file and `feed_consumer.py` into your DAGs folder. It needs the connections `contensis_default`
(see the README) and `search_default` (of type HTTP: schema, host, port, login and password of the cluster).
It writes to the folder named by the environment variable CONTENSIS_EXPORT_FOLDER.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import requests
from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath, task
from feed_consumer import ChangeSet, new_change_sets

from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = os.environ.get("CONTENSIS_EXPORT_FOLDER", "/data/contensis")
ALIAS = "contensis"  # searches use this name; each snapshot gets an index of its own
ENTRIES_AT_ONCE = 500
MAPPINGS = {
    "dynamic": False,  # content types may use one name for fields of two types: list what you search
    "properties": {
        "entryTitle": {"type": "text"},
        "sys": {"properties": {"contentTypeId": {"type": "keyword"}, "language": {"type": "keyword"}}},
    },
}


class Cluster:
    """The cluster that a connection leads to."""

    def __init__(self, conn_id: str) -> None:
        connection = BaseHook.get_connection(conn_id)
        self._url = f"{connection.schema or 'https'}://{connection.host}:{connection.port or 9200}"
        self._session = requests.Session()
        if connection.login:
            self._session.auth = (connection.login, connection.password or "")

    def call(self, method: str, path: str, body: Any = None, *, missing: Any = None) -> Any:
        """Return the answer to a request; `missing` instead of a 404."""
        data, kind = (body, "x-ndjson") if isinstance(body, bytes) else (json.dumps(body), "json")
        answer = self._session.request(
            method,
            f"{self._url}/{path}",
            data=None if body is None else data,
            headers={"Content-Type": f"application/{kind}"},
            timeout=120,
        )
        if answer.status_code == requests.codes.not_found and missing is not None:
            return missing
        answer.raise_for_status()
        return answer.json()

    def bulk(self, index: str, actions: Iterator[bytes]) -> None:
        """Send actions, some at a time; fail if one of them failed."""
        while some := b"".join(islice(actions, ENTRIES_AT_ONCE)):
            for item in self.call("POST", f"{index}/_bulk", some)["items"]:
                [(action, outcome)] = item.items()
                # A deletion that an earlier attempt has made is no failure.
                if "error" in outcome and (action, outcome["status"]) != ("delete", 404):
                    raise RuntimeError(f"{action} of {outcome['_id']} failed: {outcome['error']}")


def actions(change_set: ChangeSet) -> Iterator[bytes]:
    """Yield what a change set does, as lines of the bulk API."""
    for operation, action in (("delete", "delete"), ("upsert", "index")):
        for file in change_set.files(operation):
            with file.open("rb") as lines:  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
                for line in iter(lines.readline, b""):  # on Airflow 2.11 it cannot be iterated itself
                    key = "{contentTypeId}:{language}:{id}".format(**json.loads(line)["sys"])
                    head = json.dumps({action: {"_id": key}}).encode() + b"\n"
                    yield head if action == "delete" else head + line


with DAG(
    dag_id="contensis_feed_to_search",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a feed has one writer, and so has the index
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["contensis"],
) as dag:
    export = ContensisExportChangesOperator(
        task_id="export",
        destination=f"{FOLDER}/feed/",
        skip_if_unchanged=True,
    )

    @task
    def load(result: dict[str, Any]) -> None:
        """Apply each new change set, then record its number in the index; to apply one twice does no harm."""
        cluster = Cluster("search_default")
        index = next(iter(cluster.call("GET", f"_alias/{ALIAS}", missing={})), None)
        applied = 0
        if index is not None:
            applied = cluster.call("GET", f"{index}/_mapping")[index]["mappings"]["_meta"]["sequence"]
        for change_set in new_change_sets(ObjectStoragePath(result["destination"]), applied):
            older = index
            if change_set.is_snapshot:
                index = f"{ALIAS}-{change_set.sequence:06d}"
                cluster.call("DELETE", index, missing={})  # of an earlier attempt
                cluster.call("PUT", index, {"mappings": MAPPINGS})
            cluster.bulk(str(index), actions(change_set))
            cluster.call("PUT", f"{index}/_mapping", {"_meta": {"sequence": change_set.sequence}})
            if change_set.is_snapshot:
                swap: list[Any] = [{"add": {"index": index, "alias": ALIAS}}]
                if older is not None:
                    swap.append({"remove_index": {"index": older}})
                cluster.call("POST", "_aliases", {"actions": swap})

    load(export.output)  # type: ignore[arg-type]  # an XComArg here, a dict when the task runs
