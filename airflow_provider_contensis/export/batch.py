"""The plain data of an export: what was read."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from airflow_provider_contensis.export.model import Window


class EntryMeta(msgspec.Struct, frozen=True, gc=False):
    """All that the reader looks at of an entry; the rest stays bytes.

    :param created: as served; None if it is hidden.
    :param changed: the change mark that the query looks at, as served; None if it is hidden.
    """

    id: str
    language: str
    content_type_id: str
    created: str | None
    changed: str | None


class Batch(NamedTuple):
    """The entries of one window, in order: their bytes as served, their metadata and identity keys."""

    window: Window
    entries: list[msgspec.Raw]
    metas: list[EntryMeta]
    keys: array[int]

    @classmethod
    def of(cls, window: Window, entries: list[msgspec.Raw], metas: list[EntryMeta]) -> Batch:
        """Return the batch of entries and their metadata."""
        return cls(window, entries, metas, identity_keys(metas))

    @property
    def nbytes(self) -> int:
        """The size of its entries in bytes."""
        return sum(memoryview(entry).nbytes for entry in self.entries)

    def extended(self, other: Batch) -> Batch:
        """Return the batch with the entries of another one behind its own."""
        return Batch(
            self.window, self.entries + other.entries, self.metas + other.metas, self.keys + other.keys
        )

    def take(self, numbers: Iterable[int]) -> Batch:
        """Return the batch with some of its entries, in the order of their numbers."""
        numbers = list(numbers)
        return Batch(
            self.window,
            [self.entries[number] for number in numbers],
            [self.metas[number] for number in numbers],
            array("q", [self.keys[number] for number in numbers]),
        )

    def without(self, keys: Container[int]) -> Batch:
        """Return the batch without the entries that have one of these identity keys."""
        return self.take(number for number, key in enumerate(self.keys) if key not in keys)


@dataclass(frozen=True)
class Receipt:
    """What was read of a window: enough to prove the whole.

    :param keys: the identity key of each entry, eight bytes an entry.
    :param is_dated: whether its entries show when they were created, and so belong to one window only.
    """

    window: Window
    keys: array[int]
    is_dated: bool

    @classmethod
    def of(cls, batch: Batch) -> Receipt:
        """Return the receipt of a batch."""
        ends = (batch.metas[0], batch.metas[-1]) if batch.metas else ()
        return cls(batch.window, batch.keys, all(meta.created for meta in ends))


def identity_keys(metas: list[EntryMeta]) -> array[int]:
    """Return a 64-bit key for each entry's identity, the same in every process.

    A collision can fail an export but never hide a missing entry: counts decide.
    """
    # The hash of an integer is not salted: it is the remainder of a fixed prime.
    return array(
        "q",
        [
            hash(int.from_bytes(f"{meta.id}\0{meta.language}".encode(errors="surrogatepass")))
            for meta in metas
        ],
    )
