"""Redirects: followed within the environment, refused beyond it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirect_to_another_host_is_refused_and_gets_no_token(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], status: int
    ) -> None:
        with Sandbox(small_catalogue) as thief:
            away = Response(status, headers={"Location": f"{thief.url}/api/management/projects"})
            with (
                Sandbox(small_catalogue, faults=Answers(away)) as sandbox,
                pytest.raises(errors.RedirectRefusedError, match="must not go there"),
            ):
                make_client(sandbox).list_projects()
            assert thief.count() == 0

    def test_redirect_within_the_environment_is_followed(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        moved = Response(301, headers={"Location": "/api/management/projects/"})
        with Sandbox(small_catalogue, faults=Answers(moved)) as sandbox:
            assert make_client(sandbox).list_projects()

    def test_redirect_that_would_change_the_method_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        moved = Response(302, headers={"Location": "/api/management/projects"})
        with (
            Sandbox(small_catalogue, faults=Answers(moved, kind="search")) as sandbox,
            pytest.raises(errors.RedirectRefusedError, match="change the method of the call"),
        ):
            make_client(sandbox).count_entries(sandbox.project_id, [])

    @pytest.mark.parametrize(
        "location", ["http://[", "//[evil", "http://127.0.0.1:99999/", "http://127.0.0.1:abc/"]
    )
    def test_redirect_to_an_invalid_url_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], location: str
    ) -> None:
        away = Response(302, headers={"Location": location})
        with (
            Sandbox(small_catalogue, faults=Answers(away)) as sandbox,
            pytest.raises(errors.RedirectRefusedError),
        ):
            make_client(sandbox).list_projects()

    def test_redirect_loop_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        loop = Response(307, headers={"Location": "/api/management/projects"})
        with (
            Sandbox(small_catalogue, faults=Answers(*[loop] * 500)) as sandbox,
            pytest.raises(errors.RedirectRefusedError, match="redirects in a loop"),
        ):
            make_client(sandbox).list_projects()
