"""This provider's operator, run as a task runs it: plan, read, prove, write and commit.

The variant is the file's suffix; ` checkpoint` after it keeps a checkpoint. With `--formats`, the script
prints the suffixes that this provider can write here.
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

_LAZY_IMPORTS = (
    "airflow_provider_contensis.api.client",
    "airflow_provider_contensis.export.pipeline",
    "airflow_provider_contensis.hooks.contensis",
)
_FORMAT_IMPORTS = {"csv": ("csv",), "parquet": ("pyarrow.json", "pyarrow.parquet")}

SUFFIXES = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet")


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Import what `execute` would import, and return the function that exports."""
    suffix, _, checkpoint = setting.variant.partition(" ")
    file_format = suffix.partition(".")[0]
    for module in (*_LAZY_IMPORTS, *_FORMAT_IMPORTS.get(file_format, ())):
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
        max_tries=1 if checkpoint else 0,
        xcom_push=lambda **_: None,
    )
    store = SimpleNamespace(get=lambda _: None, set=lambda *_: None, delete=lambda _: None)
    context = {"ti": ti, **({"task_state_store": store} if checkpoint else {})}

    def work() -> Outcome:
        result = operator.execute(cast("Any", context))
        return Outcome([path], {"xcom_bytes": len(json.dumps(result))})

    return work


def formats() -> list[str]:
    """Return the suffixes that this provider can write here."""
    from airflow_provider_contensis.exceptions import ContensisError
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
