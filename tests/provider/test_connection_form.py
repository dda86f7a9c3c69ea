"""The connection form and the Test button as each version of Airflow serves them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.get_provider_info import get_provider_info
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from tests.provider.version import AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

FORM = get_provider_info()["connection-types"][0]

only_airflow_3 = pytest.mark.skipif(
    AIRFLOW < (3, 0),
    reason="Airflow 2.11 has no FastAPI application; its command line tests connections, too",
)


@pytest.fixture(scope="module")
def api(airflow_database: None) -> Iterator[TestClient]:
    """An authenticated client of Airflow 3's own API."""
    from airflow.api_fastapi.app import create_app
    from starlette.testclient import TestClient

    with TestClient(create_app(apps="core")) as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def labels() -> dict[str, str]:
    """Return the labels that the form should show, by field."""
    own = {name: spec["label"] for name, spec in FORM["conn-fields"].items()}
    return {**FORM["ui-field-behaviour"]["relabeling"], **own}


@pytest.mark.skipif(AIRFLOW >= (3, 0), reason="Airflow 3 has no form in Flask")
def test_airflow_2_shows_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
    prefix = "extra__contensis__"
    own = {
        name.removeprefix(prefix): str(widget.field.args[0])
        for name, widget in manager.connection_form_widgets.items()
        if name.startswith(prefix)
    }
    behaviour = manager.field_behaviours["contensis"]
    assert {**behaviour["relabeling"], **own} == labels()
    assert behaviour["hidden_fields"] == ["schema"]
    assert behaviour["placeholders"][f"{prefix}project_id"] == "website"


@only_airflow_3
def test_airflow_3_serves_form(api: TestClient) -> None:
    [served] = [
        each for each in api.get("/ui/connections/hook_meta").json() if each["connection_type"] == "contensis"
    ]
    standard = {name: field for name, field in served["standard_fields"].items() if field}
    shown = {name: field["title"] for name, field in standard.items() if field["title"]}
    own = {name: field["schema"]["title"] for name, field in served["extra_fields"].items()}
    assert served["hook_name"] == "Contensis"
    assert {**shown, **own} == labels()
    assert [name for name, field in standard.items() if field["hidden"]] == ["url_schema"]
    assert standard["port"]["placeholder"].startswith("443")
    for field in served["extra_fields"].values():
        assert "null" in field["schema"]["type"], "every field may be left empty"


@only_airflow_3
def test_button_of_airflow_3_returns_message_of_hook(api: TestClient, small_catalogue: Catalogue) -> None:
    with Sandbox(small_catalogue) as sandbox:
        body = {"connection_id": "contensis_default", **as_the_form_sends(sandbox)}
        passed = api.post("/api/v2/connections/test", json=body).json()
        failed = api.post("/api/v2/connections/test", json={**body, "password": "wrong"}).json()
    assert passed["status"] is True
    assert "project 'synthetic'" in passed["message"]
    assert failed["status"] is False
    assert "check 'Client ID' and 'Shared secret'" in failed["message"]
    assert sandbox.client_secret not in passed["message"] + failed["message"]


def as_the_form_sends(sandbox: Sandbox) -> dict[str, Any]:
    """Return a sandbox's connection as the form sends it: untouched fields of our own are null."""
    extra = {**dict.fromkeys(FORM["conn-fields"]), **sandbox.connection["extra"]}
    return {**sandbox.connection, "schema": "", "extra": json.dumps(extra)}
