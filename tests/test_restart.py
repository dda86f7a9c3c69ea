"""A service that restarts in the middle of an export does not fail it.

A CMS restarts in one to three minutes, and calls are retried for five. Here, both take a fiftieth of that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.exceptions import HostUnreachableError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Request, Response, Sandbox, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

DEFAULT = RetryPolicy()
FIFTIETH = RetryPolicy(DEFAULT.total / 50, DEFAULT.initial_wait / 50, DEFAULT.max_wait / 50)


class Restart:
    """Drops all connections and refuses new ones for a while, from one search on.

    :param seconds: until the service is back.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._searches = 0
        self._back_at: float | None = None

    def __call__(self, request: Request) -> Response | None:
        self._searches += request.kind == "search"
        if self._back_at is None and self._searches == 12:
            self._back_at = time.monotonic() + self._seconds
            return Response(drop=True, outage=self._seconds)
        # Connections that are open still deliver requests.
        is_away = self._back_at is not None and time.monotonic() < self._back_at
        return Response(drop=True) if is_away else None


def test_restart_of_150_seconds_is_survived(
    make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    catalogue = synthetic_catalogue(2_000)
    request = ExportRequest.from_arguments(destination=tmp_path / "x.jsonl", page_size=100)
    with Sandbox(catalogue, faults=Restart(150 / 50)) as sandbox:
        started = time.monotonic()
        result = export_entries(make_client(sandbox, retry=FIFTIETH), sandbox.project_id, request)
        assert time.monotonic() - started > 150 / 50
    assert result.entries == 2_000
    assert sorted((tmp_path / "x.jsonl").read_bytes().splitlines()) == sorted(catalogue.entries())


def test_service_that_stays_away_fails_the_export_after_five_minutes(
    make_client: Callable[..., ContensisClient], tmp_path: Path
) -> None:
    request = ExportRequest.from_arguments(destination=tmp_path / "x.jsonl", page_size=100)
    with Sandbox(synthetic_catalogue(2_000), faults=Restart(60)) as sandbox:
        client = make_client(sandbox, retry=FIFTIETH)
        with pytest.raises(HostUnreachableError) as failure:
            export_entries(client, sandbox.project_id, request)
    assert failure.value.retryable  # Airflow may retry the task
    assert list(tmp_path.iterdir()) == []
