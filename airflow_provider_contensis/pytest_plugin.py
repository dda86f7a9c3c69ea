"""The pytest plugin `contensis_sandbox`: a sandbox for tests of one's own DAGs.

Every pytest run of the environment loads it, so nothing is imported before a test asks for a fixture. That is
why it does not stand in the sandbox's package: to import a module of it would be to import the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.sandbox import Catalogue, Sandbox


@pytest.fixture
def contensis_catalogue() -> Catalogue:
    """Return what `contensis_sandbox` serves, anew for each test; override it to serve something else."""
    from airflow_provider_contensis.sandbox import iso_catalogue

    return iso_catalogue()


@pytest.fixture
def contensis_sandbox(contensis_catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve a local Contensis environment, and make it the connection `contensis_default`."""
    from airflow_provider_contensis.sandbox import Sandbox

    with Sandbox(contensis_catalogue) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_CONTENSIS_DEFAULT", sandbox.connection_json)
        yield sandbox
