"""A field in `where` that does not exist is refused: it would match nothing, in silence."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.where import check_where
from tests.export.formats.every_type import EVERY_TYPE, content_type, field

FILM = content_type("film", [field("title", "string"), field("director", "object", "entry")])
PERSON = content_type("person", [field("surname", "string")])


def clause(path: str) -> dict[str, Any]:
    return {"field": path, "exists": True}


@pytest.mark.parametrize(
    "path",
    [
        "title",
        "TITLE",
        "surname",  # one of several content types is enough
        "director",
        "director.sys.id",
        "director.surname",  # which fields of a linked entry can be searched is not known
        "sys.id",
        "sys.version.published",
        "sys.Version.VersionNo",
        "sys.metadata.nodeId",
        "sys.workflow.state",
        "sys.properties.filename",
        "entryTitle",
        "entryDescription",
        "entryTags.sys.id",
        "searchContent",
        "_searchContent",
        "*",
    ],
)
def test_existing_field_is_accepted(path: str) -> None:
    check_where([clause(path)], [FILM, PERSON])


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("titel", "title"),
        ("title.text", None),
        ("sys.versions.created", "sys.version.created"),
        ("sys.published", None),
        ("sys.version.publishd", "sys.version.published"),
        ("entryTitel", "entryTitle"),
        ("direktor.sys.id", "director.sys.id"),
        ("", None),
    ],
)
def test_unknown_field_is_refused_with_a_suggestion(path: str, suggestion: str | None) -> None:
    message = f"Did you mean '{suggestion}'" if suggestion else f"where contains the field {path!r}"
    with pytest.raises(ConfigurationError, match=message):
        check_where([clause(path)], [FILM, PERSON])


@pytest.mark.parametrize(
    "where",
    [
        [{"not": clause("titel")}],
        [{"or": [clause("title"), {"and": [clause("sys.id"), clause("titel")]}]}],
        [{"and": [{"not": {"or": [clause("titel")]}}]}],
    ],
)
def test_unknown_field_is_found_within_other_clauses(where: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigurationError, match="'titel', which does not exist"):
        check_where(where, [FILM])


@pytest.mark.parametrize(
    "path", ["quote.text", "place.lat", "period.from", "components.text", "components.0.text", "any.thing"]
)
def test_members_of_objects_are_known(path: str) -> None:
    definition = content_type(
        "odd",
        [
            field("quote", "object", "quote"),
            field("place", "object", "location"),
            field("period", "object", "dateRange"),
            field("components", "objectArray", "component.part", fields=[field("text", "string")]),
            field("any", "object"),
        ],
    )
    check_where([clause(path)], [definition])
    with pytest.raises(ConfigurationError, match="does not exist"):
        check_where([clause("quote.txt")], [definition])
    with pytest.raises(ConfigurationError, match=r"Did you mean 'components.text'"):
        check_where([clause("components.txt")], [definition])


def test_every_field_of_every_type_is_accepted() -> None:
    for each in EVERY_TYPE["fields"]:
        check_where([clause(each["id"])], [EVERY_TYPE])


def test_nothing_is_refused_if_no_content_type_is_known() -> None:
    check_where([clause("titel")], [])
