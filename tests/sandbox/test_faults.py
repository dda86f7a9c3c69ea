"""Named faults, as a client that uses only `requests` sees them, and mixtures of faults."""

from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_contensis.sandbox import Mixture, Request, Response, Sandbox, together
from tests.sandbox.conftest import Client, make_films

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def search_with() -> Iterator[Callable[..., requests.Response]]:
    """A function that sends a search which always gets the named fault, and returns the response."""
    sandboxes: list[Sandbox] = []

    def run(name: str, *, seed: int = 0, **options: Any) -> requests.Response:
        sandbox = Sandbox(make_films())
        sandboxes.append(sandbox)
        sandbox.start()
        client = Client(sandbox)
        sandbox.faults = Mixture(seed, {name: 1}, **options)
        response = client.search([], pageSize=6)
        assert sandbox.faults.injected == {name: 1}
        return response

    yield run
    for sandbox in sandboxes:
        sandbox.stop()


def titles(response: requests.Response) -> list[str]:
    return [item["entryTitle"] for item in response.json()["items"]]


@pytest.mark.parametrize("name", ["401", "403", "408", "429", "500", "502", "503", "504"])
def test_status_fault_returns_its_status(search_with: Callable[..., requests.Response], name: str) -> None:
    assert search_with(name).status_code == int(name)


def test_401_has_its_own_envelope_and_500_a_log_id(search_with: Callable[..., requests.Response]) -> None:
    assert search_with("401").json() == {"message": "Authorization has been denied for this request."}
    assert len(search_with("500").json()["logId"]) == 36


@pytest.mark.parametrize("name", ["502", "503", "504"])
def test_gateway_errors_are_html(search_with: Callable[..., requests.Response], name: str) -> None:
    response = search_with(name)
    assert response.headers["content-type"] == "text/html"
    assert "<html>" in response.text


def test_429_has_retry_after_in_seconds_or_as_date_or_not_at_all(
    search_with: Callable[..., requests.Response],
) -> None:
    assert "retry-after" not in search_with("429").headers
    assert search_with("429-seconds", retry_after=7).headers["retry-after"] == "7"
    date = parsedate_to_datetime(search_with("429-date", retry_after=60).headers["retry-after"])
    assert 55 < (date - datetime.now(UTC)).total_seconds() <= 60


def test_html_fault_has_status_200(search_with: Callable[..., requests.Response]) -> None:
    response = search_with("html")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html")


def test_revoked_token_is_rejected_and_new_token_accepted() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"revoked": 1})
        assert client.get().status_code == 401
        sandbox.faults = None
        assert client.get().status_code == 401
        assert Client(sandbox).get().status_code == 200


@pytest.mark.parametrize("name", ["closed", "reset"])
def test_connection_ends_without_response(search_with: Callable[..., requests.Response], name: str) -> None:
    with pytest.raises(requests.ConnectionError) as failure:
        search_with(name)
    assert ("reset" in str(failure.value).lower()) == (name == "reset")


def test_refused_connections_are_accepted_again_on_same_port() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"refused": 1}, outage=0.3)
        with pytest.raises(requests.ConnectionError):
            client.get()
        sandbox.faults = None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", sandbox.port), timeout=5)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                assert client.get().status_code == 200
                return
            except requests.ConnectionError:
                time.sleep(0.02)
        pytest.fail("The sandbox did not accept connections again")


def test_sandbox_stops_during_outage() -> None:
    with Sandbox(make_films(), faults=lambda _: Response(drop=True, outage=60)) as sandbox:
        with pytest.raises(requests.ConnectionError):
            requests.get(sandbox.url, timeout=5)
        start = time.monotonic()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["cut", "cut-chunked", "reset-in-body"])
def test_truncated_body_is_detected_by_framing(
    search_with: Callable[..., requests.Response], name: str
) -> None:
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        search_with(name)


def test_truncated_body_without_length_looks_complete(search_with: Callable[..., requests.Response]) -> None:
    response = search_with("cut-without-length")
    assert response.status_code == 200
    assert not {"content-length", "transfer-encoding"} & {name.lower() for name in response.headers}
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid"):
        json.loads(response.content)


def test_slow_response_is_correct(search_with: Callable[..., requests.Response]) -> None:
    for name in ("slow-first-byte", "slow-body"):
        start = time.monotonic()
        assert len(titles(search_with(name, slow=0.4))) == 6
        assert time.monotonic() - start >= 0.3


def test_short_page_has_correct_total(search_with: Callable[..., requests.Response]) -> None:
    page = search_with("short-page").json()
    assert page["totalCount"] == 9
    assert len(page["items"]) < 6


def test_repeated_entry_is_on_page_twice(search_with: Callable[..., requests.Response]) -> None:
    page = search_with("repeated-entry").json()
    assert len(page["items"]) == 6
    assert len({(item["sys"]["id"], item["sys"]["language"]) for item in page["items"]}) == 5


def test_wrong_total_comes_with_correct_page(search_with: Callable[..., requests.Response]) -> None:
    page = search_with("wrong-total").json()
    assert page["totalCount"] != 9
    assert len(page["items"]) == 6


def test_repeated_page_returns_previous_page() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"repeated-page": 1})
        order = [{"asc": "sys.id"}]
        first, second = (client.search([], orderBy=order, pageSize=3, pageIndex=number) for number in (0, 1))
        assert second.json() == first.json()


def test_window_fault_is_error_or_empty_page(search_with: Callable[..., requests.Response]) -> None:
    assert search_with("window-error").status_code == 422
    page = search_with("window-empty").json()
    assert (page["items"], page["totalCount"]) == ([], 9)


def test_broken_gzip_causes_different_errors(search_with: Callable[..., requests.Response]) -> None:
    kinds = set()
    for seed in range(12):
        try:
            json.loads(search_with("broken-gzip", seed=seed).content)
        except (requests.exceptions.ContentDecodingError, ValueError) as error:
            kinds.add(type(error))
    assert len(kinds) == 2


def test_fault_applies_only_to_its_kinds_of_request() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"short-page": 1, "401": 0})
        assert client.get().status_code == 200
        assert client.token().status_code == 200
        assert len(titles(client.search([]))) < 9


class TestMixture:
    def test_frequency_matches_shares(self) -> None:
        mixture = Mixture(3, {"500": 0.2, "503": 0.1})
        with Sandbox(make_films()) as sandbox:
            client = Client(sandbox)
            sandbox.faults = mixture
            statuses = [client.get(f"/entries/{number}").status_code for number in range(300)]
        assert 40 <= statuses.count(500) <= 80
        assert 15 <= statuses.count(503) <= 45
        assert mixture.injected == {"500": statuses.count(500), "503": statuses.count(503)}

    def test_fault_depends_on_request_and_occurrence_not_on_order(self) -> None:
        def statuses(seed: int, paths: list[str]) -> dict[str, list[int]]:
            sandbox.faults = Mixture(seed, {"500": 0.3, "503": 0.3})
            found: dict[str, list[int]] = {}
            for path in paths:
                found.setdefault(path, []).append(client.get(path).status_code)
            return found

        with Sandbox(make_films()) as sandbox:
            client = Client(sandbox)
            paths = [f"/entries/{number % 10}" for number in range(60)]
            first = statuses(1, paths)
            sandbox.faults = None
            client = Client(sandbox)  # with another token
            assert statuses(1, sorted(paths)) == first
            assert statuses(2, paths) != first

    @pytest.mark.parametrize(
        ("shares", "message"),
        [
            ({"teapot": 0.1}, "Unknown fault 'teapot'"),
            ({"500": 0.7, "503": 0.4}, "more than 1"),
            ({"500": -1}, "neg"),
        ],
    )
    def test_invalid_shares_are_rejected(self, shares: dict[str, float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Mixture(0, shares)

    def test_combines_with_other_faults(self) -> None:
        seen: list[str] = []

        def watch(request: Request) -> None:
            seen.append(request.kind)

        with Sandbox(make_films(), faults=together(watch, Mixture(0, {"403": 1}))) as sandbox:
            assert Client(sandbox).get().status_code == 403
        assert seen == ["token", "project"]
