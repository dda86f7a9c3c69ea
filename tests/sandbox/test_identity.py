"""The identity provider: token requests, the form of tokens, scopes and expiry."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_contensis.sandbox import ExpiresIn, Sandbox
from tests.sandbox.conftest import Client

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue

DENIED = {"message": "Authorization has been denied for this request."}


def claims(token: str, part: int = 1) -> dict[str, Any]:
    text = token.split(".")[part]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


def test_token_response_has_documented_form(client: Client) -> None:
    response = client.token()
    assert response.status_code == 200
    assert list(response.json()) == ["access_token", "expires_in", "token_type"]
    assert response.json()["expires_in"] == 3600
    assert response.json()["token_type"] == "Bearer"
    assert response.headers["cache-control"] == "no-store, no-cache, max-age=0, private"
    assert response.headers["pragma"] == "no-cache"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["access-control-expose-headers"] == "x-contensis-classic-token"


def test_token_is_jwt_with_documented_claims(client: Client) -> None:
    token = client.token().json()["access_token"]
    assert 900 < len(token) < 1300
    header = claims(token, 0)
    assert list(header) == ["typ", "alg", "x5t", "kid"]
    assert (header["typ"], header["alg"], header["x5t"]) == ("JWT", "RS256", header["kid"])
    body = claims(token)
    assert list(body) == [
        *("iss", "aud", "exp", "nbf"),
        *("client_id", "client_sub", "client_username", "scope"),
    ]
    assert body["iss"] == f"{client.sandbox.url}/authenticate"
    assert body["aud"] == f"{client.sandbox.url}/authenticate/resources"
    assert body["exp"] - body["nbf"] == 3600
    assert body["client_id"] == body["client_sub"] == client.sandbox.client_id


def test_scope_claim_is_string_or_sorted_list(client: Client) -> None:
    assert claims(client.token("Entry_Read").json()["access_token"])["scope"] == "Entry_Read"
    several = claims(client.token("Project_Read Entry_Read").json()["access_token"])["scope"]
    assert several == ["Entry_Read", "Project_Read"]


def test_tokens_issued_in_same_second_differ(client: Client) -> None:
    assert len({client.token().json()["access_token"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_secret": ""}, "invalid_client"),
        ({"client_id": "00000000-0000-0000-0000-000000000000"}, "invalid_client"),
        ({"client_id": ""}, "invalid_client"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "contensis_classic"}, "unauthorized_client"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "Entry_Read Nonsense"}, "invalid_scope"),
        ({"scope": "Entry_Read,Project_Read"}, "invalid_scope"),
        ({"scope": "openid Entry_Read"}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
        ({"scope": "Entry_Read " * 30}, "invalid_scope"),
    ],
)
def test_bad_token_request_gets_only_error_code(client: Client, changes: dict[str, str], error: str) -> None:
    response = client.token(**changes)
    assert response.status_code == 400
    assert response.json() == {"error": error}


def test_token_request_accepts_http_basic(sandbox: Sandbox) -> None:
    form = {"grant_type": "client_credentials", "scope": "Entry_Read"}
    url = f"{sandbox.url}/authenticate/connect/token/"
    good = requests.post(url, data=form, auth=(sandbox.client_id, sandbox.client_secret), timeout=10)
    bad = requests.post(url, data=form, auth=(sandbox.client_id, "wrong"), timeout=10)
    broken = requests.post(url, data=form, headers={"authorization": "Basic %%%"}, timeout=10)
    assert good.status_code == 200
    assert [bad.json(), broken.json()] == [{"error": "invalid_client"}] * 2


def test_token_request_must_be_a_form(sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/authenticate/connect/token"
    assert requests.post(url, json={"grant_type": "client_credentials"}, timeout=10).status_code == 415
    assert requests.post(url, timeout=10).status_code == 415
    assert requests.get(url, timeout=10).status_code == 405


def test_refused_status_and_key_restrictions_take_effect(films: Catalogue) -> None:
    with Sandbox(films, refused_status=401, allowed_scopes=["Entry_Read"]) as sandbox:
        client = Client(sandbox, "Entry_Read")
        assert client.token("Entry_Read", client_secret="x").status_code == 401
        assert client.token("Project_Read").json() == {"error": "invalid_scope"}
    with Sandbox(films, client_enabled=False) as sandbox, pytest.raises(KeyError):
        Client(sandbox)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer nonsense", "Basic YTpi", "nonsense", "Bearer a b"]
)
@pytest.mark.parametrize("api", ["management", "delivery"])
def test_calls_without_valid_token_are_denied(sandbox: Sandbox, api: str, authorization: str | None) -> None:
    response = requests.get(
        f"{sandbox.url}/api/{api}/projects/filmArchive/entries",
        headers={} if authorization is None else {"authorization": authorization},
        timeout=10,
    )
    assert response.status_code == 401
    assert response.json() == DENIED


def test_authorization_scheme_ignores_case(client: Client, sandbox: Sandbox) -> None:
    token = client.token().json()["access_token"]
    for scheme in ("bearer", "Bearer", "BEARER"):
        headers = {"authorization": f"{scheme} {token}"}
        response = requests.get(f"{sandbox.url}/api/management/projects", headers=headers, timeout=10)
        assert response.status_code == 200


def test_delivery_accepts_access_token_in_three_places(sandbox: Sandbox) -> None:
    [token] = sandbox.identity.access_tokens
    url = f"{sandbox.url}/api/delivery/projects/filmArchive/entries"
    responses = [
        requests.get(url, headers={"accessToken": token}, timeout=10),
        requests.get(url, headers={"Authorization": token}, timeout=10),
        requests.get(url, params={"accesstoken": token}, timeout=10),
        requests.get(url, headers={"accessToken": "wrong"}, timeout=10),
        requests.get(url.replace("delivery", "management"), headers={"accessToken": token}, timeout=10),
    ]
    assert [response.status_code for response in responses] == [200, 200, 200, 401, 401]


def test_each_resource_needs_its_scope(sandbox: Sandbox) -> None:
    allowed = {
        scope: [
            Client(sandbox, scope).get(path).status_code
            for path in ("", "/contenttypes", "/entries", "/contenttypes/film/entries")
        ]
        for scope in ("Project_Read", "ContentType_Read", "Entry_Read")
    }
    assert allowed == {
        "Project_Read": [200, 403, 403, 403],
        "ContentType_Read": [403, 200, 403, 403],
        "Entry_Read": [403, 403, 200, 200],
    }


def test_key_without_role_gets_403(films: Catalogue) -> None:
    with Sandbox(films, forbidden=True) as sandbox:
        response = Client(sandbox).get("/entries")
    assert response.status_code == 403
    assert sorted(response.json()) == ["data", "logId", "message", "type"]


def test_token_expires(films: Catalogue) -> None:
    with Sandbox(films, token_lifetime=0.2) as sandbox:
        client = Client(sandbox)
        assert client.token().json()["expires_in"] == 0.2
        assert client.get().status_code == 200
        time.sleep(0.25)
        assert client.get().status_code == 401


def test_revoked_token_is_rejected(films: Catalogue) -> None:
    with Sandbox(films) as sandbox:
        client = Client(sandbox)
        assert client.get().status_code == 200
        sandbox.revoke_tokens()
        assert client.get().status_code == 401
        assert Client(sandbox).get().status_code == 200


@pytest.mark.parametrize("claimed", [0, -5, "3600", None, 1.5])
def test_token_response_can_claim_another_lifetime(films: Catalogue, claimed: object) -> None:
    with Sandbox(films, expires_in=claimed) as sandbox:
        client = Client(sandbox)
        assert client.token().json()["expires_in"] == claimed
        assert client.get().status_code == 200


def test_token_response_can_omit_lifetime(films: Catalogue) -> None:
    with Sandbox(films, expires_in=ExpiresIn.OMITTED) as sandbox:
        assert list(Client(sandbox).token().json()) == ["access_token", "token_type"]
