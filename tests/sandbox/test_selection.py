"""Searches by time: the quick way finds what a look at each document finds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import synthetic_catalogue
from airflow_provider_contensis.sandbox.search import Search, parse_order

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue

_PATHS = ["sys.version.created", "sys.version.modified", "sys.version.published", "title"]
_OPERATORS = ["greaterThan", "greaterThanOrEqualTo", "lessThan", "lessThanOrEqualTo", "between"]
_ORDER = parse_order([{"asc": "sys.version.created"}, {"asc": "sys.id"}])


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return synthetic_catalogue(200, same_created=50, languages=("en-GB", "cy"), body_bytes=10)


@pytest.mark.parametrize("seed", range(20))
def test_repeated_searches_find_what_first_searches_find(catalogue: Catalogue, seed: int) -> None:
    rng = random.Random(seed)
    times = [document.values(_PATHS[0])[0] for document in catalogue.select(lambda _: True)[1]]

    def limit() -> Any:
        return rng.choice([*[f"{rng.choice(times)[:23]}Z" for _ in range(4)], "article 1", 5])

    def clause() -> dict[str, Any]:
        operator = rng.choice(_OPERATORS)
        operand = [limit(), limit()] if operator == "between" else limit()
        return {"field": rng.choice(_PATHS), operator: operand}

    search, found = Search(catalogue), 0
    for _ in range(40):
        where = [clause() for _ in range(rng.randint(1, 2))] + [{"field": "sys.language", "equalTo": "cy"}]
        documents = search.find(where, _ORDER, "latest")
        assert documents == Search(catalogue).find(where, _ORDER, "latest")
        found += len(documents)
    assert found


def test_changes_show_in_repeated_searches() -> None:
    catalogue = synthetic_catalogue(3, body_bytes=10)
    search = Search(catalogue)
    where = [{"field": "sys.version.created", "greaterThan": "2001-01-01"}]
    for left in (3, 2, 1):
        for _ in range(3):
            documents = search.find(where, _ORDER, "published")
            assert len(documents) == left
        catalogue.delete(documents[0].id)
