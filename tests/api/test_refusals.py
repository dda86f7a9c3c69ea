"""Refusals of something between Airflow and Contensis: proxies, firewalls, gateways."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import __version__
from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.sandbox import Request, Response, Sandbox
from tests.api.answers import ENVELOPE, Answers
from tests.conftest import HASTY, SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.sandbox import Catalogue

PAGE = b"<html><head><title>Access denied</title></head></html>"
TUNNELLED, PLAIN = "https://cms-example.cloud.contensis.com", "http://127.0.0.1:9"
FIREWALL = "a firewall or another gateway between Airflow and Contensis"


class RefusingProxy(socketserver.ThreadingTCPServer):
    """Answers every request with one status; counts them."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Refusal)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Refusal(socketserver.StreamRequestHandler):
    server: RefusingProxy

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.server.asked += 1
        self.wfile.write(b"HTTP/1.1 %d Refused\r\ncontent-length: 0\r\n\r\n" % self.server.status)


@pytest.fixture
def start_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], RefusingProxy]]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxies = []

    def start(status: int) -> RefusingProxy:
        proxies.append(RefusingProxy(status))
        threading.Thread(target=proxies[-1].serve_forever, args=(0.02,), daemon=True).start()
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


class TestProxy:
    @pytest.mark.parametrize(
        ("root_url", "status", "words", "is_final"),
        [
            (TUNNELLED, 407, "requires a login: write it into the connection's extra 'proxies'", True),
            (PLAIN, 407, "requires a login: write it into the connection's extra 'proxies'", True),
            (TUNNELLED, 403, r"refuses to connect \(status 403\): ask its administrator", True),
            (TUNNELLED, 502, "failed with status 502", False),
        ],
    )
    def test_refusal_is_final_and_says_what_to_do(
        self,
        start_proxy: Callable[[int], RefusingProxy],
        root_url: str,
        status: int,
        words: str,
        is_final: bool,
    ) -> None:
        proxy = start_proxy(status)
        login = proxy.url.replace("://", "://me:proxy-password@")
        client = ContensisClient(
            Credentials(root_url, "an-id", "a-shared-secret", SCOPES),
            retry=HASTY,
            tokens=TokenCache(),
            proxies={"https": login, "http": login},
        )
        with pytest.raises(errors.HostUnreachableError, match=f"The proxy on the way.*{words}") as failure:
            client.list_projects()
        client.close()
        assert failure.value.retryable is not is_final
        assert (proxy.asked == 1) is is_final
        assert "proxy-password" not in str(failure.value)


class TestFirewall:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 410, 418, 421, 422, 451, 511])
    @pytest.mark.parametrize("body", [PAGE, b"error code: 1020", b"<?xml version='1.0'?><Error/>"])
    def test_page_is_not_taken_for_a_missing_role(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        status: int,
        body: bytes,
    ) -> None:
        faults = Answers(*[Response(status, body, {"content-type": "text/html"})] * 9)
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.APIError, match=FIREWALL) as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert "role" not in str(failure.value)
        assert "ids" not in str(failure.value)
        assert not failure.value.retryable

    @pytest.mark.parametrize("body", [b"", b" ", b'{"message": "No"}', b'"blocked"', b"[]", b"null"])
    def test_403_in_another_shape_than_that_of_contensis_is_not_taken_for_a_missing_role(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], body: bytes
    ) -> None:
        with (
            Sandbox(small_catalogue, faults=Answers(Response(403, body))) as sandbox,
            pytest.raises(errors.PermissionDeniedError, match=FIREWALL) as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert "role" not in str(failure.value)
        assert "Contensis says" not in str(failure.value)

    @pytest.mark.parametrize("body", [b'{"logId": "1", "message": "No"}', b'{"LOGID": null}'])
    def test_403_of_contensis_gives_advice_about_roles(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], body: bytes
    ) -> None:
        with (
            Sandbox(small_catalogue, faults=Answers(Response(403, body))) as sandbox,
            pytest.raises(errors.PermissionDeniedError, match="Assign it to a role") as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert FIREWALL not in str(failure.value)

    @pytest.mark.parametrize("status", [401, 403, 406])
    def test_page_in_place_of_a_token_is_reported(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], status: int
    ) -> None:
        faults = Answers(*[Response(status, PAGE, {"content-type": "text/html"})] * 9, kind="token")
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.AuthenticationError, match="(?i)" + FIREWALL),
        ):
            make_client(sandbox).access_token()
        assert len(faults.seen) == 1


class TestScopes:
    @pytest.mark.parametrize(
        ("scopes", "missing"),
        [
            (("Entry_Read",), "Project_Read"),
            (("Entry_Read", "Project_Read"), "ContentType_Read"),
            (("Project_Read", "ContentType_Read"), "Entry_Read"),
        ],
    )
    def test_403_names_the_scope_that_the_token_lacks(
        self, small_catalogue: Catalogue, scopes: tuple[str, ...], missing: str
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            credentials = Credentials(sandbox.url, sandbox.client_id, sandbox.client_secret, scopes)
            client = ContensisClient(credentials, tokens=TokenCache())
            with pytest.raises(errors.PermissionDeniedError, match=f"lacks the scope {missing}\\."):
                client.get_project(sandbox.project_id)
                client.list_content_types(sandbox.project_id)
                client.count_entries(sandbox.project_id, [])
            client.close()


class TestHeaders:
    def test_every_request_names_the_provider_and_carries_the_headers(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        seen: list[Request] = []

        def record(request: Request) -> None:
            seen.append(request)

        with Sandbox(small_catalogue, faults=record) as sandbox:
            client = make_client(sandbox, headers={"X-Gateway-Key": "let-me-in"})
            client.get_project(sandbox.project_id)
            make_client(sandbox, headers={"User-Agent": "ours"}).list_projects()
        assert [request.kind for request in seen] == ["token", "project", "token", "project"]
        agents = [request.headers["user-agent"] for request in seen]
        assert agents[0].startswith(f"airflow-provider-contensis/{__version__} ")
        assert agents == [agents[0], agents[0], "ours", "ours"]
        assert [request.headers.get("x-gateway-key") for request in seen] == ["let-me-in"] * 2 + [None] * 2

    def test_header_that_an_answer_echoes_is_hidden(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        def echo(request: Request) -> Response | None:
            if request.kind != "project":
                return None
            return Response.json({**ENVELOPE, "message": f"You sent {dict(request.headers)}"}, 403)

        with Sandbox(small_catalogue, faults=echo) as sandbox:
            client = make_client(sandbox, headers={"X-Gateway-Key": "let-me-in"})
            with pytest.raises(errors.PermissionDeniedError, match="You sent") as failure:
                client.get_project(sandbox.project_id)
        assert "let-me-in" not in f"{failure.value} {failure.value.detail}"
