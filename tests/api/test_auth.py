"""Access tokens: what is asked, what is made of the answer, and how they are shared.

The expected request and answers are those of the user's own document on authentication.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
import requests

from airflow_provider_contensis.api.auth import ContensisAuth, TokenCache, TokenSource
from airflow_provider_contensis.api.token_request import AccessToken, Credentials, request_token
from airflow_provider_contensis.api.transport import ContensisSession
from airflow_provider_contensis.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ContensisError,
    HostUnreachableError,
    InvalidResponseError,
    ServerError,
)

if TYPE_CHECKING:
    from requests_mock import Mocker

ROOT = "https://cms-example.cloud.contensis.com"
TOKEN_URL = f"{ROOT}/authenticate/connect/token"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0-ffeeddccbbaa99887766554433221100-00112233445566778899aabbccddeeff"
CREDENTIALS = Credentials(
    ROOT, "0b6f3c52-8d0a-4d5e-9c57-2f1f6f0c1a10", SECRET, ("Entry_Read", "ContentType_Read", "Project_Read")
)


@pytest.fixture
def session() -> ContensisSession:
    return ContensisSession(ROOT)


def ask(session: ContensisSession) -> AccessToken:
    return request_token(session, CREDENTIALS)


class TestTheRequest:
    def test_is_the_form_that_the_document_shows(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.post(
            TOKEN_URL, json={"access_token": "a.b.c", "expires_in": 3600, "token_type": "Bearer"}
        )
        assert ask(session).value == "a.b.c"
        sent = requests_mock.request_history[-1]
        assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert sent.headers["Accept"] == "application/json"
        assert parse_qs(sent.text) == {
            "grant_type": ["client_credentials"],
            "client_id": [CREDENTIALS.client_id],
            "client_secret": [SECRET],
            "scope": ["Entry_Read ContentType_Read Project_Read"],
        }

    def test_carries_no_credentials_from_netrc(
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
        ask(session)
        assert "Authorization" not in requests_mock.request_history[-1].headers


class TestARefusal:
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
    def test_names_the_field_to_mend(
        self, session: ContensisSession, requests_mock: Mocker, status: int, error: str, words: str
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=status, json={"error": error})
        with pytest.raises(AuthenticationError, match=words) as refusal:
            ask(session)
        assert (refusal.value.status_code, refusal.value.error) == (status, error)
        assert not refusal.value.retryable
        assert SECRET not in repr(refusal.value)

    def test_of_401_without_a_code_means_refused_credentials(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=401, json={"message": "Authorization has been denied."})
        with pytest.raises(AuthenticationError, match="refused the credentials"):
            ask(session)

    @pytest.mark.parametrize(
        ("status", "content", "content_type", "words"),
        [
            (404, "<html>Not found</html>", "text/html", r"answered 404 without an access token \(an HTML page\)"),
            (401, "", "text/plain", r"answered 401 without an access token \(an empty answer\)"),
            (400, "no", "text/plain", r"answered 400 without an access token \(not JSON\)"),
        ],
    )
    def test_by_something_else_than_an_identity_provider_points_at_the_host(
        self,
        session: ContensisSession,
        requests_mock: Mocker,
        status: int,
        content: str,
        content_type: str,
        words: str,
    ) -> None:
        requests_mock.post(
            TOKEN_URL, status_code=status, text=content, headers={"Content-Type": content_type}
        )
        with pytest.raises(AuthenticationError, match=f"{words}.*'Contensis URL or alias'"):
            ask(session)

    @pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504])
    def test_of_a_passing_kind_is_not_about_the_credentials(
        self, session: ContensisSession, requests_mock: Mocker, status: int
    ) -> None:
        requests_mock.post(TOKEN_URL, status_code=status, text="<html>", headers={"Retry-After": "7"})
        with pytest.raises(ContensisError) as failure:
            ask(session)
        assert not isinstance(failure.value, AuthenticationError)
        assert failure.value.retry_after == 7


class TestAnAnswerOf200:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("<html>Welcome</html>", r"without an access token \(an HTML page\)"),
            ("", r"without an access token \(an empty answer\)"),
            ("[]", r"without an access token \(not JSON\)"),
            ("{}", r"without an access token \(JSON\)"),
            ('{"access_token": ""}', r"without an access token \(JSON\)"),
            ('{"access_token": 7}', r"without an access token \(JSON\)"),
            ('{"access_token": "a\\r\\nX-Evil: b"}', r"without an access token \(JSON\)"),
        ],
    )
    def test_without_a_token_is_not_taken_for_one(
        self, session: ContensisSession, requests_mock: Mocker, content: str, words: str
    ) -> None:
        kind = "text/html" if content.startswith("<") else "application/json"
        requests_mock.post(TOKEN_URL, text=content, headers={"Content-Type": kind})
        with pytest.raises(InvalidResponseError, match=words):
            ask(session)

    @pytest.mark.parametrize(
        ("expires_in", "lasts"),
        [
            (3600, 3540),  # a minute of lead
            (100, 90),  # a tenth, where that is shorter
            (3, 2.7),
            ("3600", 3540),
            (3600.0, 3540),
            (10**30, 86_340),
            # What says nothing useful: kept for a minute, less a tenth.
            (None, 54),
            (0, 54),
            (-5, 54),
            ("soon", 54),
            (True, 54),
            ([], 54),
        ],
    )
    def test_tells_how_long_the_token_lasts(
        self, session: ContensisSession, requests_mock: Mocker, expires_in: object, lasts: float
    ) -> None:
        requests_mock.post(TOKEN_URL, json={"access_token": "a.b.c", "expires_in": expires_in})
        assert ask(session).expires_at - time.monotonic() == pytest.approx(lasts, abs=0.5)

    def test_without_expires_in_gives_a_token_that_is_kept_for_a_minute(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.post(TOKEN_URL, json={"access_token": "a.b.c"})
        assert ask(session).expires_at - time.monotonic() == pytest.approx(54, abs=0.5)

    def test_counts_the_token_s_life_from_before_the_request(
        self, session: ContensisSession, requests_mock: Mocker
    ) -> None:
        def slow(*_: object) -> dict[str, object]:
            time.sleep(0.3)
            return {"access_token": "a.b.c", "expires_in": 100}

        requests_mock.post(TOKEN_URL, json=slow)
        assert ask(session).expires_at - time.monotonic() < 89.8


class TestAToken:
    def test_shows_neither_itself_nor_the_secret(self) -> None:
        assert "a.b.c" not in repr(AccessToken("a.b.c", 1.0))
        assert SECRET not in repr(CREDENTIALS)

    def test_tells_what_it_says_of_itself(self) -> None:
        payload = (
            base64.urlsafe_b64encode(json.dumps({"client_username": "A key"}).encode()).decode().rstrip("=")
        )
        assert AccessToken(f"head.{payload}.sign", 1.0).claims == {"client_username": "A key"}

    @pytest.mark.parametrize("value", ["opaque", "a.b.c", "a.bnVsbA.c", "", f"a.{'W1tb' * 50_000}.c"])
    def test_that_is_opaque_tells_nothing(self, value: str) -> None:
        assert AccessToken(value, 1.0).claims == {}


class Provider:
    """Stands for the identity provider: gives numbered tokens and counts them."""

    def __init__(self, lifetime: float = 60.0, failure: ContensisError | None = None) -> None:
        self.lifetime = lifetime
        self.failure = failure
        self.asked = 0
        self._lock = threading.Lock()

    def __call__(self) -> AccessToken:
        with self._lock:
            self.asked += 1
            number = self.asked
        time.sleep(0.05)
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"token-{number}", time.monotonic() + self.lifetime)


class TestTheCache:
    def test_gives_sixteen_cold_threads_one_token(self) -> None:
        cache, provider = TokenCache(), Provider()
        with ThreadPoolExecutor(16) as threads:
            tokens = set(threads.map(lambda _: cache.get(CREDENTIALS, provider).value, range(16)))
        assert tokens == {"token-1"}
        assert provider.asked == 1

    def test_asks_once_more_when_sixteen_threads_find_it_expired(self) -> None:
        cache, provider = TokenCache(), Provider(lifetime=0.0)
        cache.get(CREDENTIALS, provider)
        provider.lifetime = 60.0
        with ThreadPoolExecutor(16) as threads:
            tokens = set(threads.map(lambda _: cache.get(CREDENTIALS, provider).value, range(16)))
        assert tokens == {"token-2"}
        assert provider.asked == 2

    def test_asks_once_more_when_sixteen_threads_had_the_same_token_rejected(self) -> None:
        cache, provider = TokenCache(), Provider()
        rejected = cache.get(CREDENTIALS, provider).value
        with ThreadPoolExecutor(16) as threads:
            tokens = set(
                threads.map(lambda _: cache.get(CREDENTIALS, provider, rejected=rejected).value, range(16))
            )
        assert tokens == {"token-2"}
        assert provider.asked == 2

    def test_keeps_a_token_when_an_older_one_was_rejected(self) -> None:
        cache, provider = TokenCache(), Provider()
        cache.get(CREDENTIALS, provider)
        assert cache.get(CREDENTIALS, provider, rejected="older").value == "token-1"
        assert provider.asked == 1

    def test_shares_a_failure_among_those_who_waited_for_it(self) -> None:
        cache, provider = TokenCache(), Provider(failure=AuthenticationError("no"))

        ready = threading.Barrier(16)

        def attempt(_: int) -> bool:
            ready.wait()
            with pytest.raises(AuthenticationError):
                cache.get(CREDENTIALS, provider)
            return True

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(attempt, range(16)))
        assert provider.asked == 1
        provider.failure = None
        assert cache.get(CREDENTIALS, provider).value == "token-2"

    def test_refresh_asks_whatever_is_remembered_and_remembers_the_answer(self) -> None:
        cache, provider = TokenCache(), Provider()
        cache.get(CREDENTIALS, provider)
        assert cache.refresh(CREDENTIALS, provider).value == "token-2"
        assert cache.get(CREDENTIALS, provider).value == "token-2"

    @pytest.mark.parametrize(
        "other",
        [
            Credentials("https://other.example", CREDENTIALS.client_id, SECRET, CREDENTIALS.scopes),
            Credentials(ROOT, "another", SECRET, CREDENTIALS.scopes),
            Credentials(ROOT, CREDENTIALS.client_id, "rotated", CREDENTIALS.scopes),
            Credentials(ROOT, CREDENTIALS.client_id, SECRET, ("Entry_Read",)),
        ],
    )
    def test_keeps_tokens_apart_by_all_that_makes_them_differ(self, other: Credentials) -> None:
        cache, provider = TokenCache(), Provider()
        assert cache.get(CREDENTIALS, provider) != cache.get(other, provider)

    def test_is_bounded(self) -> None:
        cache, provider = TokenCache(max_size=2), Provider()
        several = [Credentials(ROOT, f"key-{number}", SECRET, ()) for number in range(3)]
        for credentials in several:
            cache.get(credentials, provider)
        cache.get(several[2], provider)
        assert provider.asked == 3
        cache.get(several[0], provider)
        assert provider.asked == 4


class TestTheSession:
    """What the auth class does to a session's requests."""

    @pytest.fixture
    def given(self) -> list[str | None]:
        return []

    @pytest.fixture
    def authorized(self, session: ContensisSession, given: list[str | None]) -> ContensisSession:
        class TwoTokens(TokenSource):
            def __init__(self) -> None: ...

            def get(self, *, rejected: str | None = None) -> AccessToken:
                given.append(rejected)
                return AccessToken("second" if rejected == "first" else "first", math.inf)

        session.auth = ContensisAuth(ROOT, TwoTokens())
        return session

    def test_sends_the_token_in_the_authorization_header(
        self, authorized: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.get(f"{ROOT}/api/management/projects", json=[])
        authorized.get("/api/management/projects")
        assert requests_mock.request_history[-1].headers["Authorization"] == "Bearer first"

    def test_repeats_a_call_once_after_401_with_a_new_token_and_the_same_body(
        self, authorized: ContensisSession, requests_mock: Mocker, given: list[str | None]
    ) -> None:
        requests_mock.post(f"{ROOT}/x", [{"status_code": 401}, {"json": {"ok": True}}])
        assert authorized.post("/x", json={"a": 1}).json() == {"ok": True}
        first, second = requests_mock.request_history
        assert first.headers["Authorization"] == "Bearer first"
        assert second.headers["Authorization"] == "Bearer second"
        assert first.json() == second.json() == {"a": 1}
        assert given == [None, "first"]

    def test_takes_a_second_401_as_the_answer(
        self, authorized: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.get(f"{ROOT}/x", status_code=401)
        assert authorized.get("/x").status_code == 401
        assert requests_mock.call_count == 2

    def test_refuses_to_call_another_host(self, authorized: ContensisSession, requests_mock: Mocker) -> None:
        with pytest.raises(ConfigurationError, match="calls no other host"):
            authorized.get("https://evil.example/x")
        assert requests_mock.call_count == 0

    def test_keeps_the_token_out_of_netrc_s_reach(
        self,
        authorized: ContensisSession,
        requests_mock: Mocker,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Any,
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine cms-example.cloud.contensis.com login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        requests_mock.get(f"{ROOT}/x", status_code=307, headers={"Location": "/y"})
        requests_mock.get(f"{ROOT}/y", json={})
        authorized.get("/x")
        assert [sent.headers["Authorization"] for sent in requests_mock.request_history] == [
            "Bearer first"
        ] * 2


def test_a_failure_of_the_network_is_told_in_our_own_words(
    session: ContensisSession, requests_mock: Mocker
) -> None:
    requests_mock.post(TOKEN_URL, exc=requests.exceptions.ConnectionError("broken"))
    with pytest.raises(HostUnreachableError, match="connection to https://cms-example.* broke"):
        ask(session)


def test_the_original_error_which_holds_the_request_is_not_kept(
    session: ContensisSession, requests_mock: Mocker
) -> None:
    requests_mock.post(TOKEN_URL, exc=requests.exceptions.ConnectTimeout("slow"))
    with pytest.raises(ContensisError) as failure:
        ask(session)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None


def test_a_server_error_is_one(session: ContensisSession, requests_mock: Mocker) -> None:
    requests_mock.post(TOKEN_URL, status_code=500)
    with pytest.raises(ServerError):
        ask(session)
