"""The query language of entry searches: API section 4.8, compiled to functions and answered from memory."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from math import asin, cos, radians, sin, sqrt
from typing import Any, NamedTuple, Protocol

from airflow_provider_contensis.sandbox.catalogue import BUCKET_PATHS, Catalogue
from airflow_provider_contensis.sandbox.documents import Document, VersionStatus, instant, plain, texts


class QueryError(ValueError):
    """A query that the service would refuse.

    :param message: what is wrong.
    :param field: the part of the query that is wrong.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class HasValues(Protocol):
    """Anything a clause can be tried on."""

    def values(self, path: str) -> tuple[Any, ...]:
        """Return what stands at a path."""


Predicate = Callable[[HasValues], bool]
Test = Callable[[Any], bool]

# Longer texts are not looked at by the operators that compare or scan them (section 4.8).
_LONGEST_TEXT = 8000
_RELATIVE_DATE = re.compile(r"(?:now|(?:start|end)Of\w+)\(.*\)|[+-]\d+[yMwdhm](?: [+-]?\d+[yMwdhm])*")
_DISTANCE = re.compile(r"(\d+(?:\.\d+)?)\s*(mi|yd|ft|in|km|cm|mm|NM|m)")
_METRES = {
    "mi": 1609.344,
    "yd": 0.9144,
    "ft": 0.3048,
    "in": 0.0254,
    "km": 1000.0,
    "m": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "NM": 1852.0,
}
_EARTH_RADIUS = 6_371_008.8
_NOTHING: tuple[int, Any] = (4, 0)
_WORD = re.compile(r"\w+")


class Clause(NamedTuple):
    """A compiled condition.

    :param fields: the paths it looks at.
    :param accepts: the condition itself.
    """

    fields: frozenset[str]
    accepts: Predicate


Order = tuple[tuple[str, bool], ...]


def compile_where(where: object) -> list[Clause]:
    """Compile the `where` of a search; its clauses must all hold.

    :param where: an array of clauses, or one clause.
    :raises QueryError: the service would not understand it.
    """
    clauses = [where] if isinstance(where, Mapping) else where
    if not isinstance(clauses, list):
        raise QueryError("'where' must be an array of clauses", "where")
    return [_clause(item, f"where[{index}]") for index, item in enumerate(clauses)]


def parse_order(order: object) -> Order:
    """Read an order: `[{"asc": field}, {"desc": field}]`, or fields, each with `-` in front for descending.

    :param order: None, an array, one item of it, or fields separated by commas.
    :returns: pairs of path and whether it descends.
    :raises QueryError: it is none of these.
    """
    if order is None:
        return ()
    parsed = []
    for item in order if isinstance(order, list) else [order]:
        if isinstance(item, str):
            names = [name.strip() for name in item.split(",")]
            parsed += [(name.removeprefix("-"), name.startswith("-")) for name in names if name]
            continue
        if isinstance(item, Mapping) and len(item) == 1:
            [(direction, path)] = item.items()
            if direction in ("asc", "desc") and isinstance(path, str) and path:
                parsed.append((path, direction == "desc"))
                continue
        raise QueryError("An order is a field, {'asc': field} or {'desc': field}", "orderBy")
    return tuple(parsed)


def sort(documents: list[Document], order: Order) -> None:
    """Sort in place; equal documents keep their order, and those without a value come last either way."""
    for path, descending in reversed(order):
        key = partial(_first_key, path)
        filled = [document for document in documents if key(document) != _NOTHING]
        empty = [document for document in documents if key(document) == _NOTHING]
        documents[:] = sorted(filled, key=key, reverse=descending) + empty


class Search:
    """Searches a catalogue, and remembers the results of recent queries until the catalogue changes.

    :param catalogue: what to search.
    :param remembered: how many results to keep.
    """

    def __init__(self, catalogue: Catalogue, remembered: int = 64) -> None:
        self._catalogue = catalogue
        self._remembered = remembered
        self._results: OrderedDict[str, tuple[int, list[Document]]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, where: object, order: Order, default_status: VersionStatus) -> list[Document]:
        """Return all documents that match, in order; the list is shared and must not be changed.

        :param where: as `compile_where` takes it.
        :param order: as `parse_order` returns it.
        :param default_status: the version status meant when the query names none.
        :raises QueryError: the service would refuse the query.
        """
        query = json.dumps([where, order, default_status], sort_keys=True)
        # One thread computes a new result while the others that ask for it wait.
        with self._lock:
            known = self._results.get(query)
            if known and known[0] == self._catalogue.revision:
                self._results.move_to_end(query)
                return known[1]
            revision, documents = self._compute(where, order, default_status)
            self._results[query] = (revision, documents)
            self._results.move_to_end(query)
            if len(self._results) > self._remembered:
                self._results.popitem(last=False)
            return documents

    def _compute(
        self, where: object, order: Order, default_status: VersionStatus
    ) -> tuple[int, list[Document]]:
        clauses = compile_where(where)
        if not any("sys.versionStatus" in clause.fields for clause in clauses):
            clauses += compile_where([{"field": "sys.versionStatus", "equalTo": default_status}])
        # A clause on nothing but these four paths has the same answer for a whole bucket.
        coarse = [clause.accepts for clause in clauses if clause.fields <= set(BUCKET_PATHS)]
        fine = [clause.accepts for clause in clauses if not clause.fields <= set(BUCKET_PATHS)]
        revision, documents = self._catalogue.select(
            lambda bucket: all(accepts(bucket) for accepts in coarse)
        )
        if fine:
            documents = [item for item in documents if all(accepts(item) for accepts in fine)]
        if order:
            sort(documents, order)
        return revision, documents


def _first_key(path: str, document: Document) -> tuple[int, Any]:
    values = document.values(path)
    return _sort_key(values[0]) if values else _NOTHING


def _sort_key(value: object) -> tuple[int, Any]:
    """Return a key that puts numbers, dates, texts and booleans each in their own order."""
    if isinstance(value, bool):
        return 3, value
    if isinstance(value, int | float):
        return 0, value
    if isinstance(value, str):
        moment = instant(value)
        return (2, value.casefold()) if moment is None else (1, moment)
    return _NOTHING


def _clause(clause: object, where: str) -> Clause:
    if not isinstance(clause, Mapping):
        raise QueryError("A clause must be an object", where)
    names = [name for name in clause if name not in ("field", "weight")]
    if len(names) != 1:
        raise QueryError("A clause must have exactly one operator", where)
    operator, operand = names[0], clause[names[0]]
    if not isinstance(clause.get("weight", 1), int | float):
        raise QueryError("'weight' must be a number", where)
    if operator in ("and", "or", "not"):
        if "field" in clause:
            raise QueryError(f"'{operator}' takes clauses, not a field", where)
        return _combined(operator, operand, where)
    path = clause.get("field")
    if not isinstance(path, str) or not path:
        raise QueryError("A clause must name its field", where)
    if operator not in _OPERATORS:
        raise QueryError(f"The operator '{operator}' is not known", where)
    if path == "*" and operator != "freeText":
        raise QueryError("The field '*' can only be searched with freeText", where)
    test = _OPERATORS[operator](operand, where)
    if operator == "exists":
        return Clause(frozenset([path]), lambda item: any(map(_is_something, item.values(path))) is operand)
    return Clause(frozenset([path]), lambda item: any(map(test, item.values(path))))


def _combined(operator: str, operand: object, where: str) -> Clause:
    items = [operand] if operator == "not" and isinstance(operand, Mapping) else operand
    if not isinstance(items, list) or not items or (operator == "not" and len(items) != 1):
        raise QueryError(f"'{operator}' must hold {'one clause' if operator == 'not' else 'clauses'}", where)
    clauses = [_clause(item, f"{where}.{operator}[{index}]") for index, item in enumerate(items)]
    fields = frozenset().union(*(clause.fields for clause in clauses))
    accepts = [clause.accepts for clause in clauses]
    if operator == "and":
        return Clause(fields, lambda item: all(each(item) for each in accepts))
    if operator == "or":
        return Clause(fields, lambda item: any(each(item) for each in accepts))
    return Clause(fields, lambda item: not accepts[0](item))


def _is_something(value: object) -> bool:
    return value is not None and value != "" and value != {}


def _scalar(operand: object, where: str) -> str | float | bool:
    if isinstance(operand, str | int | float):
        return operand
    raise QueryError("The value must be a string, a number or a boolean", where)


def _text(operand: object, where: str) -> str:
    if isinstance(operand, str):
        return operand
    raise QueryError("The value must be a string", where)


def _equal_to(operand: object, where: str) -> Test:
    wanted = _scalar(operand, where)
    if isinstance(wanted, str):
        moment, folded = instant(wanted), wanted.casefold()

        def same_text(value: object) -> bool:
            if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
                return False
            if moment is not None and instant(value) == moment:
                return True
            return value.casefold() == folded

        return same_text
    if isinstance(wanted, bool):
        return lambda value: value is wanted
    return lambda value: _is_number(value) and value == wanted


def _in(operand: object, where: str) -> Test:
    if not isinstance(operand, list):
        raise QueryError("'in' must hold an array", where)
    tests = [_equal_to(item, where) for item in operand]
    return lambda value: any(test(value) for test in tests)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[object, str], Test]:
    """Make an operator of a comparison: dates with dates by instant, texts ignoring case, numbers."""

    def operator(operand: object, where: str) -> Test:
        limit = _scalar(operand, where)
        if not isinstance(limit, str):
            return lambda value: _is_number(value) and holds(value, limit)
        if _RELATIVE_DATE.fullmatch(limit):
            raise QueryError(f"The sandbox does not know relative dates such as '{limit}'", where)
        moment, folded = instant(limit), limit.casefold()

        def compare(value: object) -> bool:
            if not isinstance(value, str):
                return False
            if moment is not None and (own := instant(value)) is not None:
                return holds(own, moment)
            return holds(value.casefold(), folded)

        return compare

    return operator


_at_least = _compared(lambda value, limit: value >= limit)
_at_most = _compared(lambda value, limit: value <= limit)


def _between(operand: object, where: str) -> Test:
    if not isinstance(operand, list) or len(operand) != 2:
        raise QueryError("'between' must hold an array of two values", where)
    low, high = _at_least(operand[0], where), _at_most(operand[1], where)
    return lambda value: low(value) and high(value)


def _in_text(test: Callable[[str], bool]) -> Test:
    """Try each text of a value that is short enough, for a composed field each text inside it."""
    return lambda value: any(test(text.casefold()) for text in texts(value) if len(text) <= _LONGEST_TEXT)


def _contains(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    if not any(sign in phrase for sign in "*?"):
        return _in_text(lambda text: phrase in text)
    wild = {"*": ".*", "?": "."}
    pattern = re.compile("".join(wild.get(sign, re.escape(sign)) for sign in phrase), re.DOTALL)
    return _in_text(lambda text: pattern.search(text) is not None)


def _starts_with(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    return _in_text(lambda text: text.startswith(phrase))


def _ends_with(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    return _in_text(lambda text: text.endswith(phrase))


def _exists(operand: object, where: str) -> Test:
    if not isinstance(operand, bool):
        raise QueryError("'exists' must be true or false", where)
    return _is_something


def _free_text(operand: object, where: str) -> Test:
    options = operand if isinstance(operand, Mapping) else {"term": operand}
    words = _WORD.findall(_text(options.get("term"), where).casefold())
    joined = str(options.get("operator", "and")).lower()
    if joined not in ("and", "or"):
        raise QueryError("The operator of 'freeText' must be 'and' or 'or'", where)
    combine = all if joined == "and" else any
    fuzzy = options.get("fuzzy", False)
    if not isinstance(fuzzy, bool):
        raise QueryError("'fuzzy' must be true or false", where)

    def test(value: object) -> bool:
        present = {word for text in texts(value) for word in _WORD.findall(text.casefold())}
        if not fuzzy:
            return combine(word in present for word in words)
        return combine(any(_is_near(word, other) for other in present) for word in words)

    return test


def _is_near(word: str, other: str) -> bool:
    """Whether two words differ by no more edits than their length allows: 0, 1 or 2."""
    allowed = 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    if abs(len(word) - len(other)) > allowed:
        return False
    row = list(range(len(other) + 1))
    for index, sign in enumerate(word, 1):
        above, row = row, [index]
        for column, compared in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (sign != compared)))
    return row[-1] <= allowed


def _distance_within(operand: object, where: str) -> Test:
    centre = operand if isinstance(operand, Mapping) else {}
    lat, lon = centre.get("lat"), centre.get("lon")
    match = _DISTANCE.fullmatch(str(centre.get("distance")))
    if not isinstance(lat, int | float) or not isinstance(lon, int | float) or not match:
        raise QueryError("'distanceWithin' must hold lat, lon and a distance such as '10mi'", where)
    reach = float(match[1]) * _METRES[match[2]]

    def test(value: object) -> bool:
        if not isinstance(value, Mapping):
            return False
        try:
            own_lat, own_lon = float(plain(value["lat"])), float(plain(value["lon"]))
        except (KeyError, TypeError, ValueError):
            return False
        return _metres(lat, lon, own_lat, own_lon) <= reach

    return test


def _metres(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Return the distance over the surface of the earth, by the haversine formula."""
    phi, other_phi = radians(lat), radians(other_lat)
    half = sin((other_phi - phi) / 2) ** 2
    half += cos(phi) * cos(other_phi) * sin(radians(other_lon - lon) / 2) ** 2
    return 2 * _EARTH_RADIUS * asin(sqrt(min(1.0, half)))


_OPERATORS: Mapping[str, Callable[[object, str], Test]] = {
    "equalTo": _equal_to,
    "in": _in,
    "between": _between,
    "greaterThan": _compared(lambda value, limit: value > limit),
    "greaterThanOrEqualTo": _at_least,
    "lessThan": _compared(lambda value, limit: value < limit),
    "lessThanOrEqualTo": _at_most,
    "contains": _contains,
    "startsWith": _starts_with,
    "endsWith": _ends_with,
    "exists": _exists,
    "freeText": _free_text,
    "distanceWithin": _distance_within,
}
