"""What search clauses compare with, as the service needs it: it tells the number 92 from the text "92".

A template gives text or, with `render_template_as_native_obj`, Python values: the field decides which it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_contensis.export.arguments import rendered_value
from airflow_provider_contensis.export.times import DATE_FUNCTION, PERIODS, in_utc

if TYPE_CHECKING:
    from airflow_provider_contensis.export.table.columns import Kind

OperandKind = Literal["text", "number", "boolean", "time"]

# The kinds of fields whose operands are known (docs/contensis-api.md, "Search").
OPERAND_KINDS: Mapping[Kind, OperandKind] = {
    "text": "text",
    "integer": "number",
    "decimal": "number",
    "boolean": "boolean",
    "time": "time",
}
HOLDS: Mapping[OperandKind, str] = {
    "text": "text",
    "number": "a number, such as 90",
    "boolean": "true or false",
    "time": "a time, such as 2031-04-02T00:00:00Z",
}
_OF_FIELD = {"equalTo", "greaterThan", "greaterThanOrEqualTo", "lessThan", "lessThanOrEqualTo"}
_LISTS = {"in", "between"}
# Operators that take the same for every field.
_OF_OPERATOR: Mapping[str, OperandKind] = {
    "contains": "text",
    "startsWith": "text",
    "endsWith": "text",
    "freeText": "text",
    "exists": "boolean",
    "weight": "number",
}
_MEMBERS: Mapping[str, Mapping[str, OperandKind]] = {
    "distanceWithin": {"lat": "number", "lon": "number"},
    "freeText": {"term": "text", "fuzzy": "boolean"},
}


class UnfitError(ValueError):
    """A value that cannot be what it is compared with.

    :param value: the value.
    :param kind: what it would have to be.
    """

    def __init__(self, value: object, kind: OperandKind) -> None:
        super().__init__(value, kind)
        self.value = value
        self.kind = kind


def typed_operand(operator: str, operand: Any, kind: OperandKind | None) -> Any:
    """Return what a clause compares with, as its field and operator need it.

    :param kind: what the field holds; None if that is not known.
    :raises UnfitError: it cannot be that.
    """
    if operator in _LISTS:
        operand = rendered_value(operand)
        if kind is None or not isinstance(operand, list | tuple):
            return operand
        return [_typed(item, kind) for item in operand]
    if isinstance(operand, Mapping) and operator in _MEMBERS:
        kinds = _MEMBERS[operator]
        return {
            name: _typed(member, kinds[name]) if name in kinds else member for name, member in operand.items()
        }
    needed = kind if operator in _OF_FIELD else _OF_OPERATOR.get(operator)
    return operand if needed is None else _typed(operand, needed)


def _typed(value: Any, kind: OperandKind) -> Any:
    typed = _CONVERTERS[kind](value)
    if typed is None:
        raise UnfitError(value, kind)
    return typed


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _time(value: Any) -> str | None:
    """Return a time in UTC; a day, and a time that moves by itself, as given."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if DATE_FUNCTION.fullmatch(text) or PERIODS.fullmatch(text):
        return text
    utc = in_utc(text)
    # A day without a time may stand for the whole of it.
    return text if utc is not None and "T" not in text.upper() and ":" not in text else utc


_CONVERTERS: Mapping[OperandKind, Any] = {
    "text": _text,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
}
