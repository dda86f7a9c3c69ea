"""The README and the documentation agree with the code: names, messages, files, links."""

from __future__ import annotations

import inspect
import re
import runpy
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.export.asset import AssetRecord
from airflow_provider_contensis.export.results import AssetsSummary, ChangesSummary, PostgresSummary
from airflow_provider_contensis.get_provider_info import get_provider_info
from airflow_provider_contensis.operators.assets import ContensisExportAssetsOperator
from airflow_provider_contensis.operators.changes import ContensisExportChangesOperator
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from airflow_provider_contensis.task_groups.entries import ContensisExportEntriesTaskGroup
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from tests.docs.pages import BLOCKS, DOCS, PAGES, README, ROOT, prose, rows, section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Sandbox

PACKAGE = ROOT / "airflow_provider_contensis"
EXPORTING = DOCS / "exporting.md"
INCREMENTAL = DOCS / "incremental.md"
POSTGRES = DOCS / "postgres.md"
ASSETS = DOCS / "assets.md"
AIRFLOW_MESSAGES = {
    "Bad Request",
    "Test connection feature is disabled",
    "'data_interval_start' is undefined",
}
MESSAGES = [
    message
    for page in (README, DOCS / "troubleshooting.md")
    for cells in rows(page.read_text(), "message")
    for message in re.findall(r"\*([^*]+)\*", cells[0])
]


def sources() -> str:
    """Return the code of the package, its adjacent strings joined."""
    return " ".join(re.sub(r'"\s+f?"', "", module.read_text()) for module in PACKAGE.rglob("*.py"))


def test_every_page_is_in_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = re.findall(r"[\w-]+\.md", navigation)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES[1:])


@pytest.mark.parametrize(
    ("heading", "page"),
    [("Install", "index.md"), ("The connection", "connection.md"), ("A first DAG", "index.md")],
)
def test_page_repeats_tables_and_code_of_the_readme(heading: str, page: str) -> None:
    """Both read on their own, and agree."""
    text = section(README, heading)
    repeated = [*re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE), *re.findall(r"```.*?```", text, re.DOTALL)]
    assert repeated
    for piece in repeated:
        assert piece in (DOCS / page).read_text(), piece


def test_reference_is_written_from_the_docstrings() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "reference.py"), run_name="reference")["page"]
    assert (DOCS / "reference.md").read_text() == page(), "run scripts/reference.py"


def test_documented_parameters_exist() -> None:
    found = 0
    for match in re.finditer(
        r"^```text\n(.*?)^```\n(.*?)(?=^#)", (DOCS / "reference.md").read_text(), re.DOTALL | re.MULTILINE
    ):
        for name in re.findall(r"^- `(\w+)`: ", match[2], re.MULTILINE):
            assert re.search(rf"[(*\s]{name}\b", match[1]), f"{name} in {match[1]}"
            found += 1
    assert found > 100


def test_named_files_exist_and_every_example_is_named_or_shown() -> None:
    shown = {str(block.example.relative_to(ROOT)) for block in BLOCKS if block.example}
    named = shown | {
        name
        for page in PAGES
        for name in re.findall(r"\b(?:dags_examples|tests)/[\w/]+\.py", page.read_text())
        if page.name != "sandbox.md"  # it shows the files of another project
    }
    for name in named:
        assert (ROOT / name).exists(), name
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("dags_examples/*.py")} <= named


def test_map_of_the_code_names_existing_files() -> None:
    [tree] = [block.text for block in BLOCKS if block.page == DOCS / "internals.md"]
    folders: list[str] = []
    files = 0
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 4
        path = ROOT.joinpath(*folders[:depth], name)
        assert path.is_dir() if name.endswith("/") else path.is_file(), path
        folders[depth:] = [name]
        files += path.is_file()
    assert files > 20


def test_every_field_of_the_form_is_documented() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    documented = " ".join(cells[0] for cells in rows(section(README, "The connection"), "field"))
    labels = connection_type["ui-field-behaviour"]["relabeling"].items()
    extra = [(name, field["label"]) for name, field in connection_type["conn-fields"].items()]
    for name, label in [*labels, *extra]:
        assert label in documented
        assert f"(`{name}`" in documented


@pytest.mark.parametrize("argument", ContensisExportEntriesOperator.template_fields)
def test_argument_of_export_is_documented(argument: str) -> None:
    table = rows(EXPORTING.read_text(), "argument")
    documented = [name for cells in table for name in cells[0].split(", ")]
    assert documented.count(f"`{argument}`") == 1


@pytest.mark.parametrize("argument", ContensisExportChangesOperator.template_fields)
def test_argument_of_changes_export_is_documented(argument: str) -> None:
    assert f"`{argument}`" in section(INCREMENTAL, "Arguments")


@pytest.mark.parametrize("argument", ContensisToPostgresOperator.template_fields)
def test_argument_of_copy_is_documented(argument: str) -> None:
    assert f"`{argument}`" in section(POSTGRES, "Arguments")


@pytest.mark.parametrize("argument", ContensisExportAssetsOperator.template_fields)
def test_argument_of_assets_export_is_documented(argument: str) -> None:
    assert f"`{argument}`" in section(ASSETS, "Arguments")


def test_arguments_of_the_task_group_are_documented() -> None:
    parameters = inspect.signature(ContensisExportEntriesTaskGroup.__init__).parameters
    own = section(DOCS / "large-exports.md", "Arguments")
    documented = " ".join(cells[0] for cells in rows(own + EXPORTING.read_text(), "argument"))
    for name in parameters.keys() - {"self", "kwargs"}:
        assert f"`{name}`" in documented, name


@pytest.mark.parametrize("argument", ContensisExportContentTypesOperator.template_fields)
def test_argument_of_content_types_export_is_documented(argument: str) -> None:
    text = section(EXPORTING, "The definitions of the content types")
    assert f"`{argument}`" in text or argument == "destination"


def test_every_key_of_the_result_is_documented(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    connect(iso_sandbox)
    result = operator(destination=f"{tmp_path}/x.jsonl", content_type_id="currency", language="cy").execute(
        CONTEXT
    )
    documented = re.findall(r"`(\w+)`", section(EXPORTING, "What comes back").partition(". ")[0])
    # A set: changed_from is named twice, also to explain the watermark.
    assert set(documented) == set(result) | set(result["files"][0])


def test_every_key_of_the_result_of_changes_is_documented() -> None:
    documented = re.findall(r"`(\w+)`", section(INCREMENTAL, "What comes back").partition(". ")[0])
    assert documented == list(ChangesSummary.__annotations__)


def test_every_key_of_the_result_of_a_copy_is_documented() -> None:
    text = section(POSTGRES, "Arguments").partition("small dict: ")[2].partition(". ")[0]
    assert set(re.findall(r"`(\w+)`", text)) == {*PostgresSummary.__annotations__, "table"}


def test_every_key_of_the_result_of_assets_is_documented() -> None:
    documented = re.findall(r"`(\w+)`", section(ASSETS, "The result").partition(". ")[0])
    assert documented == list(AssetsSummary.__annotations__)


def test_every_key_of_the_list_of_assets_is_documented() -> None:
    table = rows(section(ASSETS, "The folder"), "key")
    assert [name for cells in table for name in re.findall(r"`(\w+)`", cells[0])] == list(
        AssetRecord.__annotations__
    )


@pytest.mark.parametrize("message", [each for each in MESSAGES if each not in AIRFLOW_MESSAGES])
def test_explained_message_exists(message: str) -> None:
    code = sources()
    for piece in message.split("…"):
        assert piece.strip() in code, piece


def test_message_is_explained_once() -> None:
    assert len(MESSAGES) > 40
    assert sorted(set(MESSAGES)) == sorted(MESSAGES)


def test_readme_has_section_that_message_names() -> None:
    headings = re.findall(r"see '([^']+)' in the README", sources())
    assert headings
    for heading in headings:
        assert f"## {heading}\n" in README.read_text()


def test_cited_headings_of_api_page_exist() -> None:
    headings = set(re.findall(r"^#+ (.+)$", prose(DOCS / "contensis-api.md"), flags=re.MULTILINE))
    found = 0
    for module in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        # A citation may span lines, also of a comment, and name several headings: "A", "B" and "C".
        text = re.sub(r"\s+(?:# )?", " ", module.read_text())
        for citation in re.findall(r'docs/contensis-api\.md,((?: (?:and )?"[^"]+",?)*)', text):
            cited = re.findall(r'"([^"]+)"', citation)
            assert cited, module
            assert set(cited) <= headings, module
            found += 1
    assert found
