"""One searchable copy of an entry: its exact JSON, and the values that queries look at.

The sandbox keeps JSON as bytes because that is what a test compares with an export. Everything here
takes care that no number in those bytes is rounded on its way through Python.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VersionStatus = Literal["latest", "published"]
VERSION_STATUSES: tuple[VersionStatus, ...] = ("latest", "published")

# A number that a float would round is held as text between two of these until it is written. Unicode keeps
# this code point out of all text that is exchanged.
_EXACT = "\ufdd0"
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE,
)
_TICKS = 10_000_000

# Read once from every entry; any other path is read from the JSON when a query first asks for it.
COMMON_PATHS = (
    "sys.id",
    "sys.language",
    "sys.contentTypeId",
    "sys.dataFormat",
    "sys.version.created",
    "sys.version.modified",
    "sys.version.published",
    "entryTitle",
)


def exact(number: str) -> str:
    """Return a stand-in for a JSON number that `encode` writes digit for digit as given.

    :param number: a number as JSON writes it, such as `1e-7` or `0.10000000000000000555`.
    """
    return f"{_EXACT}{number}{_EXACT}"


def plain(value: Any) -> Any:
    """Return the number that `exact` stands for, rounded to a float; anything else as it is."""
    return float(value[1:-1]) if isinstance(value, str) and value.startswith(_EXACT) else value


def encode(value: object) -> bytes:
    """Encode a value as compact UTF-8 JSON, without escaping what UTF-8 can carry."""
    text = _ENCODE(value)
    if _EXACT in text:
        text = text.replace(f'"{_EXACT}', "").replace(f'{_EXACT}"', "")
    return text.encode()


def decode(data: bytes | str) -> Any:
    """Decode JSON so that `encode` gives every number back with its digits."""
    return json.loads(data, parse_float=exact)


@lru_cache(maxsize=1 << 17)
def instant(text: str) -> int | None:
    """Return the instant that an ISO 8601 date names, or None when the text is not a date.

    Dates carry 0 to 7 fraction digits, and `Z`, an offset or nothing, which counts as UTC (API section 4.3).

    :param text: a date with or without a time, such as `2031-03-30T10:15:10.7048498Z`.
    :returns: units of 100 nanoseconds, comparable with each other.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    seconds = moment.toordinal() * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second
    if zone and zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds += offset if zone[0] == "-" else -offset
    return seconds * _TICKS + int((fraction or "").ljust(7, "0"))


def timestamp(moment: datetime, ticks: int | None = None) -> str:
    """Write an instant as the service does: UTC, up to 7 fraction digits, trailing zeros dropped.

    :param moment: an aware time.
    :param ticks: the fraction of its second in units of 100 nanoseconds; by default the moment's own.
    """
    fraction = f"{moment.microsecond * 10 if ticks is None else ticks:07d}".rstrip("0")
    # Cutting isoformat is three times quicker than strftime.
    return f"{moment.astimezone(UTC).isoformat()[:19]}{'.' if fraction else ''}{fraction}Z"


class Document:
    """One entry, in one language and one version status: what a search finds. Never changed once made.

    :param management: the entry's JSON, exactly as the Management API serves it.
    :param status: the version status under which this copy is found.
    :param values: values by path, where the maker knows them already; they save reading the JSON again.
    """

    __slots__ = (
        "_values",
        "content_type_id",
        "data_format",
        "id",
        "language",
        "management",
        "status",
    )

    def __init__(
        self, management: bytes, status: VersionStatus, values: dict[str, tuple[Any, ...]] | None = None
    ) -> None:
        self.management = management
        self.status = status
        if values is None:
            entry = decode(management)
            values = {path: tuple(_values_at(entry, path.split("."))) for path in COMMON_PATHS}
        self._values = values
        self.id: str = values["sys.id"][0]
        self.language: str = values["sys.language"][0]
        self.content_type_id: str = values["sys.contentTypeId"][0]
        self.data_format: str = values["sys.dataFormat"][0]

    @classmethod
    def of(cls, entry: dict[str, Any], status: VersionStatus) -> Document:
        """Make a document from an entry in Management form."""
        sys = entry["sys"]
        version = sys["version"]
        known = {
            "sys.id": (sys["id"],),
            "sys.language": (sys["language"],),
            "sys.contentTypeId": (sys["contentTypeId"],),
            "sys.dataFormat": (sys["dataFormat"],),
            "sys.version.created": (version["created"],),
            "sys.version.modified": (version["modified"],),
            "sys.version.published": (version["published"],),
            "entryTitle": (entry["entryTitle"],),
        }
        return cls(encode(entry), status, known)

    def under(self, status: VersionStatus) -> Document:
        """Return the same JSON as found under another version status."""
        return Document(self.management, status, self._values)

    @property
    def key(self) -> tuple[str, str]:
        """Id and language in lower case: what tells variations apart."""
        return self.id.lower(), self.language.lower()

    def entry(self) -> Any:
        """Return a fresh copy of the entry in Management form, exact numbers held as `exact` does."""
        return decode(self.management)

    def values(self, path: str) -> tuple[Any, ...]:
        """Return what stands at a dotted path, one value for each array item on the way."""
        if path == "sys.versionStatus":
            return (self.status,)
        found = self._values.get(path)
        if found is None:
            if path in ("*", "searchContent"):
                fields = {name: value for name, value in self.entry().items() if name != "sys"}
                found = tuple(texts(fields))
            else:
                found = tuple(_values_at(self.entry(), path.split(".")))
            self._values[path] = found
        return found


def texts(value: object) -> Iterator[str]:
    """Yield every string inside a value, however deep."""
    if isinstance(value, str):
        if not value.startswith(_EXACT):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def _values_at(value: Any, path: Sequence[str], step: int = 0) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _values_at(item, path, step)
    elif step == len(path):
        yield plain(value)
    elif isinstance(value, dict) and path[step] in value:
        yield from _values_at(value[path[step]], path, step + 1)
