"""Named faults, as a client with nothing but `requests` meets them, and the mixture of them."""

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
def meet() -> Iterator[Callable[..., requests.Response]]:
    """Send a search that meets a fault for certain, and return the answer."""
    sandboxes: list[Sandbox] = []

    def run(name: str, *, seed: int = 0, **options: Any) -> requests.Response:
        sandbox = Sandbox(make_films())
        sandboxes.append(sandbox)
        sandbox.start()
        client = Client(sandbox)
        sandbox.faults = Mixture(seed, {name: 1}, **options)
        answer = client.search([], pageSize=6)
        assert sandbox.faults.injected == {name: 1}
        return answer

    yield run
    for sandbox in sandboxes:
        sandbox.stop()


def titles(answer: requests.Response) -> list[str]:
    return [item["entryTitle"] for item in answer.json()["items"]]


@pytest.mark.parametrize("name", ["401", "403", "408", "429", "500", "502", "503", "504"])
def test_a_status_by_name_is_that_status(meet: Callable[..., requests.Response], name: str) -> None:
    assert meet(name).status_code == int(name)


def test_401_has_its_own_envelope_and_500_a_log_id(meet: Callable[..., requests.Response]) -> None:
    assert meet("401").json() == {"message": "Authorization has been denied for this request."}
    assert len(meet("500").json()["logId"]) == 36


@pytest.mark.parametrize("name", ["502", "503", "504"])
def test_gateways_answer_in_html(meet: Callable[..., requests.Response], name: str) -> None:
    answer = meet(name)
    assert answer.headers["content-type"] == "text/html"
    assert "<html>" in answer.text


def test_429_asks_to_wait_in_seconds_or_until_a_date_or_not_at_all(
    meet: Callable[..., requests.Response],
) -> None:
    assert "retry-after" not in meet("429").headers
    assert meet("429-seconds", retry_after=7).headers["retry-after"] == "7"
    date = parsedate_to_datetime(meet("429-date", retry_after=60).headers["retry-after"])
    assert 55 < (date - datetime.now(UTC)).total_seconds() <= 60


def test_html_comes_with_status_200(meet: Callable[..., requests.Response]) -> None:
    answer = meet("html")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


def test_a_revoked_token_is_refused_and_a_new_one_is_not() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"revoked": 1})
        assert client.get().status_code == 401
        sandbox.faults = None
        assert client.get().status_code == 401
        assert Client(sandbox).get().status_code == 200


@pytest.mark.parametrize("name", ["closed", "reset"])
def test_a_connection_ends_without_an_answer(meet: Callable[..., requests.Response], name: str) -> None:
    with pytest.raises(requests.ConnectionError) as failure:
        meet(name)
    assert ("reset" in str(failure.value).lower()) == (name == "reset")


def test_connections_are_refused_for_a_while_and_then_accepted_on_the_same_port() -> None:
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
        pytest.fail("it never came back")


def test_a_sandbox_stops_in_the_middle_of_an_outage() -> None:
    with Sandbox(make_films(), faults=lambda _: Response(drop=True, outage=60)) as sandbox:
        with pytest.raises(requests.ConnectionError):
            requests.get(sandbox.url, timeout=5)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", ["cut", "cut-chunked", "reset-in-body"])
def test_a_body_cut_short_is_told_by_its_framing(meet: Callable[..., requests.Response], name: str) -> None:
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        meet(name)


def test_a_body_cut_short_without_its_length_looks_whole(meet: Callable[..., requests.Response]) -> None:
    answer = meet("cut-without-length")
    assert answer.status_code == 200
    assert not {"content-length", "transfer-encoding"} & {name.lower() for name in answer.headers}
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid"):
        json.loads(answer.content)


def test_a_slow_answer_is_the_true_one(meet: Callable[..., requests.Response]) -> None:
    for name in ("slow-first-byte", "slow-body"):
        begun = time.monotonic()
        assert len(titles(meet(name, slow=0.4))) == 6
        assert time.monotonic() - begun >= 0.3


def test_a_page_is_short_though_its_total_is_true(meet: Callable[..., requests.Response]) -> None:
    page = meet("short-page").json()
    assert page["totalCount"] == 9
    assert len(page["items"]) < 6


def test_a_page_has_an_entry_twice(meet: Callable[..., requests.Response]) -> None:
    page = meet("repeated-entry").json()
    assert len(page["items"]) == 6
    assert len({(item["sys"]["id"], item["sys"]["language"]) for item in page["items"]}) == 5


def test_a_total_is_wrong_though_the_page_is_true(meet: Callable[..., requests.Response]) -> None:
    page = meet("wrong-total").json()
    assert page["totalCount"] != 9
    assert len(page["items"]) == 6


def test_a_page_shows_what_another_one_showed_before() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"repeated-page": 1})
        order = [{"asc": "sys.id"}]
        first, second = (client.search([], orderBy=order, pageSize=3, pageIndex=number) for number in (0, 1))
        assert second.json() == first.json()


def test_the_window_limit_is_an_error_or_an_empty_page(meet: Callable[..., requests.Response]) -> None:
    assert meet("window-error").status_code == 422
    page = meet("window-empty").json()
    assert (page["items"], page["totalCount"]) == ([], 9)


def test_gzip_is_broken_in_several_ways(meet: Callable[..., requests.Response]) -> None:
    kinds = set()
    for seed in range(12):
        try:
            json.loads(meet("broken-gzip", seed=seed).content)
        except (requests.exceptions.ContentDecodingError, ValueError) as error:
            kinds.add(type(error))
    assert len(kinds) == 2


def test_every_fault_is_met_by_what_it_befalls_and_by_nothing_else() -> None:
    with Sandbox(make_films()) as sandbox:
        client = Client(sandbox)
        sandbox.faults = Mixture(0, {"short-page": 1, "401": 0})
        assert client.get().status_code == 200
        assert client.token().status_code == 200
        assert len(titles(client.search([]))) < 9


class TestAMixture:
    def test_is_as_frequent_as_asked(self) -> None:
        mixture = Mixture(3, {"500": 0.2, "503": 0.1})
        with Sandbox(make_films()) as sandbox:
            client = Client(sandbox)
            sandbox.faults = mixture
            statuses = [client.get(f"/entries/{number}").status_code for number in range(300)]
        assert 40 <= statuses.count(500) <= 80
        assert 15 <= statuses.count(503) <= 45
        assert mixture.injected == {"500": statuses.count(500), "503": statuses.count(503)}

    def test_depends_on_what_is_asked_and_how_often_not_on_who_comes_first(self) -> None:
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
        ("shares", "words"),
        [
            ({"teapot": 0.1}, "no fault 'teapot'"),
            ({"500": 0.7, "503": 0.4}, "more than 1"),
            ({"500": -1}, "neg"),
        ],
    )
    def test_that_makes_no_sense_is_refused(self, shares: dict[str, float], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Mixture(0, shares)

    def test_can_stand_beside_other_faults(self) -> None:
        seen: list[str] = []

        def watch(request: Request) -> None:
            seen.append(request.kind)

        with Sandbox(make_films(), faults=together(watch, Mixture(0, {"403": 1}))) as sandbox:
            assert Client(sandbox).get().status_code == 403
        assert seen == ["token", "project"]
