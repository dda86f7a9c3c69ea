"""Airflow connections as people and the form write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook, Connection

from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.exceptions import ConfigurationError
from tests.provider.version import AIRFLOW

SECRET = "a-shared-secret"
_NOT_ON_2 = pytest.mark.skipif(AIRFLOW < (3, 0), reason="Airflow 2.11 itself refuses such a connection")


def settings(extra: object = None, **fields: Any) -> ConnectionSettings:
    values = {"host": "example", "login": "an-id", "password": SECRET, **fields}
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return ConnectionSettings.from_connection(
        Connection(conn_id="x", conn_type="contensis", extra=text, **values)
    )


def test_minimal_connection_has_defaults() -> None:
    read = settings()
    assert read.root_url == "https://cms-example.cloud.contensis.com"
    assert (read.client_id, read.client_secret) == ("an-id", SECRET)
    assert read.scopes == ("Entry_Read", "ContentType_Read", "Project_Read")
    assert (read.project_id, read.timeout, read.verify, read.proxies) == (None, 60.0, True, {})


def test_null_empty_and_missing_fields_mean_the_same() -> None:
    empty = {"project_id": None, "scopes": "", "timeout": None, "verify": None, "proxies": ""}
    assert settings(empty, port=0, schema="") == settings()


def test_every_field_is_read() -> None:
    read = settings(
        {
            "project_id": " website ",
            "scopes": "Entry_Read Project_Read",
            "timeout": 5,
            "verify": "/etc/ca.pem",
            "proxies": {"https": "http://proxy.example:3128"},
            "headers": {"X-Gateway-Key": " a-key ", "X-Tenant": 7},
        },
        host="https://cms.example.org",
        port=8443,
    )
    assert read.root_url == "https://cms.example.org:8443"
    assert read.project_id == "website"
    assert read.scopes == ("Entry_Read", "Project_Read")
    assert read.timeout == 5
    assert read.verify == "/etc/ca.pem"
    assert read.proxies == {"https": "http://proxy.example:3128"}
    assert read.headers == {"X-Gateway-Key": "a-key", "X-Tenant": "7"}


@pytest.mark.parametrize(
    "scopes",
    [
        "Entry_Read Project_Read",
        " Entry_Read,Project_Read ",
        "Entry_Read\nProject_Read\r\n",
        "Entry_Read; Project_Read Entry_Read",
        ["Entry_Read", "Project_Read"],
        ["Entry_Read Project_Read"],
    ],
)
def test_pasted_scopes_are_split(scopes: object) -> None:
    assert settings({"scopes": scopes}).scopes == ("Entry_Read", "Project_Read")


@pytest.mark.parametrize(
    ("verify", "expected"), [(False, False), ("false", False), ("True", True), (True, True), ("  ", True)]
)
def test_verify_may_be_text_or_boolean(verify: object, expected: bool) -> None:
    assert settings({"verify": verify}).verify is expected


@pytest.mark.parametrize(("value", "seconds"), [(None, 300), ("", 300), (0, 0), ("900", 900), (2.5, 2.5)])
def test_retry_seconds_may_be_text_or_zero(value: object, seconds: float) -> None:
    assert settings({"retry_seconds": value}).retry_seconds == seconds


@pytest.mark.parametrize(
    "name", ["https", "http", "all", "https://cms.example", "all://cms.example", "no_proxy"]
)
def test_proxy_may_be_for_any_name_that_requests_knows(name: str) -> None:
    assert settings({"proxies": {name: "http://p:1"}}).proxies == {name: "http://p:1"}


def test_proxies_may_be_json_text() -> None:
    assert settings({"proxies": '{"https": "http://p:1"}'}).proxies == {"https": "http://p:1"}


@pytest.mark.parametrize(
    ("extra", "fields", "message"),
    [
        (None, {"host": None}, "has no host"),
        (None, {"login": None}, "'Client ID' is empty"),
        (None, {"login": "  "}, "'Client ID' is empty"),
        (None, {"password": ""}, "'Shared secret' is empty"),
        ("[1]", {}, "extra is not a JSON object"),
        ("{", {}, "extra is not a JSON object"),
        (None, {"host": ["example"]}, "'Contensis URL or alias' must be text"),
        (None, {"login": {}}, "'Client ID' must be text"),
        pytest.param(None, {"password": 10**5_000}, "'Shared secret' must be text", marks=_NOT_ON_2),
        ({"project_id": ["website"]}, {}, "'Project' must be text"),
        pytest.param("[" * 100_000, {}, "extra is not a JSON object", marks=_NOT_ON_2),
        ({"proxies": "[" * 100_000}, {}, "'proxies' must be"),
        ({"timeout": [[7]]}, {}, "'Timeout"),
        ({"scopes": 7}, {}, "'Scopes' must be"),
        ({"scopes": ["Entry_Read", 7]}, {}, "'Scopes' must be"),
        ({"timeout": "soon"}, {}, "'Timeout"),
        ({"timeout": 0}, {}, "'Timeout"),
        ({"timeout": -1}, {}, "'Timeout"),
        ({"timeout": True}, {}, "'Timeout"),
        ({"timeout": "nan"}, {}, "'Timeout"),
        ({"retry_seconds": -1}, {}, "'retry_seconds' must be a number of at least 0, or empty for 300"),
        ({"retry_seconds": "for ever"}, {}, "'retry_seconds' must be"),
        ({"retry_seconds": "inf"}, {}, "'retry_seconds' must be"),
        ({"verify": 7}, {}, "'verify' must be"),
        ({"proxies": "http://p:1"}, {}, "'proxies' must be"),
        ({"proxies": {"https": 1}}, {}, "'proxies' must be"),
        ({"proxies": {"htps": "http://p:1"}}, {}, "'proxies' must be .*its names are https, http, all"),
        ({"proxies": {"HTTPS": "http://p:1"}}, {}, "'proxies' must be"),
        ({"proxies": {"proxy.example": "http://p:1"}}, {}, "'proxies' must be"),
        ({"headers": "X-Key: 1"}, {}, "'headers' must be an object"),
        ({"headers": {"X-Key": ["a"]}}, {}, "'headers' must be an object"),
        ({"headers": {"X Key": "a"}}, {}, "'headers' contains an invalid name"),
        ({"headers": {"X-Key": "a\r\nX-Evil: b"}}, {}, "'headers' contains an invalid value of X-Key"),
        ({"headers": {"authorization": "Basic x"}}, {}, "'headers' must not set authorization"),
    ],
)
def test_error_names_wrong_field(extra: object, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings(extra, **fields)


def test_unknown_field_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings({"project": "website", "__extra": ""})
    assert "unknown fields: __extra, project. Known fields: project_id, proxies" in caplog.text


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"headers": {"X-Key: s3cr3t": ""}}, "'headers' contains an invalid name"),
        ({"headers": {"X-Key": "s3cr3t\ns3cr3t"}}, "'headers' contains an invalid value of X-Key"),
    ],
)
def test_invalid_header_is_not_shown(extra: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as failure:
        settings(extra)
    assert "s3cr3t" not in str(failure.value)


def test_setting_in_place_of_a_name_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert settings({"X-Key: s3cr3t": "", "token=s3cr3t": 1}).unknown_fields == ("***",)
    assert "s3cr3t" not in caplog.text


def test_repr_of_settings_has_no_secret() -> None:
    read = settings(
        {"proxies": {"https": "http://me:proxy-password@p:1"}, "headers": {"X-Key": "let-me-in", "X-N": "7"}}
    )
    shown = repr(read)
    assert "let-me-in" not in shown
    assert read.secrets == (SECRET, "proxy-password", "bWU6cHJveHktcGFzc3dvcmQ=", "let-me-in")
    assert SECRET not in shown
    assert "proxy-password" not in shown


@pytest.mark.parametrize("scopes", ["Entry_Read", ["Entry_Read", "Project_Read"]])
@pytest.mark.parametrize("host", ["example", "https://cms.example.org", "http://127.0.0.1:8765"])
def test_connection_survives_round_trip_through_uri(
    host: str, scopes: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Test button sends every connection through a URI."""
    extra = {"project_id": "website", "scopes": scopes, "timeout": None, "verify": False}
    connection = Connection(
        conn_id="x",
        conn_type="contensis",
        host=host,
        port=None,
        login="an id",
        password="a/b:c@d?e%#&",
        extra=json.dumps(extra),
    )
    monkeypatch.setenv("AIRFLOW_CONN_X", connection.get_uri())
    parsed = BaseHook.get_connection("x")
    assert ConnectionSettings.from_connection(parsed) == ConnectionSettings.from_connection(connection)
