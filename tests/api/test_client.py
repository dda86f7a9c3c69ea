"""Authenticated calls over real HTTP: resources, retries and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import ENVELOPE, Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.sandbox import Catalogue


def html(status: int, **headers: str) -> Response:
    return Response(status, b"<html>Sorry</html>", {"content-type": "text/html", **headers})


class TestResources:
    def test_projects_are_listed_and_read(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        client = make_client(iso_sandbox)
        assert [project["id"] for project in client.list_projects()] == ["isoCodes"]
        assert client.get_project("isoCodes")["supportedLanguages"] == ["en-GB", "cy", "fr"]
        assert client.get_project("isoCodes", api="delivery")["id"] == "isoCodes"

    @pytest.mark.parametrize("api", ["management", "delivery"])
    def test_content_types_are_listed_and_read(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], api: Any
    ) -> None:
        client = make_client(iso_sandbox)
        listed = {item["id"] for item in client.list_content_types("isoCodes", data_format="entry", api=api)}
        assert listed == {"country", "currency", "language", "subdivision"}
        country = client.get_content_type("isoCodes", "country", api=api)
        assert "name" in {field["id"] for field in country["fields"]}

    @pytest.mark.parametrize("api", ["management", "delivery"])
    def test_entries_are_counted_searched_and_read(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], api: Any
    ) -> None:
        client = make_client(iso_sandbox)
        where = [
            {"field": "sys.contentTypeId", "equalTo": "country"},
            {"field": "sys.versionStatus", "equalTo": "published"},
            {"field": "sys.language", "equalTo": "fr"},
            {"field": "alpha2", "equalTo": "GB"},
        ]
        assert client.count_entries("isoCodes", where, api=api) == 1
        found = client.search_entries("isoCodes", {"where": where, "pageSize": 5}, api=api)
        entry_id = found["items"][0]["sys"]["id"]
        entry = client.get_entry("isoCodes", entry_id, language="fr", api=api)
        assert entry["sys"]["language"] == "fr"
        assert entry["name"] == "Royaume-Uni"

    def test_delivery_api_resolves_links(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        client = make_client(iso_sandbox)
        where = [
            {"field": "sys.contentTypeId", "equalTo": "subdivision"},
            {"field": "sys.versionStatus", "equalTo": "published"},
            {"field": "sys.language", "equalTo": "en-GB"},
        ]
        query = {"where": where, "orderBy": [{"asc": "sys.id"}], "pageSize": 1}
        flat = client.search_entries("isoCodes", query, api="delivery")["items"][0]
        deep = client.search_entries("isoCodes", query, link_depth=1, api="delivery")["items"][0]
        assert "alpha2" not in flat["country"]
        assert deep["country"]["alpha2"]

    def test_run_calls_any_other_path(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        answer = make_client(iso_sandbox).run("get", "/api/management/projects/isoCodes/components")
        assert answer.json() == []

    @pytest.mark.parametrize("name", ["..", ".", "", " ", None, "\ud800", ["a"]])
    def test_invalid_id_is_refused(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], name: Any
    ) -> None:
        client = make_client(iso_sandbox)
        with pytest.raises(errors.ConfigurationError, match="is not a valid id"):
            client.get_project(name)
        with pytest.raises(errors.ConfigurationError, match="is not a valid id"):
            client.get_entry("isoCodes", name)

    def test_id_is_quoted(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            with pytest.raises(errors.NotFoundError):
                make_client(sandbox).get_project("../../x?y=1#z")
            # The whole id arrived as one path segment.
            assert sandbox.requests[-1].kind == "project"
            assert sandbox.requests[-1].path == "/api/management/projects/../../x?y=1#z"


class TestRetries:
    @pytest.mark.parametrize(
        "answer",
        [
            html(408),
            html(429),
            Response.json(ENVELOPE, 429, {"Retry-After": "0"}),
            Response.json(ENVELOPE, 500),
            html(502),
            html(503),
            html(504),
            html(200),
            Response(200, b"", {"content-type": "application/json"}),
            Response(200, b'{"id": "cut', {"content-type": "application/json"}),
            Response(200, b"[]", {"content-type": "application/json"}),
            Response(200, b'{"id": "cut short"}', content_length=4_000),
            Response(drop=True),
            Response(200, b"not gzip", {"content-encoding": "gzip"}),
        ],
        ids=lambda answer: f"{answer.status}-{answer.body[:12]!r}-{'drop' if answer.drop else ''}",
    )
    def test_temporary_failure_is_retried(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], answer: Response
    ) -> None:
        faults = Answers(answer, answer)
        with Sandbox(small_catalogue, faults=faults) as sandbox:
            assert make_client(sandbox).get_project(sandbox.project_id)["id"] == sandbox.project_id
        assert len(faults.seen) == 3

    def test_lasting_failure_is_raised(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*(Response.json(ENVELOPE, 500) for _ in range(9)))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.ServerError, match="500"),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert len(faults.seen) == 6

    def test_call_that_changes_something_is_not_retried(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(html(503), kind="list")
        with Sandbox(small_catalogue, faults=faults) as sandbox, pytest.raises(errors.ServerError):
            make_client(sandbox).run(
                "POST", f"/api/management/projects/{sandbox.project_id}/entries", json={}
            )
        assert len(faults.seen) == 1

    def test_search_is_retried_although_it_is_a_post(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue, faults=Answers(html(503), kind="search")) as sandbox:
            assert make_client(sandbox).count_entries(sandbox.project_id, []) > 0

    def test_token_request_has_as_many_attempts_as_any_call(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*[html(503)] * 99, kind="token")
        with Sandbox(small_catalogue, faults=faults) as sandbox, pytest.raises(errors.ServerError):
            make_client(sandbox).list_projects()
        assert len(faults.seen) == 6

    def test_token_request_is_retried(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue, faults=Answers(html(503), kind="token")) as sandbox:
            assert make_client(sandbox).list_projects()
            assert sandbox.count("token") == 2


class TestTokens:
    def test_one_token_serves_all_calls(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox)
            for _ in range(5):
                client.list_projects()
            assert sandbox.count("token") == 1

    def test_revoked_token_is_replaced_once_and_the_call_repeated(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox)
            client.list_projects()
            sandbox.revoke_tokens()
            assert client.list_projects()
            assert sandbox.count("token") == 2

    def test_call_fails_when_the_new_token_is_refused_too(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        denied = Response.json({"message": "Authorization has been denied for this request."}, 401)
        faults = Answers(*[denied] * 9)
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.UnauthorizedError, match="a new access token was refused too"),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert len(faults.seen) == 2

    def test_each_token_is_announced_before_it_is_used(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        announced: list[str] = []
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, on_new_token=announced.append)
            client.list_projects()
            client.list_projects()
            sandbox.revoke_tokens()
            client.list_projects()
            assert len(announced) == len(set(announced)) == 2
            assert announced[-1] == client.access_token().value

    def test_refused_credentials_are_not_retried(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            credentials = Credentials(sandbox.url, sandbox.client_id, "rotated", ("Entry_Read",))
            client = ContensisClient(credentials, tokens=TokenCache())
            with pytest.raises(errors.AuthenticationError):
                client.list_projects()
            assert sandbox.count() == 1


def test_closed_client_makes_no_calls(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox)
        client.close()
        with pytest.raises(errors.ContensisError, match="closed"):
            client.list_projects()


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "//[", {}),
        ("GE\nT", "/x", {}),
        ("POST", "/api/x/search", {"json": {"where": [{1, 2}]}}),
        ("POST", "/api/x/search", {"json": {"where": [float("nan")]}}),
    ],
)
def test_call_that_cannot_be_sent_is_not_retryable(
    small_catalogue: Catalogue,
    make_client: Callable[..., ContensisClient],
    method: str,
    path: str,
    options: dict[str, Any],
) -> None:
    with Sandbox(small_catalogue) as sandbox, pytest.raises(errors.ContensisError) as failure:
        make_client(sandbox).run(method, path, **options)
    assert not failure.value.retryable
