"""The secret and the token go to the configured host, over a trusted channel, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from urllib3.exceptions import InsecureRequestWarning

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.retry import NO_RETRIES
from airflow_provider_contensis.sandbox import Request, Response, Sandbox
from tests.proxy import Proxy
from tests.tls import authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


@pytest.fixture(autouse=True)
def _no_proxy_exemptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def thief(small_catalogue: Catalogue) -> Iterator[Sandbox]:
    """Listens where nothing should arrive."""
    with Sandbox(small_catalogue) as sandbox:
        yield sandbox


class TestRedirects:
    @pytest.mark.parametrize("kind", ["token", "project"])
    @pytest.mark.parametrize("status", [302, 308])
    @pytest.mark.parametrize(
        "location",
        [
            "http://127.0.0.1:{thief}/",
            "//127.0.0.1:{thief}/",
            "http://localhost:{port}/",
            "https://127.0.0.1:{port}/",
            "HTTP://127.0.0.1:{thief}",
            "http://127.0.0.1:{port}@127.0.0.1:{thief}/",
            "http://127.0.0.1:{thief}\\@127.0.0.1:{port}/",
            "http://127.0.0.1:{thief}#@127.0.0.1:{port}/",
            "http://127.0.0.1:{thief}?@127.0.0.1:{port}/",
            "http:\\\\127.0.0.1:{thief}/",
            "\\\\127.0.0.1:{thief}/",
            "\t//127.0.0.1:{thief}/",
            "http://127.1:{thief}/",
            "http://2130706433:{thief}/",
            "http://127.0.0.1.:{thief}/",
        ],
    )
    def test_redirect_to_another_host_port_or_scheme_is_not_followed(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        thief: Sandbox,
        kind: str,
        status: int,
        location: str,
    ) -> None:
        def faults(request: Request) -> Response | None:
            away = location.format(thief=thief.port, port=sandbox.port)
            return Response(status, headers={"Location": away}) if request.kind == kind else None

        with Sandbox(small_catalogue, faults=faults) as sandbox:
            client = make_client(sandbox, retry=NO_RETRIES)
            with pytest.raises(errors.ContensisError):
                client.get_project(sandbox.project_id)
        assert thief.connections == 0

    def test_redirect_that_repeats_the_token_is_not_followed(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        def faults(request: Request) -> Response | None:
            token = request.headers["authorization"].rpartition(" ")[2] if request.kind == "project" else ""
            return Response(302, headers={"Location": f"/?{token}"}) if token else None

        with Sandbox(small_catalogue, faults=faults) as sandbox:
            client = make_client(sandbox, retry=NO_RETRIES)
            with pytest.raises(errors.RedirectRefusedError, match="holds the access token"):
                client.get_project(sandbox.project_id)
            assert sandbox.count("project") == 1

    def test_redirect_from_tls_to_plain_http_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        ca = authority(tmp_path)

        def faults(_: Request) -> Response:
            return Response(307, headers={"Location": sandbox.url.replace("https:", "http:")})

        with Sandbox(small_catalogue, tls=ca.server(tmp_path), faults=faults) as sandbox:
            client = make_client(sandbox, verify=str(ca.file))
            with pytest.raises(errors.RedirectRefusedError, match="redirects to http://127"):
                client.list_projects()


class TestProxies:
    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_proxy_from_the_environment_is_not_used_for_plain_http(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        thief: Sandbox,
        variable: str,
    ) -> None:
        """It would read the secret; plain http is for loopback hosts only."""
        monkeypatch.setenv(variable, thief.url)

        def faults(request: Request) -> Response | None:
            again = Response(307, headers={"Location": "/api/management/projects/"})
            return again if request.kind == "project" and request.number == 2 else None

        with Sandbox(small_catalogue, faults=faults) as sandbox:
            assert make_client(sandbox).list_projects()
        assert thief.connections == 0

    @pytest.mark.parametrize("configured_in", ["environment", "connection"])
    def test_proxy_sees_no_secret_in_tls(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        configured_in: str,
    ) -> None:
        ca = authority(tmp_path)
        with Proxy() as proxy, Sandbox(small_catalogue, tls=ca.server(tmp_path)) as sandbox:
            if configured_in == "environment":
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            proxies = {"https": proxy.url} if configured_in == "connection" else None
            client = make_client(sandbox, verify=str(ca.file), proxies=proxies)
            assert client.list_projects()
            token = client.access_token().value
        assert proxy.connections > 0
        for secret in (token, sandbox.client_secret, sandbox.client_id):
            assert secret.encode() not in proxy.seen

    def test_proxy_from_the_connection_takes_precedence_over_the_environment(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        thief: Sandbox,
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", thief.url)
        ca = authority(tmp_path)
        with Proxy() as proxy, Sandbox(small_catalogue, tls=ca.server(tmp_path)) as sandbox:
            assert make_client(sandbox, verify=str(ca.file), proxies={"https": proxy.url}).list_projects()
        assert proxy.connections > 0
        assert thief.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_netrc_is_ignored(
    small_catalogue: Catalogue,
    make_client: Callable[..., ContensisClient],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scheme: str,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent: list[str] = []

    def faults(request: Request) -> Response | None:
        sent.append(request.headers.get("authorization", ""))
        return None

    ca = authority(tmp_path)
    tls = ca.server(tmp_path) if scheme == "https" else None
    with Sandbox(small_catalogue, tls=tls, faults=faults) as sandbox:
        client = make_client(sandbox, verify=str(ca.file))
        client.list_projects()
        assert sent == ["", f"Bearer {client.access_token().value}"]


class TestCertificates:
    def test_private_authority_is_trusted_once_its_file_is_configured(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        ca = authority(tmp_path)
        with Sandbox(small_catalogue, tls=ca.server(tmp_path)) as sandbox:
            with pytest.raises(errors.CertificateError, match=r"is not trusted \(.*issuer.*\).*'verify'"):
                make_client(sandbox).list_projects()
            assert sandbox.count() == 0
            assert make_client(sandbox, verify=str(ca.file)).list_projects()
            with pytest.warns(InsecureRequestWarning):
                assert make_client(sandbox, verify=False).list_projects()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"host": "127.0.0.2"}, "not valid for '127.0.0.1'"),
            ({"until": datetime.now(UTC) - timedelta(hours=1)}, "expired"),
        ],
    )
    def test_invalid_certificate_is_refused_even_if_its_authority_is_trusted(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        options: dict[str, object],
        words: str,
    ) -> None:
        ca = authority(tmp_path)
        with Sandbox(small_catalogue, tls=ca.server(tmp_path, **options)) as sandbox:  # type: ignore[arg-type]  # options vary
            with pytest.raises(errors.CertificateError, match=words):
                make_client(sandbox, verify=str(ca.file)).list_projects()
            assert sandbox.count() == 0

    def test_configured_authority_takes_precedence_over_the_environment(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "other").mkdir()
        ca, other = authority(tmp_path), authority(tmp_path / "other")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.file))
        with Sandbox(small_catalogue, tls=other.server(tmp_path)) as sandbox:
            with pytest.raises(errors.CertificateError):
                make_client(sandbox, verify=str(ca.file)).list_projects()
            assert make_client(sandbox).list_projects()  # not configured: the environment decides

    @pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
    def test_ca_file_without_a_certificate_is_a_configuration_error(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        content: bytes,
    ) -> None:
        file = tmp_path / "ca.pem"
        file.write_bytes(content)
        ca = authority(tmp_path)
        with (
            Sandbox(small_catalogue, tls=ca.server(tmp_path)) as sandbox,
            pytest.raises(errors.ConfigurationError, match="'verify'"),
        ):
            make_client(sandbox, retry=NO_RETRIES, verify=str(file)).list_projects()
