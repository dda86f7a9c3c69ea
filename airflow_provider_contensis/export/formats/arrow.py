"""Entries as Arrow columns. This module needs pyarrow: only what needs it too may import it."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
from pyarrow import compute

from airflow_provider_contensis.api.errors import ExportError
from airflow_provider_contensis.api.times import sort_key
from airflow_provider_contensis.export.formats.columns import RAW, REST, Leaf, Many, entry_shape
from airflow_provider_contensis.export.formats.rows import (
    OBJECT,
    UNREADABLE,
    LeafNode,
    ManyNode,
    RowReader,
    compact,
    served,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_contensis.export.formats.base import ContentType
    from airflow_provider_contensis.export.formats.columns import Shape
    from airflow_provider_contensis.export.formats.rows import Node, RecordNode
    from airflow_provider_contensis.export.read import Head

    Misfits = dict[int, list[str]]

# Contensis gives up to seven digits of a second's fraction, one more than microseconds hold.
_TIME = pa.timestamp("ns", "UTC")
_FIRST_YEAR, _END_YEAR = "1678", "2262"
_DECIMAL_DIGITS = 38
# Up to so many characters a number has no more digits than a float keeps.
_SAFE_LENGTH = 15
_INT64_DIGITS = 19
_SHOWN = 60
_BOOLEANS = {b"true": True, b"false": False, None: None}
# What a conversion raises for a value that does not fit.
_MISFIT = (ValueError, TypeError, ArithmeticError, LookupError, msgspec.MsgspecError)


class TypedColumns:
    """Columns with the types that a content type declares.

    :param content_type: its definition.
    :param fields: the field paths that were kept of each entry; None for all.
    :param keep_misfits: put an entry with a value that does not fit into a column of its own, as JSON;
        otherwise such a value is an error.
    :param version_status: `published` or `latest`, for the file's metadata.
    """

    def __init__(
        self,
        content_type: ContentType,
        *,
        fields: Iterable[str] | None,
        keep_misfits: bool,
        version_status: str,
    ) -> None:
        shape = entry_shape(content_type, fields)
        self._reader = RowReader(shape)
        self._keep_misfits = keep_misfits
        declared = {str(field["id"]): field for field in content_type.get("fields") or ()}
        columns = [
            pa.field(name, _arrow_type(member), metadata=_field_metadata(declared.get(name)))
            for name, member in shape.members.items()
        ]
        extras = [REST, RAW] if keep_misfits else [REST]
        self.schema = pa.schema(
            [*columns, *(pa.field(name, pa.string()) for name in extras)],
            metadata={
                "contensis.contentTypeId": str(content_type.get("id")),
                "contensis.contentTypeVersion": str((content_type.get("version") or {}).get("versionNo", "")),
                "contensis.versionStatus": version_status,
            },
        )

    def batch(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> pa.RecordBatch:
        """Return entries as columns.

        :raises ExportError: a value does not fit its declared type, and misfits are not kept.
        """
        rows = self._reader.read(entries)
        misfits = rows.misfits
        arrays = _members(self._reader.root, rows.values, range(len(entries)), "", misfits)
        if misfits and not self._keep_misfits:
            number = min(misfits)
            raise _misfit(entries[number], heads[number], misfits[number][0])
        arrays.append(pa.array([rows.rest.get(number) for number in range(len(entries))], pa.string()))
        if self._keep_misfits:
            raw = [
                compact(bytes(entry)) if number in misfits else None for number, entry in enumerate(entries)
            ]
            arrays.append(pa.array(raw, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class RawColumns:
    """Each entry's JSON as served, with what identifies it.

    :param version_status: tells which time of an entry is its change.
    """

    def __init__(self, version_status: str) -> None:
        self._mark = "published" if version_status == "published" else "modified"
        texts = [pa.field(name, pa.string()) for name in ("id", "language", "content_type_id")]
        self.schema = pa.schema(
            [*texts, pa.field("changed", _TIME), pa.field("entry", pa.string())],
            metadata={"contensis.versionStatus": version_status},
        )

    def batch(self, entries: Sequence[msgspec.Raw], heads: Sequence[Head]) -> pa.RecordBatch:
        """Return entries as columns."""
        marks = [head.sys.version and getattr(head.sys.version, self._mark) for head in heads]
        # A time that can't be read is still in the JSON.
        changed = _leaf(LeafNode(Leaf("time")), marks, range(len(marks)), "", {})
        ids = [head.sys for head in heads]
        return pa.RecordBatch.from_arrays(
            [
                pa.array([sys.id for sys in ids], pa.string()),
                pa.array([sys.language for sys in ids], pa.string()),
                pa.array([sys.content_type_id for sys in ids], pa.string()),
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
        if shape.kind == "decimal" and shape.scale is not None:
            return pa.decimal128(_DECIMAL_DIGITS, shape.scale)
        return _TYPES.get(shape.kind, pa.string())
    if isinstance(shape, Many):
        return pa.list_(pa.field("element", _arrow_type(shape.item)))
    return pa.struct([pa.field(name, _arrow_type(member)) for name, member in shape.members.items()])


def _members(
    node: RecordNode, structs: Sequence[Any], owners: Sequence[int], path: str, misfits: Misfits
) -> list[pa.Array]:
    prefix = f"{path}." if path else ""
    return [
        _array(member.node, values, owners, f"{prefix}{member.name}", misfits)
        for member, values in node.columns(structs)
    ]


def _array(node: Node, values: Sequence[Any], owners: Sequence[int], path: str, misfits: Misfits) -> pa.Array:
    """Return values of one column as an array.

    :param values: as `Rows` has them.
    :param owners: of each value, the row that it belongs to.
    :param path: of the column.
    :param misfits: gets the paths of values that do not fit; they become null.
    """
    if isinstance(node, LeafNode):
        return _leaf(node, values, owners, path, misfits)
    if isinstance(node, ManyNode):
        return _list(node, values, owners, path, misfits)
    children = _members(node, values, owners, path, misfits)
    names = [member.name for member in node.members]
    fields = [pa.field(name, child.type) for name, child in zip(names, children, strict=True)]
    return pa.StructArray.from_arrays(
        children, fields=fields, mask=pa.array([value is None for value in values], pa.bool_())
    )


def _list(
    node: ManyNode, values: Sequence[Any], owners: Sequence[int], path: str, misfits: Misfits
) -> pa.Array:
    items = [item for value in values if value for item in value]
    item_owners = [owner for owner, value in zip(owners, values, strict=True) for _ in value or ()]
    child = _array(node.item, items, item_owners, path, misfits)
    ends = accumulate((len(value or ()) for value in values), initial=0)
    # An offset that is null makes a list that is null.
    offsets = [None if value is None else end for value, end in zip([*values, ()], ends, strict=True)]
    list_type = pa.list_(pa.field("element", child.type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), child, type=list_type)


def _leaf(
    node: LeafNode, values: Sequence[Any], owners: Sequence[int], path: str, misfits: Misfits
) -> pa.Array:
    arrow_type = _arrow_type(node.leaf)
    if values.count(None) == len(values):
        return pa.nulls(len(values), arrow_type)
    convert = _CONVERSIONS[node.leaf.kind]
    try:
        return convert(values, arrow_type)
    except _MISFIT:
        fitting = list(values)  # which of them do not fit is found one by one
    for number, value in enumerate(values):
        try:
            convert([value], arrow_type)
        except _MISFIT:
            misfits.setdefault(owners[number], []).append(path)
            fitting[number] = node.default
    return convert(fitting, arrow_type)


def _texts(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array(values, arrow_type)


def _times(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    texts = pa.array(values, pa.string())
    least, greatest = compute.min_max(texts).as_py().values()
    if least and (least < _FIRST_YEAR or greatest >= _END_YEAR):
        raise ValueError("beyond what nanoseconds in 64 bits reach")  # older versions of Arrow would not tell
    try:
        return texts.cast(arrow_type)
    except pa.ArrowInvalid:
        # Some have no offset, which means UTC, or no time of day.
        texts = pa.array([value and f"{sort_key(value)}Z" for value in values], pa.string())
        return texts.cast(arrow_type)


def _booleans(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array([_BOOLEANS[text] for text in served(values)], arrow_type)


def _integers(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    return pa.array([text and _integer(text) for text in served(values)], arrow_type)


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        number = Decimal(text.decode())  # 94.0 and 1e3 are whole numbers too
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
    return pa.array([text and compact(text) for text in served(values)], arrow_type)


_TYPES = {"boolean": pa.bool_(), "decimal": pa.float64(), "integer": pa.int64(), "time": _TIME}
_CONVERSIONS: dict[str, Callable[[Sequence[Any], pa.DataType], pa.Array]] = {
    "boolean": _booleans,
    "decimal": _decimals,
    "integer": _integers,
    "json": _jsons,
    "mixed": _mixed,
    "text": _texts,
    "time": _times,
}


def _misfit(entry: msgspec.Raw, head: Head, path: str) -> ExportError:
    value = entry
    for name in path.split("."):
        try:
            value = OBJECT.decode(value)[name]
        except (*UNREADABLE, LookupError):
            break  # within an array, or what should be an object is none: that is shown
    shown = str(value, "utf-8", "replace")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return ExportError(
        f"Entry {head.sys.id} ({head.sys.language}): the field {path} holds {shown}, which its declared type "
        'cannot hold without loss. Set misfits="raw" to keep the JSON of such entries in a column '
        f'{RAW}, or parquet_mode="raw" to export JSON only.'
    )
