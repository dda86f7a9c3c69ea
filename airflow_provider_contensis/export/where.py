"""The caller's `where`, checked against the project: a typo, or a number as text, would match nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import did_you_mean
from airflow_provider_contensis.export.model import nested_clauses
from airflow_provider_contensis.export.operands import HOLDS, OPERAND_KINDS, UnfitError, typed_operand
from airflow_provider_contensis.export.paths import check_paths, shape_at
from airflow_provider_contensis.export.table.columns import Leaf, Many, entry_shape
from airflow_provider_contensis.utils.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.api.resources import Clause, ContentType
    from airflow_provider_contensis.exceptions import ValidationError
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.operands import OperandKind
    from airflow_provider_contensis.export.table.columns import Record

# Fields that can be searched but are not returned (docs/contensis-api.md, "Search").
_SEARCH_ONLY = ("*", "searchContent", "_searchContent")
_NESTING = ("and", "or", "not")
_ARGUMENTS = {
    "sys.contentTypeId": "content_type_id",
    "sys.language": "language",
    "sys.versionStatus": "version_status",
    "sys.dataFormat": "data_format",
}
_CLAUSE = re.compile(r"(where\[)(\d+)\]", re.IGNORECASE)


def check_where(clauses: Iterable[Clause], content_types: Sequence[ContentType]) -> None:
    """Refuse a clause on a field that no content type has.

    :param content_types: the definitions of those asked for; if there are none, nothing can be checked.
    :raises ConfigurationError: names the field, and the most similar one that exists.
    """
    fields = (clause.get("field") for clause in nested_clauses(clauses))
    paths = (path for path in fields if isinstance(path, str) and path not in _SEARCH_ONLY)
    check_paths("where contains the field", paths, content_types, indexes=True)


def check_names(
    clauses: Sequence[Clause], known: Mapping[str, Sequence[str]], asked: Mapping[str, Sequence[str]]
) -> None:
    """Refuse content types, languages, version statuses and data formats that cannot match.

    :param known: all names that there are, by argument.
    :param asked: those that the arguments ask for.
    :raises ConfigurationError: names the value, and the argument to use.
    """
    # What is left out may be a content type that the project does not list.
    everywhere = (each for each in _compared(nested_clauses(clauses)) if each[1] != "content_type_id")
    for field, argument, names in (*everywhere, *_compared(_nested(clauses, "and", "or"))):
        for name in names:
            if name.lower() not in map(str.lower, known[argument]):
                raise ConfigurationError(
                    f"where contains {field} {name!r}, which does not exist."
                    f"{did_you_mean(name, known[argument])} Available: {', '.join(sorted(known[argument]))}. "
                    f"Better use the argument {argument}."
                )
    for field, argument, names in _compared(_nested(clauses, "and")):
        if not {name.lower() for name in names} & {name.lower() for name in asked[argument]}:
            raise ConfigurationError(
                f"where contains {field} {', '.join(map(repr, names))}, but {argument} asks for "
                f"{', '.join(asked[argument]) or 'nothing'}, so that no entry can match. "
                f"Set {argument} instead."
            )


def typed_query(
    query: EntryQuery, content_types: Sequence[ContentType], *, strict: bool = False
) -> EntryQuery:
    """Return a query whose `where` compares each field with values of its type.

    :param content_types: the definitions of those asked for; if a field's type differs among them, or is not
        known, it is compared with what was given.
    :param strict: whether to refuse a value that cannot be of its field's type; else it stays as given.
    :raises ConfigurationError: names the field, what it holds, and the value.
    """
    if query.is_typed:
        return query
    shapes = [entry_shape(content_type) for content_type in content_types]
    where = tuple(_typed_clause(clause, shapes, strict) for clause in query.where)
    return replace(query, where=where, is_typed=True)


def number_as_given(error: ValidationError, sent: Sequence[Clause]) -> None:
    """Let an error name clauses by their place in the caller's `where`.

    :param sent: the clauses of the search; the first on `sys.dataFormat` is the last before the caller's.
    """
    before = next(place for place, clause in enumerate(sent, 1) if clause.get("field") == "sys.dataFormat")

    def renumbered(match: re.Match[str]) -> str:
        place = int(match[2]) - before
        return match[0] if place < 0 else f"{match[1]}{place}]"

    error.message = _CLAUSE.sub(renumbered, error.message)
    error.args = (error.message,)


def _compared(clauses: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each field that an argument selects by, the argument, and the names that it is compared with."""
    for clause in clauses:
        field = clause.get("field")
        argument = _ARGUMENTS.get(field) if isinstance(field, str) else None
        if field is None or argument is None:
            continue
        for operator in ("equalTo", "in"):
            operand = typed_operand(operator, clause.get(operator), None)
            names = operand if isinstance(operand, list) else [operand]
            if operand is not None and all(isinstance(name, str) for name in names):
                yield field, argument, names


def _nested(clauses: Iterable[Any], *operators: str) -> Iterator[Mapping[str, Any]]:
    """Yield clauses, and those within some operators."""
    for clause in clauses:
        if isinstance(clause, Mapping):
            yield clause
            for operator in operators:
                nested = clause.get(operator)
                yield from _nested(nested if isinstance(nested, list) else (), *operators)


def _typed_clause(clause: Any, shapes: Sequence[Record], strict: bool) -> Any:
    if isinstance(clause, list | tuple):
        return [_typed_clause(each, shapes, strict) for each in clause]
    if not isinstance(clause, Mapping):
        return clause
    typed: dict[str, Any] = {}
    field = clause.get("field")
    for name, operand in clause.items():
        typed[name] = operand
        if name in _NESTING:
            typed[name] = _typed_clause(operand, shapes, strict)
        elif name != "field":
            try:
                typed[name] = typed_operand(name, operand, _kind(field, shapes))
            except UnfitError as error:
                if strict:
                    raise ConfigurationError(
                        f"where compares the field {show(field)} with {show(error.value)}: {name} needs "
                        f"{HOLDS[error.kind]}."
                    ) from None
    return typed


def _kind(field: object, shapes: Sequence[Record]) -> OperandKind | None:
    """Return what a field holds; None if that is not known, or differs."""
    kinds: set[OperandKind | None] = set()
    for shape in shapes:
        found = shape_at(shape, field, indexes=True) if isinstance(field, str) else None
        if isinstance(found, Many):
            found = found.item
        if found is not None:
            kinds.add(OPERAND_KINDS.get(found.kind) if isinstance(found, Leaf) else None)
    return kinds.pop() if len(kinds) == 1 else None
