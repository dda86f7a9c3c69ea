"""Failures of the network, each as one of our own exceptions."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import Answers
from tests.tls import certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue


class TestTheNetwork:
    ONCE = RetryPolicy(attempts=1)

    def test_a_name_that_is_not_known(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import socket

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        with Sandbox(small_catalogue) as sandbox:
            monkeypatch.setattr(socket, "getaddrinfo", unknown)
            with pytest.raises(errors.HostUnreachableError, match="Cannot resolve the host name"):
                make_client(sandbox, retry=self.ONCE).list_projects()

    def test_a_port_where_nobody_listens(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=self.ONCE)
        with pytest.raises(errors.HostUnreachableError, match="refuses connections"):
            client.list_projects()

    def test_a_server_that_takes_too_long(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(Response(delay=2.0))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.RequestTimeoutError, match=r"within 0\.2 seconds"),
        ):
            make_client(sandbox, retry=self.ONCE, timeout=0.2).list_projects()

    def test_a_proxy_that_is_not_there(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("NO_PROXY")
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=self.ONCE, proxies={"http": "http://me:pw@127.0.0.1:9"})
            with pytest.raises(errors.HostUnreachableError, match="proxy") as failure:
                client.list_projects()
            assert "pw" not in str(failure.value).split()

    def test_a_certificate_that_is_not_trusted_and_one_that_is(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        chain, key = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Sandbox(small_catalogue, tls=context) as sandbox:
            with pytest.raises(errors.CertificateError, match="is not trusted.*extra 'verify'") as failure:
                make_client(sandbox, retry=self.ONCE).list_projects()
            assert "self-signed" in str(failure.value) or "self signed" in str(failure.value)
            assert make_client(sandbox, verify=str(chain)).list_projects()
            with pytest.raises(errors.ConfigurationError, match="'verify' names a CA file"):
                make_client(sandbox, verify=str(tmp_path / "missing.pem")).list_projects()

    def test_plain_http_where_tls_is_expected(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            url = sandbox.url.replace("http:", "https:")
            credentials = Credentials(url, sandbox.client_id, sandbox.client_secret, ("Entry_Read",))
            client = ContensisClient(credentials, retry=self.ONCE, tokens=TokenCache())
            with pytest.raises(errors.HostUnreachableError, match="does not speak TLS"):
                client.access_token()


def test_every_exception_of_requests_becomes_one_of_ours(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def subclasses(of: type[Exception]) -> set[type[Exception]]:
        return {of}.union(*(subclasses(each) for each in of.__subclasses__()))

    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox, retry=RetryPolicy(attempts=1))
        client.access_token()
        for kind in subclasses(requests.RequestException):
            details = ("", 0) if issubclass(kind, json.JSONDecodeError) else ()
            error = kind("Authorization: Bearer x", *details)

            def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(client.session, "send", fail)
            with pytest.raises(errors.ContensisError) as failure:
                client.list_projects()
            assert "Bearer" not in str(failure.value)
