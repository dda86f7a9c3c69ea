"""The identity provider: exchanges a client id and shared secret for a token, and knows its tokens."""

from __future__ import annotations

import base64
import binascii
import enum
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote_plus

from airflow_provider_contensis.sandbox.messages import Response

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# What the vendor's own clients ask for with client credentials (section 2.8).
SCOPES = (
    "ContentType_Delete",
    "ContentType_Read",
    "ContentType_Write",
    "Entry_Delete",
    "Entry_Read",
    "Entry_Write",
    "Project_Delete",
    "Project_Read",
    "Project_Write",
    "Security_Administrator",
    "Workflow_Administrator",
)
_READ_SCOPES = frozenset(["ContentType_Read", "Entry_Read", "Project_Read"])
_GRANTS = ("client_credentials", "contensis_classic", "contensis_classic_refresh_token")
_LONGEST_SCOPE = 300
_HEADERS = {
    "cache-control": "no-store, no-cache, max-age=0, private",
    "pragma": "no-cache",
    "content-type": "application/json; charset=utf-8",
    "access-control-expose-headers": "x-contensis-classic-token",
}


class ExpiresIn(enum.Enum):
    """What the token answer says about the token's life, where it is not a value of its own."""

    TRUTHFUL = enum.auto()
    OMITTED = enum.auto()


class Client(NamedTuple):
    """An API key.

    :param id: client id.
    :param secret: shared secret.
    :param name: display name.
    :param scopes: the scopes it may ask for.
    :param enabled: whether it may use the client credentials flow.
    """

    id: str
    secret: str
    name: str
    scopes: Collection[str] = SCOPES
    enabled: bool = True


class Identity:
    """Issues tokens to one client (sections 2.2 to 2.6) and checks them.

    :param client: the API key that may ask for tokens.
    :param token_lifetime: seconds for which a token is honoured.
    :param expires_in: the lifetime that the answer claims; by default the true one.
    :param refused_status: status of the answer to wrong credentials: 400 (documented example) or 401 (prose).
    :param access_tokens: the read-only tokens that the Delivery API takes instead (section 2.9).
    """

    def __init__(
        self,
        client: Client,
        *,
        token_lifetime: float = 3600,
        expires_in: object = ExpiresIn.TRUTHFUL,
        refused_status: int = 400,
        access_tokens: Collection[str] = (),
    ) -> None:
        # The root URL of the identity provider, known once the server has its port.
        self.issuer = ""
        self.client = client
        self.token_lifetime = token_lifetime
        self.expires_in = expires_in
        self.refused_status = refused_status
        self.access_tokens = access_tokens
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}
        # As long as the SHA-1 thumbprint of a certificate, which it stands for.
        self._key_id = _base64(secrets.token_bytes(20))

    def token(self, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a token request.

        :param headers: the request's headers, names in lower case.
        :param body: its form.
        """
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/x-www-form-urlencoded":
            return Response(415, b"", {"cache-control": _HEADERS["cache-control"], "pragma": "no-cache"})
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        error = self._refusal(headers, form)
        if error:
            status = self.refused_status if error == "invalid_client" else 400
            return Response(status, _json({"error": error}), _HEADERS)
        answer: dict[str, object] = {"access_token": self._issue(sorted(set(form["scope"].split())))}
        if self.expires_in is ExpiresIn.TRUTHFUL:
            lifetime = self.token_lifetime
            answer["expires_in"] = int(lifetime) if lifetime == int(lifetime) else lifetime
        elif self.expires_in is not ExpiresIn.OMITTED:
            answer["expires_in"] = self.expires_in
        answer["token_type"] = "Bearer"  # noqa: S105  # a scheme
        return Response(200, _json(answer), _HEADERS)

    def revoke(self) -> None:
        """Forget every token issued so far."""
        with self._lock:
            self._tokens.clear()

    def scopes(self, authorization: str | None) -> frozenset[str] | None:
        """Return the scopes of a bearer token, or None when it is missing, unknown or expired."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        expiry, scopes = self._tokens.get(token.strip(), (0.0, frozenset()))
        return scopes if time.monotonic() < expiry else None

    def delivery_scopes(
        self, authorization: str | None, header: str | None, query: str | None
    ) -> frozenset[str] | None:
        """Return what a Delivery request may read, or None when it carries no good credential.

        An access token grants reading, wherever it stands; it is looked at before a bearer token.

        :param authorization: the `Authorization` header: a bearer token, or an access token alone.
        :param header: the `accessToken` header.
        :param query: the `accessToken` query parameter.
        """
        for candidate in (header, query, authorization):
            if candidate and any(_same(candidate.strip(), known) for known in self.access_tokens):
                return _READ_SCOPES
        return self.scopes(authorization)

    def _refusal(self, headers: Mapping[str, str], form: Mapping[str, str]) -> str | None:
        """Return the error code of a request that gets no token: credentials first, scopes last."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if headers.get("authorization", "").lower().startswith("basic "):
            client_id, secret = _basic(headers["authorization"])
        # Both are always compared, so that the time taken tells nothing.
        if not _same(client_id.lower(), self.client.id.lower()) & _same(secret, self.client.secret):
            return "invalid_client"
        grant = form.get("grant_type", "")
        if grant not in _GRANTS:
            return "unsupported_grant_type"
        if grant != "client_credentials" or not self.client.enabled:
            return "unauthorized_client"
        scope = form.get("scope", "")
        allowed = set(self.client.scopes) - {"openid", "offline_access"}
        if not scope.split() or len(scope) > _LONGEST_SCOPE or not allowed.issuperset(scope.split()):
            return "invalid_scope"
        return None

    def _issue(self, scopes: list[str]) -> str:
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5t": self._key_id, "kid": self._key_id}
        claims = {
            "iss": self.issuer,
            "aud": f"{self.issuer}/resources",
            "exp": now + int(self.token_lifetime),
            "nbf": now,
            "client_id": self.client.id,
            "client_sub": self.client.id,
            "client_username": self.client.name,
            "scope": scopes[0] if len(scopes) == 1 else scopes,
        }
        # Nobody checks the signature: random bytes, as many as a 3072-bit key signs with, make each token
        # unique and unguessable.
        token = ".".join(_base64(part) for part in (_json(header), _json(claims), secrets.token_bytes(384)))
        with self._lock:
            moment = time.monotonic()
            self._tokens = {known: kept for known, kept in self._tokens.items() if kept[0] > moment}
            self._tokens[token] = (moment + self.token_lifetime, frozenset(scopes))
        return token


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _same(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode(), known.encode())


def _basic(authorization: str) -> tuple[str, str]:
    """Read HTTP Basic credentials, each part form-encoded as OAuth 2 asks (RFC 6749, section 2.3.1)."""
    try:
        decoded = base64.b64decode(authorization[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
