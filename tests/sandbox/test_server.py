"""The server: headers, connections, recorded requests, and faults."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue
from tests.sandbox.conftest import READ_SCOPES, Client
from tests.tls import certificate

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue


def test_responses_have_headers_of_the_service(client: Client) -> None:
    management, delivery = client.get("/entries"), client.get("/entries", "delivery")
    for response in (management, delivery):
        assert response.headers["x-alias"] == "sandbox"
        assert response.headers["origin-content-api-version"]
    assert management.headers["content-type"] == "application/json; charset=utf-8"
    assert "etag" not in management.headers
    assert len(delivery.headers["etag"]) == 8
    assert delivery.headers["cache-control"] == "no-store, must-revalidate"


def test_large_responses_are_compressed_if_client_accepts_gzip(client: Client) -> None:
    packed = client.get("/entries")
    client.session.headers["accept-encoding"] = "identity"
    plain = client.get("/entries")
    del client.session.headers["accept-encoding"]
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert "content-encoding" not in client.get().headers


def test_connection_is_reused_for_many_requests(films: Catalogue) -> None:
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        for _ in range(5):
            client.get("/entries")
        assert sandbox.connections == 2
        stats = client.session.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
        assert stats == {"requests": {"token": 1, "list": 5}, "connections": 2}


def test_requests_are_recorded(films: Catalogue) -> None:
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        client.get("/entries", pageSize=1)
        client.get("/entries/nope")
        client.search([])
        client.get("/contenttypes")
        client.get()
        assert [(record.kind, record.method, record.status) for record in sandbox.requests] == [
            ("token", "POST", 200),
            ("list", "GET", 200),
            ("entry", "GET", 404),
            ("search", "POST", 200),
            ("content_type", "GET", 200),
            ("project", "GET", 200),
        ]
        assert sandbox.requests[1].query == {"pagesize": "1"}
        assert [record.number for record in sandbox.requests] == [1, 2, 3, 4, 5, 6]
        assert (sandbox.count("search"), sandbox.count()) == (1, 6)
        sandbox.forget_requests()
        assert (sandbox.count(), sandbox.requests) == (0, [])


def test_recorded_requests_hold_no_secrets(films: Catalogue) -> None:
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        client.get("/entries")
        assert sandbox.client_secret not in repr(sandbox.requests)


def test_sandbox_can_be_started_and_stopped_repeatedly(films: Catalogue) -> None:
    sandbox = Sandbox(films)
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    sandbox.stop()
    for _ in range(2):
        sandbox.start()
        sandbox.start()
        assert Client(sandbox).get().status_code == 200
        url = sandbox.url
        sandbox.stop()
        sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=10)


def test_stop_closes_idle_connections_and_interrupts_delays(films: Catalogue) -> None:
    sandbox = Sandbox(films)
    sandbox.start()
    client = Client(sandbox)
    client.get()
    idle = socket.create_connection(("127.0.0.1", sandbox.port))
    sandbox.latency = 30
    failures: list[Exception] = []

    def call() -> None:
        try:
            client.get()
        except requests.RequestException as error:
            failures.append(error)

    waiting = threading.Thread(target=call)
    waiting.start()
    time.sleep(0.1)
    start = time.monotonic()
    sandbox.stop()
    waiting.join(5)
    assert time.monotonic() - start < 2
    assert idle.recv(1) == b""
    idle.close()


def test_port_in_use_raises_os_error(sandbox: Sandbox, films: Catalogue) -> None:
    second = Sandbox(films, port=sandbox.port)
    with pytest.raises(OSError, match="in use"):
        second.start()


def test_only_loopback_hosts_are_allowed(films: Catalogue) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
        with pytest.raises(ValueError, match="loopback"):
            Sandbox(films, host=host)
    with Sandbox(films, host="localhost") as sandbox:
        assert sandbox.url == f"http://localhost:{sandbox.port}"
        assert Client(sandbox).get().status_code == 200


def test_connection_has_the_forms_airflow_accepts(sandbox: Sandbox) -> None:
    assert sandbox.connection == {
        "conn_type": "contensis",
        "host": "http://127.0.0.1",
        "port": sandbox.port,
        "login": sandbox.client_id,
        "password": sandbox.client_secret,
        "extra": {"project_id": "filmArchive"},
    }
    assert json.loads(sandbox.connection_json) == sandbox.connection
    parts = urlsplit(sandbox.connection_uri)
    assert (parts.scheme, parts.hostname, parts.port) == ("contensis", "127.0.0.1", sandbox.port)
    assert (parts.username, parts.password) == (sandbox.client_id, sandbox.client_secret)
    assert parse_qs(parts.query) == {"project_id": ["filmArchive"]}


def test_sandbox_serves_https(films: Catalogue, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with Sandbox(films, tls=context) as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        assert "@https%3A%2F%2F127.0.0.1:" in sandbox.connection_uri
        # A silent client must not block others.
        silent = socket.create_connection(("127.0.0.1", sandbox.port))
        form = {
            "grant_type": "client_credentials",
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
            "scope": READ_SCOPES,
        }
        url = f"{sandbox.url}/authenticate/connect/token"
        assert requests.post(url, data=form, verify=str(chain), timeout=10).status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.post(url, data=form, timeout=10)
        silent.close()


def test_malformed_or_chunked_request_body_is_rejected(sandbox: Sandbox) -> None:
    for header, status in (
        (b"content-length: -1", b"400"),
        (b"content-length: x", b"400"),
        (b"transfer-encoding: chunked", b"411"),
    ):
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as connection:
            connection.sendall(b"POST /x HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n")
            assert connection.recv(1000).split()[1] == status


def test_latency_delays_api_responses_but_not_tokens(films: Catalogue) -> None:
    with Sandbox(films, latency=0.15) as sandbox:
        start = time.monotonic()
        client = Client(sandbox)
        token_time = time.monotonic() - start
        client.get()
        assert token_time < 0.15 <= time.monotonic() - start


def test_error_rate_fails_repeatable_share_of_calls(films: Catalogue) -> None:
    def statuses(seed: int) -> list[int]:
        with Sandbox(films, error_rate=0.4, seed=seed) as sandbox:
            client = Client(sandbox)
            return [client.get().status_code for _ in range(30)]

    first = statuses(1)
    assert set(first) == {200, 503}
    assert 5 <= first.count(503) <= 20
    assert first == statuses(1) != statuses(2)


def test_response_may_have_a_date_of_its_own(films: Catalogue) -> None:
    date = "Wed, 24 Dec 2031 12:00:00 GMT"
    response = Response(headers={"date": date})
    with Sandbox(films, faults=lambda call: response if call.kind == "project" else None) as sandbox:
        assert Client(sandbox).get().headers["date"] == date


def test_faults_replace_normal_response(films: Catalogue) -> None:
    def faults(request: Request) -> Response | None:
        if request.kind == "token" and request.number == 2:
            return Response.json({"error": "server_error"}, 500)
        if request.kind == "project":
            return Response(429, b"<html>slow down</html>", {"Retry-After": "7", "content-type": "text/html"})
        if request.path.endswith("/entries") and request.query.get("pageindex") == "1":
            return Response(302, headers={"location": "https://elsewhere.example/"})
        return None

    with Sandbox(films, faults=faults) as sandbox:
        client = Client(sandbox)
        assert client.token().status_code == 500
        limited = client.get()
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
        assert limited.text == "<html>slow down</html>"
        url = f"{sandbox.url}/api/management/projects/filmArchive/entries?pageIndex=1"
        moved = client.session.get(url, allow_redirects=False, timeout=10)
        assert moved.headers["location"] == "https://elsewhere.example/"
        assert client.get("/entries").status_code == 200
        sandbox.faults = None
        assert client.get().status_code == 200
        assert [record.status for record in sandbox.requests] == [200, 500, 429, 302, 200, 200]


def test_fault_can_truncate_normal_response(films: Catalogue) -> None:
    def cut(request: Request) -> Response | None:
        if request.kind != "list":
            return None
        response = request.answer()
        return replace(response, body=response.body[:100], content_length=len(response.body))

    with Sandbox(films, faults=cut) as sandbox:
        client = Client(sandbox)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="100 bytes read"):
            client.get("/entries")
        assert client.get().status_code == 200


def test_fault_can_drop_connection_or_delay_response(films: Catalogue) -> None:
    def faults(request: Request) -> Response | None:
        if request.kind == "list":
            return Response(drop=True)
        return replace(request.answer(), delay=0.2) if request.kind == "project" else None

    with Sandbox(films, faults=faults) as sandbox:
        client = Client(sandbox)
        with pytest.raises(requests.ConnectionError):
            client.get("/entries")
        start = time.monotonic()
        assert client.get().status_code == 200
        assert time.monotonic() - start >= 0.2
        assert [record.status for record in sandbox.requests] == [200, 0, 200]


def test_many_clients_are_served_concurrently() -> None:
    with Sandbox(synthetic_catalogue(200, body_bytes=10), latency=0.1) as sandbox:
        client = Client(sandbox)
        statuses: list[int] = []

        def call() -> None:
            own = requests.Session()
            own.headers.update(client.session.headers)
            url = f"{sandbox.url}/api/management/projects/synthetic/entries"
            statuses.append(own.get(url, timeout=10).status_code)

        threads = [threading.Thread(target=call) for _ in range(40)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert statuses == [200] * 40
        assert time.monotonic() - start < 2
