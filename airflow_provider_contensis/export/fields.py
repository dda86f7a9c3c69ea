"""Keeping only some fields of entries, each value as served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.utils.json import ARRAY, OBJECT, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# A row must still identify its entry.
ALWAYS_KEPT = ("sys.id", "sys.language", "sys.contentTypeId")

FieldTree = dict[str, "FieldTree"]


def field_tree(paths: Iterable[str]) -> FieldTree:
    """Return dotted field paths as a tree; a path keeps all that is below it."""
    tree: FieldTree = {}
    kept: list[str] = []
    for path in sorted({*paths, *ALWAYS_KEPT}, key=len):
        if any(path.startswith(f"{above}.") for above in kept):
            continue
        kept.append(path)
        branch = tree
        for name in path.split("."):
            branch = branch.setdefault(name, {})
    return tree


def keep_fields(entry: msgspec.Raw, tree: FieldTree) -> msgspec.Raw:
    """Return an entry with only the fields of a tree, in the order and with the values as served.

    A path that leads through an array applies to each of its objects.
    """
    try:
        return msgspec.Raw(_keep(entry, tree))
    except UNREADABLE:
        pass
    try:
        hidden = msgspec.Raw(lone_surrogates.hide(bytes(entry)))
        return msgspec.Raw(lone_surrogates.reveal(_keep(hidden, tree)))
    except UNREADABLE:
        raise InvalidResponseError(
            "Cannot select the fields of an entry: it is nested too deeply, or a field's name is not text."
        ) from None


def _keep(value: msgspec.Raw, tree: Mapping[str, Any]) -> bytes:
    if not tree:
        return bytes(value)
    start = bytes(value).lstrip()[:1]
    if start == b"{":
        members = OBJECT.decode(value)
        return msgspec.json.encode(
            {name: msgspec.Raw(_keep(member, tree[name])) for name, member in members.items() if name in tree}
        )
    if start == b"[":
        return msgspec.json.encode([msgspec.Raw(_keep(item, tree)) for item in ARRAY.decode(value)])
    return bytes(value)
