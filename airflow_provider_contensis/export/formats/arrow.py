"""Entries as Arrow columns. It needs pyarrow, so only modules that need pyarrow, too, may import it."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from pyarrow import compute

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.table.columns import (
    RAW,
    REST,
    Leaf,
    Many,
    entry_shape,
    with_time_digits,
)
from airflow_provider_contensis.export.table.rows import (
    LeafNode,
    ManyNode,
    RowReader,
    compact,
    gc_paused,
    served,
)
from airflow_provider_contensis.export.times import sort_key
from airflow_provider_contensis.utils.json import OBJECT, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.formats.base import TimestampUnit
    from airflow_provider_contensis.export.table.columns import Shape
    from airflow_provider_contensis.export.table.rows import Node, RecordNode

    Mismatches = dict[int, list[str]]
    # Looked at only if a value does not fit.
    Owners = Callable[[], Sequence[int]]

# Contensis serves up to seven fractional digits of a second; microseconds are all that most readers know.
_TIME_DIGITS = {"us": 6, "ns": 9}
_BEYOND_MICROSECONDS = r"(\.\d{6})\d+"
# The first year, and what sorts after the last one.
_YEARS = {"us": ("0001", ":"), "ns": ("1678", "2262")}
_DECIMAL_DIGITS = 38
# A number of so many characters has no more digits than a float keeps.
_SAFE_LENGTH = 15
_INT64_DIGITS = 19
_SHOWN = 60
# The service writes JSON without spaces, so nearly all of it is compact.
_SPACES = (b" ", b"\n", b"\r", b"\t")
_BOOLEANS = {b"true": True, b"false": False, None: None}
# Raised by conversions of values that do not fit.
_MISMATCH = (ValueError, TypeError, ArithmeticError, LookupError, msgspec.MsgspecError)


class TypedColumns:
    """Columns of the types that a content type declares.

    :param content_type: its definition.
    :param fields: the field paths that were kept of each entry; None for all.
    :param keep_mismatches: keep the JSON of an entry with a value that does not fit its declared type, in a
        column of its own; otherwise such a value is an error.
    :param version_status: `published` or `latest`, for the file's metadata.
    :param timestamp_unit: of its times.
    """

    def __init__(
        self,
        content_type: ContentType,
        *,
        fields: Iterable[str] | None,
        keep_mismatches: bool,
        version_status: str,
        timestamp_unit: TimestampUnit,
    ) -> None:
        shape = with_time_digits(entry_shape(content_type, fields), _TIME_DIGITS[timestamp_unit])
        self._reader = RowReader(shape)
        self._keep_mismatches = keep_mismatches
        declared = {str(field["id"]): field for field in content_type.get("fields") or ()}
        columns = [
            pa.field(name, _arrow_type(member), metadata=_field_metadata(declared.get(name)))
            for name, member in shape.members.items()
        ]
        extras = [REST, RAW] if keep_mismatches else [REST]
        self.schema = pa.schema(
            [*columns, *(pa.field(name, pa.string()) for name in extras)],
            metadata={
                "contensis.contentTypeId": str(content_type.get("id")),
                "contensis.contentTypeVersion": str((content_type.get("version") or {}).get("versionNo", "")),
                "contensis.versionStatus": version_status,
            },
        )

    @gc_paused()
    def batch(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> pa.RecordBatch:
        """Return entries as columns.

        :raises ExportError: a value does not fit its declared type, and such entries are not kept.
        """
        rows = self._reader.read(entries, metas)
        if rows.replaced:
            entries = [rows.replaced.get(number, entry) for number, entry in enumerate(entries)]
        mismatches = rows.mismatches
        numbers = range(len(entries))
        arrays = _members(self._reader.root, rows.values, lambda: numbers, "", mismatches)
        if mismatches and not self._keep_mismatches:
            number = min(mismatches)
            raise _mismatch(entries[number], metas[number], mismatches[number][0])
        arrays.append(pa.array([rows.rest.get(number) for number in numbers], pa.string()))
        if self._keep_mismatches:
            raw = [
                compact(bytes(entry)) if number in mismatches else None
                for number, entry in enumerate(entries)
            ]
            arrays.append(pa.array(raw, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class RawColumns:
    """Each entry's JSON as served, with its metadata.

    :param version_status: `published` or `latest`, for the file's metadata.
    :param timestamp_unit: of its times.
    """

    def __init__(self, version_status: str, timestamp_unit: TimestampUnit) -> None:
        self._time = Leaf("time", _TIME_DIGITS[timestamp_unit])
        texts = [pa.field(name, pa.string()) for name in ("id", "language", "content_type_id")]
        self.schema = pa.schema(
            [*texts, pa.field("changed", _arrow_type(self._time)), pa.field("entry", pa.string())],
            metadata={"contensis.versionStatus": version_status},
        )

    def batch(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> pa.RecordBatch:
        """Return entries as columns."""
        # A time that cannot be read is still in the JSON.
        changed = _leaf(
            LeafNode(self._time), [meta.changed for meta in metas], lambda: range(len(metas)), "", {}
        )
        return pa.RecordBatch.from_arrays(
            [
                pa.array([meta.id for meta in metas], pa.string()),
                pa.array([meta.language for meta in metas], pa.string()),
                pa.array([meta.content_type_id for meta in metas], pa.string()),
                changed,
                pa.array([bytes(entry) for entry in entries], pa.string()),
            ],
            schema=self.schema,
        )


def _field_metadata(field: Any) -> dict[str, str] | None:
    if field is None:
        return None
    return {
        "contensis.dataType": str(field.get("dataType") or ""),
        "contensis.dataFormat": str(field.get("dataFormat") or ""),
    }


def _arrow_type(shape: Shape) -> pa.DataType:
    if isinstance(shape, Leaf):
        if shape.kind == "time":
            return pa.timestamp("us" if shape.scale == _TIME_DIGITS["us"] else "ns", "UTC")
        if shape.kind == "decimal" and shape.scale is not None:
            return pa.decimal128(_DECIMAL_DIGITS, shape.scale)
        return _TYPES.get(shape.kind, pa.string())
    if isinstance(shape, Many):
        return _list_type(_arrow_type(shape.item))
    return pa.struct([pa.field(name, _arrow_type(member)) for name, member in shape.members.items()])


def _list_type(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item))


def _members(
    node: RecordNode, structs: Sequence[Any], owners: Owners, path: str, mismatches: Mismatches
) -> list[pa.Array]:
    prefix = f"{path}." if path else ""
    return [
        _array(member.node, values, owners, f"{prefix}{member.name}", mismatches)
        for member, values in node.columns(structs)
    ]


def _array(node: Node, values: Sequence[Any], owners: Owners, path: str, mismatches: Mismatches) -> pa.Array:
    """Return values of one column as an array.

    :param values: as `Rows` has them.
    :param owners: returns the row of each value.
    :param path: of the column, such as `director.sys.id`.
    :param mismatches: gets the paths of values that do not fit, which become null.
    """
    if isinstance(node, LeafNode):
        return _leaf(node, values, owners, path, mismatches)
    nulls = values.count(None)
    if nulls == len(values):
        return pa.nulls(nulls, _arrow_type(node.shape))
    mask = pa.array([value is None for value in values], pa.bool_()) if nulls else None
    if isinstance(node, ManyNode):
        return _list(node, values, owners, path, mismatches, mask)
    children = _members(node, values, owners, path, mismatches)
    names = [member.name for member in node.members]
    fields = [pa.field(name, child.type) for name, child in zip(names, children, strict=True)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=mask)


def _list(
    node: ManyNode, values: Sequence[Any], owners: Owners, path: str, mismatches: Mismatches, mask: Any
) -> pa.Array:
    lists = [value or () for value in values]

    def item_owners() -> list[int]:
        return [owner for owner, items in zip(owners(), lists, strict=True) for _ in items]

    child = _array(node.item, list(chain.from_iterable(lists)), item_owners, path, mismatches)
    offsets = pa.array(list(accumulate(map(len, lists), initial=0)), pa.int32())
    return pa.ListArray.from_arrays(offsets, child, type=_list_type(child.type), mask=mask)


def _leaf(
    node: LeafNode, values: Sequence[Any], owners: Owners, path: str, mismatches: Mismatches
) -> pa.Array:
    arrow_type = _arrow_type(node.leaf)
    if values.count(node.default) == len(values):
        return pa.nulls(len(values), arrow_type)
    convert = _CONVERSIONS[node.leaf.kind]
    try:
        return convert(values, arrow_type)
    except _MISMATCH:
        fitting = list(values)  # find the values that do not fit, one by one
    rows = owners()
    for number, value in enumerate(values):
        try:
            convert([value], arrow_type)
        except _MISMATCH:
            mismatches.setdefault(rows[number], []).append(path)
            fitting[number] = node.default
    return convert(fitting, arrow_type)


def _texts(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array(values, arrow_type)


def _times(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    texts = pa.array(values, pa.string())
    (least, greatest), (first, end) = compute.min_max(texts).as_py().values(), _YEARS[arrow_type.unit]
    if least and (least < first or greatest >= end):
        raise ValueError("out of range")  # older versions of Arrow overflow silently
    try:
        return _cast_times(texts, arrow_type)
    except pa.ArrowInvalid:
        # Some have no offset, which means UTC, or no time of day.
        texts = pa.array([value and f"{sort_key(value)}Z" for value in values], pa.string())
        return _cast_times(texts, arrow_type)


def _cast_times(texts: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    if arrow_type.unit != "us":
        return texts.cast(arrow_type)
    times = compute.replace_substring_regex(texts, _BEYOND_MICROSECONDS, r"\1").cast(arrow_type)
    compute.min_max(times).as_py()  # fails for a year that Python lacks, where an offset may lead
    return times


def _booleans(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array([_BOOLEANS[text] for text in served(values)], arrow_type)


def _integers(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array([text and _integer(text) for text in served(values)], arrow_type)


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        number = Decimal(text.decode())  # 94.0 and 1e3 are whole numbers, too
    if number.adjusted() >= _INT64_DIGITS or number != number.to_integral_value():
        raise ValueError(text)
    return int(number)


def _decimals(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    texts = served(values)
    if pa.types.is_floating(arrow_type):
        return pa.array([text and _float(text) for text in texts], arrow_type)
    # Arrow refuses to drop digits.
    return pa.array([text and Decimal(text.decode()) for text in texts], arrow_type)


def _float(text: bytes) -> float:
    number = float(text)
    is_safe = len(text) <= _SAFE_LENGTH and b"e" not in text.lower()
    if not is_safe and Decimal(repr(number)) != Decimal(text.decode()):
        raise ValueError(text)
    return number


def _mixed(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    texts = [
        msgspec.json.decode(text) if text and text.startswith(b'"') else text and compact(text)
        for text in served(values)
    ]
    return pa.array(texts, arrow_type)


def _jsons(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    texts = served(values)
    joined = b"".join(filter(None, texts))
    if any(space in joined for space in _SPACES):
        texts = [text and compact(text) for text in texts]
    return pa.array(texts, arrow_type)


_TYPES = {"boolean": pa.bool_(), "decimal": pa.float64(), "integer": pa.int64()}
_CONVERSIONS: dict[str, Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    "boolean": _booleans,
    "decimal": _decimals,
    "integer": _integers,
    "json": _jsons,
    "mixed": _mixed,
    "text": _texts,
    "time": _times,
}


def _mismatch(entry: msgspec.Raw, meta: EntryMeta, path: str) -> ExportError:
    value = entry
    for name in path.split("."):
        try:
            value = OBJECT.decode(value)[name]
        except (*UNREADABLE, LookupError):
            break  # an array, or not an object: show that
    shown = str(value, "utf-8", "replace")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return ExportError(
        f"Entry {meta.id} ({meta.language}): the value {shown} of field {path} does not fit its declared "
        'type without loss. Set on_type_mismatch="raw" to keep the JSON of such entries in a column '
        f'{RAW}, or parquet_mode="raw" to export JSON only.'
    )
