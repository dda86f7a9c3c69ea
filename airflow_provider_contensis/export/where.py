"""The fields of search clauses, checked against the content types: a typo would match nothing, in silence."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ConfigurationError, ValidationError
from airflow_provider_contensis.export.arguments import did_you_mean
from airflow_provider_contensis.export.model import nested_clauses
from airflow_provider_contensis.export.table.columns import LINK, Leaf, Many, entry_shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.api.resources import Clause, ContentType
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.table.columns import Shape

# Fields that can be searched but are not returned (docs/contensis-api.md, "Search").
_SEARCH_ONLY = ("*", "searchContent", "_searchContent")
_SHOWN = 20
_CLAUSE = re.compile(r"(where\[)(\d+)\]", re.IGNORECASE)


def check_where(clauses: Iterable[Clause], content_types: Sequence[ContentType]) -> None:
    """Refuse a clause on a field that no content type has.

    :param content_types: the definitions of those asked for; if there are none, nothing can be checked.
    :raises ConfigurationError: names the field, and the most similar one that exists.
    """
    shapes = [entry_shape(content_type) for content_type in content_types]
    if not shapes:
        return
    fields = (clause.get("field") for clause in nested_clauses(clauses))
    for path in (field for field in fields if isinstance(field, str)):
        if path in _SEARCH_ONLY or any(_has(shape, path.split(".")) for shape in shapes):
            continue
        known = sorted({known for shape in shapes for known in _paths(shape)})
        names = sorted({name for shape in shapes for name in shape.members})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ConfigurationError(
            f"where contains the field {path!r}, which does not exist.{did_you_mean(path, known)} "
            f"Available: {', '.join(names[:_SHOWN])}{more}."
        )


@contextmanager
def numbered_as_given(query: EntryQuery) -> Iterator[None]:
    """Let errors of the service name clauses by their place in the query's `where`.

    Searches put clauses of their own before and behind them.
    """
    try:
        yield
    except ValidationError as error:
        places = {id(clause): number for number, clause in enumerate(query.where)}
        sent = query.window((), ()).query

        def renumbered(match: re.Match[str]) -> str:
            clause = sent[int(match[2])] if int(match[2]) < len(sent) else None
            return f"{match[1]}{places[id(clause)]}]" if id(clause) in places else match[0]

        error.message = _CLAUSE.sub(renumbered, error.message)
        error.args = (error.message,)
        raise


def _has(shape: Shape, path: Sequence[str]) -> bool:
    """Return whether a path may lead to something; the service ignores letter case."""
    if not path:
        return True
    if isinstance(shape, Many):
        return _has(shape.item, path[1:] if path[0].isdecimal() else path)
    if shape == LINK:
        return True  # which of the linked entry's fields can be searched is not documented
    if isinstance(shape, Leaf):
        return shape.kind in {"json", "mixed"}
    members = {name.lower(): member for name, member in shape.members.items()}
    return path[0].lower() in members and _has(members[path[0].lower()], path[1:])


def _paths(shape: Shape, prefix: str = "") -> Iterator[str]:
    if isinstance(shape, Many):
        yield from _paths(shape.item, prefix)
    elif not isinstance(shape, Leaf):
        for name, member in shape.members.items():
            yield f"{prefix}{name}"
            yield from _paths(member, f"{prefix}{name}.")
