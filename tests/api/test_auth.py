"""Access tokens: how they are shared, renewed and sent."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.auth import ContensisAuth, TokenCache, TokenSource
from airflow_provider_contensis.api.token_request import AccessToken, Credentials
from airflow_provider_contensis.api.transport import ContensisSession
from airflow_provider_contensis.exceptions import AuthenticationError, ConfigurationError, ContensisError

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
