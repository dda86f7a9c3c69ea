"""The ledger of a feed: what it holds, in a database of the run, loaded only as far as it is needed.

A run that finds nothing reads the indexes of the ledger's files only. A slice that has to be looked into is
loaded into a temporary SQLite database, which keeps memory small whatever the number of entries. A slice that
has changed gets a new file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_contensis.export.ledger import Held, HeldSlice, Part
from airflow_provider_contensis.export.model import HEX_DIGITS
from airflow_provider_contensis.export.sinks.feed_ledger_file import (
    BLOCK_ENTRIES,
    Block,
    read_blocks,
    read_index,
    write_file,
)
from airflow_provider_contensis.export.temporary import temporary_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.export.storage.base import FolderStorage

LEDGER_FOLDER = "_ledger/"

_IDS_AT_ONCE = 500


class SliceSummary(TypedDict):
    """One slice in `_feed.json`."""

    content_type_id: str
    language: str
    entries: int
    path: str


@dataclass
class _Slice:
    """The state of a slice in this run.

    :param table: its table, once it is loaded.
    :param path: its file; None for a new slice.
    :param blocks: the index of its file, once it was read.
    """

    table: str
    entries: int = 0
    path: str | None = None
    blocks: list[Block] | None = None
    is_loaded: bool = False
    is_changed: bool = False
    indexes: set[str] = field(default_factory=set)


class FeedLedger:
    """What a feed holds, this run's changes included.

    :param storage: where the feed is.
    :param root: its folder as the storage names it, ending in `/`.
    :param summaries: its slices, as `_feed.json` lists them.
    """

    def __init__(self, storage: FolderStorage, root: str, summaries: Iterable[SliceSummary]) -> None:
        self._storage = storage
        self._root = root
        self._database = temporary_database()
        self._database.execute("CREATE TABLE removed (slice, id, PRIMARY KEY (slice, id)) WITHOUT ROWID")
        self._slices: dict[HeldSlice, _Slice] = {}
        for each in summaries:
            held_slice = HeldSlice(each["content_type_id"], each["language"])
            self._slices[held_slice] = _Slice(f"slice{len(self._slices)}", each["entries"], each["path"])

    def close(self) -> None:
        """Drop the database."""
        self._database.close()

    def slices(self) -> dict[HeldSlice, int]:
        """Return how many entries it holds of each slice."""
        return {name: state.entries for name, state in self._slices.items() if state.entries}

    def count(self, part: Part) -> int:
        """Return how many entries it holds in a part."""
        return sum(self._count(self._slices[name], part) for name in self._in(part))

    def cuts(self, part: Part, size: int) -> list[int]:
        """Return created times that cut the dated entries of a part into ranges of about `size` entries."""
        cuts: list[int] = []
        for name in self._in(part):
            state = self._slices[name]
            if size == BLOCK_ENTRIES and part.is_whole and not state.is_loaded:
                cuts += [block.first for block in self._blocks(state)[1:] if block.first is not None]
                continue
            times = self._select(state, part, "created", "created NOT NULL", "ORDER BY created")
            cuts += _cuts((created for (created,) in times), size)
        return cuts

    def held(self, part: Part) -> Iterator[tuple[HeldSlice, Held]]:
        """Yield the entries it holds in a part."""
        for name in self._in(part):
            for row in self._select(self._slices[name], part, "*"):
                yield name, _held(row)

    def find(self, held_slice: HeldSlice, ids: Sequence[str]) -> dict[str, Held]:
        """Return the entries it holds of a slice, of those with some ids."""
        state = self._slices.get(held_slice)
        if state is None or not state.entries:
            return {}
        self._load(state)
        self._index(state, "id")
        rows = self._with_ids(f"SELECT * FROM {state.table} WHERE id", ids)
        return {row[0]: _held(row) for row in rows}

    def removed(self, held_slice: HeldSlice, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that the run has removed from a slice."""
        state = self._slices.get(held_slice)
        if state is None or not state.is_changed:
            return set()
        rows = self._with_ids(f"SELECT id FROM removed WHERE slice = '{state.table}' AND id", ids)
        return {entry_id for (entry_id,) in rows}

    def put(self, held_slice: HeldSlice, entries: Sequence[Held], *, replaced: Sequence[str]) -> None:
        """Record entries that the run has written.

        :param replaced: ids of those that were held already.
        """
        state = self._slices.setdefault(held_slice, _Slice(f"slice{len(self._slices)}"))
        self._delete(state, replaced)
        self._insert(state, entries)
        state.entries += len(entries)
        state.is_changed = True

    def remove(self, held_slice: HeldSlice, ids: Sequence[str]) -> None:
        """Record that entries have left."""
        state = self._slices[held_slice]
        self._delete(state, ids)
        self._database.executemany("INSERT INTO removed VALUES (?, ?)", ((state.table, id_) for id_ in ids))

    def save(self, *, owner: str) -> list[SliceSummary]:
        """Write new files of the slices that changed; return all slices, as `_feed.json` lists them."""
        summaries: list[SliceSummary] = []
        for name, state in sorted(self._slices.items()):
            if state.is_changed and state.entries:
                order = f"SELECT * FROM {state.table} ORDER BY created IS NULL, created, id"
                rows = map(_held, self._database.execute(order))
                state.path = write_file(self._storage, f"{self._root}{LEDGER_FOLDER}", rows, owner=owner)
            if state.entries and state.path is not None:
                summaries.append({**name._asdict(), "entries": state.entries, "path": state.path})  # type: ignore[typeddict-item]  # its two fields
        return summaries

    def _in(self, part: Part) -> list[HeldSlice]:
        return [name for name, state in self._slices.items() if state.entries and part.has_slice(name)]

    def _count(self, state: _Slice, part: Part) -> int:
        if not state.is_loaded:
            if part.is_whole:
                return state.entries
            counted = _count_blocks(self._blocks(state), part)
            if counted is not None:
                return counted
        [(number,)] = self._select(state, part, "count(*)")
        return int(number)

    def _select(
        self, state: _Slice, part: Part, columns: str, condition: str = "1", order: str = ""
    ) -> Iterator[Any]:
        self._load(state)
        if part.is_bounded:
            self._index(state, "created, is_published")
        conditions, values = [condition], list[object]()
        if part.is_undated:
            conditions.append("created IS NULL")
        for bound, comparison in ((part.created_from, ">="), (part.created_to, "<")):
            if bound is not None:
                conditions.append(f"created {comparison} ?")
                values.append(bound)
        length = len(part.id_prefix)
        if length:
            conditions.append(f"substr(lower(id), 1, {length}) = ?")
            values.append(part.id_prefix)
        if part.other_ids:
            digits = ", ".join(f"'{digit}'" for digit in HEX_DIGITS)
            conditions.append(f"substr(lower(id), {length + 1}, 1) NOT IN ({digits})")
        if part.only_drafts:
            conditions.append("NOT is_published")
        where = " AND ".join(conditions)
        return self._database.execute(f"SELECT {columns} FROM {state.table} WHERE {where} {order}", values)

    def _blocks(self, state: _Slice) -> list[Block]:
        if state.blocks is None:
            state.blocks = read_index(self._storage, self._file(state)) if state.path else []
        return state.blocks

    def _file(self, state: _Slice) -> str:
        return f"{self._root}{LEDGER_FOLDER}{state.path}"

    def _load(self, state: _Slice) -> None:
        if state.is_loaded:
            return
        state.is_loaded = True
        self._database.execute(
            f"CREATE TABLE {state.table} (id TEXT, created INTEGER, changed INTEGER, digest BLOB, "
            "is_published INTEGER, is_fresh INTEGER)"
        )
        if state.path is not None:
            for block in read_blocks(self._storage, self._file(state), self._blocks(state)):
                self._insert(state, block)

    def _with_ids(self, select: str, ids: Sequence[str]) -> Iterator[Any]:
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            yield from self._database.execute(f"{select} IN ({', '.join('?' * len(some))})", some)

    def _delete(self, state: _Slice, ids: Sequence[str]) -> None:
        self._load(state)
        if ids:
            self._index(state, "id")
            self._database.executemany(f"DELETE FROM {state.table} WHERE id = ?", ((id_,) for id_ in ids))
            state.entries -= len(ids)
            state.is_changed = True

    def _insert(self, state: _Slice, entries: Sequence[Held]) -> None:
        self._load(state)
        self._database.execute("BEGIN")
        self._database.executemany(f"INSERT INTO {state.table} VALUES (?, ?, ?, ?, ?, ?)", entries)
        self._database.execute("COMMIT")

    def _index(self, state: _Slice, columns: str) -> None:
        """Create an index when it is first needed: a snapshot needs none."""
        if columns not in state.indexes:
            name = f"{state.table}_{len(state.indexes)}"
            self._database.execute(f"CREATE INDEX {name} ON {state.table} ({columns})")
            state.indexes.add(columns)


def _cuts(times: Iterable[int], size: int) -> list[int]:
    """Return where ranges of sorted times begin, each of about a size; equal times stay together."""
    cuts: list[int] = []
    first = earlier = None
    number = 0
    for time in times:
        if earlier is None:
            first = time
        elif time > earlier and number >= size:
            cuts.append(time)
            number = 0
        earlier, number = time, number + 1
    return cuts if cuts or earlier is None or earlier == first else [earlier]


def _held(row: Sequence[Any]) -> Held:
    entry_id, created, changed, digest, is_published, is_fresh = row
    return Held(entry_id, created, changed, digest, bool(is_published), bool(is_fresh))


def _count_blocks(blocks: Sequence[Block], part: Part) -> int | None:
    """Return how many entries an index counts in a part; None if it does not show that."""
    has_digit = len(part.id_prefix) == 1 and part.id_prefix in HEX_DIGITS and not part.only_drafts
    is_aligned = {part.created_from, part.created_to} <= {None, *(block.first for block in blocks)}
    if part.other_ids or not is_aligned or (part.id_prefix and not has_digit):
        return None
    some = [block for block in blocks if not part.is_bounded or _is_inside(block, part)]
    if has_digit:
        return sum(block.digits[HEX_DIGITS.index(part.id_prefix)] for block in some)
    return sum(block.entries - block.published if part.only_drafts else block.entries for block in some)


def _is_inside(block: Block, part: Part) -> bool:
    """Return whether a block lies within a part's bounds."""
    if block.first is None or part.is_undated:
        return block.first is None and part.is_undated
    return (part.created_from is None or block.first >= part.created_from) and (
        part.created_to is None or block.first < part.created_to
    )
