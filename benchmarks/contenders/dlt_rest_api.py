"""dlt's rest_api source, loaded into files or PostgreSQL.

The variant is `jsonl` (dlt's defaults: lists become child tables), `jsonl-flat` (one table), `parquet` or
`postgres` (as dlt's tutorial has it).
dlt compresses JSON Lines by default; here it does not, to match its peers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.contenders.measure import Outcome, Setting, measure
from benchmarks.contenders.postgres import database_url, stored

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that runs the pipeline."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DLT_DATA_DIR"] = str(setting.folder / "dlt")
    os.environ["NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION"] = "true"
    import dlt
    from dlt.destinations import filesystem
    from dlt.sources.rest_api import rest_api_source

    if setting.variant == "parquet":
        import pyarrow.parquet  # noqa: F401  # so that it counts as an import

    source = rest_api_source(
        {
            "client": {
                "base_url": setting.url,
                "paginator": {
                    "type": "page_number",
                    "base_page": 0,
                    "page_param": "pageIndex",
                    "total_path": "pageCount",
                },
            },
            "resources": [
                {
                    "name": "film",
                    "endpoint": {
                        "path": urlsplit(setting.listing).path.lstrip("/"),
                        "params": {"pageSize": setting.page_size},
                        "data_selector": "items",
                    },
                }
            ],
        }
    )
    if setting.variant == "jsonl-flat":
        source.max_table_nesting = 0
    if setting.variant == "postgres":
        return _into_postgres(setting, source)
    output = setting.folder / "output"
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(setting.folder / "pipelines"),
        destination=filesystem(bucket_url=output.as_uri()),
        dataset_name="films",
    )
    file_format = setting.variant.partition("-")[0]

    def work() -> Outcome:
        pipeline.run(source, loader_file_format=file_format)
        tables = [
            folder
            for folder in (output / "films").iterdir()
            if folder.is_dir() and not folder.name.startswith("_dlt")
        ]
        return Outcome(
            (output / "films" / "film").iterdir(),
            {
                "tables": len(tables),
                "bytes_all": sum(file.stat().st_size for table in tables for file in table.iterdir()),
            },
        )

    return work


def _into_postgres(setting: Setting, source: Any) -> Callable[[], Outcome]:
    import dlt
    from dlt.destinations import postgres

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(setting.folder / "pipelines"),
        destination=postgres(credentials=database_url()),
        dataset_name="films",
    )

    def work() -> Outcome:
        pipeline.run(source)
        return Outcome(check=lambda: stored("films.film"))

    return work


if __name__ == "__main__":
    measure(prepare, "dlt", "pyarrow")
