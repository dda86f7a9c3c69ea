"""The claims in an access token, unverified and for display only."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.utils.json import loads_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def token_claims(token: str) -> Mapping[str, Any]:
    """Return the claims in a token; empty if it is opaque."""
    try:
        payload = token.split(".")[1]
        claims = loads_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def granted_scopes(token: str) -> tuple[str, ...]:
    """Return the scopes in a token: a list, or text if there is one (docs/contensis-api.md, "Tokens")."""
    claim = token_claims(token).get("scope")
    scopes = claim if isinstance(claim, list) else [claim]
    return tuple(scope for scope in scopes if isinstance(scope, str))
