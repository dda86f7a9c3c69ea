"""A session without a server: requests-mock answers."""

from __future__ import annotations

import pytest

from airflow_provider_contensis.api.transport import ContensisSession
from tests.api.example import ROOT


@pytest.fixture
def session() -> ContensisSession:
    return ContensisSession(ROOT)
