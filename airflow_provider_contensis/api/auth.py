"""Access tokens: OAuth 2.0 client credentials (RFC 6749, section 4.4), as Contensis speaks it.

One token for each set of credentials in a process, shared by every client and thread.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
import requests.auth

from airflow_provider_contensis.api.environment import HOST_FIELD, origin
from airflow_provider_contensis.api.errors import (
    RETRYABLE_STATUS_CODES,
    AuthenticationError,
    ConfigurationError,
    ContensisError,
    InvalidResponseError,
    api_error_class,
)
from airflow_provider_contensis.api.retry import parse_retry_after
from airflow_provider_contensis.api.transport import ContensisSession, exchange, no_auth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

TOKEN_PATH = "/authenticate/connect/token"  # noqa: S105 - a path, not a secret

_LEAD_SECONDS = 60.0
_LEAD_SHARE = 0.1
_UNKNOWN_LIFETIME = 60.0
_LONGEST_LIFETIME = 86_400.0


@dataclass(frozen=True)
class Credentials:
    """What a token is asked for with; two equal ones share a token.

    :param root_url: the environment's root URL, without a trailing slash.
    :param client_id: the API key's client id.
    :param client_secret: the API key's shared secret.
    :param scopes: what the token shall allow.
    """

    root_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class AccessToken:
    """An access token and the moment from which it is treated as expired.

    :param value: the token itself; opaque.
    :param expires_at: on the monotonic clock, in seconds, the safety lead already taken off.
    """

    value: str = field(repr=False)
    expires_at: float

    @property
    def is_current(self) -> bool:
        """Whether the token may still be sent."""
        return time.monotonic() < self.expires_at

    @property
    def claims(self) -> Mapping[str, Any]:
        """What the token says of itself, unverified; for display only, empty where it is unreadable."""
        try:
            payload = self.value.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (IndexError, ValueError, RecursionError):
            return {}
        return claims if isinstance(claims, dict) else {}


class TokenCache:
    """Tokens by credentials: bounded, and safe between threads.

    :param max_size: how many sets of credentials to remember; the one unused for longest goes first.
    """

    def __init__(self, max_size: int = 32) -> None:
        self._max_size = max_size
        self._slots: OrderedDict[Credentials, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, credentials: Credentials, fetch: Callable[[], AccessToken], *, rejected: str | None = None
    ) -> AccessToken:
        """Return a current token, fetching one if there is none.

        Threads that find none at the same time cause one fetch, and share its failure too.

        :param fetch: asks the identity provider for a new token.
        :param rejected: the token that a call was just refused with; it is not returned again.
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
        """Fetch a new token whatever is remembered, and remember it instead.

        Waits for nobody: another thread may be asking patiently.
        """
        token = fetch()
        self._slot(credentials).token = token
        return token

    def clear(self) -> None:
        """Forget everything, locks included."""
        self._slots = OrderedDict()
        self._lock = threading.Lock()

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
# A lock held by another thread at the moment of a fork would never be released in the child.
os.register_at_fork(after_in_child=SHARED_TOKENS.clear)


class ContensisAuth(requests.auth.AuthBase):
    """Puts a bearer token on each request; after a 401, repeats it once with a new token.

    :param root_url: the one environment the token may be sent to.
    :param get_token: returns a token's value; its argument is the value just rejected, or None.
    """

    def __init__(self, root_url: str, get_token: Callable[[str | None], str]) -> None:
        self._root_url = root_url
        self._get_token = get_token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize a request; called by requests for each one.

        :raises ConfigurationError: the request is for another host.
        """
        if origin(request.url or "") != origin(self._root_url):
            raise ConfigurationError(
                f"This session carries an access token for {self._root_url} and calls no other host."
            )
        token = self._get_token(None)
        request.headers["Authorization"] = f"Bearer {token}"

        def replay_once(response: requests.Response, **kwargs: Any) -> requests.Response:
            if response.status_code != requests.codes.unauthorized:
                return response
            _ = response.content  # reads the body, so that the connection can be used again
            response.close()
            again = response.request.copy()
            again.headers["Authorization"] = f"Bearer {self._get_token(token)}"
            if hasattr(again.body, "read"):
                requests.utils.rewind_body(again)
            repeated: requests.Response = response.connection.send(again, **kwargs)
            repeated.history.append(response)
            repeated.request = again
            return repeated

        request.hooks["response"].append(replay_once)
        return request


def request_token(session: ContensisSession, credentials: Credentials, **kwargs: Any) -> AccessToken:
    """Ask the identity provider for a token: one request, no retry.

    :param session: the environment's session.
    :param kwargs: more arguments for the request, such as `timeout`.
    :raises AuthenticationError: the credentials were refused; says which field to mend.
    :raises InvalidResponseError: the answer is not a token.
    :raises APIError: the identity provider failed (408, 429 or 5xx).
    :raises TransportError: no answer.
    """
    # By the monotonic clock and from before the request: a token must not outlive the server's own count.
    asked_at = time.monotonic()
    response = exchange(
        session,
        "POST",
        f"{credentials.root_url}{TOKEN_PATH}",
        data={
            "grant_type": "client_credentials",
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
            "scope": " ".join(credentials.scopes),
        },
        headers={"Accept": "application/json"},
        auth=no_auth,
        **kwargs,
    )
    body = _json_object(response)
    if response.status_code in RETRYABLE_STATUS_CODES or response.status_code >= 500:
        raise api_error_class(response.status_code)(
            f"The identity provider of {credentials.root_url} failed with status {response.status_code}.",
            status_code=response.status_code,
            retry_after=parse_retry_after(response.headers.get("Retry-After")),
        )
    if not response.ok:
        raise _refusal(credentials, response, body)
    value = body.get("access_token") if body is not None else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
        raise InvalidResponseError(_not_an_identity_provider(credentials.root_url, response, body))
    lifetime = _lifetime(body.get("expires_in") if body is not None else None)
    lead = min(_LEAD_SECONDS, lifetime * _LEAD_SHARE)
    return AccessToken(value, expires_at=asked_at + lifetime - lead)


def _refusal(
    credentials: Credentials, response: requests.Response, body: Mapping[str, Any] | None
) -> AuthenticationError:
    code = body.get("error") if body is not None else None
    # RFC 6749's codes are of this form; anything else may be an echo of what was sent.
    code = code if isinstance(code, str) and re.fullmatch("[a-z_]{1,40}", code) else None
    scopes = " ".join(credentials.scopes)
    sentence = {
        "invalid_client": (
            "The identity provider does not accept these credentials: check 'Client ID' and 'Shared secret' "
            "against the API key in Contensis, and that the key is enabled."
        ),
        "invalid_scope": (
            f"The identity provider does not grant the scopes asked for ({scopes}): check 'Scopes', "
            "which names scopes that do not exist or that this API key may not have."
        ),
        "unauthorized_client": (
            "This API key may not use the client credentials flow: check 'Client ID', "
            "and that this flow is enabled for the key in Contensis."
        ),
        "unsupported_grant_type": (
            "The identity provider does not offer the client credentials flow: "
            f"check that '{HOST_FIELD}' names a Contensis environment."
        ),
    }.get(code or "")
    if sentence is None and response.status_code in {400, 401} and body is not None:
        sentence = (
            "The identity provider refused the credentials: "
            "check 'Client ID', 'Shared secret' and 'Scopes' against the API key in Contensis."
        )
    if sentence is None:
        sentence = _not_an_identity_provider(credentials.root_url, response, body)
    return AuthenticationError(sentence, status_code=response.status_code, error=code)


def _not_an_identity_provider(
    root_url: str, response: requests.Response, body: Mapping[str, Any] | None
) -> str:
    if not response.content.strip():
        found = "an empty answer"
    elif "html" in response.headers.get("Content-Type", "").lower():
        found = "an HTML page"
    elif body is None:
        found = "an answer that is not JSON"
    else:
        found = "JSON without a usable access_token"
    return (
        f"{root_url}{TOKEN_PATH} gave {found} with status {response.status_code} where a token was expected: "
        f"check that '{HOST_FIELD}' is the root of a Contensis environment and not a website."
    )


def _json_object(response: requests.Response) -> dict[str, Any] | None:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _lifetime(expires_in: object) -> float:
    """Return a token's lifetime in seconds.

    RFC 6749 (5.1) lets a provider leave `expires_in` out. What is no positive number says nothing:
    the token is then kept for a minute, and a 401 ends it sooner.
    """
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if isinstance(expires_in, bool) or not seconds > 0:
        log.warning(
            "The identity provider gave no usable expires_in; the token is kept for %d seconds",
            _UNKNOWN_LIFETIME,
        )
        return _UNKNOWN_LIFETIME
    return min(seconds, _LONGEST_LIFETIME)
