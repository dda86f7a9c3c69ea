"""The secret and the token go to the configured host, over a channel to trust, and nowhere else."""

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
def _no_proxy_is_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def thief(small_catalogue: Catalogue) -> Iterator[Sandbox]:
    """Listens where nothing should arrive."""
    with Sandbox(small_catalogue) as sandbox:
        yield sandbox


class TestARedirect:
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
    def test_never_takes_them_to_another_host_port_or_scheme(
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

    def test_from_tls_to_plain_http_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        own = authority(tmp_path)

        def faults(_: Request) -> Response:
            return Response(307, headers={"Location": sandbox.url.replace("https:", "http:")})

        with Sandbox(small_catalogue, tls=own.server(tmp_path), faults=faults) as sandbox:
            client = make_client(sandbox, verify=str(own.file))
            with pytest.raises(errors.RedirectRefusedError, match="redirects to http://127"):
                client.list_projects()


class TestAProxy:
    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_that_the_environment_names_is_not_used_for_plain_http(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        thief: Sandbox,
        variable: str,
    ) -> None:
        """It would read the secret, and plain http is for loopback hosts only."""
        monkeypatch.setenv(variable, thief.url)

        def faults(request: Request) -> Response | None:
            again = Response(307, headers={"Location": "/api/management/projects/"})
            return again if request.kind == "project" and request.number == 2 else None

        with Sandbox(small_catalogue, faults=faults) as sandbox:
            assert make_client(sandbox).list_projects()
        assert thief.connections == 0

    @pytest.mark.parametrize("named_by", ["environment", "connection"])
    def test_passes_tls_on_without_seeing_a_secret(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        named_by: str,
    ) -> None:
        own = authority(tmp_path)
        with Proxy() as proxy, Sandbox(small_catalogue, tls=own.server(tmp_path)) as sandbox:
            if named_by == "environment":
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            proxies = {"https": proxy.url} if named_by == "connection" else None
            client = make_client(sandbox, verify=str(own.file), proxies=proxies)
            assert client.list_projects()
            token = client.access_token().value
        assert proxy.asked > 0
        for secret in (token, sandbox.client_secret, sandbox.client_id):
            assert secret.encode() not in proxy.seen

    def test_of_the_connection_comes_before_one_of_the_environment(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        thief: Sandbox,
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", thief.url)
        own = authority(tmp_path)
        with Proxy() as proxy, Sandbox(small_catalogue, tls=own.server(tmp_path)) as sandbox:
            assert make_client(sandbox, verify=str(own.file), proxies={"https": proxy.url}).list_projects()
        assert proxy.asked > 0
        assert thief.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_netrc_has_no_say(
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

    own = authority(tmp_path)
    tls = own.server(tmp_path) if scheme == "https" else None
    with Sandbox(small_catalogue, tls=tls, faults=faults) as sandbox:
        client = make_client(sandbox, verify=str(own.file))
        client.list_projects()
        assert sent == ["", f"Bearer {client.access_token().value}"]


class TestACertificate:
    def test_of_an_authority_of_one_s_own_is_trusted_once_its_file_is_named(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        own = authority(tmp_path)
        with Sandbox(small_catalogue, tls=own.server(tmp_path)) as sandbox:
            with pytest.raises(errors.CertificateError, match=r"is not trusted \(.*issuer.*\).*'verify'"):
                make_client(sandbox).list_projects()
            assert sandbox.count() == 0
            assert make_client(sandbox, verify=str(own.file)).list_projects()
            with pytest.warns(InsecureRequestWarning):
                assert make_client(sandbox, verify=False).list_projects()

    @pytest.mark.parametrize(
        ("shown", "words"),
        [
            ({"host": "127.0.0.2"}, "not valid for '127.0.0.1'"),
            ({"until": datetime.now(UTC) - timedelta(hours=1)}, "expired"),
        ],
    )
    def test_that_is_wrong_is_told_though_its_authority_is_trusted(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        shown: dict[str, object],
        words: str,
    ) -> None:
        own = authority(tmp_path)
        with Sandbox(small_catalogue, tls=own.server(tmp_path, **shown)) as sandbox:  # type: ignore[arg-type]  # it varies
            with pytest.raises(errors.CertificateError, match=words):
                make_client(sandbox, verify=str(own.file)).list_projects()
            assert sandbox.count() == 0

    def test_of_another_authority_is_not_trusted_though_the_environment_says_so(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "other").mkdir()
        own, other = authority(tmp_path), authority(tmp_path / "other")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.file))
        with Sandbox(small_catalogue, tls=other.server(tmp_path)) as sandbox:
            with pytest.raises(errors.CertificateError):
                make_client(sandbox, verify=str(own.file)).list_projects()
            assert make_client(sandbox).list_projects()  # where the connection leaves it to the environment

    @pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
    def test_file_that_holds_none_is_told_as_such(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        content: bytes,
    ) -> None:
        file = tmp_path / "ca.pem"
        file.write_bytes(content)
        own = authority(tmp_path)
        with (
            Sandbox(small_catalogue, tls=own.server(tmp_path)) as sandbox,
            pytest.raises(errors.ConfigurationError, match="'verify'"),
        ):
            make_client(sandbox, retry=NO_RETRIES, verify=str(file)).list_projects()
