"""The pages for users, parsed: code blocks, links, headings and tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted(ROOT.glob("dags_examples/*.py"))

_FENCED = re.compile(r"^```(\w*)(?: title=\"(.+?)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block.

    :param line: where it begins.
    :param title: the file name to save it as, if it has one.
    """

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    @property
    def example(self) -> Path | None:
        """The file in dags_examples/ with the same DAG or the same first line, if there is one."""
        found = re.search(r'dag_id="(\w+)"', self.text) or re.match(r'""".+', self.text)
        return next((path for path in EXAMPLES if found and found[0] in path.read_text()), None)

    @property
    def is_test(self) -> bool:
        return "def test_" in self.text

    @property
    def is_dag(self) -> bool:
        return "@dag" in self.text or "with DAG(" in self.text

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each in one string even if it spans lines."""
        commands: list[str] = []
        pending = ""
        for line in self.text.splitlines(keepends=True):
            pending += line
            try:
                words = shlex.split(pending, comments=True)
            except ValueError:  # an open quotation mark
                continue
            if not pending.endswith("\\\n"):
                commands += [pending] if words else []
                pending = ""
        return commands + ([pending] if pending else [])


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(page, text[: match.start()].count("\n") + 1, match[1], match[2], match[3])
        for match in _FENCED.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def each(chosen: Callable[[Block], bool]) -> pytest.MarkDecorator:
    """Run a test for each chosen block, named by its file and line; once for blocks that are the same."""
    found = list({(block.title, block.text): block for block in reversed(BLOCKS) if chosen(block)}.values())
    assert found
    names = [f"{block.page.relative_to(ROOT)}:{block.line}" for block in found]
    return pytest.mark.parametrize("block", found, ids=names)


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def section(page: Path, heading: str) -> str:
    """Return the text under a heading, up to the next of its level."""
    [found] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    return str(found)


def rows(text: str, header: str) -> list[list[str]]:
    """Return the rows of all tables whose first column has a header."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == header)
        if inside and cells[0] != header and not cells[0].startswith("---"):
            found.append(cells)
    return found
