"""The query language of searches (docs/contensis-api.md), compiled to functions that run in memory."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import asin, cos, radians, sin, sqrt
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from airflow_provider_contensis.sandbox.documents import Document, VersionStatus, instant, plain, strings
from airflow_provider_contensis.sandbox.index import BUCKET_PATHS, LIVE, State
from airflow_provider_contensis.sandbox.selection import Selection, TimeRange

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_contensis.sandbox.catalogue import Catalogue


class QueryError(ValueError):
    """A query that the service would reject.

    :param message: the error message.
    :param field: the part of the query that is wrong.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class HasValues(Protocol):
    """Anything a clause can be tested on."""

    def values(self, path: str) -> tuple[Any, ...]:
        """Return the values at a path."""


_Value = TypeVar("_Value")
Predicate = Callable[[HasValues], bool]
Test = Callable[[Any], bool]

# Operators that compare or scan strings ignore longer ones (docs/contensis-api.md).
_MAX_LENGTH = 8000
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
_MISSING: tuple[int, Any] = (4, 0)
_WORD = re.compile(r"\w+")


class Clause(NamedTuple):
    """A compiled condition.

    :param fields: the paths it uses.
    :param accepts: the condition.
    :param range: the dates that meet it, if it compares with a date.
    """

    fields: frozenset[str]
    accepts: Predicate
    range: TimeRange | None = None


Order = tuple[tuple[str, bool], ...]


def compile_where(where: object) -> list[Clause]:
    """Compile the `where` of a search; all of its clauses must match.

    :param where: an array of clauses, or one clause.
    :raises QueryError: the service would reject it.
    """
    clauses = [where] if isinstance(where, Mapping) else where
    if not isinstance(clauses, list):
        raise QueryError("'where' must be an array of clauses", "where")
    return [_clause(item, f"where[{index}]") for index, item in enumerate(clauses)]


def parse_order(order: object) -> Order:
    """Parse an order: `[{"asc": field}, {"desc": field}]`, or fields, with a leading `-` for descending.

    :param order: None, an array, one item of it, or comma-separated fields.
    :returns: pairs of path and whether it is descending.
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
    """Sort in place. Equal documents keep their order; those without a value come last in both directions."""
    # Positions, as many new tuples would keep the garbage collector busy.
    positions = list(range(len(documents)))
    columns = []
    for path, descending in order:
        keys = [_document_key(path, document) for document in documents]
        columns.append((keys, descending))
        if len(set(keys)) == len(keys):
            break  # the others decide nothing
    for keys, descending in reversed(columns):
        filled = [position for position in positions if keys[position] != _MISSING]
        filled.sort(key=keys.__getitem__, reverse=descending)
        positions = filled + [position for position in positions if keys[position] == _MISSING]
    documents[:] = [documents[position] for position in positions]


class _Cache(Generic[_Value]):
    """The values used last, each of one revision of the catalogue."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, tuple[int, _Value]] = OrderedDict()

    def get(self, key: str, revision: int) -> _Value | None:
        """Return the value of this revision; None if there is none."""
        if key not in self._values or self._values[key][0] != revision:
            return None
        self._values.move_to_end(key)
        return self._values[key][1]

    def put(self, key: str, revision: int, value: _Value) -> None:
        """Keep a value, and drop the one that was not used for longest if there are too many."""
        self._values[key] = revision, value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


class Search:
    """Searches a catalogue, and caches recent queries until the catalogue changes.

    :param catalogue: the catalogue.
    :param cache_size: the number of results to cache, and of selections.
    """

    def __init__(self, catalogue: Catalogue, cache_size: int = 64) -> None:
        self._catalogue = catalogue
        self._results = _Cache[Sequence[Document]](cache_size)
        # What queries of the same kinds choose from.
        self._selections = _Cache[Selection](cache_size)
        self._lock = threading.Lock()

    def find(
        self,
        where: object,
        order: Order,
        default_status: VersionStatus,
        *,
        states: Collection[State] = LIVE,
        hidden_types: Collection[str] = (),
    ) -> Sequence[Document]:
        """Return all matching documents, in order. They are shared: do not modify them.

        :param where: as for `compile_where`.
        :param order: as returned by `parse_order`.
        :param default_status: the version status if the query has none.
        :param states: `live`, `archived` and `deleted` documents.
        :param hidden_types: ids of the content types to leave out, in lower case.
        :raises QueryError: the service would reject the query.
        """
        query = json.dumps(
            [where, order, default_status, sorted(states), sorted(hidden_types)], sort_keys=True
        )
        # One thread computes a new result; other threads wait for it.
        with self._lock:
            found = self._results.get(query, self._catalogue.index_revision)
            if found is None:
                revision, found = self._compute(where, order, default_status, states, hidden_types)
                self._results.put(query, revision, found)
            return found

    def _compute(
        self,
        where: object,
        order: Order,
        default_status: VersionStatus,
        states: Collection[State],
        hidden_types: Collection[str],
    ) -> tuple[int, Sequence[Document]]:
        clauses = compile_where(where)
        items = list(where) if isinstance(where, list) else [where]
        if not any("sys.versionStatus" in clause.fields for clause in clauses):
            items.append({"field": "sys.versionStatus", "equalTo": default_status})
            clauses += compile_where(items[-1:])
        coarse, fine, kinds = [], [], []
        for item, clause in zip(items, clauses, strict=True):
            # A clause that uses only these four paths gives the same result for a whole bucket.
            if clause.fields <= set(BUCKET_PATHS):
                coarse.append(clause.accepts)
                kinds.append(item)
            else:
                fine.append(clause)
        name = json.dumps([kinds, sorted(states), sorted(hidden_types)], sort_keys=True)
        revision = self._catalogue.index_revision
        selection = self._selections.get(name, revision)
        if selection is None:
            revision, documents = self._catalogue.select(
                lambda bucket: (
                    bucket.content_type_id.lower() not in hidden_types
                    and all(accepts(bucket) for accepts in coarse)
                ),
                states,
            )
            selection = Selection(documents)
            self._selections.put(name, revision, selection)
        within = selection.within(clause.range for clause in fine if clause.range)
        found = [item for item in within if all(clause.accepts(item) for clause in fine)]
        sort(found, order)
        return revision, found


def _document_key(path: str, document: Document) -> tuple[int, Any]:
    values = document.values(path)
    if not values:
        return _MISSING
    return _text_key(values[0]) if isinstance(values[0], str) else _sort_key(values[0])


def _sort_key(value: object) -> tuple[int, Any]:
    """Return a key that sorts numbers, dates, strings and booleans separately, in this order."""
    if isinstance(value, bool):
        return 3, value
    if isinstance(value, int | float):
        return 0, value
    return _MISSING


@lru_cache(maxsize=1 << 20)
def _text_key(value: str) -> tuple[int, Any]:
    moment = instant(value)
    return (2, value.casefold()) if moment is None else (1, moment)


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
        return _boolean_clause(operator, operand, where)
    path = clause.get("field")
    if not isinstance(path, str) or not path:
        raise QueryError("A clause must name its field", where)
    if operator not in _OPERATORS:
        raise QueryError(f"The operator '{operator}' is not known", where)
    if path == "*" and operator != "freeText":
        raise QueryError("The field '*' can only be searched with freeText", where)
    test = _OPERATORS[operator](operand, where)
    if operator == "exists":
        return Clause(frozenset([path]), lambda item: any(map(_has_value, item.values(path))) is operand)
    return Clause(
        frozenset([path]),
        lambda item: any(map(test, item.values(path))),
        _range_of(path, operator, operand),
    )


def _range_of(path: str, operator: str, operand: object) -> TimeRange | None:
    """Return the dates that meet a condition, and perhaps a few more; None if it compares with no date."""
    first, last = operand if operator == "between" and isinstance(operand, list) else (operand, operand)
    if operator not in _RANGES:
        return None
    has_first, has_last = _RANGES[operator]
    limits = [
        instant(limit) if has_limit and isinstance(limit, str) else None
        for limit, has_limit in ((first, has_first), (last, has_last))
    ]
    return None if limits == [None, None] else TimeRange(path, *limits)


def _boolean_clause(operator: str, operand: object, where: str) -> Clause:
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


def _has_value(value: object) -> bool:
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

        def is_same_text(value: object) -> bool:
            if not isinstance(value, str) or len(value) > _MAX_LENGTH:
                return False
            if moment is not None and instant(value) == moment:
                return True
            return value.casefold() == folded

        return is_same_text
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


def _comparison(holds: Callable[[Any, Any], bool]) -> Callable[[object, str], Test]:
    """Return an operator for a comparison: dates by instant, other strings ignoring case, and numbers."""

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


_at_least = _comparison(lambda value, limit: value >= limit)
_at_most = _comparison(lambda value, limit: value <= limit)


def _between(operand: object, where: str) -> Test:
    if not isinstance(operand, list) or len(operand) != 2:
        raise QueryError("'between' must hold an array of two values", where)
    low, high = _at_least(operand[0], where), _at_most(operand[1], where)
    return lambda value: low(value) and high(value)


def _any_string(test: Callable[[str], bool]) -> Test:
    """Test every string inside a value, except long ones."""
    return lambda value: any(test(text.casefold()) for text in strings(value) if len(text) <= _MAX_LENGTH)


def _contains(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    if not any(char in phrase for char in "*?"):
        return _any_string(lambda text: phrase in text)
    wildcards = {"*": ".*", "?": "."}
    pattern = re.compile("".join(wildcards.get(char, re.escape(char)) for char in phrase), re.DOTALL)
    return _any_string(lambda text: pattern.search(text) is not None)


def _starts_with(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    return _any_string(lambda text: text.startswith(phrase))


def _ends_with(operand: object, where: str) -> Test:
    phrase = _text(operand, where).casefold()
    return _any_string(lambda text: text.endswith(phrase))


def _exists(operand: object, where: str) -> Test:
    if not isinstance(operand, bool):
        raise QueryError("'exists' must be true or false", where)
    return _has_value


def _free_text(operand: object, where: str) -> Test:
    options = operand if isinstance(operand, Mapping) else {"term": operand}
    words = _WORD.findall(_text(options.get("term"), where).casefold())
    operator = str(options.get("operator", "and")).lower()
    if operator not in ("and", "or"):
        raise QueryError("The operator of 'freeText' must be 'and' or 'or'", where)
    combine = all if operator == "and" else any
    fuzzy = options.get("fuzzy", False)
    if not isinstance(fuzzy, bool):
        raise QueryError("'fuzzy' must be true or false", where)

    def test(value: object) -> bool:
        present = {word for text in strings(value) for word in _WORD.findall(text.casefold())}
        if not fuzzy:
            return combine(word in present for word in words)
        return combine(any(_is_near(word, other) for other in present) for word in words)

    return test


def _is_near(word: str, other: str) -> bool:
    """Return whether the edit distance of two words is within the limit for their length: 0, 1 or 2."""
    allowed = 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    if abs(len(word) - len(other)) > allowed:
        return False
    row = list(range(len(other) + 1))
    for index, char in enumerate(word, 1):
        above, row = row, [index]
        for column, other_char in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (char != other_char)))
    return row[-1] <= allowed


def _distance_within(operand: object, where: str) -> Test:
    options = operand if isinstance(operand, Mapping) else {}
    lat, lon = options.get("lat"), options.get("lon")
    match = _DISTANCE.fullmatch(str(options.get("distance")))
    if not isinstance(lat, int | float) or not isinstance(lon, int | float) or not match:
        raise QueryError("'distanceWithin' must hold lat, lon and a distance such as '10mi'", where)
    radius = float(match[1]) * _METRES[match[2]]

    def test(value: object) -> bool:
        if not isinstance(value, Mapping):
            return False
        try:
            own_lat, own_lon = float(plain(value["lat"])), float(plain(value["lon"]))
        except (KeyError, TypeError, ValueError):
            return False
        return _metres(lat, lon, own_lat, own_lon) <= radius

    return test


def _metres(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Return the great-circle distance in metres, by the haversine formula."""
    phi, other_phi = radians(lat), radians(other_lat)
    half = sin((other_phi - phi) / 2) ** 2
    half += cos(phi) * cos(other_phi) * sin(radians(other_lon - lon) / 2) ** 2
    return 2 * _EARTH_RADIUS * asin(sqrt(min(1.0, half)))


# Operators that compare with a date: whether they have a first one and a last one.
_RANGES = {
    "greaterThan": (True, False),
    "greaterThanOrEqualTo": (True, False),
    "lessThan": (False, True),
    "lessThanOrEqualTo": (False, True),
    "between": (True, True),
}
_OPERATORS: Mapping[str, Callable[[object, str], Test]] = {
    "equalTo": _equal_to,
    "in": _in,
    "between": _between,
    "greaterThan": _comparison(lambda value, limit: value > limit),
    "greaterThanOrEqualTo": _at_least,
    "lessThan": _comparison(lambda value, limit: value < limit),
    "lessThanOrEqualTo": _at_most,
    "contains": _contains,
    "startsWith": _starts_with,
    "endsWith": _ends_with,
    "exists": _exists,
    "freeText": _free_text,
    "distanceWithin": _distance_within,
}
