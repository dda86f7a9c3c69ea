"""Text for people: any value can be shown on one line, and showing it never fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_CHARACTERS = 1_500
_SHORTEST_SECRET = 5  # Airflow masks no shorter ones
_MAX_VALUE_CHARACTERS = 200


def single_line(text: str) -> str:
    """Return a text on one line: unprintable characters escaped, the middle of a long text left out."""
    short = _shorten(text, _MAX_CHARACTERS)
    return short if short.isprintable() else _shorten("".join(map(_printable, short)), _MAX_CHARACTERS)


def show(value: object) -> str:
    """Return the `repr` of a value, shortened."""
    try:
        return _shorten(repr(value), _MAX_VALUE_CHARACTERS)
    except (ValueError, RecursionError):  # a number of 5,000 digits, a deeply nested list
        return f"<{type(value).__name__}>"


def as_text(value: object) -> str:
    """Return an argument, given by a person or a template, as text without surrounding spaces."""
    try:
        return str(value).strip()
    except (ValueError, RecursionError):
        return show(value)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as `1 window` or `2,000 windows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float, noun: str = "second") -> str:
    """Return a time such as `1 second` or `0.2 seconds`."""
    text = f"{seconds:g}"
    return f"{text} {noun}{'' if text == '1' else 's'}"


def long_enough_to_hide(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values that may be secrets; hiding a short one would hide parts of ordinary words."""
    return tuple(value for value in values if len(value) >= _SHORTEST_SECRET)


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _shorten(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"
