"""Token requests: what is sent, and how answers are read.

The expected request and answers come from the user's own document on authentication.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
import requests

from airflow_provider_contensis.api.token_request import AccessToken, request_token
from airflow_provider_contensis.exceptions import (
    AuthenticationError,
    ContensisError,
    HostUnreachableError,
    InvalidResponseError,
    ServerError,
)
from tests.api.example import CREDENTIALS, SECRET, TOKEN_URL

if TYPE_CHECKING:
    from requests_mock import Mocker

    from airflow_provider_contensis.api.transport import ContensisSession


def fetch_token(session: ContensisSession) -> AccessToken:
    return request_token(session, CREDENTIALS)


class TestRequest:
    def test_form_is_as_documented(self, session: ContensisSession, requests_mock: Mocker) -> None:
        requests_mock.post(
            TOKEN_URL, json={"access_token": "a.b.c", "expires_in": 3600, "token_type": "Bearer"}
        )
        assert fetch_token(session).value == "a.b.c"
        sent = requests_mock.request_history[-1]
        assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert sent.headers["Accept"] == "application/json"
        assert parse_qs(sent.text) == {
            "grant_type": ["client_credentials"],
            "client_id": [CREDENTIALS.client_id],
            "client_secret": [SECRET],
            "scope": ["Entry_Read ContentType_Read Project_Read"],
        }

    def test_netrc_credentials_are_not_sent(
        self,
        session: ContensisSession,
        requests_mock: Mocker,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Any,
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine cms-example.cloud.contensis.com login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        requests_mock.post(TOKEN_URL, json={"access_token": "a.b.c", "expires_in": 3600})
        fetch_token(session)
        assert "Authorization" not in requests_mock.request_history[-1].headers


class TestRefusal:
    @pytest.mark.parametrize("status", [400, 401])
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            ("invalid_client", "'Client ID' and 'Shared secret'"),
            ("invalid_scope", "remove scopes from 'Scopes'"),
            ("unauthorized_client", "may not use the client credentials flow: check 'Client ID'"),
            ("unsupported_grant_type", "does not offer the client credentials flow"),
            ("something_new", "'Client ID', 'Shared secret' and 'Scopes'"),
        ],
    )
    def test_message_names_the_field_to_correct(
        self, session: ContensisSession, requests_mock: Mocker, status: int, error: str, words: str
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=status, json={"error": error})
        with pytest.raises(AuthenticationError, match=words) as refusal:
            fetch_token(session)
        assert (refusal.value.status_code, refusal.value.error) == (status, error)
        assert not refusal.value.retryable
        assert SECRET not in repr(refusal.value)

    def test_401_without_an_error_code_means_refused_credentials(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=401, json={"message": "Authorization has been denied."})
        with pytest.raises(AuthenticationError, match="refused the credentials"):
            fetch_token(session)

    @pytest.mark.parametrize(
        ("status", "content", "content_type", "found"),
        [
            (404, "<html>Not found</html>", "text/html", "an HTML page"),
            (401, "", "text/plain", "an empty answer"),
            (400, "no", "text/plain", "not JSON"),
        ],
    )
    def test_message_names_the_host_field_if_no_identity_provider_answers(
        self,
        session: ContensisSession,
        requests_mock: Mocker,
        status: int,
        content: str,
        content_type: str,
        found: str,
    ) -> None:
        requests_mock.post(
            TOKEN_URL, status_code=status, text=content, headers={"Content-Type": content_type}
        )
        message = rf"answered {status} without an access token \({found}\).*'Contensis URL or alias'"
        with pytest.raises(AuthenticationError, match=message):
            fetch_token(session)

    @pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504])
    def test_temporary_failure_is_not_an_authentication_error(
        self, session: ContensisSession, requests_mock: Mocker, status: int
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=status, text="<html>", headers={"Retry-After": "7"})
        with pytest.raises(ContensisError) as failure:
            fetch_token(session)
        assert not isinstance(failure.value, AuthenticationError)
        assert failure.value.retry_after == 7


class TestTokenAnswer:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ("<html>Welcome</html>", "an HTML page"),
            ("", "an empty answer"),
            ("[]", "not JSON"),
            ("{}", "JSON"),
            ('{"access_token": ""}', "JSON"),
            ('{"access_token": 7}', "JSON"),
            ('{"access_token": "a\\r\\nX-Evil: b"}', "JSON"),
        ],
    )
    def test_200_without_a_token_is_an_invalid_response(
        self, session: ContensisSession, requests_mock: Mocker, content: str, found: str
    ) -> None:
        kind = "text/html" if content.startswith("<") else "application/json"
        requests_mock.post(TOKEN_URL, text=content, headers={"Content-Type": kind})
        message = rf"answered 200 without an access token \({found}\)"
        with pytest.raises(InvalidResponseError, match=message):
            fetch_token(session)

    @pytest.mark.parametrize(
        ("expires_in", "seconds"),
        [
            (3600, 3540),  # less a minute
            (100, 90),  # less a tenth, if that is shorter
            (3, 2.7),
            ("3600", 3540),
            (3600.0, 3540),
            (10**30, 86_340),
            # Lifetime unknown: a minute, less a tenth.
            (None, 54),
            (0, 54),
            (-5, 54),
            ("soon", 54),
            (True, 54),
            ([], 54),
        ],
    )
    def test_expires_in_sets_the_lifetime(
        self, session: ContensisSession, requests_mock: Mocker, expires_in: object, seconds: float
    ) -> None:
        requests_mock.post(TOKEN_URL, json={"access_token": "a.b.c", "expires_in": expires_in})
        assert fetch_token(session).expires_at - time.monotonic() == pytest.approx(seconds, abs=0.5)

    def test_token_without_expires_in_is_kept_for_a_minute(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.post(TOKEN_URL, json={"access_token": "a.b.c"})
        assert fetch_token(session).expires_at - time.monotonic() == pytest.approx(54, abs=0.5)

    def test_lifetime_is_counted_from_before_the_request(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        def slow(*_: object) -> dict[str, object]:
            time.sleep(0.3)
            return {"access_token": "a.b.c", "expires_in": 100}

        requests_mock.post(TOKEN_URL, json=slow)
        assert fetch_token(session).expires_at - time.monotonic() < 89.8


class TestAccessToken:
    def test_repr_shows_neither_token_nor_secret(self) -> None:
        assert "a.b.c" not in repr(AccessToken("a.b.c", 1.0))
        assert SECRET not in repr(CREDENTIALS)

    def test_claims_are_decoded(self) -> None:
        payload = (
            base64.urlsafe_b64encode(json.dumps({"client_username": "A key"}).encode()).decode().rstrip("=")
        )
        assert AccessToken(f"header.{payload}.signature", 1.0).claims == {"client_username": "A key"}

    @pytest.mark.parametrize("value", ["opaque", "a.b.c", "a.bnVsbA.c", "", f"a.{'W1tb' * 50_000}.c"])
    def test_opaque_token_has_no_claims(self, value: str) -> None:
        assert AccessToken(value, 1.0).claims == {}


def test_broken_connection_raises_host_unreachable(session: ContensisSession, requests_mock: Mocker) -> None:
    requests_mock.post(TOKEN_URL, exc=requests.exceptions.ConnectionError("broken"))
    with pytest.raises(HostUnreachableError, match="connection to https://cms-example.* broke"):
        fetch_token(session)


def test_original_error_is_dropped_because_it_holds_the_request(
    session: ContensisSession, requests_mock: Mocker
) -> None:
    requests_mock.post(TOKEN_URL, exc=requests.exceptions.ConnectTimeout("slow"))
    with pytest.raises(ContensisError) as failure:
        fetch_token(session)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None


def test_status_500_raises_server_error(session: ContensisSession, requests_mock: Mocker) -> None:
    requests_mock.post(TOKEN_URL, status_code=500)
    with pytest.raises(ServerError):
        fetch_token(session)
