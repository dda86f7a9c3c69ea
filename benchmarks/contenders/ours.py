"""This provider's operator, run as a task runs it: plan, read, prove, write and commit.

The variant is the file's suffix; ` checkpoint` after it keeps a checkpoint. `s3` writes a folder of JSON
Lines to the object store of the connection `store`. With `--formats`, the program prints those of the given
suffixes that this provider can write here.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.contenders.measure import Outcome, Setting, measure
from benchmarks.object_store import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LAZY_IMPORTS = (
    "airflow_provider_contensis.api.client",
    "airflow_provider_contensis.export.pipeline",
    "airflow_provider_contensis.hooks.contensis",
)
# PyArrow imports pandas for its first array, where it is installed.
_FORMAT_IMPORTS = {"csv": ("csv",), "parquet": ("pyarrow.parquet", "pandas")}
_STORE_IMPORTS = (
    "boto3",
    "s3fs",
    "airflow.providers.amazon.aws.fs.s3",
    "airflow.providers.amazon.aws.hooks.s3",
)
STORE_FOLDER = f"s3://{BUCKET}/export/"


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Import what `execute` would import, and return the function that exports."""
    suffix, _, checkpoint = setting.variant.partition(" ")
    to_store = suffix == "s3"
    more = _STORE_IMPORTS if to_store else _FORMAT_IMPORTS.get(suffix.partition(".")[0], ())
    for module in (*_LAZY_IMPORTS, *more):
        importlib.import_module(module)
    from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

    path = setting.folder / f"entries.{suffix}"
    operator = ContensisExportEntriesOperator(
        task_id="export",
        destination=STORE_FOLDER if to_store else str(path),
        destination_conn_id="store" if to_store else None,
        page_size=setting.page_size,
        max_concurrent_requests=setting.connections,
    )
    ti = SimpleNamespace(
        dag_id="bench",
        task_id="export",
        run_id="bench",
        map_index=-1,
        try_number=1,
        max_tries=1 if checkpoint else 0,
        xcom_push=lambda **_: None,
    )
    store = SimpleNamespace(get=lambda _: None, set=lambda *_: None, delete=lambda _: None)
    context = {"ti": ti, **({"task_state_store": store} if checkpoint else {})}

    def work() -> Outcome:
        result = operator.execute(cast("Any", context))
        more = {"xcom_bytes": len(json.dumps(result))}
        return Outcome(more=more, check=_stored) if to_store else Outcome([path], more)

    return work


def _stored() -> dict[str, Any]:
    """Return what the store's manifest lists, after checking that each object has the size that it says."""
    from airflow.providers.amazon.aws.fs.s3 import get_fs

    folder = STORE_FOLDER.removeprefix("s3://")
    store = get_fs("store")
    files = json.loads(store.cat(f"{folder}_manifest.json"))["files"]
    for file in files:
        if store.size(folder + file["path"]) != file["bytes"]:
            raise RuntimeError(f"{file['path']} has another size than its manifest says")
    return {
        "rows": sum(file["rows"] for file in files),
        "bytes": sum(file["bytes"] for file in files),
        "files": len(files),
    }


def formats(suffixes: Iterable[str]) -> list[str]:
    """Return the suffixes that this provider can write here."""
    from airflow_provider_contensis.exceptions import ContensisError
    from airflow_provider_contensis.export.destination import Destination

    known = []
    for suffix in suffixes:
        try:
            Destination.from_arguments(f"/entries.{suffix}")
        except ContensisError:
            continue
        known.append(suffix)
    return known


if __name__ == "__main__":
    if sys.argv[1] == "--formats":
        sys.stdout.write(json.dumps(formats(sys.argv[2:])) + "\n")
    else:
        measure(prepare, "airflow-provider-contensis", "apache-airflow", "msgspec", "requests")
