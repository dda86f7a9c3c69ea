"""Values of any kind in words that can be shown: never a failure of their own, never without end."""

from __future__ import annotations

_MOST_CHARACTERS = 1_500
_MOST_OF_A_VALUE = 200


def sentence(text: str) -> str:
    """Return a text on one line, what does not print escaped, its middle left out where it is too long."""
    cut = _shortened(text, _MOST_CHARACTERS)
    return cut if cut.isprintable() else _shortened("".join(map(_printable, cut)), _MOST_CHARACTERS)


def shown(value: object) -> str:
    """Return what a value looks like."""
    try:
        return _shortened(repr(value), _MOST_OF_A_VALUE)
    except (ValueError, RecursionError):  # a number of 5,000 digits, a list of lists of lists
        return f"<{type(value).__name__}>"


def as_text(value: object) -> str:
    """Return what a template or a person gave as text, without blanks around it."""
    try:
        return str(value).strip()
    except (ValueError, RecursionError):
        return shown(value)


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _shortened(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
