"""The pytest plugin, as users' DAG tests use it: in a separate pytest process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare_airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow whose database was never initialized."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/airflow.db")


@pytest.mark.slow
def test_hook_finds_sandbox_without_airflow_database(pytester: pytest.Pytester, bare_airflow: None) -> None:
    pytester.makepyfile(
        """
        import os

        from airflow_provider_contensis.hooks.contensis import ContensisHook

        def test_served(contensis_sandbox):
            countries = ContensisHook().iter_entries(content_type_id="country", language="cy")
            assert "Ffrainc" in [country["name"] for country in countries]
            assert contensis_sandbox.count("token") == 1

        def test_gone_afterwards():
            assert "AIRFLOW_CONN_CONTENSIS_DEFAULT" not in os.environ
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_changes_of_one_test_are_not_visible_to_another(
    pytester: pytest.Pytester, bare_airflow: None
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("run", ["first", "second"])
        def test_delete(contensis_sandbox, run):
            catalogue = contensis_sandbox.catalogue
            before = len(catalogue)
            assert before == 27160
            catalogue.delete(catalogue.add("currency", {"name": "Groat"}))
            catalogue.add("currency", {"name": "Florin"})
            assert len(catalogue) == before + 1
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_overridden_catalogue_is_served(pytester: pytest.Pytester, bare_airflow: None) -> None:
    pytester.makeconftest(
        """
        import pytest

        from airflow_provider_contensis.sandbox import synthetic_catalogue

        @pytest.fixture(scope="session")
        def contensis_catalogue():
            return synthetic_catalogue(7)
        """
    )
    pytester.makepyfile(
        """
        from airflow_provider_contensis.hooks.contensis import ContensisHook

        def test_served(contensis_sandbox):
            assert len(list(ContensisHook().iter_entries())) == 7
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_run_without_fixtures_imports_only_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_imported():
            imported = {name for name in sys.modules if name.startswith(("airflow", "msgspec"))}
            assert imported == {"airflow_provider_contensis", "airflow_provider_contensis.pytest_plugin"}
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_fixtures_are_listed_with_descriptions(pytester: pytest.Pytester) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures"],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "contensis_sandbox --" in listed
    assert "make it the connection `contensis_default`" in listed
    assert "override it to serve something else" in listed
