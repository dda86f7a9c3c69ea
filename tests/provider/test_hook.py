"""The hook: from an Airflow connection to content, and the Test button."""

from __future__ import annotations

import json
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

Connect = "Callable[..., None]"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a sandbox the default connection, some of its fields changed."""

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


class TestTheHook:
    def test_reads_its_connection_from_json_and_from_a_uri(
        self, iso_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for text in (iso_sandbox.connection_json, iso_sandbox.connection_uri):
            monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", text)
            assert ContensisHook().get_project()["id"] == "isoCodes"

    def test_takes_another_connection_and_project(
        self, iso_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", iso_sandbox.connection_json)
        with pytest.raises(NotFoundError):
            ContensisHook("elsewhere", project_id="another").get_project()

    def test_without_a_project_says_where_to_name_one(
        self, iso_sandbox: Sandbox, connect: Callable[..., None]
    ) -> None:
        connect(iso_sandbox, {"project_id": None})
        with pytest.raises(
            ConfigurationError, match="No project: set project_id, or 'Project' in the connection"
        ):
            ContensisHook().get_project()
        assert ContensisHook(project_id="isoCodes").get_project()

    def test_reads_its_connection_once(
        self, iso_sandbox: Sandbox, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(iso_sandbox)
        asked = []
        original = BaseHook.get_connection

        def get_connection(conn_id: str) -> Any:
            asked.append(conn_id)
            return original(conn_id)

        monkeypatch.setattr(ContensisHook, "get_connection", staticmethod(get_connection))
        hook = ContensisHook()
        hook.list_projects()
        hook.get_access_token()
        assert asked == ["contensis_default"]

    def test_asks_for_nothing_until_it_is_used(self) -> None:
        ContensisHook("there_is_no_such_connection")

    def test_gives_a_session_that_is_authenticated(self, hook: ContensisHook) -> None:
        assert hook.get_conn().get("/api/management/projects").json()[0]["id"] == "isoCodes"

    def test_sends_any_call(self, hook: ContensisHook) -> None:
        answer = hook.run("GET", "/api/delivery/projects/isoCodes/entries", params={"pageSize": 1})
        assert answer.json()["pageSize"] == 1

    def test_fetches_one_token_for_all_hooks_of_the_process(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            tokens = {ContensisHook().get_access_token() for _ in range(5)}
            assert len(tokens) == 1
            assert sandbox.count("token") == 1

    def test_can_be_used_again_after_it_was_closed(self, hook: ContensisHook) -> None:
        hook.list_projects()
        hook.close()
        hook.close()
        assert hook.list_projects()

    def test_gives_content_types_and_entries(self, hook: ContensisHook) -> None:
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

    def test_iterates_over_entries_completely(self, hook: ContensisHook, iso_sandbox: Sandbox) -> None:
        entries = list(hook.iter_entries(content_type_id="subdivision", page_size=1_000))
        served = iso_sandbox.catalogue.entries("published", content_type_id="subdivision")
        key = json.dumps
        assert sorted(map(key, entries)) == sorted(key(json.loads(row)) for row in served)

    def test_refuses_wrong_arguments_of_an_iteration(self, hook: ContensisHook) -> None:
        with pytest.raises(ConfigurationError, match="page_size must be a whole number from 1 to 10,000"):
            next(hook.iter_entries(page_size=20_000))


def answering(*kinds: str, response: Response) -> Callable[[Request], Response | None]:
    return lambda request: response if request.kind in kinds else None


class TestTheTestButton:
    def test_passes_after_an_authenticated_read_and_says_how_far_it_got(
        self, hook: ContensisHook, iso_sandbox: Sandbox
    ) -> None:
        ok, message = hook.test_connection()
        assert ok, message
        for words in (
            "The form is complete",
            f"{iso_sandbox.url} answers",
            "a token for API key 'Sandbox key' with scopes ContentType_Read Entry_Read Project_Read",
            "project 'isoCodes'",
            "published entries in en-GB",
        ):
            assert words in message

    def test_asks_for_a_new_token_each_time(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            ContensisHook().get_access_token()
            assert ContensisHook().test_connection()[0]
            assert ContensisHook().test_connection()[0]
            assert sandbox.count("token") == 3

    def test_leaves_its_token_for_what_follows(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            connect(sandbox)
            assert ContensisHook().test_connection()[0]
            ContensisHook().list_projects()
            assert sandbox.count("token") == 1

    def test_without_a_project_tells_which_there_are(
        self, iso_sandbox: Sandbox, connect: Callable[..., None]
    ) -> None:
        connect(iso_sandbox, {"project_id": ""})
        ok, message = ContensisHook().test_connection()
        assert ok
        assert "no default project: set project_id in every task (the key can see isoCodes)" in message

    def test_has_a_message_of_its_own_for_each_cause_of_failure(
        self,
        small_catalogue: Catalogue,
        connect: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        told: dict[str, str] = {}

        def press(cause: str, words: str) -> None:
            ok, message = ContensisHook().test_connection()
            assert not ok, cause
            assert words in message, f"{cause}: {message}"
            told[cause] = message

        envelope = {"logId": "1", "message": "No", "data": None, "type": "Error"}
        answers = {
            "a website answers": (
                answering("token", response=Response(200, b"<html>", {"content-type": "text/html"})),
                "an HTML page",
            ),
            "nothing but an empty answer": (answering("token", response=Response(200)), "an empty answer"),
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
            "it redirects elsewhere": (
                answering("token", response=Response(302, headers={"Location": "https://login.example/"})),
                "redirects to https://login.example",
            ),
        }
        for cause, (faults, words) in answers.items():
            with Sandbox(small_catalogue, faults=faults) as sandbox:
                connect(sandbox)
                press(cause, words)

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
            connect(sandbox_like(sandbox, silent.getsockname()[1]))
            press("a silent host", "did not answer within")
            monkeypatch.undo()

        chain, key = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Sandbox(small_catalogue, tls=context) as sandbox:
            monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
            press("a certificate that is not trusted", "is not trusted")

        assert len(told) == 18
        assert len(set(told.values())) == len(told)

    def test_tells_the_reason_first_and_what_works_after_it(
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

    def test_tells_a_key_that_sees_no_project_to_be_assigned_to_a_role(
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

    @pytest.mark.slow
    def test_gives_up_within_about_ten_seconds(
        self, small_catalogue: Catalogue, connect: Callable[..., None]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, Sandbox(small_catalogue) as sandbox:
            connect(sandbox_like(sandbox, silent.getsockname()[1]))
            started = time.monotonic()
            ok, _ = ContensisHook().test_connection()
            assert not ok
            assert time.monotonic() - started < 11

    def test_never_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", raising=False)

        def broken(_: str) -> None:
            raise RuntimeError("no secrets backend")

        monkeypatch.setattr(ContensisHook, "get_connection", staticmethod(broken))
        assert ContensisHook().test_connection() == (False, "The connection could not be read: RuntimeError.")


class SandboxLike:
    """A sandbox's connection that leads elsewhere."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.connection = connection


def sandbox_like(sandbox: Sandbox, port: int) -> SandboxLike:
    extra = {"project_id": "synthetic"}
    return SandboxLike(
        {
            "conn_type": "contensis",
            "host": "http://127.0.0.1",
            "port": port,
            "login": sandbox.client_id,
            "password": sandbox.client_secret,
            "extra": extra,
        }
    )


def test_threads_share_one_token(small_catalogue: Catalogue, connect: Callable[..., None]) -> None:
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
