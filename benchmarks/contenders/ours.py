"""This provider's operator as a task runs it: planning, reading, proof, file and commit.

The variant is the suffix of the file. With `--formats`, it prints the suffixes that this build can write.
"""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable

_LATER = (
    "airflow_provider_contensis.api.client",
    "airflow_provider_contensis.export.entries",
    "airflow_provider_contensis.hooks.contensis",
)
_LATER_FOR = {"csv": ("csv",), "parquet": ("pyarrow.json", "pyarrow.parquet")}

SUFFIXES = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet")


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Import what `execute` imports later, and return the export."""
    suffix, _, kept = setting.variant.partition(" ")
    file_format = suffix.partition(".")[0]
    for module in (*_LATER, *_LATER_FOR.get(file_format, ())):
        importlib.import_module(module)
    from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator

    path = setting.folder / f"entries.{suffix}"
    operator = ContensisExportEntriesOperator(
        task_id="export",
        destination=str(path),
        page_size=setting.page_size,
        max_concurrent_requests=setting.connections,
    )
    ti = SimpleNamespace(
        dag_id="bench",
        task_id="export",
        run_id="bench",
        map_index=-1,
        try_number=1,
        max_tries=1 if kept else 0,
        xcom_push=lambda **_: None,
    )
    store = SimpleNamespace(get=lambda _: None, set=lambda *_: None, delete=lambda _: None)
    context = {"ti": ti, **({"task_state_store": store} if kept else {})}

    def work() -> Outcome:
        result = operator.execute(cast("Any", context))
        return Outcome([path], {"xcom_bytes": len(json.dumps(result))})

    return work


def formats() -> list[str]:
    """Return the suffixes that this build can write."""
    from airflow_provider_contensis.api.errors import ContensisError
    from airflow_provider_contensis.export.destination import Destination

    known = []
    for suffix in SUFFIXES:
        try:
            Destination.from_arguments(f"/entries.{suffix}")
        except ContensisError:
            continue
        known.append(suffix)
    return known


if __name__ == "__main__":
    if sys.argv[1:] == ["--formats"]:
        sys.stdout.write(json.dumps(formats()) + "\n")
    else:
        measure(prepare, "airflow-provider-contensis", "apache-airflow", "msgspec", "requests")
