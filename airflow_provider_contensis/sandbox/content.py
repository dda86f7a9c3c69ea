"""Content other than the ISO lists: synthetic entries in bulk, and the entries of an export."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.catalogue import Catalogue
from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import Document, exact, instant, timestamp
from airflow_provider_contensis.sandbox.shapes import (
    guid,
    new_content_type,
    new_entry,
    new_field,
    new_project,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_FIRST_SECOND = datetime(2019, 1, 7, 8, tzinfo=UTC)
_SECONDS = 6 * 365 * 86400
_WORDS = (
    *("harbour", "lantern", "Gwasanaeth", "naïve", "œuvre", "council", "“quoted”", "timetable", "ŵyl", "🚢"),
    *("résumé", "line\nbreak", "back\\slash", "a\ttab", '"straight"', "library", "</script>", "日本語"),
    *("\U0001f469\u200d\U0001f52c", "enquiry", "\u2028"),
)


def synthetic_catalogue(
    count: int,
    *,
    languages: Sequence[str] = ("en-GB",),
    same_created: int = 0,
    drafts: int = 0,
    edited: int = 0,
    body_bytes: int = 800,
    project_id: str = "synthetic",
    content_type_id: str = "article",
    seed: int = 0,
) -> Catalogue:
    """Return synthetic entries of one content type, with values that are hard to export.

    The values include emoji, newlines, 20-digit integers, decimals that a float would round, empty objects
    and nulls. Created times have 0 to 7 fraction digits.

    :param count: the number of entries; each exists in every language.
    :param languages: the project's languages, the primary one first.
    :param same_created: the number of entries that share one created time.
    :param drafts: the number of entries that were never published.
    :param edited: the number of published entries that have a newer draft.
    :param body_bytes: the approximate number of bytes of text in each entry.
    :param project_id: id of the project.
    :param content_type_id: id of the content type.
    :param seed: a different seed gives different entries.
    :raises ValueError: `same_created`, or `drafts` and `edited` together, exceed `count`.
    """
    if same_created > count or drafts + edited > count:
        raise ValueError("same_created and drafts + edited must not exceed count")
    project = new_project(project_id, "Synthetic content", "Invented entries", languages)
    content_type = _article(project, content_type_id)
    prose = _prose(random.Random(seed), body_bytes)
    documents: list[Document] = []
    for number in range(count):
        draw = Draw(f"{seed} {number}")
        second, ticks = _FIRST_SECOND, 1_234_567
        if number >= same_created:
            digits = draw.below(8)
            second += timedelta(seconds=draw.below(_SECONDS))
            ticks = draw.below(10**digits) * 10 ** (7 - digits)
        created = timestamp(second, ticks)
        is_draft = number >= count - drafts
        is_edited = not is_draft and number >= count - drafts - edited
        published = None if is_draft else timestamp(second + timedelta(seconds=2), ticks)
        for language in languages:
            fields = _article_fields(Draw(f"{seed} {number} {language}"), number, prose, body_bytes)
            common = {
                "entry_id": guid(project_id, content_type_id, str(seed), str(number)),
                "language": language,
                "available_languages": languages,
                "description": fields["summary"],
                "slug": f"article-{number}",
                "created": created,
                "published": published,
                "is_published": not is_draft,
            }
            modified = timestamp(second + timedelta(seconds=1), ticks)
            entry = new_entry(
                project,
                content_type,
                fields,
                title=fields["title"],
                modified=modified,
                version="0.1" if is_draft else "1.0",
                **common,
            )
            document = Document.of(entry, "latest")
            documents.append(document)
            if is_edited:
                documents[-1] = document.with_status("published")
                fields = {**fields, "title": f"{fields['title']} (edited)"}
                later = timestamp(second + timedelta(days=1), ticks)
                draft = new_entry(
                    project,
                    content_type,
                    fields,
                    title=fields["title"],
                    modified=later,
                    version="1.1",
                    **common,
                )
                documents.append(Document.of(draft, "latest"))
            elif not is_draft:
                documents.append(document.with_status("published"))
    return Catalogue(project, [content_type], documents)


def load_catalogue(path: Path | str) -> Catalogue:
    """Return the entries of a JSON Lines file, as an export from the Management API writes it.

    Each line is served unchanged. Content types are inferred from the values. If a variation has several
    lines, the highest version is the latest, and the highest published version is the published one.

    :param path: the file.
    :raises OSError: the file cannot be read.
    :raises ValueError: a line is not an entry, or the entries do not all belong to one project.
    """
    lines: list[_Line] = []
    with Path(path).open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                try:
                    lines.append(_Line.read(text.strip()))
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{path}, line {number}: not a Management API entry") from error
    projects = {line.entry["sys"]["projectId"] for line in lines}
    if len(projects) != 1:
        raise ValueError(f"{path}: expected the entries of one project, found {len(projects)} projects")
    languages = Counter(line.entry["sys"]["language"] for line in lines)
    project = new_project(
        projects.pop(), Path(path).name, "", [language for language, _ in languages.most_common()]
    )
    return Catalogue(project, _infer_types(project, lines), _split_by_status(lines))


def _article(project: Mapping[str, Any], content_type_id: str) -> dict[str, Any]:
    return new_content_type(
        project,
        content_type_id,
        "Article",
        [
            new_field("title", "Title", required={}),
            new_field("summary", "Summary"),
            new_field("body", "Body", data_format="markdown"),
            new_field("serial", "Serial number", "integer"),
            new_field("ratio", "Ratio", "decimal"),
            new_field("price", "Price", "decimal", decimalPlaces={"value": 20}),
            new_field("eventDate", "Date", "dateTime"),
            new_field("featured", "Featured", "boolean"),
            new_field("keywords", "Keywords", "stringArray"),
            new_field("place", "Place", "object", "location"),
            new_field("settings", "Settings", "object"),
            new_field("remark", "Remark"),
        ],
        title_field="title",
        description_field="summary",
    )


def _article_fields(draw: Draw, number: int, prose: str, body_bytes: int) -> dict[str, Any]:
    start = draw.below(len(prose) // 2)
    return {
        "title": f"Article {number} 📰",
        "summary": prose[start : start + 60] if number % 3 else None,
        # The text has about 1.25 bytes per character.
        "body": prose[start : start + body_bytes * 4 // 5],
        "serial": 10**19 + draw.below(10**19),
        "ratio": exact(f"{1 + draw.below(9)}e-7"),
        "price": exact(f"{draw.below(1000)}.{draw.below(10**20):020d}"),
        "eventDate": f"{2019 + draw.below(7)}-0{1 + draw.below(9)}-1{draw.below(10)}T00:00:00Z",
        "featured": number % 7 == 0,
        "keywords": [f"k{number % 10}", "naïve"] if number % 2 else [],
        "place": {
            "lat": exact(f"5{draw.below(10)}.{draw.below(10**6):06d}"),
            "lon": exact(f"-{draw.below(5)}.{draw.below(10**6):06d}"),
        },
        "settings": {},
        "remark": None,
    }


def _prose(chooser: random.Random, body_bytes: int) -> str:
    """Return a text long enough to take every body from: bodies start in its first half."""
    words: list[str] = []
    length = 0
    while length < 2 * body_bytes + 1000:
        words.append(chooser.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)


class _Line(NamedTuple):
    """One line of an export.

    :param document: the line as the sandbox serves it.
    :param entry: the parsed line.
    :param version: its version number, major and minor.
    """

    document: Document
    entry: dict[str, Any]
    version: tuple[int, int]

    @classmethod
    def read(cls, text: bytes) -> _Line:
        entry = json.loads(text)
        sys = entry["sys"]
        required = [sys[name] for name in ("id", "projectId", "language", "contentTypeId", "dataFormat")]
        if not all(isinstance(value, str) for value in (*required, sys["version"]["created"])):
            raise TypeError("a required member of sys is not a string")
        major, _, minor = sys["version"]["versionNo"].partition(".")
        return cls(Document(text, "latest"), entry, (int(major), int(minor)))


def _split_by_status(lines: Iterable[_Line]) -> Iterator[Document]:
    """Yield the latest version of each variation, and its published version if the file has one."""
    variations: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        variations.setdefault(line.document.key, []).append(line)
    for versions in variations.values():
        versions.sort(key=lambda line: line.version)
        yield versions[-1].document
        for line in reversed(versions):
            # Publishing resets the minor number to 0, so any other is a draft (docs/contensis-api.md).
            if line.version[1] == 0 and line.entry["sys"]["version"].get("published"):
                yield line.document.with_status("published")
                break


def _infer_types(project: Mapping[str, Any], lines: Sequence[_Line]) -> list[dict[str, Any]]:
    found: dict[str, tuple[str, dict[str, tuple[str, str | None] | None]]] = {}
    for line in lines:
        sys = line.entry["sys"]
        _, fields = found.setdefault(sys["contentTypeId"], (sys["dataFormat"], {}))
        for name, value in line.entry.items():
            if name not in ("sys", "entryTitle", "entryDescription"):
                fields[name] = fields.get(name) or _infer_type(value)
    return [
        new_content_type(
            project,
            content_type_id,
            content_type_id,
            [new_field(name, name, *(kind or ("string", None))) for name, kind in fields.items()],
            data_format=data_format,
        )
        for content_type_id, (data_format, fields) in found.items()
    ]


def _infer_type(value: object) -> tuple[str, str | None] | None:
    """Return the data type and data format of a value, or None if they are not clear."""
    if isinstance(value, bool):
        return "boolean", None
    if isinstance(value, int):
        return "integer", None
    if isinstance(value, float):
        return "decimal", None
    if isinstance(value, str):
        return ("string" if instant(value) is None else "dateTime"), None
    if isinstance(value, dict):
        return "object", _infer_format(value)
    if isinstance(value, list):
        kinds = [kind for item in value if (kind := _infer_type(item))]
        return (f"{kinds[0][0]}Array", kinds[0][1]) if kinds else None
    return None


def _infer_format(value: Mapping[str, Any]) -> str | None:
    if isinstance(value.get("sys"), dict):
        return str(value["sys"].get("dataFormat", "entry"))
    for names, data_format in (
        ({"lat", "lon"}, "location"),
        ({"from", "to"}, "dateRange"),
        ({"text", "source"}, "quote"),
        ({"asset", "altText"}, "image"),
    ):
        if names <= value.keys():
            return data_format
    return None
