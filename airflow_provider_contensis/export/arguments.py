"""Checks of arguments as people and templates give them; each error names the argument and its choices."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.json import loads_json
from airflow_provider_contensis.utils.text import as_text, show


def names(argument: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Return one or several names as a tuple, without repetition.

    :raises ConfigurationError: there is none, or one is not a name.
    """
    values = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []
    if not values or not all(isinstance(name, str) and name.strip() for name in values):
        raise ConfigurationError(f"{argument} must be a name or a list of names, not {show(value)}.")
    return tuple(dict.fromkeys(name.strip() for name in values))


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the most similar known name; empty if none is similar."""
    similar = get_close_matches(name, list(known), n=1)
    return f" Did you mean {similar[0]!r}?" if similar else ""


def json_value(value: Any) -> Any:
    """Return the value of a JSON text; anything else is returned as it is, text that is not JSON too."""
    if isinstance(value, str):
        try:
            return loads_json(value)
        except ValueError:
            pass
    return value
