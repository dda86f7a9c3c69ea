"""The plain data of an export: what is asked for, and how it is cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_contensis.api.resources import DataFormat
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_contensis.api.resources import Api, Clause, ContentType, VersionStatus
    from airflow_provider_contensis.export.batch import Batch

CREATED = "sys.version.created"
HEX_DIGITS = "0123456789abcdef"

MAX_PREFIX = 8  # digits of an id by which windows are cut
MAX_COUNT = 10_000  # a count may stop there (docs/contensis-api.md, "Paging")

# The time in `sys.version` at which an entry last changed; `either` is the later of both.
ChangeMark = Literal["published", "modified", "either"]
# Content types and languages.
Kinds = tuple[tuple[str, ...], tuple[str, ...]]


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
    :param for_copy: whether the answer updates a copy, which must not miss a change: publishing counts as a
        change of latest entries, and entries that hide their change mark always match.
    :param is_typed: whether `where` has been checked, and compares each field with values of its type.
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
    for_copy: bool = False
    is_typed: bool = False

    @property
    def change_mark(self) -> ChangeMark:
        """The time in `sys.version` at which an entry last changed, in the version asked for.

        Publishing does not move `modified` (docs/contensis-api.md, "Versions and times").
        """
        if self.version_status == "published":
            return "published"
        return "either" if self.for_copy else "modified"

    def __str__(self) -> str:
        """Return what it asks for on one line, but for the time of the change."""
        asked = {
            "content types": ", ".join(self.content_type_ids or ["all"]),
            "languages": ", ".join(self.languages or ["all"]),
            "data format": self.data_format or "entry and asset",
            "where": json.dumps(self.where) if self.where else "none",
        }
        return "; ".join(f"{name}: {value}" for name, value in asked.items())

    def window(
        self,
        content_type_ids: Sequence[str],
        languages: Sequence[str],
        *,
        unlisted: bool = False,
        listed: Sequence[str] = (),
        expected: int | None = None,
    ) -> Window:
        """Return the window that is all of some content types in some languages.

        :param unlisted: whether it also holds content types that the project does not list.
        :param listed: the listed content types that it does not hold, if it holds unlisted ones.
        :param expected: as in `Window`.
        """
        content_types: list[Clause] = []  # all of them
        if not unlisted:
            content_types = [_one_of("sys.contentTypeId", content_type_ids)]
        elif listed:
            content_types = [{"not": {"field": "sys.contentTypeId", "in": list(listed)}}]
        clauses = self._clauses(content_types, languages)
        return Window(tuple(content_type_ids), tuple(languages), clauses, unlisted, expected)

    def _clauses(self, content_types: Sequence[Clause], languages: Sequence[str]) -> tuple[Clause, ...]:
        # Those that the service indexes best, on the top level (docs/contensis-api.md, "Search").
        clauses: list[Clause] = [
            *content_types,
            {"field": "sys.versionStatus", "equalTo": self.version_status},
            _one_of("sys.language", languages),
            _one_of("sys.dataFormat", [self.data_format] if self.data_format else get_args(DataFormat)),
            *self.where,
        ]
        names = ("modified", "published") if self.change_mark == "either" else (self.change_mark,)
        change_fields = [f"sys.version.{name}" for name in names]
        if self.changed_from is not None:
            since: list[Clause] = [
                {"field": field, "greaterThanOrEqualTo": self.changed_from} for field in change_fields
            ]
            if self.for_copy and self.api == "delivery":  # only the Delivery API hides change marks
                since.append({"field": change_fields[0], "exists": False})
            clauses.append(since[0] if len(since) == 1 else {"or": since})
        if self.changed_to is not None:
            clauses.append({"field": change_fields[0], "lessThan": self.changed_to})
        return tuple(clauses)


def nested_clauses(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield search clauses, and those within their `and`, `or` and `not`."""
    if isinstance(value, Mapping):
        yield value
        for name in ("and", "or", "not"):
            yield from nested_clauses(value.get(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from nested_clauses(item)


def _one_of(field: str, values: Sequence[str]) -> Clause:
    return (
        {"field": field, "equalTo": values[0]} if len(values) == 1 else {"field": field, "in": list(values)}
    )


@dataclass(frozen=True)
class Window:
    """A part of a query that is read at once: whole content types in some languages, or a range of one slice.

    A slice is one content type in one language.

    :param content_type_ids: of its entries.
    :param languages: of its entries.
    :param query: the search clauses for those.
    :param unlisted: whether it also holds content types that the project does not list.
    :param expected: how many entries it holds after the answer that it was cut by; None if that is not known.
    :param created_from: lower bound of the created time, inclusive; None for none.
    :param created_to: upper bound of the created time, exclusive; None for none.
    :param undated: whether it holds the entries without a created time.
    :param id_prefix: the start of its entries' ids, if time could not separate them.
    :param other_ids: whether no hexadecimal digit follows that prefix.
    """

    content_type_ids: tuple[str, ...]
    languages: tuple[str, ...]
    query: tuple[Clause, ...]
    unlisted: bool = False
    expected: int | None = None
    created_from: str | None = None
    created_to: str | None = None
    undated: bool = False
    id_prefix: str = ""
    other_ids: bool = False

    @property
    def content_type_id(self) -> str | None:
        """The content type of its entries; None if there may be several."""
        return self.content_type_ids[0] if len(self.content_type_ids) == 1 and not self.unlisted else None

    @property
    def language(self) -> str | None:
        """The language of its entries; None if there may be several."""
        return self.languages[0] if len(self.languages) == 1 else None

    @property
    def kinds(self) -> Kinds:
        """The content types and languages of its entries, the same for all ranges of a slice."""
        return self.content_type_ids, self.languages

    @property
    def is_slice(self) -> bool:
        """Whether its entries are of one content type and one language."""
        return self.content_type_id is not None and self.language is not None

    @property
    def is_whole(self) -> bool:
        """Whether it holds its content types and languages whole, not a range of them."""
        bounds = (self.created_from, self.created_to, self.undated, self.id_prefix, self.other_ids)
        return not any(bounds)

    @property
    def cut_by(self) -> Literal["content type", "language", "created", "id", "nothing"]:
        """The property by which it can be cut, if it is too large."""
        if len(self.content_type_ids) > 1 or (self.content_type_ids and self.unlisted):
            return "content type"
        if len(self.languages) > 1:
            return "language"
        if self.other_ids or len(self.id_prefix) >= MAX_PREFIX:
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
        name = f"{self._content_types} in {self.language or count(len(self.languages), 'language')}"
        if self.undated:
            name += ", without a created time"
        if self.created_from or self.created_to:
            name += f", created from {self.created_from or 'the beginning'} to {self.created_to or 'now'}"
        if self.id_prefix:
            name += f", ids starting with {self.id_prefix}"
        if self.other_ids:
            name += ", other ids"
        return name

    @property
    def _content_types(self) -> str:
        if not self.unlisted:
            return self.content_type_id or count(len(self.content_type_ids), "content type")
        return "all content types" if self.content_type_ids else "other content types"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Window:
        """Return the window that `vars` of a window made JSON of."""
        tuples = {name: tuple(value[name]) for name in ("content_type_ids", "languages", "query")}
        return cls(**{**value, **tuples})


@dataclass(frozen=True)
class Measure:
    """The size of a window.

    :param total: number of entries, as the service counts them.
    :param first: created time of its first entry; None if hidden or not known.
    :param last: created time of its last entry; None if hidden or not known.
    """

    total: int
    first: str | None = None
    last: str | None = None


@dataclass(frozen=True)
class Plan:
    """What will be read.

    :param content_types: the definitions of those asked for, sorted by id.
    :param whole: all of it.
    :param part: the windows that this read is about, if other workers read the rest; empty for all of it.
    """

    content_types: tuple[ContentType, ...]
    whole: Window
    part: tuple[Window, ...] = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows to read."""
        return self.part or (self.whole,)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Return the plan that `vars` of a plan, and of what it holds, made JSON of."""
        part = tuple(map(Window.from_json, value["part"]))
        return cls(tuple(value["content_types"]), Window.from_json(value["whole"]), part)


@dataclass(frozen=True)
class Cut:
    """The windows that take the place of one that is too large.

    :param window: the one that is too large.
    :param total: its number of entries, as the service counts them.
    :param parts: windows that together are the given one, in order.
    :param first: the entries of the first part, if the answer that showed the size held them.
    """

    window: Window
    total: int
    parts: tuple[Window, ...]
    first: Batch | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what another attempt needs of it."""
        return {**vars(self), "first": None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Cut:
        """Return the cut that JSON was made of."""
        return cls(
            Window.from_json(value["window"]), value["total"], tuple(map(Window.from_json, value["parts"]))
        )
