"""The SQL of the page about PostgreSQL works when it is pasted."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import psycopg

from airflow_provider_contensis.sandbox import Catalogue, Sandbox
from airflow_provider_contensis.sandbox.shapes import link, new_content_type, new_field, new_project
from airflow_provider_contensis.transfers.contensis_to_postgres import ContensisToPostgresOperator
from tests.docs.pages import BLOCKS, DOCS
from tests.provider.test_changes_operator import context

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.postgres import Postgres


def films() -> Catalogue:
    """Return a film and its director, in two languages."""
    project = new_project("films", "Films", "Invented films", ["en-GB", "cy"])
    person = new_content_type(project, "person", "Person", [new_field("name", "Name")])
    film = new_content_type(
        project,
        "film",
        "Film",
        [
            new_field("title", "Title"),
            new_field("releaseDate", "Released", "dateTime"),
            new_field("director", "Director", "object", "entry"),
            new_field("poster", "Poster", "object", "image"),
        ],
    )
    catalogue = Catalogue(project, [film, person])
    director = catalogue.add("person", {"name": "Ines Okafor"})
    catalogue.add(
        "film",
        {
            "title": "The Lantern Keeper",
            "director": link(director, "person", "en-GB"),
            "poster": {"altText": "A light"},
        },
    )
    return catalogue


def test_sql_works(
    postgres: Postgres, connect: Callable[[Sandbox], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "postgres.md"
    grants, model = (block.text for block in BLOCKS if (block.page, block.language) == (page, "sql"))
    owner, readers = (f"{name}_{postgres.name}" for name in ("owner", "readers"))
    postgres.rows(f"CREATE ROLE {owner} LOGIN; CREATE ROLE {readers}")
    try:
        postgres.rows(re.sub(r"\breaders\b", readers, re.sub(r"\bairflow\b", owner, grants)))
        connection = {**json.loads(postgres.connection_json), "login": owner}
        monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", json.dumps(connection))
        with Sandbox(films()) as sandbox:
            connect(sandbox)
            ContensisToPostgresOperator(task_id="copy").execute(context())
        select = re.sub(r"\{\{ source\('(\w+)', '(\w+)'\) \}\}", r"\1.\2", model)
        with psycopg.connect(postgres.url) as reader:
            reader.execute(f"SET ROLE {readers}".encode())
            [(_, *row)] = reader.execute(select.encode()).fetchall()
        assert row == ["The Lantern Keeper", None, "Ines Okafor", "A light"]
    finally:
        for role in (owner, readers):
            postgres.rows(f"DROP OWNED BY {role}; DROP ROLE {role}")
