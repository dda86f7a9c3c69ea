"""Error statuses and unexpected answers as exceptions, over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.sandbox import Request, Response, Sandbox
from tests.api.answers import ENVELOPE, Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue


class TestErrorStatuses:
    @pytest.mark.parametrize(
        ("status", "kind", "words"),
        [
            (400, errors.APIError, "does not accept the request"),
            (403, errors.PermissionDeniedError, "Assign it to a role"),
            (404, errors.NotFoundError, "it does not exist"),
            (409, errors.ConflictError, "does not accept"),
            (422, errors.ValidationError, "does not accept"),
            (501, errors.ServerError, "the service failed"),
        ],
    )
    def test_what_will_not_pass_is_raised_at_once_with_what_the_service_says(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        status: int,
        kind: type[errors.APIError],
        words: str,
    ) -> None:
        faults = Answers(Response.json(ENVELOPE, status))
        with Sandbox(small_catalogue, faults=faults) as sandbox, pytest.raises(kind, match=words) as failure:
            make_client(sandbox).get_project(sandbox.project_id)
        assert failure.value.status_code == status
        assert failure.value.detail == "It broke"
        assert failure.value.log_id == ENVELOPE["logId"]
        assert "It broke" in str(failure.value)
        assert str(ENVELOPE["logId"]) in str(failure.value)
        assert not failure.value.retryable
        assert len(faults.seen) == 1

    def test_keys_of_the_envelope_may_have_any_case_and_a_log_id_of_zeros_is_none(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        body = {
            "LogId": "00000000-0000-0000-0000-000000000000",
            "Message": "There are validation errors",
            "Data": [{"Field": "x", "Message": "y"}],
            "Type": "Validation",
        }
        with (
            Sandbox(small_catalogue, faults=Answers(Response.json(body, 422))) as sandbox,
            pytest.raises(errors.ValidationError) as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert failure.value.log_id is None
        assert failure.value.error_type == "Validation"
        assert failure.value.data == [{"Field": "x", "Message": "y"}]

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[1]", b'"x"', b'{"message": 7}', b"\xff\xfe", b"[" * 50_000]
    )
    def test_a_body_of_any_kind_is_survived(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], body: bytes
    ) -> None:
        with (
            Sandbox(small_catalogue, faults=Answers(Response(404, body))) as sandbox,
            pytest.raises(errors.NotFoundError) as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert failure.value.detail is None

    def test_a_validation_error_says_what_is_wrong_with_which_field(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        where = [{"field": "name", "greaterThen": 90}]
        with pytest.raises(errors.ValidationError, match=r"where\[0\].*'greaterThen'"):
            make_client(iso_sandbox).count_entries("isoCodes", where)

    @pytest.mark.parametrize(
        "escape", [lambda text: text, lambda text: "".join(f"\\u{ord(c):04x}" for c in text)]
    )
    def test_a_secret_that_json_escapes_is_still_found(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        escape: Callable[[str], str],
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            said = escape(sandbox.client_secret)
            body = f'{{"message": "{said}", "data": [{{"field": "{said}", "message": "{said}"}}]}}'
            sandbox.faults = Answers(Response(422, body.encode()))
            with pytest.raises(errors.ValidationError) as failure:
                make_client(sandbox).get_project(sandbox.project_id)
            told = f"{failure.value} {failure.value.detail} {failure.value.data}"
            assert "***" in told
            assert sandbox.client_secret not in told

    def test_an_error_page_that_echoes_the_request_gives_no_secret_away(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        def echo(request: Request) -> Response | None:
            if request.kind != "project":
                return None
            said = f"You sent {dict(request.headers)} for {sandbox.client_secret}"
            return Response.json({**ENVELOPE, "message": said, "data": said}, 403)

        with Sandbox(small_catalogue, faults=echo) as sandbox:
            client = make_client(sandbox)
            with pytest.raises(errors.PermissionDeniedError) as failure:
                client.get_project(sandbox.project_id)
            told = f"{failure.value} {failure.value.detail} {failure.value.data}"
            assert "You sent" in told
            assert sandbox.client_secret not in told
            assert client.access_token().value not in told


class TestAnswersOfAnotherShape:
    @pytest.mark.parametrize(
        "definition",
        [
            b'{"id": "film", "fields": 7}',
            b'{"id": "film", "fields": [7]}',
            b'{"id": "film", "fields": [{}]}',
            b'{"id": "film", "version": 7}',
            b'{"id": "\\ud800"}',
        ],
    )
    def test_are_no_definitions_of_content_types(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], definition: bytes
    ) -> None:
        faults = Answers(*[Response(200, b"[" + definition + b"]")] * 9, kind="content_type")
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.InvalidResponseError, match="was not answered with content types"),
        ):
            make_client(sandbox).list_content_types(sandbox.project_id)

    def test_are_not_kept_in_the_exception(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*[Response(200, b'{"items": ["\xff"]}')] * 9, kind="search")
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.InvalidResponseError) as failure,
        ):
            make_client(sandbox).count_entries(sandbox.project_id, [])
        assert failure.value.__context__ is None

    @pytest.mark.parametrize(
        ("body", "kind", "told"),
        [
            ('[{"id": "TOKEN"}]', "application/json", "the access token that was sent"),
            ('[{"id": "\\u0054OKEN"}]', "application/json", "the access token that was sent"),
            ("<html>", "TOKEN; charset=x", r"\*\*\* instead of JSON"),
        ],
    )
    def test_are_not_believed_and_not_shown_where_they_echo_the_token(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        body: str,
        kind: str,
        told: str,
    ) -> None:
        def echo(request: Request) -> Response | None:
            if request.kind != "content_type":
                return None
            token = request.headers["authorization"].removeprefix("Bearer ")
            said = body.replace("TOKEN", token).replace("\\u0054OKEN", f"\\u{ord(token[0]):04x}{token[1:]}")
            return Response(200, said.encode(), {"content-type": kind.replace("TOKEN", token)})

        with Sandbox(small_catalogue, faults=echo) as sandbox:
            client = make_client(sandbox)
            with pytest.raises(errors.InvalidResponseError, match=told) as failure:
                client.list_content_types(sandbox.project_id)
            assert client.access_token().value not in str(failure.value)

    def test_of_any_depth_are_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        deep = b'{"a":' * 900 + b"1" + b"}" * 900
        faults = Answers(Response(422, deep))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.ValidationError),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
