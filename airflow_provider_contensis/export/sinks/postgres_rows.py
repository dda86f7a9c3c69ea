r"""Entries as rows of `COPY`: text, numbers and times as typed columns, everything else as JSON.

A value that does not fit its column (text with `\u0000` or half of a surrogate pair, an integer of more than
64 bits, a time that does not exist) is null there. It is never lost: the entry itself is a column, too.
"""

from __future__ import annotations

import logging
import re
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.export.table.columns import LINK, Leaf
from airflow_provider_contensis.export.times import as_datetime
from airflow_provider_contensis.utils.json import OBJECT, UNREADABLE
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.table.columns import Shape

log = logging.getLogger(__name__)

Kind = Literal["text", "mixed", "link", "integer", "decimal", "boolean", "time", "json"]

TYPES: dict[Kind, str] = {
    "text": "text",
    "mixed": "text",
    "link": "text",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "time": "timestamp with time zone",
    "json": "json",
}
SEPARATOR = b"\x02"

_INTEGER = re.compile(rb"-?\d{1,30}")
_DECIMAL = re.compile(rb"-?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,3})?")  # far from the limits of numeric
_MOST_INTEGER = 2**63
_MOST_DIGITS, _MOST_PLACES = 131_072, 16_383  # of numeric
_NOTHING = msgspec.Raw()
_NULL = (b"", b"null")


class _Sys(msgspec.Struct, gc=False):
    id: str | None = None


class _Link(msgspec.Struct, gc=False):
    sys: _Sys | None = None


class FieldColumn(NamedTuple):
    """A column of a field.

    :param field_id: the field.
    :param name: of the column.
    :param kind: of its values.
    """

    field_id: str
    name: str
    kind: Kind

    @property
    def type(self) -> str:
        """Its type, as PostgreSQL writes it."""
        return TYPES[self.kind]


def kind_of(shape: Shape) -> Kind:
    """Return the kind of column for values of a shape."""
    if isinstance(shape, Leaf):
        return shape.kind
    return "link" if shape == LINK else "json"


class Misfits:
    """Counts values that did not fit their column."""

    def __init__(self) -> None:
        self.count = 0
        self._first = ""

    def add(self, field_id: str, meta: EntryMeta) -> None:
        """Count a value."""
        self.count += 1
        self._first = self._first or f"field {field_id} of entry {meta.id} ({meta.language})"

    def warn(self) -> None:
        """Log one warning for all of them."""
        if self.count:
            log.warning(
                "%s not fit the column and %s null there, first %s: _entry keeps what was served",
                count(self.count, "value does", "values do"),
                "is" if self.count == 1 else "are",
                self._first,
            )


class RowEncoder:
    """Encodes the columns of a content type's fields.

    :param columns: in the order of the rows.
    :param misfits: counts values that do not fit.
    """

    def __init__(self, columns: Sequence[FieldColumn], misfits: Misfits) -> None:
        self._columns = columns
        self._misfits = misfits
        members: list[Any] = []
        self._encoders: list[tuple[FieldColumn, Callable[[Any], Any], Callable[[Any], bytes]]] = []
        decoded: dict[Kind, Any] = {"text": str | None, "time": str | None, "link": _Link | None}
        # An author's names need not be valid in Python, so members get names of our own.
        for number, column in enumerate(columns):
            kind = decoded.get(column.kind, msgspec.Raw)
            default = _NOTHING if kind is msgspec.Raw else None
            members.append((f"m{number}", kind, default))
            self._encoders.append((column, attrgetter(f"m{number}"), _ENCODERS[column.kind]))
        names = {f"m{number}": column.field_id for number, column in enumerate(columns)}
        row = msgspec.defstruct("Row", members, rename=names, gc=False) if members else None
        self._decode: Any = msgspec.json.Decoder(row).decode if row is not None else None
        self._decoders = [msgspec.json.Decoder(kind).decode for _, kind, _ in members]

    def encode(self, entry: bytes, meta: EntryMeta) -> list[bytes]:
        """Return an entry's values as `COPY` takes them; empty for null.

        :param meta: its metadata; names the entry in a warning.
        """
        if not self._columns:
            return []
        try:
            row = self._decode(entry)
        except UNREADABLE:
            return self._encode_with_care(entry, meta)
        values = []
        for column, get, encode in self._encoders:
            try:
                values.append(encode(get(row)))
            except ValueError:
                self._misfits.add(column.field_id, meta)
                values.append(b"")
        return values

    def _encode_with_care(self, entry: bytes, meta: EntryMeta) -> list[bytes]:
        """Encode an entry with a value of another type than its field, or with lone surrogates."""
        members = OBJECT.decode(lone_surrogates.hide(entry))
        values = []
        for (column, _, encode), decode in zip(self._encoders, self._decoders, strict=True):
            raw = bytes(members.get(column.field_id, _NOTHING))
            try:
                shown = lone_surrogates.reveal(raw)
                if raw in _NULL:
                    values.append(b"")
                elif column.kind == "json":
                    values.append(encode(shown))
                elif shown != raw:
                    raise ValueError("a lone surrogate")
                else:
                    values.append(encode(decode(raw)))
            except UNREADABLE:
                self._misfits.add(column.field_id, meta)
                values.append(b"")
        return values


def quoted(text: str) -> bytes:
    r"""Return text as `COPY` takes it.

    :raises ValueError: it contains NUL, which PostgreSQL cannot store.
    """
    if "\0" in text:
        raise ValueError("NUL")
    if "\x01" in text:
        text = text.replace("\x01", "\x01\x01")
    return b"\x01%b\x01" % text.encode()


def _text(value: str | None) -> bytes:
    return b"" if value is None else quoted(value)


def _mixed(value: msgspec.Raw) -> bytes:
    json = bytes(value)
    if json[:1] == b'"':
        return quoted(msgspec.json.decode(json, type=str))
    return _json(value)


def _link(value: _Link | None) -> bytes:
    if value is None:
        return b""
    if value.sys is None or value.sys.id is None:
        raise ValueError("not a link")
    return quoted(value.sys.id)


def _json(value: msgspec.Raw) -> bytes:
    json = bytes(value)
    return b"" if json == b"null" else json


def _boolean(value: msgspec.Raw) -> bytes:
    json = bytes(value)
    if json in _NULL:
        return b""
    if json not in {b"true", b"false"}:
        raise ValueError("not a boolean")
    return json


def _integer(value: msgspec.Raw) -> bytes:
    json = bytes(value)
    if json in _NULL:
        return b""
    if _INTEGER.fullmatch(json):
        whole = int(json)
    else:
        number = _number(json)
        # An exponent may stand for millions of digits.
        whole = int(number) if number.adjusted() <= 18 else _MOST_INTEGER
        if number != whole:
            raise ValueError("not an integer")
    if not -_MOST_INTEGER <= whole < _MOST_INTEGER:
        raise ValueError("more than 64 bits")
    return b"%d" % whole


def _decimal(value: msgspec.Raw) -> bytes:
    json = bytes(value)
    if json in _NULL or _DECIMAL.fullmatch(json):
        return _json(value)
    number = _number(json)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number.adjusted() >= _MOST_DIGITS or exponent < -_MOST_PLACES:
        raise ValueError("too many digits")
    return json


def _number(json: bytes) -> Decimal:
    try:
        return Decimal(json.decode())
    except InvalidOperation:
        raise ValueError("not a number") from None


def _time(value: str | None) -> bytes:
    if value is None:
        return b""
    moment = as_datetime(value)
    if moment is None:
        raise ValueError("not a time")
    return moment.isoformat().encode()


_ENCODERS: dict[Kind, Callable[[Any], bytes]] = {
    "text": _text,
    "mixed": _mixed,
    "link": _link,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "time": _time,
    "json": _json,
}
