"""Less in trouble, more again once it is over: page sizes and requests at a time."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import (
    APIError,
    ContensisError,
    HostUnreachableError,
    InvalidResponseError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
)
from airflow_provider_contensis.export.limits import Limits
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult
    from airflow_provider_contensis.sandbox import Faults

TIMEOUT = RequestTimeoutError("slow")
CUT_SHORT = InvalidResponseError("cut")


def too_large() -> APIError:
    return APIError("large", status_code=413)


def busy() -> ServerError:
    return ServerError("busy", status_code=503)


def fail(limits: Limits, error: ContensisError, page_size: int | None = None) -> None:
    with pytest.raises(type(error)), limits.permit(page_size):
        raise error


def succeed(limits: Limits, times: int = 1) -> None:
    for _ in range(times):
        with limits.permit():
            pass


class TestThePageSize:
    @pytest.mark.parametrize("error", [TIMEOUT, CUT_SHORT, too_large(), ServerError("x", status_code=504)])
    def test_halves_with_what_a_smaller_page_may_mend(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert (limits.page_size, limits.concurrency) == (250, 4)
        assert error.retryable

    @pytest.mark.parametrize("error", [busy(), HostUnreachableError("x"), APIError("x", status_code=404)])
    def test_stays_with_anything_else(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert limits.page_size == 500

    def test_halves_once_where_several_pages_of_a_size_fail_together(self) -> None:
        limits = Limits(500, 4)
        with pytest.raises(RequestTimeoutError), limits.permit() as turn:
            fail(limits, TIMEOUT)
            raise TIMEOUT
        assert (turn.page_size, limits.page_size) == (500, 250)

    def test_is_never_less_than_one_entry_and_a_page_of_one_is_not_tried_again_when_too_large(self) -> None:
        limits = Limits(2, 4)
        fail(limits, TIMEOUT)
        error = too_large()
        fail(limits, error)
        assert limits.page_size == 1
        assert not error.retryable

    def test_falls_to_a_sixteenth_unless_the_service_says_that_pages_are_too_large(self) -> None:
        limits = Limits(500, 4)
        for _ in range(10):
            fail(limits, TIMEOUT)
        assert limits.page_size == 31
        for _ in range(10):
            fail(limits, too_large())
        assert limits.page_size == 1

    def test_of_a_count_tells_nothing_of_pages(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT, page_size=1)
        assert limits.page_size == 500

    def test_grows_back_after_a_calm_and_no_further(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT)
        succeed(limits, 7)
        assert limits.page_size == 250
        succeed(limits, 100)
        assert limits.page_size == 500

    def test_takes_longer_to_grow_back_with_each_relapse(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT)
        succeed(limits, 8)
        fail(limits, TIMEOUT)  # at once with the larger page
        succeed(limits, 8)
        assert limits.page_size == 250
        succeed(limits, 8)
        assert limits.page_size == 500


class TestRequestsAtATime:
    @pytest.mark.parametrize("error", [busy(), RateLimitedError("many", status_code=429)])
    def test_halve_when_the_service_has_too_many_and_grow_back(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert (limits.page_size, limits.concurrency) == (500, 2)
        fail(limits, error)
        fail(limits, error)
        assert limits.concurrency == 1
        succeed(limits, 1_000)
        assert limits.concurrency == 4

    def test_wait_for_their_turn(self) -> None:
        limits = Limits(500, 2)
        under_way, most = 0, 0
        lock = threading.Lock()

        def ask() -> None:
            nonlocal under_way, most
            with limits.permit():
                with lock:
                    under_way += 1
                    most = max(most, under_way)
                time.sleep(0.01)
                with lock:
                    under_way -= 1

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 2

    def test_go_out_while_what_was_answered_is_looked_into(self) -> None:
        limits = Limits(500, 1)
        with limits.permit() as turn:
            turn.release()
            with limits.permit():
                pass
        with limits.permit():
            pass


class TestAnExport:
    """Of a service that has limits."""

    @pytest.fixture
    def export(
        self, make_client: Callable[..., ContensisClient], tmp_path: Path
    ) -> Callable[..., ExportResult]:
        def run(faults: Faults, **options: Any) -> ExportResult:
            catalogue = synthetic_catalogue(3_000, body_bytes=100)
            request = ExportRequest.from_arguments(destination=f"{tmp_path}/out.jsonl", **options)
            with Sandbox(catalogue, faults=faults) as sandbox:
                result = export_entries(make_client(sandbox, timeout=1.0), sandbox.project_id, request)
            written = (tmp_path / "out.jsonl").read_bytes().splitlines()
            assert sorted(written) == sorted(catalogue.entries("published"))
            return result

        return run

    @pytest.mark.parametrize("trouble", ["413", "timeout", "cut body"])
    def test_that_bears_small_pages_only_succeeds_with_them(
        self, export: Callable[..., ExportResult], caplog: pytest.LogCaptureFixture, trouble: str
    ) -> None:
        caplog.set_level(logging.INFO)
        refused: list[int] = []

        def refuse_large_pages(request: Request) -> Response | None:
            size = json.loads(request.body)["pageSize"] if request.kind == "search" else 0
            if size <= 100:
                return None
            refused.append(size)
            if trouble == "413":
                return Response(413, b"<html>Request Entity Too Large</html>")
            answer = request.answer()
            if trouble == "timeout":
                return dataclasses.replace(answer, delay=2.0)
            return dataclasses.replace(answer, body=answer.body[:500], content_length=len(answer.body))

        export(refuse_large_pages, page_size=400, max_concurrent_requests=2)
        assert 0 < len(refused) < 12  # and not once for every page
        assert "Limits now: page_size=100," in caplog.text

    def test_that_bears_two_requests_at_a_time_soon_gets_no_more(
        self, export: Callable[..., ExportResult]
    ) -> None:
        under_way, refused, served = 0, 0, 0
        lock = threading.Lock()

        def bear_two(request: Request) -> Response | None:
            nonlocal under_way, refused, served
            if request.kind != "search":
                return None
            with lock:
                under_way += 1
                is_refused = under_way > 2
                refused += is_refused
                served += not is_refused
            try:
                time.sleep(0.01)
                return Response(429, b"{}") if is_refused else request.answer()
            finally:
                with lock:
                    under_way -= 1

        export(bear_two, page_size=20, max_concurrent_requests=8)
        assert served > 150
        assert refused < served / 4
