"""The identity provider: exchanges a client id and shared secret for a token, and checks tokens."""

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

# The scopes that the vendor's own clients request with client credentials (docs/contensis-api.md).
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
_MAX_SCOPE_LENGTH = 300
_HEADERS = {
    "cache-control": "no-store, no-cache, max-age=0, private",
    "pragma": "no-cache",
    "content-type": "application/json; charset=utf-8",
    "access-control-expose-headers": "x-contensis-classic-token",
}


class ExpiresIn(enum.Enum):
    """How the token response reports the token's lifetime: the true one, or not at all."""

    TRUTHFUL = enum.auto()
    OMITTED = enum.auto()


class Client(NamedTuple):
    """An API key.

    :param id: the client id.
    :param secret: the shared secret.
    :param name: the display name.
    :param scopes: the scopes it may request.
    :param enabled: whether it may use the client credentials flow.
    """

    id: str
    secret: str
    name: str
    scopes: Collection[str] = SCOPES
    enabled: bool = True


class Identity:
    """Issues tokens to one client and checks them (docs/contensis-api.md).

    :param client: the API key that may request tokens.
    :param token_lifetime: seconds for which a token is accepted.
    :param expires_in: the lifetime in the token response: any JSON value, or an `ExpiresIn`.
    :param refused_status: the response status for wrong credentials. The vendor's docs say 400 in an example
        and 401 in the text.
    :param access_tokens: read-only tokens that the Delivery API accepts instead of a bearer token
        (docs/contensis-api.md).
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
        # The root URL of the identity provider; set when the server has a port.
        self.issuer = ""
        self.client = client
        self.token_lifetime = token_lifetime
        self.expires_in = expires_in
        self.refused_status = refused_status
        self.access_tokens = access_tokens
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}
        # As long as the SHA-1 certificate thumbprint it stands in for.
        self._key_id = _base64(secrets.token_bytes(20))

    def token(self, headers: Mapping[str, str], body: bytes, quirks: Collection[str] = ()) -> Response:
        """Answer a token request.

        :param headers: the request's headers, names in lower case.
        :param body: the form.
        :param quirks: names of quirks.
        """
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/x-www-form-urlencoded":
            return Response(415, b"", {"cache-control": _HEADERS["cache-control"], "pragma": "no-cache"})
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        error = self._token_error(headers, form)
        if error:
            status = self.refused_status if error == "invalid_client" else 400
            return Response(status, _json({"error": error}), _HEADERS)
        scopes = sorted(set(form["scope"].split()))
        content: dict[str, object] = {"access_token": self._issue(scopes, is_opaque="opaque-token" in quirks)}
        if "no-expires-in" in quirks:
            pass
        elif self.expires_in is ExpiresIn.TRUTHFUL:
            lifetime = self.token_lifetime
            content["expires_in"] = int(lifetime) if lifetime == int(lifetime) else lifetime
        elif self.expires_in is not ExpiresIn.OMITTED:
            content["expires_in"] = self.expires_in
        content["token_type"] = "Bearer"  # noqa: S105  # a scheme
        return Response(200, _json(content), _HEADERS)

    def revoke(self) -> None:
        """Revoke every token issued so far."""
        with self._lock:
            self._tokens.clear()

    def scopes(self, authorization: str | None) -> frozenset[str] | None:
        """Return the scopes of a bearer token, or None if it is missing, unknown or expired."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        expiry, scopes = self._tokens.get(token.strip(), (0.0, frozenset()))
        return scopes if time.monotonic() < expiry else None

    def delivery_scopes(
        self, authorization: str | None, header: str | None, query: str | None
    ) -> frozenset[str] | None:
        """Return the scopes of a Delivery request, or None if it has no valid credential.

        An access token grants read access in any of the three places; it is checked before a bearer token.

        :param authorization: the `Authorization` header: a bearer token, or just an access token.
        :param header: the `accessToken` header.
        :param query: the `accessToken` query parameter.
        """
        for candidate in (header, query, authorization):
            if candidate and any(_is_equal(candidate.strip(), known) for known in self.access_tokens):
                return _READ_SCOPES
        return self.scopes(authorization)

    def _token_error(self, headers: Mapping[str, str], form: Mapping[str, str]) -> str | None:
        """Return the error code of a bad token request, or None: check credentials first, scopes last."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if headers.get("authorization", "").lower().startswith("basic "):
            client_id, secret = _parse_basic(headers["authorization"])
        # Always compare both, so that the time taken reveals nothing.
        if not _is_equal(client_id.lower(), self.client.id.lower()) & _is_equal(secret, self.client.secret):
            return "invalid_client"
        grant = form.get("grant_type", "")
        if grant not in _GRANTS:
            return "unsupported_grant_type"
        if grant != "client_credentials" or not self.client.enabled:
            return "unauthorized_client"
        scope = form.get("scope", "")
        allowed = set(self.client.scopes) - {"openid", "offline_access"}
        if not scope.split() or len(scope) > _MAX_SCOPE_LENGTH or not allowed.issuperset(scope.split()):
            return "invalid_scope"
        return None

    def _issue(self, scopes: list[str], *, is_opaque: bool) -> str:
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
        # Nobody checks the signature. Random bytes, as long as a 3072-bit signature, make each token unique
        # and unguessable.
        token = ".".join(_base64(part) for part in (_json(header), _json(claims), secrets.token_bytes(384)))
        if is_opaque:
            token = secrets.token_hex(64)
        with self._lock:
            moment = time.monotonic()
            self._tokens = {known: issued for known, issued in self._tokens.items() if issued[0] > moment}
            self._tokens[token] = (moment + self.token_lifetime, frozenset(scopes))
        return token


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _is_equal(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode(), known.encode())


def _parse_basic(authorization: str) -> tuple[str, str]:
    """Parse HTTP Basic credentials, form-encoded as OAuth 2.0 requires (RFC 6749, section 2.3.1)."""
    try:
        decoded = base64.b64decode(authorization[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
