"""The operator that exports the definitions of content types."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from tests.provider.test_operator import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Sandbox


def operator(**arguments: Any) -> ContensisExportContentTypesOperator:
    return ContensisExportContentTypesOperator(
        task_id="types", **{"destination": "/data/x.json", **arguments}
    )


def test_export_writes_every_definition_as_served(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    connect(iso_sandbox)
    result = operator(destination=f"{tmp_path}/types.json").execute(CONTEXT)
    content = (tmp_path / "types.json").read_bytes()
    definitions = json.loads(content)
    assert [definition["id"] for definition in definitions] == result["content_types"]
    assert result["content_types"] == ["country", "currency", "language", "subdivision"]
    assert definitions[0] == iso_sandbox.catalogue.content_types["country"]
    assert (result["bytes"], result["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_data_format_selects_content_types(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    connect(iso_sandbox)
    result = operator(destination=f"{tmp_path}/types.json", data_format="asset").execute(CONTEXT)
    assert result["content_types"] == []
    assert json.loads((tmp_path / "types.json").read_bytes()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destination": "/data/types.csv"}, "must end in .json"),
        ({"destination": ""}, "destination is empty"),
        ({"data_format": "page"}, "data_format must be one of entry, asset, form"),
        ({"version_status": "draft"}, "version_status must be one of"),
        ({"api": "graphql"}, "api must be one of"),
    ],
)
def test_wrong_argument_fails_when_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        operator(**arguments)


def test_templates_are_checked_when_task_starts() -> None:
    fields = ContensisExportContentTypesOperator.template_fields
    export = operator(**{name: f"{{{{ {name} }}}}" for name in fields})
    values: Any = {**dict.fromkeys(fields, "x"), "destination": "x.json"}
    export.render_template_fields(values)
    with pytest.raises(AirflowFailException, match="data_format must be one of"):
        export.execute(CONTEXT)
