"""Aggregations: how many results of a search have each value of a field (docs/contensis-api.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.search import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_contensis.sandbox.documents import Document

_DEFAULT_SIZE = 10
_RESERVED = frozenset({"buckets", "key", "value", "type", "count"})


class Aggregation(NamedTuple):
    """One aggregation of a search.

    :param name: its name in the response.
    :param field: the path whose values it counts.
    :param size: the number of values to return, the most frequent ones first.
    :param missing: the name under which results without a value count; None leaves them out.
    """

    name: str
    field: str
    size: int
    missing: str | None


def parse_aggregations(aggregations: object) -> list[Aggregation]:
    """Parse `{"byGenre": {"field": "genre", "size": 20, "missing": "none"}}`.

    :raises QueryError: the service would reject it.
    """
    if not isinstance(aggregations, Mapping):
        raise QueryError("'aggregations' must be an object", "aggregations")
    return [_parse(name, options) for name, options in aggregations.items()]


def aggregate(documents: Iterable[Document], aggregation: Aggregation) -> dict[str, int]:
    """Count the documents with each value. Values are text in lower case."""
    counts: Counter[str] = Counter()
    for document in documents:
        names = {name for value in document.values(aggregation.field) if (name := _name(value))}
        if not names and aggregation.missing is not None:
            names = {aggregation.missing}
        counts.update(names)
    most_frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(most_frequent[: aggregation.size])


def _parse(name: str, options: Any) -> Aggregation:
    where = f"aggregations.{name}"
    if name in _RESERVED:
        raise QueryError(f"'{name}' is a reserved name", where)
    if not isinstance(options, Mapping) or not isinstance(options.get("field"), str):
        raise QueryError("An aggregation must name a field", where)
    size, missing = options.get("size", _DEFAULT_SIZE), options.get("missing")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise QueryError("'size' must be a whole number of at least 1", where)
    if not isinstance(missing, str | None):
        raise QueryError("'missing' must be a string", where)
    return Aggregation(name, options["field"], size, missing)


def _name(value: object) -> str | None:
    if isinstance(value, str):
        return value.lower()
    return json.dumps(value) if isinstance(value, bool | int | float) else None
