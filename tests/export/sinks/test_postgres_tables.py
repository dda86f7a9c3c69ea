"""Tables follow their content types: names, columns, comments, changes, and tables made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.sinks.postgres_database import identifier
from airflow_provider_contensis.export.sinks.postgres_tables import snake_case
from airflow_provider_contensis.sandbox import Catalogue
from tests.export.test_changes import ids, several_types
from tests.feeds import served

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.export.copies import Copy


def columns(copy: Copy, table: str) -> dict[str, str]:
    """Return the columns of fields, with their types."""
    sql = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'contensis' "
        f"AND table_name = '{table}' AND column_name NOT LIKE '\\_%' ORDER BY ordinal_position"
    )
    return dict(copy.rows(sql))


def film(*fields: dict[str, Any]) -> dict[str, Any]:
    content_type = dict(several_types(1).content_types["kind0"])
    return {**content_type, "id": "film", "fields": list(fields)}


def field(field_id: str, data_type: str = "string", **more: Any) -> dict[str, Any]:
    return {"id": field_id, "name": {"en-GB": field_id}, "dataType": data_type, "validations": None, **more}


def films(*fields: dict[str, Any], **values: Any) -> Catalogue:
    """Return a project with one content type and one entry."""
    catalogue = Catalogue(several_types(1).project, [film(*fields)])
    catalogue.add("film", values)
    return catalogue


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("title", "title"),
        ("releaseDate", "release_date"),
        ("URLSlug", "url_slug"),
        ("seoURL", "seo_url"),
        ("h1Title", "h1_title"),
        ("with-dash and space", "with_dash_and_space"),
        ("already_snake", "already_snake"),
        ("_id", "id"),
        ("---", "field"),
        ("größe", "größe"),
    ],
)
def test_names_are_in_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


class TestNames:
    def test_that_clash_get_a_suffix_which_stays(self, copy_of: Callable[..., Copy]) -> None:
        long = "a" * 70
        names = ["xmin", "releaseDate", "release-date", "_id", long, f"{long}b", "select"]
        catalogue = films(*map(field, names), **{name: name for name in names})
        copy = copy_of(catalogue)
        copy.run()
        expected = ["xmin_2", "release_date", "release_date_2", "id", "a" * 63, f"{'a' * 61}_2", "select"]
        assert list(columns(copy, "film")) == expected
        [values] = copy.rows("SELECT {} FROM contensis.film".format(", ".join(map(identifier, expected))))
        assert list(values) == names
        # The first of two that clash is gone: the other one keeps its column.
        catalogue.update_content_type("film", [field("release-date"), field("releaseDATE")])
        copy.run()
        assert list(columns(copy, "film")) == [*expected, "release_date_3"]

    def test_of_content_types_that_clash_get_a_suffix(self, copy_of: Callable[..., Copy]) -> None:
        types = [{**film(field("title")), "id": id_} for id_ in ("bigFilm", "big-film")]
        catalogue = Catalogue(several_types(1).project, types)
        for each in types:
            catalogue.add(each["id"], {"title": "x"})
        copy = copy_of(catalogue)
        copy.run()
        assert copy.postgres.tables() == {"big-film": "big_film", "bigFilm": "big_film_2"}
        assert copy.is_exact


class TestComments:
    def test_come_from_names_and_descriptions(self, copy_of: Callable[..., Copy]) -> None:
        title = field("title", name={"en-GB": "Title", "cy": "Teitl"}, description={"en-GB": "It's 100% new"})
        catalogue = films(title, field("plain"), title="x")
        catalogue.content_types["film"] |= {"name": {"cy": "Ffilm", "en-GB": "Film"}, "description": {}}
        copy = copy_of(catalogue)
        copy.run()
        sql = (
            "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = 'contensis.film'::regclass AND attnum > 0 AND attname NOT LIKE '\\_%'"
        )
        assert dict(copy.rows(sql)) == {"title": "Title: It's 100% new", "plain": "plain"}
        assert copy.rows("SELECT obj_description('contensis.film'::regclass)") == [("Film",)]
        catalogue.content_types["film"]["name"] = {"en-GB": "Motion picture"}
        copy.run()
        assert copy.rows("SELECT obj_description('contensis.film'::regclass)") == [("Motion picture",)]


class TestSchemaChanges:
    def test_new_field_gets_a_column_and_a_gone_one_keeps_its_own(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(films(field("title"), field("year", "integer"), title="x", year=1999))
        copy.run()
        copy.catalogue.update_content_type("film", [field("title"), field("runTime", "decimal")])
        assert copy.run()["content_types"] == {"film": {"table": "film", "upserts": 1, "deletes": 0}}
        assert columns(copy, "film") == {"title": "text", "year": "bigint", "run_time": "numeric"}
        assert copy.rows("SELECT title, year, run_time FROM contensis.film") == [("x", 1999, None)]
        assert copy.is_exact

    def test_new_column_is_filled_for_entries_that_did_not_change(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(40))
        copy.run()
        copy.rows("ALTER TABLE contensis.kind1 DROP COLUMN title, DROP COLUMN event_date")
        entries = ids(copy.catalogue, "kind1")
        copy.catalogue.update(entries[0], {"title": "changed"})
        copy.catalogue.delete(entries[1])
        result = copy.run()
        assert result["content_types"] == {"kind1": {"table": "kind1", "upserts": 1, "deletes": 2}}
        wrong = (
            "SELECT count(*) FROM contensis.kind1 WHERE title IS DISTINCT FROM _entry->>'title' "
            "OR event_date IS DISTINCT FROM (_entry->>'eventDate')::timestamptz OR title IS NULL"
        )
        assert copy.rows(wrong) == [(0,)]
        assert copy.is_exact

    def test_field_of_another_type_fails_before_anything_is_read(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(films(field("year"), year="1999"))
        copy.run()
        copy.catalogue.update_content_type("film", [field("year", "integer")])
        with pytest.raises(
            ConfigurationError,
            match="Column year of table contensis.film is text, and field year of content type film needs "
            "bigint now: drop or rename the column, and the next run adds and fills it",
        ):
            copy.run()
        assert copy.rows("SELECT year FROM contensis.film") == [("1999",)]
        copy.catalogue.update(ids(copy.catalogue, "film")[0], {"year": 1999})
        copy.rows("ALTER TABLE contensis.film DROP COLUMN year")
        copy.run()
        assert copy.rows("SELECT year FROM contensis.film") == [(1999,)]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ([field("title"), field("year")], "Field year of content type film is new"),
            ([], "Field title of content type film is gone"),
        ],
    )
    def test_any_change_fails_if_asked_to(
        self, copy_of: Callable[..., Copy], fields: list[Any], message: str
    ) -> None:
        copy = copy_of(films(field("title"), title="x"))
        copy.run(on_schema_change="fail")
        copy.catalogue.update_content_type("film", fields)
        with pytest.raises(ConfigurationError, match=f"{message}, and on_schema_change is fail"):
            copy.run(on_schema_change="fail")
        copy.run()
        copy.run(on_schema_change="fail")

    def test_new_content_type_fails_if_asked_to(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(2, types=1))
        copy.run(on_schema_change="fail")
        copy.catalogue.content_types["film"] = film(field("title"))
        with pytest.raises(
            ConfigurationError, match="Content type film is new.*creates table contensis.film"
        ):
            copy.run(on_schema_change="fail")
        copy.run()
        assert columns(copy, "film") == {"title": "text"}


class TestTablesMadeByHand:
    def test_table_of_the_same_name_is_left_alone(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(2))
        copy.rows("CREATE SCHEMA contensis")
        copy.rows("CREATE TABLE contensis.kind1 (precious text)")
        with pytest.raises(ConfigurationError, match=r"contensis\.kind1 exists, and is not of this copy"):
            copy.run()
        assert copy.postgres.tables() == {}
        copy.run(table_prefix="cms_")
        assert set(copy.postgres.tables().values()) == {"cms_kind0", "cms_kind1", "cms_kind2"}

    def test_columns_that_somebody_added_are_left_alone(self, copy_of: Callable[..., Copy]) -> None:
        copy = copy_of(several_types(2))
        copy.run()
        copy.rows("ALTER TABLE contensis.kind0 ADD COLUMN note text DEFAULT 'mine'")
        copy.catalogue.update(ids(copy.catalogue)[0], {"title": "changed"})
        copy.run()
        assert copy.is_exact
        assert copy.rows("SELECT DISTINCT note FROM contensis.kind0") == [("mine",)]

    @pytest.mark.parametrize(
        ("statement", "message"),
        [
            ("ALTER TABLE contensis.kind0 DROP COLUMN _digest", "lacks the column _digest: drop the table"),
            (
                "ALTER TABLE contensis.kind0 ALTER _entry TYPE jsonb USING _entry::jsonb",
                "Column _entry of table contensis.kind0 is jsonb, and a copy needs json",
            ),
            (
                "ALTER TABLE contensis.kind0 ALTER title TYPE varchar(9) USING left(title, 9)",
                r"Column title of table contensis.kind0 is character varying\(9\), and .* needs text",
            ),
        ],
    )
    def test_altered_table_fails_and_the_way_out_works(
        self, copy_of: Callable[..., Copy], statement: str, message: str
    ) -> None:
        copy = copy_of(several_types(2))
        copy.run()
        copy.rows(statement)
        with pytest.raises(ConfigurationError, match=message):
            copy.run()
        copy.rows("DROP TABLE contensis.kind0")
        copy.run()
        assert copy.postgres.load() == served(copy.catalogue)
