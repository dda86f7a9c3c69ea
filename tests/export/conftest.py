"""What tests of exports share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export import differences
from airflow_provider_contensis.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue
    from tests.export.copies import Copy
    from tests.postgres import Postgres


@pytest.fixture
def copy_of(
    make_client: Callable[..., ContensisClient], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Copy]]:
    """Follow a catalogue with a copy in PostgreSQL, counted in parts of 30 entries."""
    from tests.export.copies import Copy

    monkeypatch.setattr(differences, "PART_ENTRIES", 30)
    sandboxes: list[Sandbox] = []

    def make(catalogue: Catalogue, **options: Any) -> Copy:
        sandboxes.append(Sandbox(catalogue, **options))
        sandboxes[-1].start()
        return Copy(catalogue, make_client(sandboxes[-1]), sandboxes[-1], postgres)

    yield make
    for sandbox in sandboxes:
        sandbox.stop()


@pytest.fixture
def sandbox(catalogue: Catalogue) -> Iterator[Sandbox]:
    """Serve a module's catalogue."""
    with Sandbox(catalogue) as sandbox:
        yield sandbox
