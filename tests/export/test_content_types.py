"""Definitions of content types as a service may give them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.content_types import export_content_types
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


def test_lone_surrogate_in_a_name_fails_no_export(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    definitions = json.loads(json.dumps(list(small_catalogue.content_types.values())))
    definitions[0]["name"]["en-GB"] = definitions[0]["fields"][0]["name"]["en-GB"] = "Film\ud83d"
    answer = Response(200, json.dumps(definitions).encode())
    with Sandbox(small_catalogue, faults=Answers(*[answer] * 9, kind="content_type")) as sandbox:
        client, project = make_client(sandbox), sandbox.project_id
        for name in ("x.jsonl", "x.json", "x.csv", "x.parquet", "folder/"):
            request = ExportRequest.from_arguments(destination=f"{tmp_path}/{name}", on_type_mismatch="raw")
            assert export_entries(client, project, request).entries > 0
        changes = ChangesRequest.from_arguments(destination=f"{tmp_path}/feed/")
        assert export_changes(client, project, changes)["upserts"] > 0
        export_content_types(client, project, f"{tmp_path}/types.json")
    assert json.loads((tmp_path / "types.json").read_text(encoding="utf-8")) == definitions


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ([{"id": "film"}, {"id": "Film"}], "'Film', which is not an id, or is listed twice"),
        ([{"id": None}], "None, which is not an id"),
        ([{"id": 5}], "5, which is not an id"),
        (
            [{"id": "film", "dataFormat": "asset"}],
            "'film' with the data format 'asset'",
        ),
    ],
)
def test_contradicting_list_is_refused(
    small_catalogue: Catalogue,
    make_client: Callable[..., ContensisClient],
    tmp_path: Path,
    definitions: list[Any],
    message: str,
) -> None:
    faults = Answers(
        Response.json([{"dataFormat": "form", **each} for each in definitions]), kind="content_type"
    )
    with Sandbox(small_catalogue, faults=faults) as sandbox:
        client = make_client(sandbox)
        with pytest.raises(InvalidResponseError, match=message):
            export_content_types(client, sandbox.project_id, f"{tmp_path}/x.json", data_format="form")
    assert not list(tmp_path.iterdir())
