"""What README and documentation say agrees with the code: names, messages, files, links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis.get_provider_info import get_provider_info
from airflow_provider_contensis.operators.content_types import ContensisExportContentTypesOperator
from airflow_provider_contensis.operators.entries import ContensisExportEntriesOperator
from tests.docs.pages import BLOCKS, DOCS, PAGES, README, ROOT, anchors, prose, rows, section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Sandbox

PACKAGE = ROOT / "airflow_provider_contensis"
EXPORTING = DOCS / "exporting.md"
AIRFLOWS_OWN = {
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
    """Return all code, its strings in one piece."""
    return " ".join(re.sub(r'"\s+f?"', "", module.read_text()) for module in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", prose(page)):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_includes_exists(page: Path) -> None:
    for path, part in re.findall(r'^--8<-- "([^":]+):?(\w*)"$', page.read_text(), flags=re.MULTILINE):
        text = (ROOT / path).read_text()
        assert not part or {f"[start:{part}]", f"[end:{part}]"} <= set(re.findall(r"\[\w+:[\w-]+\]", text))


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert str(page.relative_to(DOCS)) in navigation


def test_files_that_are_named_exist_and_every_example_is_named() -> None:
    named = {
        name
        for page in PAGES
        for name in re.findall(r"\b(?:dags_examples|tests)/\w+\.py", page.read_text())
        if page.name != "sandbox.md"  # the files of its project are shown, not ours
    }
    for name in named:
        assert (ROOT / name).exists(), name
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("dags_examples/*.py")} <= named


def test_the_map_of_the_code_names_what_is_there() -> None:
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


def test_every_field_of_the_connection_s_form_is_told() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    told = " ".join(cells[0] for cells in rows(section(README, "The connection"), "field"))
    labels = connection_type["ui-field-behaviour"]["relabeling"].items()
    extra = [(name, field["label"]) for name, field in connection_type["conn-fields"].items()]
    for name, label in [*labels, *extra]:
        assert label in told
        assert f"(`{name}`" in told


@pytest.mark.parametrize("argument", ContensisExportEntriesOperator.template_fields)
def test_an_argument_of_the_export_is_told(argument: str) -> None:
    told = [name for cells in rows(EXPORTING.read_text(), "argument") for name in cells[0].split(", ")]
    assert told.count(f"`{argument}`") == 1


@pytest.mark.parametrize("argument", ContensisExportContentTypesOperator.template_fields)
def test_an_argument_of_the_export_of_content_types_is_told(argument: str) -> None:
    text = section(EXPORTING, "The definitions of the content types")
    assert f"`{argument}`" in text or argument == "destination"


def test_every_key_of_the_result_is_told(
    iso_sandbox: Sandbox, connect: Callable[[Sandbox], None], tmp_path: Path
) -> None:
    from tests.provider.test_operator import CONTEXT, operator

    connect(iso_sandbox)
    result = operator(destination=f"{tmp_path}/x.jsonl", content_type_id="currency", language="cy").execute(
        CONTEXT
    )
    told = re.findall(r"`(\w+)`", section(EXPORTING, "What comes back").partition(". ")[0])
    # The first mention counts: that of changed_from explains the watermark, too.
    assert set(told) == set(result) | set(result["files"][0])


@pytest.mark.parametrize("message", [each for each in MESSAGES if each not in AIRFLOWS_OWN])
def test_a_message_that_is_explained_exists(message: str) -> None:
    code = sources()
    for piece in message.split("…"):
        assert piece.strip() in code, piece


def test_a_message_is_explained_once() -> None:
    assert len(MESSAGES) > 40
    assert sorted(set(MESSAGES)) == sorted(MESSAGES)


def test_a_message_that_sends_to_the_readme_finds_its_section() -> None:
    headings = re.findall(r"see '([^']+)' in the README", sources())
    assert headings
    for heading in headings:
        assert f"## {heading}\n" in README.read_text()


def test_cited_headings_of_the_api_page_exist() -> None:
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
