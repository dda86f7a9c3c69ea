"""The pytest plugin `contensis_sandbox`: a sandbox for testing your own DAGs.

Every pytest run in the environment loads this module, so it imports nothing until a test asks for a fixture.
It is not in the sandbox package because importing any module of that package imports the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.sandbox import Catalogue, Sandbox


@pytest.fixture
def contensis_catalogue() -> Catalogue:
    """Return new content for `contensis_sandbox`; override it to serve something else."""
    from airflow_provider_contensis.sandbox import iso_catalogue

    return iso_catalogue()


@pytest.fixture
def contensis_sandbox(contensis_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve a local Contensis environment and make it the connection `contensis_default`."""
    from airflow_provider_contensis.sandbox import Sandbox

    with Sandbox(contensis_catalogue) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
        yield sandbox
