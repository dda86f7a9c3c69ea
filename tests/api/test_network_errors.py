"""Failures of the network become exceptions of this package."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import NO_RETRIES
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import Answers
from tests.tls import authority, certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue


class TestNetworkErrors:
    def test_unknown_host_name_is_reported(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import socket

        def fail(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        with Sandbox(small_catalogue) as sandbox:
            monkeypatch.setattr(socket, "getaddrinfo", fail)
            with pytest.raises(errors.HostUnreachableError, match="Cannot resolve the host name"):
                make_client(sandbox, retry=NO_RETRIES).list_projects()

    @pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"X\n": "b"}, {"X": 5}, 5, "X: 5"])
    def test_invalid_header_of_a_call_is_final(
        self,
        iso_sandbox: Sandbox,
        make_client: Callable[..., ContensisClient],
        headers: object,
    ) -> None:
        with pytest.raises(errors.ConfigurationError, match="invalid header"):
            make_client(iso_sandbox).run("GET", "/api/management/projects", headers=headers)

    def test_call_without_method_or_path_is_refused(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        client = make_client(iso_sandbox)
        for method, path in ((None, "/api/management/projects"), ("GET", None), (5, 5)):
            with pytest.raises(errors.ConfigurationError, match="must be text"):
                client.run(method, path)  # type: ignore[arg-type]  # what a user may get wrong
        assert client.count_entries(iso_sandbox.project_id, None) > 1_000  # type: ignore[arg-type]  # likewise

    def test_closed_port_is_reported(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=NO_RETRIES)
        with pytest.raises(errors.HostUnreachableError, match="refuses connections"):
            client.list_projects()

    def test_slow_server_times_out(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(Response(delay=2.0))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.RequestTimeoutError, match=r"within 0\.2 seconds"),
        ):
            make_client(sandbox, retry=NO_RETRIES, timeout=0.2).list_projects()

    def test_missing_proxy_is_reported_without_its_password(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("NO_PROXY")
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=NO_RETRIES, proxies={"http": "http://me:pw@127.0.0.1:9"})
            with pytest.raises(errors.HostUnreachableError, match="proxy") as failure:
                client.list_projects()
            assert "pw" not in str(failure.value).split()

    def test_self_signed_certificate_is_trusted_only_if_configured(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        chain, key = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Sandbox(small_catalogue, tls=context) as sandbox:
            with pytest.raises(errors.CertificateError, match="is not trusted.*extra 'verify'") as failure:
                make_client(sandbox, retry=NO_RETRIES).list_projects()
            assert "self-signed" in str(failure.value) or "self signed" in str(failure.value)
            assert make_client(sandbox, verify=str(chain)).list_projects()
            with pytest.raises(errors.ConfigurationError, match="'verify' names a CA file"):
                make_client(sandbox, verify=str(tmp_path / "missing.pem")).list_projects()

    def test_certificate_of_another_host_gets_no_advice_about_ca_files(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        trusted = authority(tmp_path)
        with Sandbox(small_catalogue, tls=trusted.server(tmp_path, host="127.0.0.2")) as sandbox:
            client = make_client(sandbox, verify=str(trusted.file), retry=NO_RETRIES)
            with pytest.raises(errors.CertificateError, match="for another host: check the conn") as failure:
                client.list_projects()
        assert "CA file" not in str(failure.value)

    def test_plain_http_server_is_reported_if_tls_is_expected(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            url = sandbox.url.replace("http:", "https:")
            credentials = Credentials(url, sandbox.client_id, sandbox.client_secret, ("Entry_Read",))
            client = ContensisClient(credentials, retry=NO_RETRIES, tokens=TokenCache())
            with pytest.raises(errors.HostUnreachableError, match="does not speak TLS"):
                client.access_token()


def test_every_exception_of_requests_becomes_a_contensis_error(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def subclasses(of: type[Exception]) -> set[type[Exception]]:
        return {of}.union(*(subclasses(each) for each in of.__subclasses__()))

    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox, retry=NO_RETRIES)
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
