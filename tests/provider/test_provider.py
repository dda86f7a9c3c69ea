"""The package as Airflow sees it: metadata, form and imports."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.providers.common.compat.sdk import Connection

import airflow_provider_contensis
from airflow_provider_contensis import __version__
from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.get_provider_info import get_provider_info
from airflow_provider_contensis.hooks.contensis import ContensisHook
from tests.provider.version import AIRFLOW

COMPAT = "airflow.providers.common.compat.sdk"
FORM = get_provider_info()["connection-types"][0]


def dotted_paths(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [path for item in value.values() for path in dotted_paths(item)]
    if isinstance(value, list):
        return [path for item in value for path in dotted_paths(item)]
    return [value] if isinstance(value, str) and value.startswith("airflow_provider_contensis.") else []


def test_airflow_discovers_provider_and_connection_type() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
    assert manager.providers["airflow-provider-contensis"].version == __version__
    hook = Connection(conn_id="x", conn_type="contensis").get_hook()  # type: ignore[no-untyped-call]  # likewise
    assert type(hook) is ContensisHook
    assert hook.contensis_conn_id == "x"


def test_entry_point_names_distribution() -> None:
    [entry_point] = [
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.dist and each.dist.name == "airflow-provider-contensis"
    ]
    assert entry_point.load()() == get_provider_info()
    assert get_provider_info()["package-name"] == distribution("airflow-provider-contensis").name


def test_providers_page_links_to_what_the_description_says() -> None:
    """Airflow 3 takes out the marks of reStructuredText, and makes a link of what looks like an address."""
    shown = re.sub("[`_<>]", "", get_provider_info()["description"].strip(" \n."))
    links = re.findall(r"https?://[\w.-]+(?:\.?:[\w.-]+)*(?:[#/?][\w!#$%&'()*+,./:;=?@[\]~-]*)?", shown)
    assert links == ["https://www.contensis.com/"]


def test_paths_in_provider_info_can_be_imported() -> None:
    paths = dotted_paths(get_provider_info())
    assert paths
    for path in paths:
        try:
            importlib.import_module(path)
        except ModuleNotFoundError:
            module, _, name = path.rpartition(".")
            assert hasattr(importlib.import_module(module), name)


def test_provider_info_matches_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_form_hides_neither_host_nor_port() -> None:
    assert FORM["ui-field-behaviour"]["hidden-fields"] == ["schema"]


def test_form_fields_may_be_left_empty() -> None:
    for spec in FORM["conn-fields"].values():
        assert "null" in spec["schema"]["type"]


def test_defaults_in_form_equal_those_of_empty_fields() -> None:
    def settings(extra: dict[str, Any]) -> ConnectionSettings:
        connection = Connection(
            conn_id="x",
            conn_type="contensis",
            host="example",
            login="an id",
            password="a secret",
            extra=json.dumps(extra),
        )
        return ConnectionSettings.from_connection(connection)

    untouched = {name: spec["schema"].get("default") for name, spec in FORM["conn-fields"].items()}
    assert untouched["scopes"]
    assert untouched["timeout"]
    assert settings(untouched) == settings(dict.fromkeys(untouched)) == settings({})


def test_form_of_earlier_versions_has_same_labels() -> None:
    behaviour = ContensisHook.get_ui_field_behaviour()
    modern = FORM["ui-field-behaviour"]
    assert behaviour == {name.replace("-", "_"): value for name, value in modern.items()}


@pytest.mark.skipif(AIRFLOW >= (3, 0), reason="Airflow 3 has no form in Flask")
def test_form_of_earlier_versions_has_same_fields() -> None:
    widgets = ContensisHook.get_connection_form_widgets()
    fields = FORM["conn-fields"]
    assert list(widgets) == list(fields)
    for name, widget in widgets.items():
        assert widget.kwargs["description"] == fields[name]["description"]
        assert widget.kwargs["default"] == fields[name]["schema"].get("default")


def test_hook_has_connection_type_of_provider_info() -> None:
    assert (ContensisHook.conn_type, ContensisHook.hook_name) == (FORM["connection-type"], FORM["hook-name"])


def names_from_airflow() -> dict[str, set[str]]:
    """Return the names that the package imports from Airflow, by Airflow's module."""
    found: dict[str, set[str]] = {}
    for path in Path(airflow_provider_contensis.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {each.name: set() for each in node.names if each.name.split(".")[0] == "airflow"}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow":
                found.setdefault(str(node.module), set()).update(each.name for each in node.names)
    return found


def test_airflow_is_imported_from_common_compat_only() -> None:
    # What commands and triggers are made of has not moved from 2.11 to 3.3, and common.compat has neither
    # that nor the hook of an extra.
    own = {
        "airflow.cli.cli_config",
        "airflow.providers.postgres.hooks.postgres",
        "airflow.triggers.base",
    }
    # Lineage is in other parts of common.compat, and the provider of OpenLineage may be missing.
    lineage = {
        "airflow.providers.common.compat.lineage.hook",
        "airflow.providers.common.compat.openlineage.facet",
        "airflow.providers.openlineage.conf",
        "airflow.providers.openlineage.extractors",
    }
    assert set(names_from_airflow()) == {COMPAT, *own, *lineage}


@pytest.mark.integration
def test_imports_emit_no_warning() -> None:
    modules = [
        each.name
        for each in pkgutil.walk_packages(airflow_provider_contensis.__path__, "airflow_provider_contensis.")
        if not each.name.endswith("__main__")
    ]
    assert "airflow_provider_contensis.hooks.contensis" in modules
    silent = f"import warnings; warnings.simplefilter('error'); import {', '.join(modules)}"
    if AIRFLOW < (3, 0):
        # Airflow's own imports warn of Flask and SQLAlchemy: they come first, so that only ours can fail.
        silent = f"from {COMPAT} import {', '.join(names_from_airflow()[COMPAT])}; {silent}"
    done = subprocess.run([sys.executable, "-c", silent], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.integration
def test_loading_all_providers_emits_no_warning_of_ours() -> None:
    code = (
        "import warnings\n"
        "from airflow.providers_manager import ProvidersManager\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    manager = ProvidersManager()\n"
        "    assert manager.hooks['contensis'].hook_name == 'Contensis'\n"
        "    assert manager.field_behaviours is not None\n"
        "print([line for line in map(str, caught) if 'contensis' in line.lower()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for line in (done.stdout + done.stderr).splitlines():
        assert not ("contensis" in line.lower() and "warning" in line.lower()), line


@pytest.mark.slow
def test_the_operator_costs_a_dag_file_at_most_60_ms() -> None:
    # The quickest of three: what it costs, not what else the machine was doing.
    # The first may write the bytecode that a DAG processor would find.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = (
        f"import os, time; from {COMPAT} import DAG\n"
        "for _ in range(3):\n"
        "    if os.fork():\n"
        "        os.wait()\n"
        "        continue\n"
        "    start = time.process_time()\n"
        "    from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator\n"
        "    print('cost', time.process_time() - start, flush=True)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    costs = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("cost ")]
    assert len(costs) == 3
    assert min(costs) <= 0.060


@pytest.mark.integration
def test_operator_module_imports_no_heavy_libraries() -> None:
    code = (
        f"import sys; from {COMPAT} import DAG; before = set(sys.modules); "
        "import airflow_provider_contensis.operators.entries; "
        "print(sorted({'requests', 'urllib3', 'gzip', 'pyarrow'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_lower_floor_does_not_import_airflow() -> None:
    code = (
        "import sys, airflow_provider_contensis.export.pipeline, airflow_provider_contensis.sandbox; "
        "sys.exit('airflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
