"""Every page reads well as plain Markdown, as a code host shows it, without a site generator."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import DOCS, PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from markdown_it.token import Token

ALL_PAGES = [*PAGES, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
# Directives of site generators: snippets, mkdocstrings, admonitions, attributes, templates, tabs.
DIRECTIVES = re.compile(
    r"--8<--|^:{3,}|^!!!|^\?\?\?|\{:|\{%|\[TOC\]|\[\[|\[(start|end):|^===|^\s*\||\|---", re.MULTILINE
)
# What people search for, and what leads to it.
WORDS = (
    "checkpoint",
    "deletion",
    "incremental load",
    "outside Airflow",
    "pool",
    "rate limit",
    "unit test",
    "upsert",
)

each_page = pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def rendered(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def inline(page: Path, *kinds: str) -> Iterator[Token]:
    """Yield the parts of a page's text, such as links."""
    for token in rendered(page):
        for child in token.children or ():
            if child.type in kinds:
                yield child


def headings(page: Path) -> list[tuple[int, str]]:
    """Return the levels and the texts of a page's headings."""
    tokens = rendered(page)
    return [
        (int(token.tag[1:]), "".join(child.content for child in following.children or ()))
        for token, following in itertools.pairwise(tokens)
        if token.type == "heading_open"
    ]


def anchors(page: Path) -> set[str]:
    """Return the anchors that a code host gives to the headings of a page."""
    found: set[str] = set()
    for _, text in headings(page):
        anchor = re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-")
        number = 1
        while (unique := anchor if number == 1 else f"{anchor}-{number - 1}") in found:
            number += 1
        found.add(unique)
    return found


def target(page: Path, link: str) -> tuple[Path, str]:
    """Return the file and the anchor that a relative link leads to."""
    path, _, anchor = link.partition("#")
    return (page.parent / path).resolve() if path else page, anchor


def section(page: Path, anchor: str) -> str:
    """Return the text of the section with an anchor."""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.sub(r"[^\w\- ]", "", line.lstrip("#")).strip().lower().replace(" ", "-") == anchor:
            level = line.partition(" ")[0]
            rest = "\n".join(lines[number:])
            return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=2, flags=re.MULTILINE)[1]
    raise AssertionError(anchor)


@each_page
def test_no_directive_is_left_over(page: Path) -> None:
    tokens = rendered(page)
    assert not [token.content for token in tokens if token.type == "html_block"]
    assert not [token.content for token in inline(page, "html_inline")]
    for token in inline(page, "text"):
        assert not DIRECTIVES.search(token.content), token.content
    for token in tokens:
        if token.type == "fence":
            assert "--8<--" not in token.content
            assert token.content.strip()


@each_page
def test_no_section_is_missing(page: Path) -> None:
    """A heading has a text, or headings below it."""
    blocks = [token for token in rendered(page) if token.level == 0 and token.type != "heading_close"]
    opened = [(number, token) for number, token in enumerate(blocks) if token.type == "heading_open"]
    assert opened
    for number, token in opened:
        following = blocks[number + 2] if number + 2 < len(blocks) else None  # behind the heading's text
        assert following is not None, token.map
        assert following.type != "heading_open" or following.tag > token.tag, token.map
    levels = [level for level, _ in headings(page)]
    assert levels.count(1) == 1
    assert all(below <= level + 1 for level, below in itertools.pairwise(levels))


@each_page
def test_no_link_is_dead(page: Path) -> None:
    links = [str(token.attrs["href"]) for token in inline(page, "link_open")]
    links += [str(token.attrs["src"]) for token in inline(page, "image")]
    for link in links:
        if re.match("https?:", link):
            continue
        path, anchor = target(page, link)
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link
        # The site that `make docs` builds has the pages in docs/ only.
        assert page.parent != DOCS or path.is_relative_to(DOCS), link


@pytest.mark.parametrize("word", WORDS)
def test_word_that_people_search_for_leads_to_a_page(word: str) -> None:
    index = DOCS / "index.md"
    rows = [
        line for line in section(index, "where-to-find-it").splitlines() if re.search(rf"\b{word}\b", line)
    ]
    assert len(rows) == 1
    [link] = re.findall(r"\]\(([^)]+)\)", rows[0])
    path, anchor = target(index, link)
    text = " ".join(section(path, anchor).lower().split())
    assert re.sub(" load$", "", word.lower()) in text
