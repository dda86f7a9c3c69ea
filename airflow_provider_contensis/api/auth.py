"""Access tokens: cached, renewed, masked and sent.

A process holds one token for each set of credentials, shared by every client and thread. The session's
`ContensisAuth` takes it from a `TokenSource`, which takes it from the `TokenCache` or requests a new one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import requests
import requests.auth

from airflow_provider_contensis.api.environment import origin
from airflow_provider_contensis.api.fork import reset_in_children
from airflow_provider_contensis.api.token_request import AccessToken, Credentials, request_token
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.fork import ForkSafeEvent
    from airflow_provider_contensis.api.retry import RetryPolicy
    from airflow_provider_contensis.api.transport import ContensisSession


class TokenCache:
    """Tokens by credentials: bounded, and safe between threads.

    :param max_size: number of credentials to remember; the least recently used are dropped first.
    """

    def __init__(self, max_size: int = 32) -> None:
        self._max_size = max_size
        self._slots: OrderedDict[Credentials, _Slot] = OrderedDict()
        self._lock = threading.Lock()
        reset_in_children(self)

    def get(
        self, credentials: Credentials, fetch: Callable[[], AccessToken], *, rejected: str | None = None
    ) -> AccessToken:
        """Return a current token, fetching one if there is none.

        Threads that find none at the same time cause one fetch, and share its failure.

        :param fetch: requests a new token.
        :param rejected: a token that was just refused; it is not returned again.
        """
        slot = self._slot(credentials)
        if (token := slot.usable(rejected)) is not None:
            return token
        fetches_seen = slot.fetches
        with slot.lock:
            if (token := slot.usable(rejected)) is not None:
                return token
            if slot.fetches != fetches_seen and slot.failure is not None:
                raise slot.failure
            return slot.fetch(fetch)

    def refresh(self, credentials: Credentials, fetch: Callable[[], AccessToken]) -> AccessToken:
        """Fetch a new token whatever the cache holds, and cache it.

        It does not wait for other threads, whose request may be in the middle of its retries.
        """
        token = fetch()
        self._slot(credentials).token = token
        return token

    def clear(self) -> None:
        """Forget all tokens, and the locks."""
        self._slots = OrderedDict()
        self._lock = threading.Lock()

    def reset_after_fork(self) -> None:
        """Replace the locks, which other threads of the parent may hold."""
        self.clear()

    def _slot(self, credentials: Credentials) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(credentials, _Slot())
            self._slots.move_to_end(credentials)
            while len(self._slots) > self._max_size:
                self._slots.popitem(last=False)
            return slot


class _Slot:
    """The token of one set of credentials."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token: AccessToken | None = None
        self.failure: ContensisError | None = None
        self.fetches = 0

    def usable(self, rejected: str | None) -> AccessToken | None:
        token = self.token
        return token if token is not None and token.is_current and token.value != rejected else None

    def fetch(self, fetch: Callable[[], AccessToken]) -> AccessToken:
        try:
            self.token, self.failure = fetch(), None
        except ContensisError as error:
            self.failure = error
            raise
        finally:
            self.fetches += 1
        return self.token


SHARED_TOKENS = TokenCache()


class TokenSource:
    """The access tokens of one client.

    :param session: the environment's session; tokens are requested through it.
    :param credentials: of the token requests.
    :param retry: repeats failed requests.
    :param cancelled: once set, ends waits between attempts.
    :param cache: holds the tokens.
    :param on_new_token: called with each token value before it is first used, by one thread at a time;
        it masks the token in logs.
    """

    def __init__(
        self,
        session: ContensisSession,
        credentials: Credentials,
        *,
        retry: RetryPolicy,
        cancelled: ForkSafeEvent,
        cache: TokenCache,
        on_new_token: Callable[[str], None] | None = None,
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._retry = retry
        self._cancelled = cancelled
        self._cache = cache
        self._on_new_token = on_new_token
        self._announced: str | None = None
        self._announcing = threading.Lock()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may hold."""
        self._announcing = threading.Lock()

    def get(self, *, rejected: str | None = None) -> AccessToken:
        """Return a current token.

        :param rejected: a token that was just refused with 401; another one is returned.
        :raises AuthenticationError: the credentials were refused.
        :raises ContensisError: the identity provider could not be reached, or failed.
        """
        return self._announce(self._cache.get(self._credentials, self._fetch, rejected=rejected))

    def get_fresh(self) -> AccessToken:
        """Return a new token, whatever the cache holds; raises as `get`."""
        return self._announce(self._cache.refresh(self._credentials, self._fetch))

    def _fetch(self) -> AccessToken:
        return self._retry.call(
            lambda: request_token(self._session, self._credentials),
            what="The token request",
            cancelled=self._cancelled,
        )

    def _announce(self, token: AccessToken) -> AccessToken:
        if self._on_new_token is not None:
            with self._announcing:
                if token.value != self._announced:
                    self._on_new_token(token.value)
                    self._announced = token.value
        return token


class ContensisAuth(requests.auth.AuthBase):
    """Sends a bearer token with each request; after a 401, repeats the request once with a new token.

    :param root_url: the only environment that the token may be sent to.
    :param tokens: where tokens come from.
    """

    def __init__(self, root_url: str, tokens: TokenSource) -> None:
        self._root_url = root_url
        self._tokens = tokens

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request; called by requests for each one.

        :raises ConfigurationError: the request is for another host.
        """
        if origin(request.url or "") != origin(self._root_url):
            raise ConfigurationError(
                f"This session carries an access token for {self._root_url} and calls no other host."
            )
        token = self._tokens.get().value
        request.headers["Authorization"] = f"Bearer {token}"

        def replay_once(response: requests.Response, **kwargs: Any) -> requests.Response:
            if response.status_code != requests.codes.unauthorized:
                return response
            _ = response.content  # read, so that the connection can be reused
            response.close()
            again = response.request.copy()
            again.headers["Authorization"] = f"Bearer {self._tokens.get(rejected=token).value}"
            if hasattr(again.body, "read"):
                requests.utils.rewind_body(again)
            repeated: requests.Response = response.connection.send(again, **kwargs)
            repeated.history.append(response)
            repeated.request = again
            return repeated

        request.hooks["response"].append(replay_once)
        return request
