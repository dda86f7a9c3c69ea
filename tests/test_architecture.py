"""The house: imports run one way, no module is oversized, and every path in the tour of the code exists."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_contensis"
TOUR = ROOT / "docs" / "internals.md"
MAX_LINES = 350

# From the ground up: a module imports only from its own floor and from lower ones.
FLOORS = (
    ("utils",),
    ("exceptions",),
    ("api",),
    ("export",),
    ("doctor",),
    ("get_provider_info", "connection", "connection_check", "connection_form", "lineage", "links"),
    ("hooks",),
    ("operators", "transfers", "sensors", "triggers", "task_groups", "doctor.__main__"),
    ("cli",),
)
# They stand beside the house: the sandbox shares no code with the package that is tested against it.
APART = ("sandbox", "pytest_plugin")
KNOWS_AIRFLOW = {room for floor in FLOORS[5:] for room in floor}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for path in (ROOT / PACKAGE).rglob("*.py")}


def imports(path: Path, *, when_imported: bool = False) -> Iterator[str]:
    """Yield what a module imports.

    :param when_imported: only what is imported with it, not within functions or for type checking.
    """
    tree = ast.parse(path.read_text())
    for node in tree.body if when_imported else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def room(module: str) -> str:
    inside = module.removeprefix(f"{PACKAGE}.")
    # The doctor's command line, alone, reads an Airflow connection.
    return inside if inside == "doctor.__main__" else inside.partition(".")[0]


def floor(module: str) -> int:
    [number] = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    return number


IN_THE_HOUSE = sorted(name for name in MODULES if name != PACKAGE and room(name) not in APART)


def test_every_module_has_a_floor() -> None:
    assert len(IN_THE_HOUSE) > 40
    for name in IN_THE_HOUSE:
        floor(name)


@pytest.mark.parametrize("name", IN_THE_HOUSE)
def test_module_imports_nothing_from_above(name: str) -> None:
    for imported in imports(MODULES[name]):
        if imported.startswith(f"{PACKAGE}."):
            assert room(imported) not in APART, imported
            assert floor(imported) <= floor(name), imported


@pytest.mark.parametrize("name", sorted(name for name in IN_THE_HOUSE if room(name) not in KNOWS_AIRFLOW))
def test_module_of_the_lower_floors_does_not_know_airflow(name: str) -> None:
    assert not [imported for imported in imports(MODULES[name]) if imported.partition(".")[0] == "airflow"]


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room(name) == "sandbox"))
def test_sandbox_imports_nothing_of_the_package(name: str) -> None:
    for imported in imports(MODULES[name]):
        assert not imported.startswith(f"{PACKAGE}.") or room(imported) == "sandbox", imported


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {module for module in imports(path, when_imported=True) if module in MODULES and module != name}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {error.args[1]}")


@pytest.mark.parametrize("name", IN_THE_HOUSE)
def test_module_is_not_oversized(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= MAX_LINES


def test_every_path_in_the_tour_of_the_code_exists() -> None:
    paths = re.findall(r"`((?:[\w-]+/)+[\w-]+\.\w+)`", TOUR.read_text())
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / PACKAGE / path).exists(), path


def test_every_module_is_on_the_map_of_the_house() -> None:
    [house] = re.findall(rf"^```text\n({PACKAGE}/.*?)^```$", TOUR.read_text(), re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"[\w.]+\.py", house))
    for name in IN_THE_HOUSE:
        path = MODULES[name]
        assert path.name == "__init__.py" or path.name in named, path
