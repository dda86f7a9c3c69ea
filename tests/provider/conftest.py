"""What tests of operators and sensors share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.sandbox import Catalogue


@pytest.fixture
def sandbox(catalogue: Catalogue, connect: Callable[[Sandbox], None]) -> Iterator[Sandbox]:
    """Serve a module's catalogue, to which the default connection leads."""
    with Sandbox(catalogue) as sandbox:
        connect(sandbox)
        yield sandbox
