"""The hook: from an Airflow connection to content, and the Test button."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_contensis import connection_check
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError, NotFoundError
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.sandbox import Catalogue, Request, Response, Sandbox
from tests.tls import certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a sandbox the default connection, with some fields changed."""

    def run(sandbox: Sandbox, extra: dict[str, Any] | None = None, **fields: Any) -> None:
        connection = {**sandbox.connection, **fields}
        connection["extra"] = {**sandbox.connection["extra"], **(extra or {})}
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", json.dumps(connection))

    return run


@pytest.fixture
def hook(iso_sandbox: Sandbox, connect: Callable[..., None]) -> Iterator[ContensisHook]:
    connect(iso_sandbox)
    hook = ContensisHook()
    yield hook
    hook.close()


class TestHook:
    def test_connection_may_be_json_or_uri(
        self, iso_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for text in (iso_sandbox.connection_json, iso_sandbox.connection_uri):
            monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", text)
            assert ContensisHook().get_project()["id"] == "isoCodes"

    def test_another_connection_and_project_can_be_chosen(
        self, iso_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", iso_sandbox.connection_json)
        with pytest.raises(NotFoundError):
            ContensisHook("elsewhere", project_id="another").get_project()

    def test_call_without_project_fails(self, iso_sandbox: Sandbox, connect: Callable[..., None]) -> None:
        connect(iso_sandbox, {"project_id": None})
        with pytest.raises(
            ConfigurationError, match="No project: set project_id, or 'Project' in the connection"
        ):
            ContensisHook().get_project()
        assert ContensisHook(project_id="isoCodes").get_project()

    def test_connection_is_read_once(
        self, iso_sandbox: Sandbox, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(iso_sandbox)
        conn_ids = []
        original = BaseHook.get_connection

        def get_connection(conn_id: str) -> Any:
            conn_ids.append(conn_id)
            return original(conn_id)

        monkeypatch.setattr(ContensisHook, "get_connection", staticmethod(get_connection))
        hook = ContensisHook()
        hook.list_projects()
        hook.get_access_token()
        assert conn_ids == ["contensis_default"]

    def test_new_hook_does_not_read_connection(self) -> None:
        ContensisHook("there_is_no_such_connection")

    def test_session_is_authenticated(self, hook: ContensisHook) -> None:
        assert hook.get_conn().get("/api/management/projects").json()[0]["id"] == "isoCodes"

    def test_run_sends_any_call(self, hook: ContensisHook) -> None:
        answer = hook.run("GET", "/api/delivery/projects/isoCodes/entries", params={"pageSize": 1})
        assert answer.json()["pageSize"] == 1

    def test_hooks_of_one_process_share_token(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            tokens = {ContensisHook().get_access_token() for _ in range(5)}
            assert len(tokens) == 1
            assert sandbox.count("token") == 1

    def test_closed_hook_can_be_used_again(self, hook: ContensisHook) -> None:
        hook.list_projects()
        hook.close()
        hook.close()
        assert hook.list_projects()

    def test_methods_return_content_types_and_entries(self, hook: ContensisHook) -> None:
        assert len(hook.list_content_types()) == 4
        assert hook.get_content_type("country")["id"] == "country"
        where = [
            {"field": "sys.contentTypeId", "equalTo": "country"},
            {"field": "sys.versionStatus", "equalTo": "published"},
            {"field": "sys.language", "equalTo": "en-GB"},
        ]
        page = hook.search_entries({"where": where, "pageSize": 2, "orderBy": [{"asc": "sys.id"}]})
        assert page["totalCount"] == hook.count_entries(where) > 200
        entry = page["items"][0]
        assert hook.get_entry(entry["sys"]["id"], language="en-GB") == entry

    def test_iter_entries_yields_every_entry(self, hook: ContensisHook, iso_sandbox: Sandbox) -> None:
        entries = list(hook.iter_entries(content_type_id="subdivision", page_size=1_000))
        served = iso_sandbox.catalogue.entries("published", content_type_id="subdivision")
        key = json.dumps
        assert sorted(map(key, entries)) == sorted(key(json.loads(row)) for row in served)

    def test_iter_entries_refuses_wrong_arguments(self, hook: ContensisHook) -> None:
        with pytest.raises(ConfigurationError, match="page_size must be a whole number from 1 to 10,000"):
            next(hook.iter_entries(page_size=20_000))


def answering(*kinds: str, response: Response) -> Callable[[Request], Response | None]:
    return lambda request: response if request.kind in kinds else None


class TestTestButton:
    def test_success_message_lists_stages(self, hook: ContensisHook, iso_sandbox: Sandbox) -> None:
        ok, message = hook.test_connection()
        assert ok, message
        entries = len(iso_sandbox.catalogue.entries("published", language="en-GB"))
        assert message.startswith(f"OK: project isoCodes, {entries:,} published entries in en-GB. ")
        for stage in (
            "The form is complete",
            f"{iso_sandbox.url} answers",
            "a token for API key 'Sandbox key' with scopes ContentType_Read Entry_Read Project_Read",
            "project 'isoCodes'",
            "published entries in en-GB",
        ):
            assert stage in message

    def test_each_press_requests_new_token(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            ContensisHook().get_access_token()
            assert ContensisHook().test_connection()[0]
            assert ContensisHook().test_connection()[0]
            assert sandbox.count("token") == 3

    def test_new_token_is_cached(self, small_catalogue: Catalogue, connect: Callable[..., None]) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            assert ContensisHook().test_connection()[0]
            ContensisHook().list_projects()
            assert sandbox.count("token") == 1

    def test_message_lists_projects_if_connection_has_none(
        self, iso_sandbox: Sandbox, connect: Callable[..., None]
    ) -> None:
        connect(iso_sandbox, {"project_id": ""})
        ok, message = ContensisHook().test_connection()
        assert ok
        assert re.match(
            r"OK: project isoCodes, [\d,]+ published entries in en-GB\. 'Project' is empty, so there is no "
            r"default project: set project_id in every task \(the key can see isoCodes\)\. The form is ",
            message,
        )

    @pytest.mark.parametrize(
        ("name", "note"),
        [
            ("project", "The extra field 'project' is unknown and has no effect. Did you mean 'project_id'?"),
            ("colour", "The extra field 'colour' is unknown and has no effect. Known fields: project_id,"),
        ],
    )
    def test_message_names_misspelt_extra(
        self, iso_sandbox: Sandbox, connect: Callable[..., None], name: str, note: str
    ) -> None:
        connect(iso_sandbox, {name: "isoCodes"})
        ok, message = ContensisHook().test_connection()
        assert ok
        assert message.startswith("OK: project isoCodes, ")
        assert note in message
        connect(iso_sandbox, {name: "", "project_id": "another"})
        ok, message = ContensisHook().test_connection()
        assert not ok
        assert message.startswith("'Project' is 'another'")
        assert note in message

    def test_message_names_the_scope_that_the_token_lacks(
        self, iso_sandbox: Sandbox, connect: Callable[..., None]
    ) -> None:
        connect(iso_sandbox, {"scopes": "Project_Read ContentType_Read"})
        ok, message = ContensisHook().test_connection()
        assert not ok
        assert "the access token lacks the scope Entry_Read." in message
        assert "role" not in message

    def test_each_cause_of_failure_has_its_own_message(
        self,
        small_catalogue: Catalogue,
        connect: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        messages: dict[str, str] = {}

        def press(cause: str, reason: str) -> None:
            ok, message = ContensisHook().test_connection()
            assert not ok, cause
            assert reason in message, f"{cause}: {message}"
            messages[cause] = message

        envelope = {"logId": "1", "message": "No", "data": None, "type": "Error"}
        answers = {
            "a website answers": (
                answering("token", response=Response(200, b"<html>", {"content-type": "text/html"})),
                "an HTML page",
            ),
            "an empty answer": (answering("token", response=Response(200)), "an empty answer"),
            "the identity provider fails": (
                answering("token", response=Response(500)),
                "failed with status 500",
            ),
            "the flow is not enabled": (
                answering("token", response=Response.json({"error": "unauthorized_client"}, 400)),
                "may not use the client credentials flow",
            ),
            "the project may not be read": (
                answering("project", response=Response.json(envelope, 403)),
                "projects/synthetic was answered with status 403",
            ),
            "entries may not be read": (
                answering("search", response=Response.json(envelope, 403)),
                "entries/search was answered with status 403",
            ),
            "tokens are not accepted": (
                answering("project", response=Response.json({"message": "denied"}, 401)),
                "a new access token was refused too",
            ),
            "a redirect to another host": (
                answering("token", response=Response(302, headers={"Location": "https://login.example/"})),
                "redirects to https://login.example",
            ),
        }
        for cause, (faults, reason) in answers.items():
            with Sandbox(small_catalogue, faults=faults) as sandbox:
                connect(sandbox)
                press(cause, reason)

        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox, password="wrong")
            press("a wrong secret", "check 'Client ID' and 'Shared secret'")
            connect(sandbox, password="")
            press("no secret", "'Shared secret' is empty")
            connect(sandbox, login=None)
            press("no client id", "'Client ID' is empty")
            connect(sandbox, host="")
            press("no host", "has no host")
            connect(sandbox, host="http://cms-example.cloud.contensis.com", port=None)
            press("plain http", "in the clear")
            connect(sandbox, {"scopes": "Entry_Read Everything"})
            press("an unknown scope", "remove scopes from 'Scopes'")
            connect(sandbox, {"project_id": "another"})
            press("an unknown project", "'Project' is 'another', which the API key cannot see")
            connect(sandbox)
        press("a closed port", "refuses connections")

        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setattr(connection_check, "_SECONDS", 0.3)
            connect(with_port(sandbox, silent.getsockname()[1]))
            press("a silent host", "did not answer within")
            monkeypatch.undo()

        chain, key = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Sandbox(small_catalogue, tls=context) as sandbox:
            monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
            press("a certificate that is not trusted", "is not trusted")

        assert len(messages) == 18
        assert len(set(messages.values())) == len(messages)

    @pytest.mark.parametrize(
        "proxy",
        ["http://[", "http://p:port", "socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "http://127.0.0.1:9"],
    )
    def test_nothing_has_passed_if_nothing_was_sent(
        self, iso_sandbox: Sandbox, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, proxy: str
    ) -> None:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        connect(iso_sandbox, {"proxies": {"http": proxy}})
        ok, message = ContensisHook().test_connection()
        assert not ok
        assert "proxies" in message
        assert "Passed" not in message

    def test_failure_message_has_reason_before_passed_stages(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox, {"project_id": "another"})
            assert ContensisHook().test_connection() == (
                False,
                "'Project' is 'another', which the API key cannot see; it can see synthetic. "
                f"Passed: {sandbox.url} answers; the identity provider grants a token for API key "
                "'Sandbox key' with scopes ContentType_Read Entry_Read Project_Read.",
            )
            connect(sandbox, login=" ")
            assert ContensisHook().test_connection() == (
                False,
                "'Client ID' is empty: copy it from the API key in Contensis.",
            )

    def test_message_asks_for_role_if_key_sees_no_project(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        def none(request: Request) -> Response | None:
            return Response.json([]) if request.path == "/api/management/projects" else None

        with Sandbox(small_catalogue, faults=none) as sandbox:
            for project_id in ("another", None):
                connect(sandbox, {"project_id": project_id})
                ok, message = ContensisHook().test_connection()
                assert not ok
                assert "assign it to a role of the project in Contensis" in message

    def test_silent_host_fails_within_about_ten_seconds(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, Sandbox(small_catalogue) as sandbox:
            connect(with_port(sandbox, silent.getsockname()[1]))
            started = time.monotonic()
            ok, _ = ContensisHook().test_connection()
            assert not ok
            assert time.monotonic() - started < 11

    def test_unreadable_connection_fails_without_exception(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", raising=False)

        def broken(_: str) -> None:
            raise RuntimeError("no secrets backend")

        monkeypatch.setattr(ContensisHook, "get_connection", staticmethod(broken))
        assert ContensisHook().test_connection() == (False, "The connection could not be read: RuntimeError.")


class ConnectionOnly:
    """Stands in for a sandbox that nobody has started."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.connection = connection


def with_port(sandbox: Sandbox, port: int) -> ConnectionOnly:
    """Return a sandbox's connection to another port."""
    extra = {"project_id": "synthetic"}
    return ConnectionOnly(
        {
            "conn_type": "contensis",
            "host": "http://127.0.0.1",
            "port": port,
            "login": sandbox.client_id,
            "password": sandbox.client_secret,
            "extra": extra,
        }
    )


def test_threads_share_token(small_catalogue: Catalogue, connect: Callable[..., None]) -> None:
    with Sandbox(small_catalogue) as sandbox:
        connect(sandbox)
        hook = ContensisHook()
        failures: list[Exception] = []

        def work() -> None:
            try:
                hook.list_projects()
            except ContensisError as error:
                failures.append(error)

        hook.client  # noqa: B018 - made once, before the threads
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert sandbox.count("token") == 1
