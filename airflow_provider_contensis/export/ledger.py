"""What a copy holds: the questions that finding changes asks of it.

A ledger says how many entries a copy holds in a part of it, which ones, and what they looked like. It answers
with what the current run has changed already. Where it is kept (files beside a feed, the rows of a table) is
its own business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.export.times import as_datetime, query_millisecond
from airflow_provider_contensis.utils.json import OBJECT, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.model import EntryQuery, Window

DIGEST_BYTES = 8

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)


class HeldSlice(NamedTuple):
    """One content type in one language."""

    content_type_id: str
    language: str

    def __str__(self) -> str:
        return f"{self.content_type_id}/{self.language}"


class Held(NamedTuple):
    """An entry as a copy holds it.

    :param created: its created time in whole milliseconds since 1970; None if it is hidden.
    :param changed: its change mark in whole microseconds since 1970; None if it is hidden.
    :param digest: of its content, 8 bytes.
    :param is_published: whether it has a published version.
    :param is_fresh: whether the current run has written it.
    """

    id: str
    created: int | None
    changed: int | None
    digest: bytes
    is_published: bool
    is_fresh: bool = True


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a copy, and of the service's entries: content types and languages, within bounds.

    :param content_type_ids: the content types.
    :param languages: the languages; every content type in each of them.
    :param is_rest: whether it is all content types but the ones named.
    :param created_from: lower bound of the created time, inclusive, in milliseconds since 1970.
    :param created_to: upper bound of the created time, exclusive, in milliseconds since 1970.
    :param is_undated: whether it is the entries without a created time.
    :param id_prefix: how the ids begin.
    :param other_ids: whether no hexadecimal digit follows that prefix.
    :param only_drafts: whether it is the entries that have no published version.
    """

    content_type_ids: tuple[str, ...]
    languages: tuple[str, ...]
    is_rest: bool = False
    created_from: int | None = None
    created_to: int | None = None
    is_undated: bool = False
    id_prefix: str = ""
    other_ids: bool = False
    only_drafts: bool = False

    @property
    def is_bounded(self) -> bool:
        """Whether it is limited to some created times."""
        return self.is_undated or self.created_from is not None or self.created_to is not None

    @property
    def is_whole(self) -> bool:
        """Whether it is all entries of its content types and languages."""
        return not (self.is_bounded or self.id_prefix or self.other_ids or self.only_drafts)

    def window(self, query: EntryQuery, entry_id: str | None = None) -> Window:
        """Return the window in which a search finds what a query asks for in this part.

        :param entry_id: the only entry to ask for; None for all.
        """
        types = self.content_type_ids
        window = query.window(
            () if self.is_rest else types,
            self.languages,
            unlisted=self.is_rest,
            listed=types if self.is_rest else (),
        )
        clauses = list(window.query)
        if self.only_drafts:
            clauses.append({"field": "sys.version.published", "exists": False})
        if entry_id is not None:
            clauses.append({"field": "sys.id", "equalTo": entry_id})
        return replace(
            window,
            query=tuple(clauses),
            created_from=_operand(self.created_from),
            created_to=_operand(self.created_to),
            undated=self.is_undated,
            id_prefix=self.id_prefix,
            other_ids=self.other_ids,
        )

    def has_slice(self, held: HeldSlice) -> bool:
        """Return whether it has entries of a slice."""
        named = held.content_type_id in self.content_type_ids
        return held.language in self.languages and named is not self.is_rest


class Ledger(Protocol):
    """What a copy holds, this run's changes included."""

    def slices(self) -> Mapping[HeldSlice, int]:
        """Return how many entries it holds of each slice; slices without entries may be left out."""

    def count(self, part: Part) -> int:
        """Return how many entries it holds in a part."""

    def cuts(self, part: Part, size: int) -> list[int]:
        """Return created times that cut the dated entries of a part into ranges of about `size` entries.

        They are in milliseconds since 1970, in ascending order, and each lies within the part.
        """

    def held(self, part: Part) -> Iterator[tuple[HeldSlice, Held]]:
        """Yield the entries it holds in a part."""

    def find(self, held_slice: HeldSlice, ids: Sequence[str]) -> dict[str, Held]:
        """Return the entries it holds of a slice, of those with some ids."""

    def removed(self, held_slice: HeldSlice, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that the current run has removed from a slice."""


def milliseconds(created: str | None) -> int | None:
    """Return a served time in whole milliseconds since 1970; None if there is none, or it cannot be read."""
    moment = as_datetime(created)
    return None if moment is None else (moment - _EPOCH) // _MILLISECOND


def moment_of(milliseconds: int) -> datetime:
    """Return the time of a number of milliseconds since 1970."""
    return _EPOCH + milliseconds * _MILLISECOND


def _operand(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else query_millisecond(moment_of(milliseconds))


def holdings(entries: Sequence[msgspec.Raw], metas: Sequence[EntryMeta]) -> list[Held]:
    """Return entries as a copy will hold them."""
    return [_holding(bytes(entry), meta) for entry, meta in zip(entries, metas, strict=True)]


class _Version(msgspec.Struct, gc=False):
    modified: str | None = None
    published: str | None = None


class _Sys(msgspec.Struct, gc=False):
    workflow: msgspec.Raw = msgspec.Raw(b"")
    version: _Version | None = None


class _Entry(msgspec.Struct, gc=False):
    sys: _Sys


_DECODE = msgspec.json.Decoder(_Entry).decode


def _holding(entry: bytes, meta: EntryMeta) -> Held:
    try:
        sys = _DECODE(entry).sys
    except UNREADABLE:
        entry = lone_surrogates.hide(entry)
        sys = _DECODE(entry).sys
    changed = as_datetime(meta.changed)
    return Held(
        meta.id,
        milliseconds(meta.created),
        None if changed is None else (changed - _EPOCH) // _MICROSECOND,
        _digest(entry, bytes(sys.workflow)),
        sys.version is not None and not _is_draft(sys.version),
    )


def _is_draft(version: _Version) -> bool:
    """Return whether an entry has no published version; one that hides its change marks may have one."""
    return version.published is None and version.modified is not None


def _digest(entry: bytes, workflow: bytes) -> bytes:
    """Return a digest of an entry that is the same in every process and for everybody who asks.

    `sys.workflow.allowedEvents` depends on who asks (docs/contensis-api.md, "Entries").
    """
    if b'"allowedEvents"' in workflow:
        members = OBJECT.decode(workflow)
        members.pop("allowedEvents", None)
        before, _, after = entry.partition(workflow)
        entry = b"".join((before, msgspec.json.encode(members), after))
    return blake2b(entry, digest_size=DIGEST_BYTES).digest()
