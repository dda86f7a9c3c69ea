"""Error statuses and unexpected answers become exceptions; over real HTTP."""

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
    def test_permanent_error_is_raised_at_once_with_the_message_of_the_service(
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

    def test_envelope_keys_ignore_case_and_a_log_id_of_zeros_is_none(
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
    def test_error_body_may_be_anything(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], body: bytes
    ) -> None:
        with (
            Sandbox(small_catalogue, faults=Answers(Response(404, body))) as sandbox,
            pytest.raises(errors.NotFoundError) as failure,
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert failure.value.detail is None

    def test_validation_error_names_the_field_and_its_problem(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        where = [{"field": "name", "greaterThen": 90}]
        with pytest.raises(errors.ValidationError, match=r"where\[0\].*'greaterThen'"):
            make_client(iso_sandbox).count_entries("isoCodes", where)

    @pytest.mark.parametrize(
        "escape", [lambda text: text, lambda text: "".join(f"\\u{ord(c):04x}" for c in text)]
    )
    def test_secret_is_removed_even_if_json_escapes_it(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        escape: Callable[[str], str],
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            echoed = escape(sandbox.client_secret)
            body = f'{{"message": "{echoed}", "data": [{{"field": "{echoed}", "message": "{echoed}"}}]}}'
            sandbox.faults = Answers(Response(422, body.encode()))
            with pytest.raises(errors.ValidationError) as failure:
                make_client(sandbox).get_project(sandbox.project_id)
            shown = f"{failure.value} {failure.value.detail} {failure.value.data}"
            assert "***" in shown
            assert sandbox.client_secret not in shown

    def test_error_page_that_echoes_the_request_leaks_no_secret(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        def echo(request: Request) -> Response | None:
            if request.kind != "project":
                return None
            echoed = f"You sent {dict(request.headers)} for {sandbox.client_secret}"
            return Response.json({**ENVELOPE, "message": echoed, "data": echoed}, 403)

        with Sandbox(small_catalogue, faults=echo) as sandbox:
            client = make_client(sandbox)
            with pytest.raises(errors.PermissionDeniedError) as failure:
                client.get_project(sandbox.project_id)
            shown = f"{failure.value} {failure.value.detail} {failure.value.data}"
            assert "You sent" in shown
            assert sandbox.client_secret not in shown
            assert client.access_token().value not in shown


class TestUnexpectedAnswers:
    @pytest.mark.parametrize(
        "definition",
        [
            b'{"id": "film", "fields": 7}',
            b'{"id": "film", "fields": [7]}',
            b'{"id": "film", "fields": [{}]}',
            b'{"id": "film", "version": 7}',
            b'{"id": "\\ud800"}',
            b'{"id": "film", "fields": [{"id": "x", "fields": [{"id": "\\ud800"}]}]}',
        ],
    )
    def test_invalid_content_types_are_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], definition: bytes
    ) -> None:
        faults = Answers(*[Response(200, b"[" + definition + b"]")] * 9, kind="content_type")
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.InvalidResponseError, match="was not answered with content types"),
        ):
            make_client(sandbox).list_content_types(sandbox.project_id)

    @pytest.mark.parametrize(
        ("kind", "answer", "message"),
        [
            ("project", {"id": "other"}, "the project that was asked for"),
            ("content_type", {"id": "zzz"}, "the content type that was asked for"),
            ("content_type", {}, "the content type that was asked for"),
            ("entry", {"sys": {"id": "a", "projectId": "zzz"}}, "an entry of the project that was asked for"),
            ("entry", {"sys": {"id": "b"}}, "the entry that was asked for"),
        ],
    )
    def test_answer_about_something_else_is_refused(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        kind: str,
        answer: dict[str, object],
        message: str,
    ) -> None:
        with Sandbox(small_catalogue, faults=Answers(*[Response.json(answer)] * 9, kind=kind)) as sandbox:
            client = make_client(sandbox)
            calls: dict[str, Callable[[], object]] = {
                "project": lambda: client.get_project(sandbox.project_id),
                "content_type": lambda: client.get_content_type(sandbox.project_id, "film"),
                "entry": lambda: client.get_entry(sandbox.project_id, "a"),
            }
            with pytest.raises(errors.InvalidResponseError, match=f"not answered with {message}"):
                calls[kind]()

    def test_exception_does_not_keep_the_answer(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*[Response(200, b'{"items": ["\xff"]}')] * 9, kind="search")
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.InvalidResponseError) as failure,
        ):
            make_client(sandbox).count_entries(sandbox.project_id, [])
        assert failure.value.__context__ is None

    @pytest.mark.parametrize("secret", ["pr%40xy-pass", "pr@xy-pass", "bWU6cHJAeHktcGFzcw=="])
    @pytest.mark.parametrize("scheme", ["http://", ""])
    def test_password_of_a_proxy_in_an_error_is_hidden(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        secret: str,
        scheme: str,
    ) -> None:
        faults = Answers(Response.json({"logId": "1", "message": f"sent {secret}."}, 400))
        with Sandbox(small_catalogue, faults=faults) as sandbox:
            client = make_client(sandbox, proxies={"https": f"{scheme}me:pr%40xy-pass@proxy.example:3128"})
            with pytest.raises(errors.APIError, match=r"Contensis says: sent \*\*\*\.") as failure:
                client.get_project(sandbox.project_id)
        assert secret not in repr(vars(failure.value))

    @pytest.mark.parametrize(
        ("body", "kind", "message"),
        [
            ('[{"id": "TOKEN"}]', "application/json", "the access token that was sent"),
            ('[{"id": "\\u0054OKEN"}]', "application/json", "the access token that was sent"),
            ("", "text/TOKEN", "nothing instead of JSON"),
            ("<html>", "TOKEN; charset=x", "an HTML page instead of JSON"),
        ],
    )
    def test_answer_that_echoes_the_token_is_refused_without_showing_it(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        body: str,
        kind: str,
        message: str,
    ) -> None:
        def echo(request: Request) -> Response | None:
            if request.kind != "content_type":
                return None
            token = request.headers["authorization"].removeprefix("Bearer ")
            echoed = body.replace("TOKEN", token).replace("\\u0054OKEN", f"\\u{ord(token[0]):04x}{token[1:]}")
            return Response(200, echoed.encode(), {"content-type": kind.replace("TOKEN", token)})

        with Sandbox(small_catalogue, faults=echo) as sandbox:
            client = make_client(sandbox)
            with pytest.raises(errors.InvalidResponseError, match=message) as failure:
                client.list_content_types(sandbox.project_id)
            assert client.access_token().value not in str(failure.value)

    def test_deeply_nested_error_body_raises_validation_error(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        deep = b'{"a":' * 900 + b"1" + b"}" * 900
        faults = Answers(Response(422, deep))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.ValidationError),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
