"""Access tokens: shared between threads, renewed and sent."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.auth import ContensisAuth, TokenCache, TokenSource
from airflow_provider_contensis.api.token_request import AccessToken, Credentials
from airflow_provider_contensis.exceptions import AuthenticationError, ConfigurationError
from tests.api.example import CREDENTIALS, ROOT, SECRET

if TYPE_CHECKING:
    from requests_mock import Mocker

    from airflow_provider_contensis.api.transport import ContensisSession


class FakeIdentityProvider:
    """Gives out numbered tokens and counts them."""

    def __init__(self, lifetime: float = 60.0) -> None:
        self.lifetime = lifetime
        self.requests = 0
        self._lock = threading.Lock()

    def __call__(self) -> AccessToken:
        with self._lock:
            self.requests += 1
            number = self.requests
        time.sleep(0.05)
        return AccessToken(f"token-{number}", time.monotonic() + self.lifetime)


class TestTokenCache:
    def test_sixteen_threads_without_a_token_cause_one_request(self) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider()
        with ThreadPoolExecutor(16) as threads:
            tokens = set(threads.map(lambda _: cache.get(CREDENTIALS, provider).value, range(16)))
        assert tokens == {"token-1"}
        assert provider.requests == 1

    def test_sixteen_threads_with_an_expired_token_cause_one_request(self) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider(lifetime=0.0)
        cache.get(CREDENTIALS, provider)
        provider.lifetime = 60.0
        with ThreadPoolExecutor(16) as threads:
            tokens = set(threads.map(lambda _: cache.get(CREDENTIALS, provider).value, range(16)))
        assert tokens == {"token-2"}
        assert provider.requests == 2

    def test_sixteen_threads_with_a_rejected_token_cause_one_request(self) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider()
        rejected = cache.get(CREDENTIALS, provider).value
        with ThreadPoolExecutor(16) as threads:
            tokens = set(
                threads.map(lambda _: cache.get(CREDENTIALS, provider, rejected=rejected).value, range(16))
            )
        assert tokens == {"token-2"}
        assert provider.requests == 2

    def test_token_is_kept_when_an_older_one_was_rejected(self) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider()
        cache.get(CREDENTIALS, provider)
        assert cache.get(CREDENTIALS, provider, rejected="older").value == "token-1"
        assert provider.requests == 1

    def test_waiting_threads_share_one_failure(self) -> None:
        cache, arrived, requests = TokenCache(), threading.Semaphore(0), list[int]()

        class Lock:
            """A lock that tells who comes to it."""

            def __init__(self) -> None:
                self._lock = threading.Lock()

            def __enter__(self) -> None:
                arrived.release()
                self._lock.acquire()

            def __exit__(self, *_: object) -> None:
                self._lock.release()

        def refuse() -> AccessToken:
            requests.append(1)
            for _ in range(16):  # until all of them wait for this request
                assert arrived.acquire(timeout=30)
            raise AuthenticationError("no")

        def attempt(_: int) -> bool:
            with pytest.raises(AuthenticationError):
                cache.get(CREDENTIALS, refuse)
            return True

        cache._slot(CREDENTIALS).lock = Lock()  # type: ignore[assignment]  # all that the slot needs of it
        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(attempt, range(16)))
        assert len(requests) == 1
        assert cache.get(CREDENTIALS, FakeIdentityProvider()).value == "token-1"

    def test_refresh_always_requests_a_token_and_caches_it(self) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider()
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
    def test_different_credentials_get_different_tokens(self, other: Credentials) -> None:
        cache, provider = TokenCache(), FakeIdentityProvider()
        assert cache.get(CREDENTIALS, provider) != cache.get(other, provider)

    def test_cache_drops_the_least_recently_used_token(self) -> None:
        cache, provider = TokenCache(max_size=2), FakeIdentityProvider()
        several = [Credentials(ROOT, f"key-{number}", SECRET, ()) for number in range(3)]
        for credentials in several:
            cache.get(credentials, provider)
        cache.get(several[2], provider)
        assert provider.requests == 3
        cache.get(several[0], provider)
        assert provider.requests == 4


class TestContensisAuth:
    @pytest.fixture
    def rejected_tokens(self) -> list[str | None]:
        return []

    @pytest.fixture
    def authorized(self, session: ContensisSession, rejected_tokens: list[str | None]) -> ContensisSession:
        class TwoTokens(TokenSource):
            def __init__(self) -> None: ...

            def get(self, *, rejected: str | None = None) -> AccessToken:
                rejected_tokens.append(rejected)
                return AccessToken("second" if rejected == "first" else "first", math.inf)

        session.auth = ContensisAuth(ROOT, TwoTokens())
        return session

    def test_token_is_sent_in_the_authorization_header(
        self, authorized: ContensisSession, requests_mock: Mocker
    ) -> None:
        requests_mock.get(f"{ROOT}/api/management/projects", json=[])
        authorized.get("/api/management/projects")
        assert requests_mock.request_history[-1].headers["Authorization"] == "Bearer first"

    def test_call_is_repeated_once_after_401_with_a_new_token_and_the_same_body(
        self, authorized: ContensisSession, requests_mock: Mocker, rejected_tokens: list[str | None]
    ) -> None:
        requests_mock.post(f"{ROOT}/x", [{"status_code": 401}, {"json": {"ok": True}}])
        assert authorized.post("/x", json={"a": 1}).json() == {"ok": True}
        first, second = requests_mock.request_history
        assert first.headers["Authorization"] == "Bearer first"
        assert second.headers["Authorization"] == "Bearer second"
        assert first.json() == second.json() == {"a": 1}
        assert rejected_tokens == [None, "first"]

    def test_second_401_is_returned(self, authorized: ContensisSession, requests_mock: Mocker) -> None:
        requests_mock.get(f"{ROOT}/x", status_code=401)
        assert authorized.get("/x").status_code == 401
        assert requests_mock.call_count == 2

    def test_call_to_another_host_is_refused(
        self, authorized: ContensisSession, requests_mock: Mocker
    ) -> None:
        with pytest.raises(ConfigurationError, match="calls no other host"):
            authorized.get("https://evil.example/x")
        assert requests_mock.call_count == 0

    def test_netrc_does_not_replace_the_token_after_a_redirect(
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
