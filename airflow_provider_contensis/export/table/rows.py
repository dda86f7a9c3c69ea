"""Entries decoded to rows of a known shape: fast if an entry has that shape, with care if it has not."""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.export.table.columns import Leaf, Many, Record
from airflow_provider_contensis.utils.json import ARRAY, OBJECT, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.table.columns import Shape

log = logging.getLogger(__name__)

_TEXT = msgspec.json.Decoder(str | None)
_NOTHING = msgspec.Raw()
_NULL = (b"", b"null")
_EMPTY = (b"{}", b"[]")


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    A batch of rows is thousands of lists that live for a moment, which makes it walk through all of Airflow.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Rows(NamedTuple):
    """Decoded entries.

    :param values: one struct an entry. Text and times are decoded; all other values are JSON as served,
        and so are values that should be text but are not.
    :param rest: by row, JSON of the members that the shape does not cover.
    :param mismatches: by row, the paths of values that should be an object or an array but are not;
        they are in `rest`.
    :param replaced: by row, entries that contained lone surrogates, with U+FFFD in their place.
    """

    values: list[Any]
    rest: dict[int, bytes]
    mismatches: dict[int, list[str]]
    replaced: dict[int, msgspec.Raw]


class RowReader:
    """Decodes entries of one shape.

    :param shape: their columns.
    """

    def __init__(self, shape: Record) -> None:
        self.root = RecordNode(shape)
        self._decoder = msgspec.json.Decoder(self.root.type)
        self._has_warned = False

    def read(self, entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> Rows:
        """Return the rows of entries.

        :param metas: their metadata; names an entry in a warning.
        """
        rows = Rows([], {}, {}, {})
        for number, entry in enumerate(entries):
            try:
                rows.values.append(self._decoder.decode(entry))
            except UNREADABLE:
                text = lone_surrogates.replace(bytes(entry))
                if text != bytes(entry):
                    rows.replaced[number] = msgspec.Raw(text)
                    self._warn(metas[number])
                mismatches: list[str] = []
                value, rest = self.root.read(msgspec.Raw(text), "", mismatches)
                rows.values.append(value)
                if rest is not None:
                    rows.rest[number] = compact(rest)
                if mismatches:
                    rows.mismatches[number] = mismatches
        return rows

    def _warn(self, meta: EntryMeta) -> None:
        if not self._has_warned:
            log.warning(
                "Entry %s (%s) contains half of a surrogate pair, which is not a character: replaced by "
                "U+FFFD, as in all entries like it. JSON and JSON Lines keep the text as served",
                meta.id,
                meta.language,
            )
        self._has_warned = True


class LeafNode:
    """A value of a row."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        is_text = leaf.kind in {"text", "time"}
        self.type: Any = str | None if is_text else msgspec.Raw
        self.default = None if is_text else _NOTHING

    def read(self, value: msgspec.Raw, path: str, mismatches: list[str]) -> tuple[Any, None]:  # noqa: ARG002 - as the other nodes
        """Return the decoded value."""
        if self.type is msgspec.Raw:
            return value, None
        try:
            return _TEXT.decode(value), None
        except UNREADABLE:
            return value, None


class ManyNode:
    """An array of a row."""

    default = None

    def __init__(self, shape: Many) -> None:
        self.shape = shape
        self.item = node(shape.item)
        item_type = self.item.type if isinstance(self.item, LeafNode) else self.item.type | None
        self.type: Any = list[item_type] | None  # type: ignore[valid-type] # built at run time, for msgspec

    def read(self, value: msgspec.Raw, path: str, mismatches: list[str]) -> tuple[Any, bytes | None]:
        """Return the items, and the whole array if the shape does not cover all of it."""
        if bytes(value) in _NULL:
            return None, None
        try:
            items = ARRAY.decode(value)
        except UNREADABLE:
            mismatches.append(path)
            return None, bytes(value)
        pairs = [self.item.read(item, f"{path}.{number}", mismatches) for number, item in enumerate(items)]
        is_covered = all(rest is None for _, rest in pairs)
        return [item for item, _ in pairs], None if is_covered else bytes(value)


class Member(NamedTuple):
    """A member of an object: its name, its getter on the object's struct, and its node."""

    name: str
    get: Callable[[Any], Any]
    node: Node


class RecordNode:
    """An object of a row, decoded to a struct of its own type."""

    default = None

    def __init__(self, shape: Record) -> None:
        self.shape = shape
        nodes = {name: node(member) for name, member in shape.members.items()}
        # An author's names need not be valid in Python, so members get names of our own.
        own = {name: f"m{number}" for number, name in enumerate(nodes)}
        self.type: Any = msgspec.defstruct(
            "Row",
            [
                (
                    own[name],
                    member.type if isinstance(member, LeafNode) else member.type | None,
                    member.default,
                )
                for name, member in nodes.items()
            ],
            rename={own[name]: name for name in nodes},
            forbid_unknown_fields=True,
            gc=False,
        )
        self.members = [Member(name, attrgetter(own[name]), member) for name, member in nodes.items()]
        self._own = own
        self._empty = self.type()

    def columns(self, values: Sequence[Any]) -> list[tuple[Member, list[Any]]]:
        """Return the values of each member.

        :param values: structs; None if there is no object.
        """
        structs = [value or self._empty for value in values] if None in values else values
        return [(member, list(map(member.get, structs))) for member in self.members]

    def read(self, value: msgspec.Raw, path: str, mismatches: list[str]) -> tuple[Any, bytes | None]:
        """Return the struct, and an object of the members that the shape does not cover."""
        if bytes(value) in _NULL:
            return None, None
        try:
            members = OBJECT.decode(value)
        except UNREADABLE:
            mismatches.append(path)
            return None, bytes(value)
        known: dict[str, Any] = {}
        rest: dict[str, msgspec.Raw] = {}
        for name, _, member in self.members:
            if name in members:
                member_path = f"{path}.{name}" if path else name
                known[self._own[name]], left = member.read(members.pop(name), member_path, mismatches)
                if left is not None:
                    rest[name] = msgspec.Raw(left)
        # Null and absent mean the same.
        rest.update((name, left) for name, left in members.items() if bytes(left) not in _NULL)
        return self.type(**known), msgspec.json.encode(rest) if rest else None


Node = LeafNode | ManyNode | RecordNode


def node(shape: Shape) -> Node:
    """Return the node that reads values of a shape."""
    if isinstance(shape, Leaf):
        return LeafNode(shape)
    return ManyNode(shape) if isinstance(shape, Many) else RecordNode(shape)


def served(values: Iterable[msgspec.Raw]) -> list[bytes | None]:
    """Return the JSON of values as served; None if they are null or absent."""
    return [None if text in _NULL else text for text in map(bytes, values)]


def compact(json: bytes) -> bytes:
    """Return JSON without spaces between its tokens, each token as served."""
    return json if json in _EMPTY else msgspec.json.format(json, indent=-1)
