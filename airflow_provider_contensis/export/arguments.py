"""Checks of arguments as people and templates give them; each error names the argument and its choices.

A template gives text or, with `render_template_as_native_obj`, Python values. Both mean the same: empty text
and `None` are not given, a number can be a name, and JSON or the `repr` of a list or text is that value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.json import loads_json
from airflow_provider_contensis.utils.text import as_text, show

# Returns the value of an argument, checked; takes its name and what was given.
Parser = Callable[[str, Any], Any]

# A native template makes a number of an id of digits.
_NAMES = (str, int, float)
_QUOTES = ('"', "'")
# As Airflow allows for the id of a connection; without a colon, or a login with a password would be one.
_NAME = re.compile(r"[\w#!()./\\-]+")


def parse(arguments: Mapping[str, Any], parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """Return the checked values of the arguments that are given; the others have their defaults.

    :raises ConfigurationError: names the argument and its choices.
    :raises TypeError: there is no parser for an argument.
    """
    if unknown := set(arguments) - set(parsers):
        raise TypeError(f"unexpected argument {min(unknown)!r}")
    return {
        name: parsers[name](name, found)
        for name, value in arguments.items()
        if (found := given(value)) is not None
    }


def take(arguments: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of these names, and remove them."""
    return {name: arguments.pop(name) for name in wanted if name in arguments}


def given(value: Any) -> Any:
    """Return an argument, without quotes; None if it is not given: None, or empty text, `None` or `null`."""
    # As text, for Airflow hands out some values of its context behind a proxy.
    text = as_text(value)
    if text in {"", "None", "null"}:
        return None
    return rendered_value(value) if text.startswith(_QUOTES) else value


def names(argument: str, value: object) -> tuple[str, ...]:
    """Return one or several names as a tuple, without repetition.

    :param value: a name, or a list of names; either can be text that a template rendered.
    :raises ConfigurationError: there is none, or one is not a name.
    """
    found = rendered_value(value)
    if isinstance(found, Mapping | bytes):
        found = None
    values = [found] if isinstance(found, _NAMES) else list(found) if isinstance(found, Iterable) else []
    if not values or not all(isinstance(name, _NAMES) and given(name) is not None for name in values):
        raise ConfigurationError(f"{argument} must be a name or a list of names, not {show(value)}.")
    return tuple(dict.fromkeys(as_text(name) for name in values))


def optional_name(argument: str, value: object) -> str | None:
    """Return a name; None if it is not given.

    :raises ConfigurationError: it is not a name.
    """
    if (value := given(value)) is None:
        return None
    # Not shown: a connection written as a URI or as JSON holds its password.
    if not isinstance(value, _NAMES) or not _NAME.fullmatch(as_text(value)):
        raise ConfigurationError(f"{argument} must be a name of letters, digits and . _ - / only.")
    return as_text(value)


def one_of(argument: str, value: object, choices: Any) -> Any:
    """Return the choice that a value names; case and surrounding spaces do not matter.

    :param choices: a `Literal` type, or a mapping from each accepted spelling to its choice.
    :raises ConfigurationError: the value is none of them.
    """
    by_name = choices if isinstance(choices, dict) else {name: name for name in get_args(choices)}
    text = as_text(value).lower()
    if text not in by_name:
        raise ConfigurationError(f"{argument} must be one of {', '.join(by_name)}, not {show(value)}.")
    return by_name[text]


def choice(choices: Any) -> Parser:
    """Return a parser of `one_of` choices."""
    return lambda argument, value: one_of(argument, value, choices)


def flag(argument: str, value: object) -> bool:
    """Return a boolean; templates give it as text.

    :raises ConfigurationError: the value is neither true nor false.
    """
    return bool(one_of(argument, value, {"true": True, "false": False}))


def whole_number(argument: str, value: object, minimum: int, maximum: int) -> int:
    """Return a whole number within bounds; templates give it as text.

    :raises ConfigurationError: the value is not one.
    """
    try:
        number = int(as_text(value))
    except ValueError:
        number = minimum - 1
    if isinstance(value, bool) or not minimum <= number <= maximum:
        raise ConfigurationError(
            f"{argument} must be a whole number from {minimum:,} to {maximum:,}, not {show(value)}."
        )
    return number


def number(minimum: int, maximum: int) -> Parser:
    """Return a parser of a `whole_number` within bounds."""
    return lambda argument, value: whole_number(argument, value, minimum, maximum)


def seconds(argument: str, value: object, maximum: float = 86_400) -> float:
    """Return a time in seconds, above 0.

    :raises ConfigurationError: the value is not one.
    """
    try:
        number = float(as_text(value))
    except ValueError:
        number = 0.0
    if isinstance(value, bool) or not 0 < number <= maximum:
        raise ConfigurationError(
            f"{argument} must be a number of seconds above 0, up to {maximum:,}, not {show(value)}."
        )
    return number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the most similar known name; empty if none is similar."""
    by_lower = {each.lower(): each for each in known}
    similar = get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[similar[0]]!r}?" if similar else ""


def rendered_value(value: Any) -> Any:
    """Return what text shows as JSON or as Python's `repr`: a list, an object, or text in quotes."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{", "(", *_QUOTES)):
        return value
    for read in (loads_json, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value
