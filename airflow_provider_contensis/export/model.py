"""The plain data of an export: what is asked for, how it is cut, and what was read of it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import msgspec

from airflow_provider_contensis.api.resources import DataFormat

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from airflow_provider_contensis.api.resources import Api, Clause, ContentType, VersionStatus

CREATED = "sys.version.created"
HEX_DIGITS = "0123456789abcdef"

_MAX_PREFIX = 8

# The time in `sys.version` at which an entry last changed.
ChangeMark = Literal["published", "modified"]
# A content type (None for types that the project does not list) and a language.
SliceKey = tuple[str | None, str]


@dataclass(frozen=True, kw_only=True)
class EntryQuery:
    """A question for entries, across content types and languages.

    :param content_type_ids: None for all of the project.
    :param languages: None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version, published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses; an entry must match all of them.
    :param changed_from: lower bound of the change mark, inclusive: an ISO time in UTC.
    :param changed_to: upper bound of the change mark, exclusive: an ISO time in UTC.
    :param api: `management` or `delivery`.
    :param link_depth: levels of links that the Delivery API resolves.
    :param field_link_depths: the same for single field paths.
    """

    content_type_ids: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    version_status: VersionStatus = "published"
    data_format: DataFormat | None = "entry"
    where: tuple[Clause, ...] = ()
    changed_from: str | None = None
    changed_to: str | None = None
    api: Api = "management"
    link_depth: int | None = None
    field_link_depths: Mapping[str, int] | None = None

    @property
    def change_mark(self) -> ChangeMark:
        """The time in `sys.version` at which an entry last changed, in the version asked for.

        Publishing does not move `modified` (docs/contensis-api.md, "Versions and times").
        """
        return "published" if self.version_status == "published" else "modified"

    def clauses(self, *, language: str, content_type: Clause) -> tuple[Clause, ...]:
        """Return the search clauses for one language and one choice of content types.

        Clauses that the service indexes best come first, on the top level (docs/contensis-api.md, "Search").

        :param content_type: the clause that selects the content types.
        """
        formats = {"equalTo": self.data_format} if self.data_format else {"in": list(get_args(DataFormat))}
        clauses: list[Clause] = [
            content_type,
            {"field": "sys.versionStatus", "equalTo": self.version_status},
            {"field": "sys.language", "equalTo": language},
            {"field": "sys.dataFormat", **formats},
            *self.where,
        ]
        change_field = f"sys.version.{self.change_mark}"
        if self.changed_from is not None:
            clauses.append({"field": change_field, "greaterThanOrEqualTo": self.changed_from})
        if self.changed_to is not None:
            clauses.append({"field": change_field, "lessThan": self.changed_to})
        return tuple(clauses)


@dataclass(frozen=True)
class Window:
    """A part of a query that is read at once.

    :param language: of its entries.
    :param content_type_id: of its entries; None if the query names no single one.
    :param query: the search clauses of the whole query.
    :param created_from: lower bound of the created time, inclusive; None for none.
    :param created_to: upper bound of the created time, exclusive; None for none.
    :param undated: whether it holds the entries without a created time.
    :param id_prefix: the start of its entries' ids, if time could not separate them.
    :param other_ids: whether no hexadecimal digit follows that prefix.
    """

    language: str
    content_type_id: str | None
    query: tuple[Clause, ...]
    created_from: str | None = None
    created_to: str | None = None
    undated: bool = False
    id_prefix: str = ""
    other_ids: bool = False

    @property
    def slice_key(self) -> SliceKey:
        """The content type and the language that its query asks for."""
        return self.content_type_id, self.language

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its query."""
        return self == Window(self.language, self.content_type_id, self.query)

    @property
    def cut_by(self) -> Literal["created", "id", "nothing"]:
        """The property by which it can be cut, if it is too large."""
        if self.other_ids or len(self.id_prefix) >= _MAX_PREFIX:
            return "nothing"
        return "id" if self.undated or self.id_prefix else "created"

    @property
    def where(self) -> list[Clause]:
        """Its search clauses."""
        clauses = list(self.query)
        if self.undated:
            clauses.append({"field": CREATED, "exists": False})
        if self.created_from is not None:
            clauses.append({"field": CREATED, "greaterThanOrEqualTo": self.created_from})
        if self.created_to is not None:
            clauses.append({"field": CREATED, "lessThan": self.created_to})
        if self.id_prefix:
            clauses.append({"field": "sys.id", "startsWith": self.id_prefix})
        if self.other_ids:
            starts = [{"field": "sys.id", "startsWith": self.id_prefix + digit} for digit in HEX_DIGITS]
            clauses.append({"not": {"or": starts}})
        return clauses

    def may_hold(self, entry_id: str) -> bool:
        """Return whether it asks for an entry's id."""
        prefix, text = self.id_prefix, entry_id.lower()
        follows = text[len(prefix) : len(prefix) + 1]
        return text.startswith(prefix) and not (self.other_ids and follows and follows in HEX_DIGITS)

    def __str__(self) -> str:
        name = f"{self.content_type_id or 'other content types'} in {self.language}"
        if self.undated:
            name += ", without a created time"
        if self.created_from or self.created_to:
            name += f", created from {self.created_from or 'the beginning'} to {self.created_to or 'now'}"
        if self.id_prefix:
            name += f", ids starting with {self.id_prefix}"
        if self.other_ids:
            name += ", other ids"
        return name

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Window:
        """Return the window that `vars` of a window made JSON of."""
        return cls(**{**value, "query": tuple(value["query"])})


@dataclass(frozen=True)
class Measure:
    """The size of a window.

    :param total: number of entries, as the service counts them.
    :param first: created time of its first entry; None if hidden or not known.
    :param last: created time of its last entry; None if hidden or not known.
    :param undated: whether it may hold entries without a created time.
    """

    total: int
    first: str | None = None
    last: str | None = None
    undated: bool = True


@dataclass(frozen=True)
class Slice:
    """One content type in one language.

    :param window: all of it.
    :param total: number of entries, as the service counted them.
    """

    window: Window
    total: int


@dataclass(frozen=True)
class Plan:
    """What will be read.

    :param content_types: the definitions of those asked for, sorted by id.
    :param slices: what there is of them, in the order in which it is read.
    :param windows: the same, cut small enough to be read whole.
    """

    content_types: tuple[ContentType, ...]
    slices: tuple[Slice, ...]
    windows: tuple[Window, ...]

    @property
    def total(self) -> int:
        """How many entries there are to read."""
        return sum(each.total for each in self.slices)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return the plan that `vars` of a plan, and of what it holds, made JSON of."""
        return cls(
            tuple(value["content_types"]),
            tuple(Slice(Window.from_json(each["window"]), each["total"]) for each in value["slices"]),
            tuple(Window.from_json(each) for each in value["windows"]),
        )


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
