"""A file of a feed's ledger: the entries of one slice, in at most 40 bytes each.

It consists of compressed blocks of entries, ordered by created time and id, and an index of the blocks at its
end. Entries that were created in the same millisecond are in the same block, so that the created times at
which blocks begin cut the slice into ranges. A file never changes: it is named by its content.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.ledger import DIGEST_BYTES, Held
from airflow_provider_contensis.export.model import HEX_DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.export.storage.base import FolderStorage

BLOCK_ENTRIES = 5_000

_MAGIC = b"contensis-ledger-1\n"
_END = struct.Struct(">I")  # the length of the index
_NONE = -(1 << 63)
_COPY_BYTES = 1 << 20
# In an object store, each read is a request: the end of a file holds its index, unless there are many blocks.
_END_BYTES = 1 << 16
_READ_BYTES = 1 << 20


class Block(NamedTuple):
    """A block in the index.

    :param first: created time of its first entry in milliseconds since 1970; None if its entries have none.
    :param published: how many of its entries have a published version.
    :param digits: how many of its ids begin with each hexadecimal digit.
    """

    offset: int
    length: int
    entries: int
    first: int | None
    published: int
    digits: list[int]


def write_file(storage: FolderStorage, folder: str, entries: Iterable[Held], *, owner: str) -> str:
    """Write a file, and return its name.

    :param folder: where it goes, ending in `/`.
    :param entries: in the order of created time and id; those without a created time come last.
    :param owner: as in `Storage.create`.
    """
    with tempfile.TemporaryFile() as draft:
        draft.write(_MAGIC)
        index = [_write_block(draft, block) for block in _in_blocks(entries)]
        content = json.dumps(index, separators=(",", ":")).encode()
        draft.write(content + _END.pack(len(content)))
        draft.seek(0)
        name = f"{hashlib.file_digest(draft, 'sha256').hexdigest()[:32]}.ledger"
        draft.seek(0)
        file = storage.create(f"{folder}{name}", owner=owner)
        try:
            while data := draft.read(_COPY_BYTES):
                file.write(data)
            file.finish()
            file.commit()
        finally:
            file.discard()
    return name


def read_index(storage: FolderStorage, path: str) -> list[Block]:
    """Return the index of a file.

    :raises DestinationError: the file is missing or damaged.
    """
    end = storage.read_part(path, -_END_BYTES, _END_BYTES)
    try:
        [length] = _END.unpack(end[-_END.size :])
        size = length + _END.size
        if size > len(end):
            end = storage.read_part(path, -size, size)
        index = [Block(*each) for each in json.loads(end[-size : -_END.size])]
        if index[0].offset != len(_MAGIC):
            raise ValueError
    except (IndexError, TypeError, ValueError, struct.error):
        raise _damaged(path) from None
    return index


def read_blocks(storage: FolderStorage, path: str, index: Sequence[Block]) -> Iterator[list[Held]]:
    """Yield the entries of a file, block by block.

    :raises DestinationError: the file is missing or damaged.
    """
    for some in _neighbours(index):
        # The first part begins with the file, whose first bytes name its format.
        start = 0 if some[0] is index[0] else some[0].offset
        data = storage.read_part(path, start, some[-1].offset + some[-1].length - start)
        if start == 0 and not data.startswith(_MAGIC):
            raise _damaged(path)
        for block in some:
            place = block.offset - start
            try:
                yield _unpack(zlib.decompress(data[place : place + block.length]), block.entries)
            except (ValueError, IndexError, zlib.error, struct.error):
                raise _damaged(path) from None


def _neighbours(index: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield blocks that are read at once."""
    some: list[Block] = []
    for block in index:
        if some and block.offset + block.length - some[0].offset > _READ_BYTES:
            yield some
            some = []
        some.append(block)
    if some:
        yield some


def _damaged(path: str) -> DestinationError:
    error = DestinationError(f"{path} is damaged: restore the feed, or start one in another folder.")
    error.retryable = False
    return error


def _in_blocks(entries: Iterable[Held]) -> Iterator[list[Held]]:
    block: list[Held] = []
    for entry in entries:
        if block:
            created = block[-1].created
            ends_here = len(block) >= BLOCK_ENTRIES and (created is None or entry.created != created)
            if ends_here or (entry.created is None and created is not None):
                yield block
                block = []
        block.append(entry)
    if block:
        yield block


def _write_block(draft: IO[bytes], block: Sequence[Held]) -> Block:
    offset, data = draft.tell(), zlib.compress(_pack(block))
    draft.write(data)
    starts = [entry.id[:1].lower() for entry in block]
    return Block(
        offset,
        len(data),
        len(block),
        block[0].created,
        sum(entry.is_published for entry in block),
        [starts.count(digit) for digit in HEX_DIGITS],
    )


def _pack(block: Sequence[Held]) -> bytes:
    """Return the columns of a block, those alike beside each other, which compresses best."""
    numbers = [_NONE if value is None else value for each in block for value in (each.created, each.changed)]
    times = struct.pack(f"<{len(numbers)}q", *numbers)
    ids = [_packed_id(entry.id) for entry in block]
    return b"".join(
        [
            *(times[start::16] for start in range(16)),
            bytes(entry.is_published for entry in block),
            *(entry.digest for entry in block),
            bytes(map(len, ids)),
            *ids,
        ]
    )


def _unpack(data: bytes, number: int) -> list[Held]:
    times = bytearray(16 * number)
    for start in range(16):
        times[start::16] = data[start * number : (start + 1) * number]
    numbers = [None if value == _NONE else value for value in struct.unpack(f"<{2 * number}q", times)]
    place = 16 * number
    published, place = data[place : place + number], place + number
    digests, place = data[place : place + DIGEST_BYTES * number], place + DIGEST_BYTES * number
    lengths, place = data[place : place + number], place + number
    entries = []
    for row in range(number):
        packed, place = data[place : place + lengths[row]], place + lengths[row]
        digest = digests[DIGEST_BYTES * row : DIGEST_BYTES * (row + 1)]
        is_published = bool(published[row])
        entries.append(
            Held(_plain_id(packed), numbers[2 * row], numbers[2 * row + 1], digest, is_published, False)
        )
    return entries


def _packed_id(entry_id: str) -> bytes:
    """Return an id in 16 bytes if it is a GUID as Contensis writes it, or else its text in more or less."""
    try:
        packed = bytes.fromhex(entry_id.replace("-", ""))
        if len(packed) == 16 and _plain_id(packed) == entry_id:
            return packed
    except ValueError:
        pass
    text = entry_id.encode(errors="surrogatepass")
    return text + b"\0" if len(text) == 16 else text


def _plain_id(packed: bytes) -> str:
    if len(packed) == 16:
        digits = packed.hex()  # five times as fast as the UUID class
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return packed.removesuffix(b"\0").decode(errors="surrogatepass")
