"""Page size and concurrency: both fall when the service is in trouble, and recover after a calm."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.retry import RetryPolicy
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
from airflow_provider_contensis.export.model import EntryQuery, Window
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest, ReadOptions
from airflow_provider_contensis.export.search import WindowSearch
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.export.results import ExportResult
    from airflow_provider_contensis.sandbox import Catalogue, Faults

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


class TestPageSize:
    @pytest.mark.parametrize("error", [TIMEOUT, CUT_SHORT, too_large(), ServerError("x", status_code=504)])
    def test_halves_on_failure_that_smaller_page_may_avoid(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert (limits.page_size, limits.concurrency) == (250, 4)
        assert error.retryable

    @pytest.mark.parametrize("error", [busy(), HostUnreachableError("x"), APIError("x", status_code=404)])
    def test_does_not_change_on_other_failures(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert limits.page_size == 500

    def test_halves_once_when_several_pages_of_one_size_fail(self) -> None:
        limits = Limits(500, 4)
        with pytest.raises(RequestTimeoutError), limits.permit() as permit:
            fail(limits, TIMEOUT)
            raise TIMEOUT
        assert (permit.page_size, limits.page_size) == (500, 250)

    def test_is_at_least_one_and_single_entry_that_is_too_large_is_not_retried(self) -> None:
        limits = Limits(2, 4)
        fail(limits, TIMEOUT)
        error = too_large()
        fail(limits, error)
        assert limits.page_size == 1
        assert not error.retryable

    def test_falls_below_a_sixteenth_only_on_413(self) -> None:
        limits = Limits(500, 4)
        for _ in range(10):
            fail(limits, TIMEOUT)
        assert limits.page_size == 31
        for _ in range(10):
            fail(limits, too_large())
        assert limits.page_size == 1

    def test_does_not_change_on_failed_count(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT, page_size=1)
        assert limits.page_size == 500

    def test_recovers_after_calm_up_to_initial_size(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT)
        succeed(limits, 7)
        assert limits.page_size == 250
        succeed(limits, 100)
        assert limits.page_size == 500

    def test_recovers_later_after_relapse(self) -> None:
        limits = Limits(500, 4)
        fail(limits, TIMEOUT)
        succeed(limits, 8)
        fail(limits, TIMEOUT)  # the first request with the larger page
        succeed(limits, 8)
        assert limits.page_size == 250
        succeed(limits, 8)
        assert limits.page_size == 500


class TestConcurrency:
    @pytest.mark.parametrize("error", [busy(), RateLimitedError("many", status_code=429)])
    def test_halves_on_429_or_503_and_recovers(self, error: ContensisError) -> None:
        limits = Limits(500, 4)
        fail(limits, error)
        assert (limits.page_size, limits.concurrency) == (500, 2)
        fail(limits, error)
        fail(limits, error)
        assert limits.concurrency == 1
        succeed(limits, 1_000)
        assert limits.concurrency == 4

    def test_requests_wait_for_permit(self) -> None:
        limits = Limits(500, 2)
        in_flight, most = 0, 0
        lock = threading.Lock()

        def ask() -> None:
            nonlocal in_flight, most
            with limits.permit():
                with lock:
                    in_flight += 1
                    most = max(most, in_flight)
                time.sleep(0.01)
                with lock:
                    in_flight -= 1

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 2

    def test_released_permit_lets_next_request_go_out(self) -> None:
        limits = Limits(500, 1)
        with limits.permit() as permit:
            permit.release()
            with limits.permit():
                pass
        with limits.permit():
            pass


@pytest.mark.parametrize("end", ["read", "client"])
def test_waits_for_retry_end_with_the_read_or_the_client(
    make_client: Callable[..., ContensisClient], small_catalogue: Catalogue, end: str
) -> None:
    failed = threading.Event()

    def fail_searches(request: Request) -> Response | None:
        if request.kind != "search":
            return None
        failed.set()
        return Response(500, b"{}")

    with Sandbox(small_catalogue, faults=fail_searches) as sandbox:
        client = make_client(sandbox, retry=RetryPolicy(initial_wait=600, max_wait=600, total=3_600))
        search = WindowSearch(client, sandbox.project_id, EntryQuery(), ReadOptions())
        with search.threads() as executor:
            page = executor.submit(search.page, Window(("film",), ("en-GB",), ()))
            assert failed.wait(10)
            if end == "client":
                client.close()
                with pytest.raises(ContensisError):
                    page.result(timeout=10)
        with pytest.raises(ContensisError):
            page.result(timeout=10)


class TestExport:
    """Exports from a service with limits of its own."""

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

    @pytest.mark.parametrize("failure", ["413", "timeout", "cut body"])
    def test_succeeds_with_smaller_pages(
        self, export: Callable[..., ExportResult], caplog: pytest.LogCaptureFixture, failure: str
    ) -> None:
        caplog.set_level(logging.INFO)
        refused: list[int] = []

        def refuse_large_pages(request: Request) -> Response | None:
            size = json.loads(request.body)["pageSize"] if request.kind == "search" else 0
            if size <= 100:
                return None
            refused.append(size)
            if failure == "413":
                return Response(413, b"<html>Request Entity Too Large</html>")
            answer = request.answer()
            if failure == "timeout":
                return dataclasses.replace(answer, delay=2.0)
            return dataclasses.replace(answer, body=answer.body[:500], content_length=len(answer.body))

        export(refuse_large_pages, page_size=400, max_concurrent_requests=2)
        assert 0 < len(refused) < 12  # not once for every page
        assert "Limits now: page_size=100," in caplog.text

    @pytest.mark.slow
    def test_adapts_to_service_that_accepts_two_requests_at_once(
        self, export: Callable[..., ExportResult]
    ) -> None:
        in_flight, refused, served = 0, 0, 0
        lock = threading.Lock()

        def refuse_third(request: Request) -> Response | None:
            nonlocal in_flight, refused, served
            if request.kind != "search":
                return None
            with lock:
                in_flight += 1
                is_refused = in_flight > 2
                refused += is_refused
                served += not is_refused
            try:
                time.sleep(0.01)
                return Response(429, b"{}") if is_refused else request.answer()
            finally:
                with lock:
                    in_flight -= 1

        export(refuse_third, page_size=20, max_concurrent_requests=8)
        assert served > 150
        assert refused < served / 4
