"""CSV: entries flattened to dotted columns, which are known before the first row."""

from __future__ import annotations

import codecs
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_contensis.export.table.columns import COMPUTED, REST, Leaf, Many, Record, entry_shape
from airflow_provider_contensis.export.table.rows import RecordNode, RowReader, compact, gc_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.formats.base import ByteSink, FormatOptions
    from airflow_provider_contensis.export.table.columns import Shape

# It depends on who asks and changes without a new version; the vendor's tool leaves it out, too.
_WORKFLOW = "sys.workflow"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NEEDS_QUOTES = re.compile('[",\r\n]').search
_NEEDS_QUOTES_OR_ESCAPE = re.compile('[",\r\n]|\\A[=+\\-@\t]').search
_PLAIN = {"": "", "null": "", "true": "true", "false": "false", "{}": "{}", "[]": "[]"}


class CsvWriter:
    """Writes CSV according to RFC 4180, in UTF-8.

    :param sink: takes the bytes; it gets the header at once.
    :param content_types: the definitions of the content types whose entries will come.
    :param options: `escape_formulas` and `bom` apply.
    :param fields: the field paths that were kept of each entry; None for all.
    """

    def __init__(
        self,
        sink: ByteSink,
        content_types: Sequence[ContentType],
        options: FormatOptions,
        *,
        fields: tuple[str, ...] | None = None,
    ) -> None:
        self._sink = sink
        self._escape = options.escape_formulas
        self._is_special = _NEEDS_QUOTES_OR_ESCAPE if self._escape else _NEEDS_QUOTES
        shapes = {
            str(definition.get("id")): _flat(entry_shape(definition, fields)) for definition in content_types
        }
        # Entries of other types have the columns of every entry; their fields go into the last column.
        other = _flat(entry_shape({}, fields))
        self._readers = {name: RowReader(shape) for name, shape in shapes.items()}
        self._other = RowReader(other)
        paths = list(dict.fromkeys(path for shape in [*shapes.values(), other] for path in _paths(shape)))
        if not any(f"{path}.".startswith(f"{_WORKFLOW}.") for path in fields or ()):
            paths = [path for path in paths if path != _WORKFLOW]
        # The columns of every entry come after the fields of all types; otherwise the order stays.
        self._paths = sorted(paths, key=lambda path: path.split(".")[0] in COMPUTED)
        if options.bom:
            sink.write(codecs.BOM_UTF8)
        sink.write(_lines([self._cells([name]) for name in [*self._paths, REST]]))

    @gc_paused()
    def write(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:
        """Append entries."""
        pairs = zip(entries, metas, strict=True)
        for content_type_id, run in groupby(pairs, lambda pair: pair[1].content_type_id):
            some_entries, some_metas = zip(*run, strict=True)
            self._write(self._readers.get(content_type_id, self._other), some_entries, some_metas)

    def close(self) -> None:
        """Nothing follows the last row."""

    def _write(self, reader: RowReader, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> None:
        rows = reader.read(entries, metas)
        columns = dict(_columns(reader.root, rows.values))
        nothing = [None] * len(entries)
        cells = [self._cells(columns.get(path, nothing)) for path in self._paths]
        rest = [
            _quoted(rows.rest[number].decode()) if number in rows.rest else ""
            for number in range(len(entries))
        ]
        self._sink.write(_lines([*cells, rest]))

    def _cells(self, values: Sequence[Any]) -> list[str]:
        """Return the cells of one column."""
        first = values[0]
        if values.count(first) == len(values):
            return [self._cell(first)] * len(values)
        is_special = self._is_special
        # Nearly all values are plain text: keep that path short.
        return [
            value if value.__class__ is str and value and not is_special(value) else self._cell(value)
            for value in values
        ]

    def _cell(self, value: str | msgspec.Raw | None) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return self._text(value)
        json = str(value, "utf-8")
        if json in _PLAIN:
            return _PLAIN[json]
        if json.startswith('"'):
            return self._text(msgspec.json.decode(value, type=str))
        if json.startswith(("{", "[")):
            return _quoted(compact(bytes(value)).decode())
        return json  # a number, digit by digit as served

    def _text(self, text: str) -> str:
        if self._escape and text.startswith(_FORMULA_STARTS):
            text = f"'{text}"
        # Quotes distinguish an empty text from null.
        return text if text and not _NEEDS_QUOTES(text) else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _lines(columns: Iterable[Sequence[str]]) -> bytes:
    # Encoded row by row: one emoji makes Python keep four bytes for each character of a text.
    return b"".join([f"{','.join(row)}\r\n".encode() for row in zip(*columns, strict=True)])


def _flat(record: Record) -> Record:
    """Return the shape with every array as one column."""
    flat: dict[str, Shape] = {}
    for name, shape in record.members.items():
        flat[name] = Leaf("json") if isinstance(shape, Many) else shape
        if isinstance(shape, Record):
            flat[name] = _flat(shape)
    return Record(flat)


def _paths(record: Record, prefix: str = "") -> Iterator[str]:
    for name, shape in record.members.items():
        if isinstance(shape, Record):
            yield from _paths(shape, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _columns(node: RecordNode, structs: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    for member, values in node.columns(structs):
        if isinstance(member.node, RecordNode):
            yield from _columns(member.node, values, f"{prefix}{member.name}.")
        else:
            yield f"{prefix}{member.name}", values
