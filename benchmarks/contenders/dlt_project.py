"""dlt's rest_api source over a whole project: a resource for each content type in each language.

Each content type becomes a table of JSON Lines; lists become child tables, as dlt does by default. The
resources are read in parallel.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that lists the content types and runs the pipeline."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DLT_DATA_DIR"] = str(setting.folder / "dlt")
    os.environ["NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION"] = "true"
    os.environ["EXTRACT__WORKERS"] = str(setting.connections)
    import dlt
    from dlt.destinations import filesystem
    from dlt.sources.helpers.rest_client import RESTClient
    from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
    from dlt.sources.rest_api import rest_api_source

    auth = OAuth2ClientCredentials(
        access_token_url=f"{setting.url}/authenticate/connect/token",
        client_id=setting.client_id,
        client_secret=setting.client_secret,
        access_token_request_data={"scope": "Entry_Read ContentType_Read Project_Read"},
    )
    project = f"api/management/projects/{setting.project_id}"
    output = setting.folder / "output"
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(setting.folder / "pipelines"),
        destination=filesystem(bucket_url=output.as_uri()),
        dataset_name="project",
    )

    def resource(content_type: str, language: str) -> dict[str, Any]:
        return {
            "name": f"{content_type}_{language}",
            "table_name": content_type,
            "parallelized": True,
            "endpoint": {
                "path": f"{project}/contenttypes/{content_type}/entries",
                "params": {
                    "versionStatus": "published",
                    "language": language,
                    "order": "sys.id",
                    "pageSize": setting.page_size,
                },
                "data_selector": "items",
            },
        }

    def work() -> Outcome:
        client = RESTClient(setting.url, auth=auth)
        languages = client.get(project).json()["supportedLanguages"]
        content_types = [item["id"] for item in client.get(f"{project}/contenttypes").json()]
        source = rest_api_source(
            {
                "client": {
                    "base_url": setting.url,
                    "auth": auth,
                    "paginator": {
                        "type": "page_number",
                        "base_page": 0,
                        "page_param": "pageIndex",
                        "total_path": "pageCount",
                    },
                },
                "resources": [
                    resource(content_type, language)
                    for content_type in content_types
                    for language in languages
                ],
            }
        )
        pipeline.run(source, loader_file_format="jsonl")
        tables = [output / "project" / content_type for content_type in content_types]
        return Outcome([file for table in tables for file in table.iterdir()])

    return work


if __name__ == "__main__":
    measure(prepare, "dlt")
