"""A field in `where` that does not exist is refused: it would match nothing, in silence."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, ValidationError
from airflow_provider_contensis.export.changes_request import ChangesRequest
from airflow_provider_contensis.export.feed import export_changes
from airflow_provider_contensis.export.model import EntryQuery
from airflow_provider_contensis.export.paths import check_link_depths, check_paths
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest, ReadOptions, entry_query
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.export.where import check_where, typed_query
from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.sandbox.shapes import new_content_type, new_field, new_project
from tests.export.formats.every_type import EVERY_TYPE, content_type, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_contensis.api.client import ContensisClient

FILM = content_type(
    "film",
    [field("title", "string"), field("director", "object", "entry"), field("poster", "object", "image")],
)
PERSON = content_type("person", [field("surname", "string")])


def clause(path: str) -> dict[str, Any]:
    return {"field": path, "exists": True}


@pytest.mark.parametrize(
    "path",
    [
        "title",
        "surname",  # one of several content types is enough
        "director",
        "director.sys.id",
        "director.sys.version.published",
        "poster.asset.sys.id",
        "director.surname",  # which fields of a linked entry can be searched is not known
        "sys.id",
        "sys.version.published",
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
        ("TITLE", "title"),
        ("sys.Version.VersionNo", "sys.version.versionNo"),
        ("director.sys.idd", "director.sys.id"),
        ("director.sys.version.publishd", None),
        ("poster.asset.sys.idd", "poster.asset.sys.id"),
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


@pytest.mark.parametrize("path", ["title", "director.name", "director.sys.id", "sys.version", "entryTags.x"])
def test_existing_path_in_fields_is_accepted(path: str) -> None:
    check_paths("fields contains", [path], [FILM, PERSON])


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("sys.version.publishd", "sys.version.published"),
        ("sys.Version", "sys.version"),
        ("sys.*", None),
        ("period.form", "period.from"),
        ("director.sys.idd", "director.sys.id"),
        ("credits.0.role", "credits.role"),  # a selected path applies to each item
        ("Title", "title"),
    ],
)
def test_unknown_path_in_fields_is_refused_with_a_suggestion(path: str, suggestion: str | None) -> None:
    odd = content_type(
        "odd",
        [
            field("period", "object", "dateRange"),
            field("credits", "objectArray", "component.credit", fields=[field("role", "string")]),
        ],
    )
    message = f"Did you mean '{suggestion}'" if suggestion else "does not exist"
    with pytest.raises(ConfigurationError, match=f"fields contains '.*{message}"):
        check_paths("fields contains", [path], [FILM, odd])


@pytest.mark.parametrize(
    "path", ["director", "director.agent", "poster", "cast", "composer", "credits.person"]
)
def test_link_depth_of_path_that_holds_links_is_accepted(path: str) -> None:
    odd = content_type(
        "odd",
        [
            field("cast", "objectArray", "entry"),
            field("composer", "objectArray", "composer"),
            field("credits", "object", "component.c", fields=[field("person", "object", "entry")]),
        ],
    )
    check_link_depths([path], [FILM, odd])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("directr", "'directr', which does not exist. Did you mean 'director'"),
        ("title", "'title', which holds no links. Fields with links: director, poster.asset"),
    ],
)
def test_link_depth_of_path_without_links_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"field_link_depths contains {message}"):
        check_link_depths([path], [FILM, PERSON])


MOVIE = content_type(
    "movie",
    [
        field("code", "string"),
        field("codes", "stringArray"),
        field("runtime", "integer"),
        field("rating", "decimal"),
        field("seen", "boolean"),
        field("released", "dateTime"),
        field("topic", "string", "taxonomy"),
        field("director", "object", "entry"),
        field("credits", "objectArray", "component.credit", fields=[field("fee", "decimal")]),
        field("same", "string"),
    ],
)
OTHER = content_type("other", [field("same", "integer")])


@pytest.mark.parametrize(
    ("path", "given", "typed"),
    [
        ("code", 2021, "2021"),
        ("code", 1.5, "1.5"),
        ("code", True, "True"),
        ("code", "2021", "2021"),
        ("codes", 7, "7"),
        ("sys.id", 12, "12"),
        ("director.sys.id", 12, "12"),
        ("runtime", "92", 92),
        ("runtime", " 92 ", 92),
        ("runtime", "92.5", 92.5),
        ("rating", "7", 7),
        ("rating", "-0.25", -0.25),
        ("credits.fee", "10", 10),
        ("credits.0.fee", "10", 10),
        ("runtime", "99999999999999999999", 99999999999999999999),
        ("seen", "True", True),
        ("seen", "false", False),
        ("seen", True, True),
        ("released", "2026-01-02 03:04:05+01:00", "2026-01-02T02:04:05Z"),
        ("released", "2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.1234567Z"),
        ("released", "2026-01-02", "2026-01-02"),
        ("released", "startOfDay(-1w)", "startOfDay(-1w)"),
        ("released", "-1M 1w", "-1M 1w"),
        ("sys.version.published", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        # What is not known, or differs between content types, stays as given.
        ("same", "7", "7"),
        ("same", 7, 7),
        ("topic", 7, 7),
        ("director.born", "7", "7"),
        ("director", 7, 7),
        ("*", 7, 7),
        ("searchContent", 7, 7),
    ],
)
def test_operand_gets_the_type_of_its_field(path: str, given: Any, typed: Any) -> None:
    for operator, before, after in (
        ("equalTo", given, typed),
        ("greaterThan", given, typed),
        ("in", [given, given], [typed, typed]),
        ("between", [given, given], [typed, typed]),
    ):
        where = ({"not": {"and": [{"field": path, operator: before}]}},)
        found = typed_query(EntryQuery(where=where), [MOVIE, OTHER], strict=True).where
        assert repr(found) == repr(({"not": {"and": [{"field": path, operator: after}]}},))


@pytest.mark.parametrize(
    ("clause", "typed"),
    [
        ({"field": "runtime", "exists": "true"}, {"field": "runtime", "exists": True}),
        ({"field": "code", "startsWith": 20}, {"field": "code", "startsWith": "20"}),
        ({"field": "*", "freeText": 1984}, {"field": "*", "freeText": "1984"}),
        (
            {"field": "*", "freeText": {"term": 1984, "fuzzy": "True"}},
            {"field": "*", "freeText": {"term": "1984", "fuzzy": True}},
        ),
        ({"field": "code", "equalTo": "a", "weight": "2"}, {"field": "code", "equalTo": "a", "weight": 2}),
        ({"field": "runtime", "in": "['90', 91]"}, {"field": "runtime", "in": [90, 91]}),
        (
            {"field": "x", "distanceWithin": {"lat": "51.5", "lon": "-2", "distance": "1km"}},
            {"field": "x", "distanceWithin": {"lat": 51.5, "lon": -2, "distance": "1km"}},
        ),
    ],
)
def test_operand_gets_the_type_that_its_operator_takes(clause: dict[str, Any], typed: dict[str, Any]) -> None:
    found = typed_query(EntryQuery(where=(clause,)), [MOVIE], strict=True).where
    assert repr(found) == repr((typed,))


@pytest.mark.parametrize(
    ("path", "value", "needed"),
    [
        ("runtime", "long", "a number, such as 90"),
        ("runtime", "", "a number"),
        ("runtime", True, "a number"),
        ("runtime", None, "a number"),
        ("rating", "nan", "a number"),
        ("seen", "yes", "true or false"),
        ("seen", 1, "true or false"),
        ("released", "2026-02-30", "a time, such as 2031-04-02T00:00:00Z"),
        ("released", "2026-13-01T00:00:00Z", "a time"),
        ("released", "tomorrow", "a time"),
        ("released", 2026, "a time"),
        ("code", {"a": 1}, "text"),
        ("sys.version.modified", "30/01/2026", "a time"),
    ],
)
def test_operand_of_another_type_is_refused(path: str, value: object, needed: str) -> None:
    where = ({"or": [{"field": path, "equalTo": value}]},)
    with pytest.raises(ConfigurationError, match=f"'{path}' with .*: equalTo needs {needed}") as refusal:
        typed_query(EntryQuery(where=where), [MOVIE], strict=True)
    assert repr(value) in str(refusal.value)
    assert typed_query(EntryQuery(where=where), [MOVIE]).where == where


@pytest.fixture(scope="module")
def films() -> Iterator[Sandbox]:
    project = new_project("filmArchive", "Film archive", "Invented films", ["en-GB", "cy"])
    fields = [
        new_field("title", "Title"),
        new_field("code", "Code"),
        new_field("runtime", "Running time", "integer"),
        new_field("released", "Released", "dateTime"),
    ]
    film = new_content_type(project, "film", "Film", fields, title_field="title")
    catalogue = Catalogue(project, [film])
    for number in range(4):
        catalogue.add(
            "film",
            {
                "title": f"Film {number}",
                "code": f"{2020 + number}",
                "runtime": 90 + number,
                "released": f"2026-01-0{number + 1}T00:00:00Z",
            },
        )
    with Sandbox(catalogue) as sandbox:
        yield sandbox


class TestOverHttp:
    """Both renderings of a template mean the same to every export."""

    def count(
        self,
        films: Sandbox,
        make_client: Callable[..., ContensisClient],
        clause: dict[str, Any],
        **arguments: Any,
    ) -> int:
        source = EntrySource(
            make_client(films), films.project_id, entry_query(where=[clause], **arguments), ReadOptions()
        )
        return sum(len(batch.entries) for batch in source.read(source.plan()))

    @pytest.mark.parametrize(
        ("clause", "expected"),
        [
            ({"field": "code", "equalTo": "2021"}, 1),
            ({"field": "code", "equalTo": 2021}, 1),
            ({"field": "code", "in": {2021, 2022}}, 2),
            ({"field": "runtime", "greaterThan": 91}, 2),
            ({"field": "runtime", "greaterThan": "91"}, 2),
            ({"field": "released", "greaterThan": datetime(2026, 1, 2, tzinfo=UTC)}, 2),
            ({"field": "released", "greaterThan": "2026-01-02 00:00:00+00:00"}, 2),
            ({"field": "released", "greaterThan": date(2026, 1, 2)}, 2),
            ({"field": "sys.language", "equalTo": "EN-gb"}, 4),
            ({"field": "sys.contentTypeId", "in": ["film"]}, 4),
            ({"not": {"field": "sys.versionStatus", "equalTo": "latest"}}, 4),
            ({"not": {"field": "sys.contentTypeId", "equalTo": "unlisted"}}, 4),
            ({"or": [{"field": "sys.language", "equalTo": name} for name in ("cy", "en-GB")]}, 4),
        ],
    )
    def test_values_match_in_any_rendering(
        self,
        films: Sandbox,
        make_client: Callable[..., ContensisClient],
        clause: dict[str, Any],
        expected: int,
    ) -> None:
        assert self.count(films, make_client, clause) == expected

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("sys.contentTypeId", "flim", "does not exist. Did you mean 'film'.*content_type_id"),
            ("sys.language", "en-UK", "does not exist. Did you mean 'en-GB'.*argument language"),
            ("sys.language", "cy", "'cy', but language asks for en-GB.*Set language"),
            ("sys.versionStatus", "publishd", "Did you mean 'published'.*argument version_status"),
            ("sys.versionStatus", "latest", "but version_status asks for published"),
            ("sys.dataFormat", "asset", "but data_format asks for entry"),
        ],
    )
    def test_name_that_cannot_match_is_refused(
        self,
        films: Sandbox,
        make_client: Callable[..., ContensisClient],
        path: str,
        value: str,
        message: str,
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"where contains {path} .*{message}"):
            self.count(films, make_client, {"field": path, "equalTo": value}, language="en-GB")
        with pytest.raises(ConfigurationError, match=f"where contains {path} "):
            nested = {"and": [{"field": "code", "exists": True}, {"field": path, "in": [value]}]}
            self.count(films, make_client, nested, language="en-GB")

    @pytest.mark.parametrize("operator", ["or", "not"])
    def test_unknown_name_is_refused_within_other_clauses(
        self, films: Sandbox, make_client: Callable[..., ContensisClient], operator: str
    ) -> None:
        nested = {operator: [{"field": "sys.language", "equalTo": "en-UK"}]}
        with pytest.raises(ConfigurationError, match="'en-UK', which does not exist"):
            self.count(films, make_client, nested)

    @pytest.mark.parametrize("content_type_id", [None, "film"])
    @pytest.mark.parametrize(("where", "place"), [(["ok", "bad"], 1), (["bad"], 0)])
    def test_rejected_clause_is_named_by_its_place(
        self,
        films: Sandbox,
        make_client: Callable[..., ContensisClient],
        tmp_path: Path,
        content_type_id: str | None,
        where: list[str],
        place: int,
    ) -> None:
        clauses = {"ok": {"field": "code", "exists": True}, "bad": {"field": "code", "greaterThen": 1}}
        asked: dict[str, Any] = {
            "content_type_id": content_type_id,
            "where": [clauses[each] for each in where],
        }
        feed = ChangesRequest.from_arguments(destination=f"{tmp_path}/feed/", **asked)
        file = ExportRequest.from_arguments(destination=f"{tmp_path}/x.jsonl", **asked)
        with pytest.raises(ValidationError, match=rf"where\[{place}\].*'greaterThen'"):
            export_entries(make_client(films), films.project_id, file)
        with pytest.raises(ValidationError, match=rf"where\[{place}\].*'greaterThen'"):
            export_changes(make_client(films), films.project_id, feed)
