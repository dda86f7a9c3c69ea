"""Bodies of answers: their size limit, and the line breaks in them."""

from __future__ import annotations

import gzip
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.transport import ContensisSession
from airflow_provider_contensis.export.model import Window
from airflow_provider_contensis.export.page import split_page
from airflow_provider_contensis.sandbox import Response, Sandbox
from tests.api.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue

ODD_ENTRY = (
    b'{"big":12345678901234567890,"small":1e-7,"exact":1.10,"zero":-0.0,'
    b'"text":"\\u00e9 \xc3\xa9 \xf0\x9f\x87\xa6","escaped":"line\\nbreak \\/ \\u2028","empty":{},"none":null}'
)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Yield a function that returns, afterwards, the most bytes that Python held."""
    tracemalloc.start()
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


class TestSizeLimit:
    """256 MiB is more than a page of 10,000 entries holds."""

    @pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
    @pytest.mark.parametrize("kind", ["token", "project"])
    def test_too_large_content_length_is_refused(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], status: int, kind: str
    ) -> None:
        huge = Response(status, b"{", {"Location": "/"}, content_length=1 << 30)
        with (
            Sandbox(small_catalogue, faults=Answers(*[huge] * 9, kind=kind)) as sandbox,
            pytest.raises(errors.InvalidResponseError, match="Refused an answer of more than 256 MiB"),
        ):
            make_client(sandbox).get_project(sandbox.project_id)
        assert sandbox.count(kind) == 1  # a retry would not make it smaller

    def test_compressed_body_is_refused_when_it_unpacks_to_too_much(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        bomb = gzip.compress(bytes(1 << 29))
        assert len(bomb) < 1 << 20
        answer = Response(200, bomb, {"content-encoding": "gzip"})
        with Sandbox(small_catalogue, faults=Answers(answer)) as sandbox:
            client = make_client(sandbox)
            client.access_token()
            with (
                peak_memory() as peak,
                pytest.raises(errors.InvalidResponseError, match="Refused an answer of more than 256 MiB"),
            ):
                client.get_project(sandbox.project_id)
        assert peak() < 300 << 20

    def test_content_length_of_a_head_answer_is_not_limited(self, small_catalogue: Catalogue) -> None:
        with Sandbox(small_catalogue, faults=lambda _: Response(200, content_length=1 << 40)) as sandbox:
            session = ContensisSession(sandbox.url, timeout=5)
            assert session.head("/asset.zip").headers["Content-Length"] == str(1 << 40)


class TestPrettyPrintedEntries:
    """Formats with one entry per line must not break if a server pretty-prints its JSON."""

    @pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
    def test_entry_becomes_one_line_and_keeps_every_digit_and_character(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient], newline: bytes
    ) -> None:
        pretty = ODD_ENTRY.replace(b",", b"," + newline + b"  ").replace(b"{", b"{" + newline)
        page = b'{"totalCount":2,"items":[%b,{"a":1}]}' % pretty
        with Sandbox(small_catalogue, faults=Answers(Response(200, page), kind="search")) as sandbox:
            body = make_client(sandbox).search(sandbox.project_id, {}, what="A page")
            answer = split_page(body, Window(("film",), ("en-GB",), ()))
        assert [bytes(item) for item in answer.items] == [ODD_ENTRY, b'{"a":1}']

    def test_entry_without_line_breaks_keeps_its_bytes(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        spaced = ODD_ENTRY.replace(b",", b" ,\t")
        page = b'{"totalCount":1,"items":[%b]}' % spaced
        with Sandbox(small_catalogue, faults=Answers(Response(200, page), kind="search")) as sandbox:
            body = make_client(sandbox).search(sandbox.project_id, {}, what="A page")
            answer = split_page(body, Window(("film",), ("en-GB",), ()))
        assert [bytes(item) for item in answer.items] == [spaced]
