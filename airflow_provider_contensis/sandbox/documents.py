"""One searchable copy of an entry: its exact JSON, and the values that queries use.

The sandbox stores JSON as bytes because tests compare those bytes with an export. Numbers in them are never
rounded on their way through Python.
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

# A number that a float would round is held as text between two of these until it is written. The code point
# is a Unicode noncharacter, so no real text contains it.
_EXACT = "\ufdd0"
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE,
)
_TICKS = 10_000_000

# Read once from every entry. Other paths are read from the JSON when a query first uses them.
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
    """Return a placeholder for a JSON number that `encode` writes digit for digit.

    :param number: a JSON number, such as `1e-7` or `0.10000000000000000555`.
    """
    return f"{_EXACT}{number}{_EXACT}"


def plain(value: Any) -> Any:
    """Return a number held by `exact` as a float, and any other value unchanged."""
    return float(value[1:-1]) if isinstance(value, str) and value.startswith(_EXACT) else value


def encode(value: object) -> bytes:
    """Encode a value as compact UTF-8 JSON, without escaping non-ASCII characters."""
    text = _ENCODE(value)
    if _EXACT in text:
        text = text.replace(f'"{_EXACT}', "").replace(f'{_EXACT}"', "")
    return text.encode()


def decode(data: bytes | str) -> Any:
    """Decode JSON so that `encode` writes every number with the same digits."""
    return json.loads(data, parse_float=exact)


@lru_cache(maxsize=1 << 20)
def instant(text: str) -> int | None:
    """Return the instant of an ISO 8601 date, or None if the text is not a date.

    Dates have 0 to 7 fraction digits and end in `Z`, an offset or neither, which means UTC
    (docs/contensis-api.md).

    :param text: a date with or without a time, such as `2031-03-30T10:15:10.7048498Z`.
    :returns: a number of 100-nanosecond units, for comparison with other instants.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    date, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}")
    except ValueError:
        return None
    seconds = moment.toordinal() * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second
    if zone and zone not in "Zz":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds += offset if zone[0] == "-" else -offset
    return seconds * _TICKS + int((fraction or "").ljust(7, "0"))


def timestamp(moment: datetime, ticks: int | None = None) -> str:
    """Format an instant like the service: UTC, up to 7 fraction digits, no trailing zeros.

    :param moment: an aware time.
    :param ticks: the fraction of its second in units of 100 nanoseconds; None means the moment's own.
    """
    fraction = f"{moment.microsecond * 10 if ticks is None else ticks:07d}".rstrip("0")
    # Slicing isoformat is three times faster than strftime.
    return f"{moment.astimezone(UTC).isoformat()[:19]}{'.' if fraction else ''}{fraction}Z"


class Document:
    """One entry in one language and one version status, as a search finds it. Immutable.

    :param management: the entry's JSON, exactly as the Management API serves it.
    :param status: the version status of this copy.
    :param values: values by path, if the caller already knows them; saves parsing the JSON.
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
        """Create a document from an entry in Management form."""
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

    def with_status(self, status: VersionStatus) -> Document:
        """Return a document with the same JSON in another version status."""
        return Document(self.management, status, self._values)

    @property
    def key(self) -> tuple[str, str]:
        """Id and language in lower case, which identify a variation."""
        return self.id.lower(), self.language.lower()

    def entry(self) -> Any:
        """Return a new copy of the entry in Management form, with numbers as `exact` holds them."""
        return decode(self.management)

    def values(self, path: str) -> tuple[Any, ...]:
        """Return the values at a dotted path, one for each array item along it."""
        if path == "sys.versionStatus":
            return (self.status,)
        found = self._values.get(path)
        if found is None:
            if path in ("*", "searchContent"):
                fields = {name: value for name, value in self.entry().items() if name != "sys"}
                found = tuple(strings(fields))
            else:
                found = tuple(_values_at(self.entry(), path.split(".")))
            self._values[path] = found
        return found


def strings(value: object) -> Iterator[str]:
    """Yield every string inside a value, at any depth."""
    if isinstance(value, str):
        if not value.startswith(_EXACT):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def _values_at(value: Any, path: Sequence[str], depth: int = 0) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _values_at(item, path, depth)
    elif depth == len(path):
        yield plain(value)
    elif isinstance(value, dict) and path[depth] in value:
        yield from _values_at(value[path[depth]], path, depth + 1)
