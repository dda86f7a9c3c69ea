"""One token request: the OAuth 2.0 client credentials grant (RFC 6749, section 4.4).

How Contensis answers it is in docs/contensis-api.md, "Tokens".
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.api.claims import token_claims
from airflow_provider_contensis.api.environment import HOST_FIELD
from airflow_provider_contensis.api.responses import (
    REFUSALS,
    api_error_class,
    foreign_page,
    json_object_or_none,
    retry_after,
)
from airflow_provider_contensis.api.transport import exchange, no_auth
from airflow_provider_contensis.exceptions import (
    RETRYABLE_STATUS_CODES,
    AuthenticationError,
    InvalidResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from airflow_provider_contensis.api.transport import ContensisSession

log = logging.getLogger(__name__)

TOKEN_PATH = "/authenticate/connect/token"  # noqa: S105 - a path, not a secret

_MARGIN_SECONDS = 60.0
_MARGIN_SHARE = 0.1
_UNKNOWN_LIFETIME = 60.0
_MAX_LIFETIME = 86_400.0


@dataclass(frozen=True)
class Credentials:
    """The credentials of a token request; equal ones share a token.

    :param root_url: the environment's root URL, without a trailing slash.
    :param client_id: the API key's client id.
    :param client_secret: the API key's shared secret.
    :param scopes: OAuth scopes to request.
    """

    root_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class AccessToken:
    """An access token and the moment from which it counts as expired.

    :param value: the token itself; opaque.
    :param expires_at: on the monotonic clock, in seconds, less the safety margin.
    :param lifetime: in seconds, as the identity provider states it; None if it does not.
    """

    value: str = field(repr=False)
    expires_at: float
    lifetime: float | None = None

    @property
    def is_current(self) -> bool:
        """Whether the token may still be sent."""
        return time.monotonic() < self.expires_at

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims in the token, unverified, for display only; empty if it is opaque."""
        return token_claims(self.value)


def request_token(session: ContensisSession, credentials: Credentials) -> AccessToken:
    """Request a token from the identity provider, once.

    :param session: the environment's session.
    :raises AuthenticationError: the credentials were refused; names the field to correct.
    :raises InvalidResponseError: the answer is not a token.
    :raises APIError: the identity provider failed (408, 429 or 5xx).
    :raises TransportError: no answer.
    """
    # On the monotonic clock, and from before the request: a token must not outlive the server's count.
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
    )
    body = json_object_or_none(response)
    if response.status_code in RETRYABLE_STATUS_CODES or response.status_code >= 500:
        raise api_error_class(response.status_code)(
            f"The identity provider of {credentials.root_url} failed with status {response.status_code}.",
            status_code=response.status_code,
            retry_after=retry_after(response),
        )
    if not response.ok:
        raise _refusal(credentials, response, body)
    value = body.get("access_token") if body is not None else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
        raise InvalidResponseError(_not_a_token(credentials.root_url, response, body))
    stated = _stated_lifetime(body.get("expires_in") if body is not None else None)
    lifetime = _UNKNOWN_LIFETIME if stated is None else min(stated, _MAX_LIFETIME)
    margin = min(_MARGIN_SECONDS, lifetime * _MARGIN_SHARE)
    return AccessToken(value, expires_at=asked_at + lifetime - margin, lifetime=stated)


def _refusal(
    credentials: Credentials, response: requests.Response, body: Mapping[str, Any] | None
) -> AuthenticationError:
    code = body.get("error") if body is not None else None
    # The codes of RFC 6749 have this form; anything else may echo the request.
    code = code if isinstance(code, str) and re.fullmatch("[a-z_]{1,40}", code) else None
    message = {
        "invalid_client": (
            "The identity provider does not accept these credentials: check 'Client ID' and 'Shared secret' "
            "against the API key in Contensis, and that the key is enabled."
        ),
        "invalid_scope": (
            f"The identity provider does not grant the requested scopes ({' '.join(credentials.scopes)}): "
            "remove scopes from 'Scopes' that do not exist or that this API key may not have."
        ),
        "unauthorized_client": (
            "This API key may not use the client credentials flow: check 'Client ID', "
            "and that this flow is enabled for the key in Contensis."
        ),
        "unsupported_grant_type": (
            "The identity provider does not offer the client credentials flow: "
            f"check that '{HOST_FIELD}' is a Contensis environment."
        ),
    }.get(code or "")
    if message is None and response.status_code in {400, 401} and body is not None:
        message = (
            "The identity provider refused the credentials: "
            "check 'Client ID', 'Shared secret' and 'Scopes' against the API key in Contensis."
        )
    if message is None:
        message = _not_a_token(credentials.root_url, response, body)
    return AuthenticationError(message, status_code=response.status_code, error=code)


def _not_a_token(root_url: str, response: requests.Response, body: Mapping[str, Any] | None) -> str:
    if not response.content.strip():
        found = "an empty answer"
    elif "html" in response.headers.get("Content-Type", "").lower():
        found = "an HTML page"
    elif body is None:
        found = "not JSON"
    else:
        found = "JSON"
    message = f"{root_url}{TOKEN_PATH} answered {response.status_code} without an access token ({found}). "
    if response.status_code in REFUSALS and foreign_page(response):
        return (
            f"{message}A firewall or another gateway between Airflow and Contensis has probably refused the "
            "call: ask its administrator to allow this worker's calls. If there is none, check that "
            f"'{HOST_FIELD}' is the root of a Contensis environment, not a website."
        )
    return f"{message}Check that '{HOST_FIELD}' is the root of a Contensis environment, not a website."


def _stated_lifetime(expires_in: object) -> float | None:
    """Return a token's lifetime in seconds; None if it is unknown.

    RFC 6749, section 5.1, makes `expires_in` optional. A missing or non-positive value means that the
    lifetime is unknown: the token is kept for a minute, or until a 401.
    """
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if isinstance(expires_in, bool) or not seconds > 0:
        log.warning(
            "The identity provider gave no usable expires_in: keeping the token for %d seconds",
            _UNKNOWN_LIFETIME,
        )
        return None
    return seconds
