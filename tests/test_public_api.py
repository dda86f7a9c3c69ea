"""The public surface is pinned: what users import, call and read changes on purpose or not at all.

`public_api.txt` holds it. After a change on purpose, `python -m tests.test_public_api` writes it again; the
changelog says so (docs/upgrading.md, "How a name leaves").
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis import exceptions, lineage, sandbox
from airflow_provider_contensis.export import results
from airflow_provider_contensis.get_provider_info import get_provider_info
from airflow_provider_contensis.hooks import contensis
from airflow_provider_contensis.operators import assets, changes, content_types, entries
from airflow_provider_contensis.sensors import entries as sensors
from airflow_provider_contensis.task_groups import entries as task_groups
from airflow_provider_contensis.transfers import contensis_to_postgres
from airflow_provider_contensis.triggers import entries as triggers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PINNED = Path(__file__).with_name("public_api.txt")
REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"
PUBLIC_MODULES: tuple[ModuleType, ...] = (
    contensis,
    assets,
    changes,
    content_types,
    contensis_to_postgres,
    entries,
    sensors,
    task_groups,
    triggers,
    lineage,
    exceptions,
    sandbox,
)
RESULTS = (
    "ExportSummary",
    "SharedExportSummary",
    "PartSummary",
    "ChangesSummary",
    "ContentTypeChanges",
    "PostgresSummary",
    "TableChanges",
    "AssetsSummary",
    "FileSummary",
    "Manifest",
    "ContentTypeSummary",
    "ContentTypesSummary",
)


def listed() -> list[str]:
    """Return the import paths that the reference lists."""
    return re.findall(r"^\| `([\w.]+)` \|", REFERENCE.read_text(), flags=re.MULTILINE)


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("self, ", "").replace("(self)", "()")


def describe(path: str) -> Iterator[str]:
    """Yield what users may rely on of a public name."""
    public = load(path)
    if not inspect.isclass(public):
        yield f"{path}{signature(public)}" if inspect.isfunction(public) else path
        return
    if issubclass(public, BaseException):
        yield f"{path}({', '.join(base.__name__ for base in public.__bases__)})"
    if not issubclass(public, enum.Enum | Warning):
        yield f"{path}{signature(public.__init__)}"
    for name, member in sorted(vars(public).items()):
        if name.startswith("_"):
            continue
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        yield f"{path}.{name}{signature(plain) if inspect.isfunction(plain) else ''}"
    for field in getattr(public, "template_fields", ()):
        yield f"{path} template {field}"


def surface() -> str:
    """Return the public surface as text, a line for each thing that users may rely on."""
    lines = [line for path in listed() for line in describe(path)]
    for name in RESULTS:
        lines += [f"key {name}.{key}" for key in getattr(results, name).__annotations__]
    [connection_type] = get_provider_info()["connection-types"]
    lines += [f"connection field {name}" for name in connection_type["conn-fields"]]
    return "\n".join(lines) + "\n"


def test_public_surface_is_as_pinned() -> None:
    assert surface().splitlines() == PINNED.read_text().splitlines()


def test_reference_lists_every_public_name() -> None:
    public = {f"{module.__name__}.{name}" for module in PUBLIC_MODULES for name in module.__all__}
    shapes = {path for path in listed() if ".sandbox.shapes." in path}
    assert set(listed()) == public | shapes


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: str(module.__name__))
def test_names_in_all_exist_and_are_sorted(module: ModuleType) -> None:
    assert all(hasattr(module, name) for name in module.__all__)
    assert sorted(module.__all__) == sorted(set(module.__all__))


def test_exceptions_can_still_be_imported_from_their_old_home() -> None:
    old = importlib.import_module("airflow_provider_contensis.api.errors")
    for name in exceptions.__all__:
        assert getattr(old, name) is getattr(exceptions, name)


def test_exception_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = re.findall(r"^([│├└─ ]*)(\w+Error)\b", str(exceptions.__doc__), flags=re.MULTILINE)
    own = [name for name in exceptions.__all__ if name.endswith("Error")]
    depths = {
        name: sum(base.__name__ in own for base in load(f"{exceptions.__name__}.{name}").__mro__) - 1
        for name in own
    }
    assert {name: len(indent) // 4 for indent, name in drawn} == depths


if __name__ == "__main__":
    PINNED.write_text(surface())
