"""Authenticated calls: what is sent, what comes back, and every way it can fail, over real HTTP."""

from __future__ import annotations

import gzip
import json
import pickle
import socketserver
import ssl
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import NO_RETRIES, RetryPolicy
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.api.transport import ContensisSession
from airflow_provider_contensis.export.model import Window
from airflow_provider_contensis.export.page import split_page
from airflow_provider_contensis.sandbox import Request, Response, Sandbox
from tests.tls import authority, certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue

ENVELOPE = {
    "logId": "4f1d2c3b-0000-4000-8000-123456789abc",
    "message": "It broke",
    "data": {},
    "type": "error",
}


ODD = (
    b'{"big":12345678901234567890,"small":1e-7,"exact":1.10,"zero":-0.0,'
    b'"text":"\\u00e9 \xc3\xa9 \xf0\x9f\x87\xa6","escaped":"line\\nbreak \\/ \\u2028","empty":{},"none":null}'
)


class Answers:
    """Sandbox faults for API calls: the given answers in turn, then the normal ones."""

    def __init__(self, *answers: Response | None, kind: str = "project") -> None:
        self.answers = list(answers)
        self.kind = kind
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Response | None:
        if request.kind != self.kind:
            return None
        self.seen.append(request)
        return self.answers.pop(0) if self.answers else None


def html(status: int, **headers: str) -> Response:
    return Response(status, b"<html>Sorry</html>", {"content-type": "text/html", **headers})


class Dripping(socketserver.ThreadingTCPServer):
    """Answers everything with a beginning, and then with a byte every tenth of a second, for ten seconds."""

    daemon_threads = True

    def __init__(self, beginning: bytes) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1 << 16)
                self.request.sendall(beginning)
                with suppress(OSError):
                    for _ in range(100):
                        time.sleep(0.1)
                        self.request.sendall(b" ")

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Dripping:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


@contextmanager
def told_memory() -> Iterator[Callable[[], int]]:
    """Yield what tells the most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


class TestResources:
    def test_projects(self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]) -> None:
        client = make_client(iso_sandbox)
        assert [project["id"] for project in client.list_projects()] == ["isoCodes"]
        assert client.get_project("isoCodes")["supportedLanguages"] == ["en-GB", "cy", "fr"]
        assert client.get_project("isoCodes", api="delivery")["id"] == "isoCodes"

    @pytest.mark.parametrize("api", ["management", "delivery"])
    def test_content_types(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], api: Any
    ) -> None:
        client = make_client(iso_sandbox)
        listed = {item["id"] for item in client.list_content_types("isoCodes", data_format="entry", api=api)}
        assert listed == {"country", "currency", "language", "subdivision"}
        country = client.get_content_type("isoCodes", "country", api=api)
        assert "name" in {field["id"] for field in country["fields"]}

    @pytest.mark.parametrize("api", ["management", "delivery"])
    def test_entries(
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

    def test_links_are_resolved_by_the_delivery_api(
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

    def test_a_call_to_any_other_path(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        answer = make_client(iso_sandbox).run("get", "/api/management/projects/isoCodes/components")
        assert answer.json() == []

    @pytest.mark.parametrize("name", ["..", ".", "", " ", None, "\ud800", ["a"]])
    def test_an_id_can_not_lead_out_of_its_place(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient], name: Any
    ) -> None:
        client = make_client(iso_sandbox)
        with pytest.raises(errors.ConfigurationError, match="is not a valid id"):
            client.get_project(name)
        with pytest.raises(errors.ConfigurationError, match="is not a valid id"):
            client.get_entry("isoCodes", name)

    def test_an_id_is_quoted(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            with pytest.raises(errors.NotFoundError):
                make_client(sandbox).get_project("../../x?y=1#z")
            # The whole of it arrived as one segment of the path.
            assert sandbox.requests[-1].kind == "project"
            assert sandbox.requests[-1].path == "/api/management/projects/../../x?y=1#z"


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


class TestPassingFailures:
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
    def test_are_tried_again(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], answer: Response
    ) -> None:
        faults = Answers(answer, answer)
        with Sandbox(small_catalogue, faults=faults) as sandbox:
            assert make_client(sandbox).get_project(sandbox.project_id)["id"] == sandbox.project_id
        assert len(faults.seen) == 3

    def test_that_last_are_raised(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*(Response.json(ENVELOPE, 500) for _ in range(9)))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.ServerError, match="500"),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert len(faults.seen) == 6

    def test_of_a_call_that_changes_something_are_not_tried_again(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(html(503), kind="list")
        with Sandbox(small_catalogue, faults=faults) as sandbox, pytest.raises(errors.ServerError):
            make_client(sandbox).run(
                "POST", f"/api/management/projects/{sandbox.project_id}/entries", json={}
            )
        assert len(faults.seen) == 1

    def test_of_a_search_are_tried_again_though_it_is_a_post(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue, faults=Answers(html(503), kind="search")) as sandbox:
            assert make_client(sandbox).count_entries(sandbox.project_id, []) > 0

    def test_of_the_identity_provider_that_last_are_tried_as_often_as_any_other(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(*[html(503)] * 99, kind="token")
        with Sandbox(small_catalogue, faults=faults) as sandbox, pytest.raises(errors.ServerError):
            make_client(sandbox).list_projects()
        assert len(faults.seen) == 6

    def test_of_the_identity_provider_are_tried_again(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue, faults=Answers(html(503), kind="token")) as sandbox:
            assert make_client(sandbox).list_projects()
            assert sandbox.count("token") == 2


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


class TestAnAnswerWithoutEnd:
    """256 MiB is more than a page of 10,000 entries holds."""

    @pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
    @pytest.mark.parametrize("kind", ["token", "project"])
    def test_is_refused_at_its_announcement(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], status: int, kind: str
    ) -> None:
        endless = Response(status, b"{", {"Location": "/"}, content_length=1 << 30)
        with (
            Sandbox(small_catalogue, faults=Answers(*[endless] * 9, kind=kind)) as sandbox,
            pytest.raises(errors.InvalidResponseError, match="Refused an answer of more than 256 MiB"),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert sandbox.count(kind) == 1  # no retry would make it smaller

    def test_that_was_compressed_is_refused_once_it_unpacks_to_too_much(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        bomb = gzip.compress(bytes(1 << 29))
        assert len(bomb) < 1 << 20
        answer = Response(200, bomb, {"content-encoding": "gzip"})
        with Sandbox(small_catalogue, faults=Answers(answer)) as sandbox:
            client = make_client(sandbox)
            client.access_token()
            with (
                told_memory() as most,
                pytest.raises(errors.InvalidResponseError, match="Refused an answer of more than 256 MiB"),
            ):
                client.get_project(sandbox.project_id)
        assert most() < 300 << 20

    def test_to_head_is_none(self, small_catalogue: Catalogue) -> None:
        with Sandbox(small_catalogue, faults=lambda _: Response(200, content_length=1 << 40)) as sandbox:
            session = ContensisSession(sandbox.url, timeout=5)
            assert session.head("/asset.zip").headers["Content-Length"] == str(1 << 40)


class TestEntriesOverSeveralLines:
    """As a server sends them that prints prettily: formats with an entry a line must not break."""

    @pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
    def test_become_one_line_and_keep_every_digit_and_character(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], newline: bytes
    ) -> None:
        pretty = ODD.replace(b",", b"," + newline + b"  ").replace(b"{", b"{" + newline)
        page = b'{"totalCount":2,"items":[%b,{"a":1}]}' % pretty
        with Sandbox(small_catalogue, faults=Answers(Response(200, page), kind="search")) as sandbox:
            body = make_client(sandbox).search(sandbox.project_id, {}, what="A page")
            answer = split_page(body, Window("en-GB", "film", ()))
        assert [bytes(item) for item in answer.items] == [ODD, b'{"a":1}']

    def test_are_the_bytes_as_served_where_no_line_is_broken(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        spaced = ODD.replace(b",", b" ,\t")
        page = b'{"totalCount":1,"items":[%b]}' % spaced
        with Sandbox(small_catalogue, faults=Answers(Response(200, page), kind="search")) as sandbox:
            body = make_client(sandbox).search(sandbox.project_id, {}, what="A page")
            answer = split_page(body, Window("en-GB", "film", ()))
        assert [bytes(item) for item in answer.items] == [spaced]


class TestAnAnswerThatDrips:
    """A byte now and then, which keeps a timeout that counts from byte to byte from ever ending."""

    @pytest.mark.parametrize("is_tls", [False, True])
    @pytest.mark.parametrize(
        "beginning",
        [
            b"HTTP",
            b"HTTP/1.1 200 OK\r\nserver:",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n",
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        ],
        ids=["before-its-status", "in-its-head", "in-its-body", "in-a-chunk", "until-it-is-closed"],
    )
    def test_ends_in_a_timeout(self, tmp_path: Path, beginning: bytes, is_tls: bool) -> None:
        with Dripping(beginning) as server:
            own = authority(tmp_path)
            if is_tls:
                server.socket = own.server(tmp_path).wrap_socket(server.socket, server_side=True)
            url = f"http{'s' if is_tls else ''}://127.0.0.1:{server.server_address[1]}"
            client = ContensisClient(
                Credentials(url, "id", "secret", ("Entry_Read",)),
                timeout=0.5,
                verify=str(own.file),
                retry=NO_RETRIES,
                tokens=TokenCache(),
                deadline_factor=1,
            )
            started = time.monotonic()
            with pytest.raises(errors.RequestTimeoutError, match=r"still arriving after 0\.5 seconds"):
                client.list_projects()
            assert time.monotonic() - started < 5


class TestTokens:
    def test_one_token_serves_all_calls(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox)
            for _ in range(5):
                client.list_projects()
            assert sandbox.count("token") == 1

    def test_a_revoked_token_is_replaced_once_and_the_call_repeated(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox)
            client.list_projects()
            sandbox.revoke_tokens()
            assert client.list_projects()
            assert sandbox.count("token") == 2

    def test_a_token_that_is_refused_twice_is_the_end(
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

    def test_refused_credentials_are_not_tried_again(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            credentials = Credentials(sandbox.url, sandbox.client_id, "rotated", ("Entry_Read",))
            client = ContensisClient(credentials, tokens=TokenCache())
            with pytest.raises(errors.AuthenticationError):
                client.list_projects()
            assert sandbox.count() == 1


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_to_another_host_are_refused_and_never_see_the_token(
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

    def test_within_the_environment_are_followed(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        moved = Response(301, headers={"Location": "/api/management/projects/"})
        with Sandbox(small_catalogue, faults=Answers(moved)) as sandbox:
            assert make_client(sandbox).list_projects()

    def test_that_would_turn_a_search_into_something_else_are_refused(
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
    def test_to_what_is_no_url_are_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], location: str
    ) -> None:
        away = Response(302, headers={"Location": location})
        with (
            Sandbox(small_catalogue, faults=Answers(away)) as sandbox,
            pytest.raises(errors.RedirectRefusedError),
        ):
            make_client(sandbox).list_projects()

    def test_without_end_are_given_up(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        loop = Response(307, headers={"Location": "/api/management/projects"})
        with (
            Sandbox(small_catalogue, faults=Answers(*[loop] * 500)) as sandbox,
            pytest.raises(errors.RedirectRefusedError, match="redirects in a loop"),
        ):
            make_client(sandbox).list_projects()


class TestTheNetwork:
    ONCE = RetryPolicy(attempts=1)

    def test_a_name_that_is_not_known(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import socket

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        with Sandbox(small_catalogue) as sandbox:
            monkeypatch.setattr(socket, "getaddrinfo", unknown)
            with pytest.raises(errors.HostUnreachableError, match="Cannot resolve the host name"):
                make_client(sandbox, retry=self.ONCE).list_projects()

    def test_a_port_where_nobody_listens(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=self.ONCE)
        with pytest.raises(errors.HostUnreachableError, match="refuses connections"):
            client.list_projects()

    def test_a_server_that_takes_too_long(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        faults = Answers(Response(delay=2.0))
        with (
            Sandbox(small_catalogue, faults=faults) as sandbox,
            pytest.raises(errors.RequestTimeoutError, match=r"within 0\.2 seconds"),
        ):
            make_client(sandbox, retry=self.ONCE, timeout=0.2).list_projects()

    def test_a_proxy_that_is_not_there(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("NO_PROXY")
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, retry=self.ONCE, proxies={"http": "http://me:pw@127.0.0.1:9"})
            with pytest.raises(errors.HostUnreachableError, match="proxy") as failure:
                client.list_projects()
            assert "pw" not in str(failure.value).split()

    def test_a_certificate_that_is_not_trusted_and_one_that_is(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> None:
        chain, key = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Sandbox(small_catalogue, tls=context) as sandbox:
            with pytest.raises(errors.CertificateError, match="is not trusted.*extra 'verify'") as failure:
                make_client(sandbox, retry=self.ONCE).list_projects()
            assert "self-signed" in str(failure.value) or "self signed" in str(failure.value)
            assert make_client(sandbox, verify=str(chain)).list_projects()
            with pytest.raises(errors.ConfigurationError, match="'verify' names a CA file"):
                make_client(sandbox, verify=str(tmp_path / "missing.pem")).list_projects()

    def test_plain_http_where_tls_is_expected(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            url = sandbox.url.replace("http:", "https:")
            credentials = Credentials(url, sandbox.client_id, sandbox.client_secret, ("Entry_Read",))
            client = ContensisClient(credentials, retry=self.ONCE, tokens=TokenCache())
            with pytest.raises(errors.HostUnreachableError, match="does not speak TLS"):
                client.access_token()


def test_a_closed_client_calls_no_more(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
) -> None:
    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox)
        client.close()
        with pytest.raises(errors.ContensisError, match="closed"):
            client.list_projects()


def test_every_exception_of_requests_becomes_one_of_ours(
    small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def subclasses(of: type[Exception]) -> set[type[Exception]]:
        return {of}.union(*(subclasses(each) for each in of.__subclasses__()))

    with Sandbox(small_catalogue) as sandbox:
        client = make_client(sandbox, retry=RetryPolicy(attempts=1))
        client.access_token()
        for kind in subclasses(requests.RequestException):
            details = ("", 0) if issubclass(kind, json.JSONDecodeError) else ()
            error = kind("Authorization: Bearer x", *details)

            def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            monkeypatch.setattr(client.session, "send", fail)
            with pytest.raises(errors.ContensisError) as failure:
                client.list_projects()
            assert "Bearer" not in str(failure.value)


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "//[", {}),
        ("GE\nT", "/x", {}),
        ("POST", "/api/x/search", {"json": {"where": [{1, 2}]}}),
        ("POST", "/api/x/search", {"json": {"where": [float("nan")]}}),
    ],
)
def test_a_call_that_can_not_be_made_says_so_at_once(
    small_catalogue: Catalogue,
    make_client: Callable[..., ContensisClient],
    method: str,
    path: str,
    options: dict[str, Any],
) -> None:
    with Sandbox(small_catalogue) as sandbox, pytest.raises(errors.ContensisError) as failure:
        make_client(sandbox).run(method, path, **options)
    assert not failure.value.retryable


def test_exceptions_survive_the_trip_to_another_process() -> None:
    for error in (
        errors.RateLimitedError("slow", status_code=429, retry_after=7, data=[1]),
        errors.IncompleteReadError("short", expected=2, found=1),
        errors.AuthenticationError("no", status_code=400, error="invalid_client"),
        errors.ConfigurationError("wrong"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_tree_of_exceptions_is_the_one_that_is_drawn() -> None:
    drawn = errors.__doc__ or ""

    def descendants(kind: type[Exception]) -> list[type[Exception]]:
        return [each for child in kind.__subclasses__() for each in (child, *descendants(child))]

    for kind in descendants(errors.ContensisError):
        assert f"── {kind.__name__} " in drawn, kind
