"""Times as Contensis writes them: ISO 8601, with 0 to 7 fractional digits of a second."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.text import as_text, show

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s*(Z|[+-][01]\d:?[0-5]\d)?)?",
    re.IGNORECASE | re.ASCII,  # or digits of other scripts would match
)
# As the service writes nearly all of them.
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
# Times that depend on when they are asked for (docs/contensis-api.md, "Search").
DATE_FUNCTION = re.compile(r"(now|(start|end)of(minute|hour|day|week|month|year))\s*\(.*\)", re.IGNORECASE)
PERIODS = re.compile(r"[+-]?\d+[yMwdhm](\s+[+-]?\d+[yMwdhm])*")


def query_time(argument: str, value: object) -> str:
    """Return a time in UTC as a search operand, with all of its fractional digits.

    :param argument: named in the error message.
    :param value: an ISO 8601 string or a datetime; without an offset it is UTC.
    :raises ConfigurationError: the value is not a time.
    """
    text = value.isoformat() if isinstance(value, datetime) else as_text(value)
    utc = in_utc(text)
    if utc is None:
        raise ConfigurationError(
            f"{argument} must be an ISO 8601 time, such as 2031-04-02T00:00:00Z, not {show(text)}."
        )
    return utc


def sort_key(text: str) -> str:
    """Return a string that sorts as the time does.

    Contensis drops trailing zeros of a fraction, so times in UTC sort correctly once the Z is removed.
    """
    return text[:-1] if text.endswith("Z") else (in_utc(text) or text).rstrip("Z")


def as_datetime(text: str | None) -> datetime | None:
    """Return a Contensis time as a datetime in UTC, cut to the microsecond; None if it cannot be read."""
    if text and _UTC.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None
    utc = in_utc(text or "")
    if utc is None:
        return None
    whole, _, fraction = utc[:-1].partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return moment + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))


def query_millisecond(moment: datetime) -> str:
    """Return a datetime in UTC as a search operand, cut to the millisecond.

    The search index stores times no more precisely than that.
    """
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def in_utc(text: str) -> str | None:
    """Return an ISO 8601 time in UTC, with all of its fractional digits; None if it is not one."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}") - _offset(offset)
    except (ValueError, OverflowError):
        return None
    return f"{moment.isoformat()}{f'.{fraction}' if fraction else ''}Z"


def _offset(text: str | None) -> timedelta:
    if text is None or text in "Zz":
        return timedelta(0)
    hours, minutes = int(text[1:3]), int(text[-2:])
    distance = timedelta(hours=hours, minutes=minutes)
    return -distance if text.startswith("-") else distance
