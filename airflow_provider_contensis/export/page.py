"""One page of a search: bytes in, checked entries out. Pure.

Entries are never decoded whole, which would take most of the time of an export and could cost a digit of
a number: they stay the bytes that were served, but for their metadata.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_contensis.exceptions import IncompleteReadError, InvalidResponseError
from airflow_provider_contensis.export import lone_surrogates
from airflow_provider_contensis.export.batch import Batch, EntryMeta
from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.export.times import as_datetime, sort_key
from airflow_provider_contensis.utils.json import ARRAY, UNREADABLE
from airflow_provider_contensis.utils.text import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.buffers import Body
    from airflow_provider_contensis.export.model import ChangeMark, EntryQuery, Window

SIZES = "sizes"  # the aggregation that is asked for
_CHUNK_BYTES = 1 << 13
_MILLISECOND = timedelta(milliseconds=1)
_KIND_CHECKS = {
    "language": ("language-clause",),
    "contentTypeId": ("content-type-clause",),
    "dataFormat": ("data-format-clause",),
    "versionStatus": ("version-status",),
    "projectId": (),
}
_KINDS = ("language", "content_type_id", "data_format", "version_status")
_KIND = attrgetter(*_KINDS, "project_id")
# An entry's id, why it was not asked for, and the checks of the doctor that look for the cause.
_Contradiction = tuple[str, str, tuple[str, ...]]


class RawPage(msgspec.Struct, rename="camel"):
    """A page of entries as served (docs/contensis-api.md, "Paging").

    :param total_count: number of entries that match, on all pages.
    :param items: the entries of this page; one that spanned lines is compact now.
    :param page_size: the most entries that the service puts on a page, if it says so.
    :param aggregations: numbers of entries by name and value; None if the service has none.
    """

    total_count: int
    items: list[msgspec.Raw]
    page_size: int | None = None
    aggregations: Any = None


@dataclass(frozen=True)
class Page:
    """A page that holds what its window asks for.

    :param size: number of entries on a full page.
    :param named_size: the size that the answer names; None if it names none.
    :param total: number of entries in the window, as the service counts them.
    :param sizes: number of entries by content type or language, in lower case, whichever the window is cut by
        next; None if the service does not say.
    """

    size: int
    total: int
    batch: Batch
    sizes: dict[str, int] | None = None
    named_size: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether it says that there is no more."""
        return self.total <= len(self.batch.entries)

    @property
    def is_last(self) -> bool:
        """Whether there is no more, beyond doubt: if a full page says so, the next one has to agree."""
        return self.is_all and len(self.batch.entries) < self.size

    @property
    def first_created(self) -> str | None:
        """The created time of its first entry; None if there is none, or it is hidden."""
        return self.batch.metas[0].created if self.batch.metas else None

    @property
    def last_created(self) -> str | None:
        """The created time of its last entry; None if there is none, or it is hidden."""
        return self.batch.metas[-1].created if self.batch.metas else None


class _Decoder:
    """Decodes `sys` of entries, as far as the reader looks into it.

    :param change_mark: as `EntryQuery.change_mark`.
    """

    def __init__(self, change_mark: ChangeMark) -> None:
        text = str | None
        self._mark_is_later = change_mark == "either"
        mark = msgspec.field(default=None, name="modified" if self._mark_is_later else change_mark)
        times: list[Any] = [("created", text, None), ("changed", text, mark)]
        times += [("published", text, None)] if self._mark_is_later else []
        if change_mark == "published":  # they tell a draft from a published version
            number = msgspec.field(default=None, name="versionNo")
            times += [("modified", text, None), ("version_no", text, number)]
        version = msgspec.defstruct("Version", times, gc=False)
        kinds: list[Any] = [(name, str, "") for name in _KINDS]
        members = [("id", str), *kinds, ("project_id", text, None), ("version", version | None, None)]
        sys = msgspec.defstruct("Sys", members, rename="camel", gc=False)
        entry: Any = msgspec.defstruct("Entry", [("sys", sys)], gc=False)  # built at run time
        self._decode = msgspec.json.Decoder(entry).decode
        # A project may hide times (docs/contensis-api.md, "Projects").
        self._hidden: Any = version()

    def decode(self, entries: Sequence[msgspec.Raw]) -> list[Any]:
        """Return `sys` of entries.

        :raises ValueError: an entry has no usable `sys`.
        """
        decode = self._decode
        try:
            return [decode(entry).sys for entry in entries]
        except UNREADABLE:
            pass
        try:
            return [decode(lone_surrogates.hide(bytes(entry))).sys for entry in entries]
        except UNREADABLE:
            raise ValueError("sys.id, sys.language or sys.contentTypeId is missing or invalid") from None

    def metas(self, decoded: Sequence[Any]) -> list[EntryMeta]:
        """Return the metadata of entries."""
        hidden = self._hidden
        if self._mark_is_later:
            for sys in decoded:
                if sys.version is not None:
                    sys.version.changed = _later(sys.version.changed, sys.version.published)
        return [
            EntryMeta(sys.id, sys.language, sys.content_type_id, version.created, version.changed)
            for sys in decoded
            for version in (sys.version or hidden,)
        ]


_PAGE = msgspec.json.Decoder(RawPage)
_DECODERS: dict[ChangeMark, _Decoder] = {
    "published": _Decoder("published"),
    "modified": _Decoder("modified"),
    "either": _Decoder("either"),
}


def _later(one: str | None, other: str | None) -> str | None:
    return max(filter(None, (one, other)), key=sort_key, default=None)


def split_page(body: Body, window: Window) -> RawPage:
    """Return the page of entries that an answer holds.

    :param window: named in the error message.
    :raises InvalidResponseError: the answer is something else.
    """
    try:
        _check_utf8(body.view)  # entries are passed on as bytes, and msgspec does not look into them
        page = _decode_page(body)
    except UNREADABLE:
        page = None
    if page is None:  # raised outside the handler: the original error holds the body
        raise InvalidResponseError(f"{window}: the service did not answer with a page of entries.")
    return page


def _decode_page(body: Body) -> RawPage:
    try:
        page, hidden = _PAGE.decode(body.view), False
    except UNREADABLE:  # msgspec refuses lone surrogates, even in what it does not decode
        page, hidden = _PAGE.decode(lone_surrogates.hide(bytes(body.view))), True
    if body.spans_lines:
        page.items = [msgspec.Raw(msgspec.json.format(bytes(item), indent=-1)) for item in page.items]
    if hidden:
        page.items = [msgspec.Raw(lone_surrogates.reveal(bytes(item))) for item in page.items]
    return page


def split_entries(array: bytes) -> list[msgspec.Raw]:
    """Return the entries of a JSON array.

    :raises ValueError: it is not an array, or not JSON.
    """
    try:
        return ARRAY.decode(array)
    except UNREADABLE:
        hidden = ARRAY.decode(lone_surrogates.hide(array))
        return [msgspec.Raw(lone_surrogates.reveal(bytes(entry))) for entry in hidden]


def entry_metas(entries: Sequence[msgspec.Raw], change_mark: ChangeMark) -> list[EntryMeta]:
    """Return the metadata of entries.

    :param change_mark: as `EntryQuery.change_mark`.
    :raises ValueError: an entry has no usable `sys`.
    """
    decoder = _DECODERS[change_mark]
    return decoder.metas(decoder.decode(entries))


def check_page(raw: RawPage, window: Window, page_size: int, query: EntryQuery, project_id: str) -> Page:
    """Return a page with as many distinct entries as the service counts, all of them asked for.

    :param page_size: as requested.
    :param query: what the window is a part of.
    :param project_id: of the entries.
    :raises IncompleteReadError: the page does not hold what the service says it does.
    :raises InvalidResponseError: an entry is malformed, or was not asked for.
    """
    decoder = _DECODERS[query.change_mark]
    try:
        decoded = decoder.decode(raw.items)
    except ValueError as error:
        raise InvalidResponseError(f"{window}: an entry's {error}.") from None
    batch = Batch.of(window, raw.items, decoder.metas(decoded))
    # The service may give smaller pages than requested.
    size = raw.page_size if raw.page_size is not None and 1 <= raw.page_size < page_size else page_size
    expected = min(size, raw.total_count)
    came, distinct = len(batch.keys), len(set(batch.keys))
    if not expected == came == distinct:
        raise IncompleteReadError(
            f"{window}: the service counts {raw.total_count:,} entries and a page should hold "
            f"{expected:,} of them, but it holds {came:,}, {distinct:,} of them distinct. "
            + hint("page-size", "total-count"),
            expected=expected,
            found=distinct,
        )
    contradiction = (
        _wrong_kind(window, query, project_id, decoded)
        or _wrong_window(window, batch.metas)
        or _wrong_version(query, decoded)
        or _wrong_change_mark(query, batch.metas)
    )
    if contradiction is not None:
        entry_id, reason, checks = contradiction
        raise InvalidResponseError(
            f"{window}: the answer holds entry {entry_id}, which was not asked for: {reason}."
            + (f" {hint(*checks)}" if checks else "")
        )
    return Page(size, raw.total_count, batch, _sizes(raw.aggregations), raw.page_size)


def _sizes(aggregations: Any) -> dict[str, int] | None:
    sizes = aggregations.get(SIZES) if isinstance(aggregations, dict) else None
    return sizes if isinstance(sizes, dict) and all(type(size) is int for size in sizes.values()) else None


def _wrong_kind(
    window: Window, query: EntryQuery, project_id: str, decoded: Sequence[Any]
) -> _Contradiction | None:
    """Return an entry of another kind than asked for."""
    # Nearly always one kind, so that this costs no comparison for each entry.
    kinds = {_KIND(sys): sys for sys in decoded}
    asked: dict[str, set[str]] = {
        "language": {name.lower() for name in window.languages},
        "contentTypeId": set() if window.unlisted else {name.lower() for name in window.content_type_ids},
        "dataFormat": {query.data_format} if query.data_format else set(),
        "versionStatus": {query.version_status.lower()},
        "projectId": {project_id.strip().lower()},
    }
    for found, sys in kinds.items():
        for (name, allowed), value in zip(asked.items(), found, strict=True):
            if value and allowed and value.lower() not in allowed:
                checks = _KIND_CHECKS[name] if len(allowed) == 1 else (*_KIND_CHECKS[name], "in")
                return sys.id, f"its sys.{name} is {show(value)}", checks
    return None


def _wrong_window(window: Window, metas: Sequence[EntryMeta]) -> _Contradiction | None:
    """Return an entry outside of a window, as from a cache that ignores the request's body."""
    lower, upper = as_datetime(window.created_from), as_datetime(window.created_to)
    # A page is ordered by created time, so its ends are enough; times may be hidden.
    for meta in (metas[0], metas[-1]) if metas else ():
        moment = as_datetime(meta.created)
        if moment is not None and (
            window.undated
            or (lower is not None and moment < lower)
            or (upper is not None and moment >= upper)
        ):
            checks = ("exists",) if window.undated else ("created-ranges", "time-precision", "order")
            return meta.id, f"it was created at {show(meta.created)}", checks
    if window.id_prefix or window.other_ids:
        for meta in metas:
            if not window.may_hold(meta.id):
                return meta.id, "its id", ("starts-with", "not", "or")
    return None


def _wrong_version(query: EntryQuery, decoded: Sequence[Any]) -> _Contradiction | None:
    """Return a draft among published entries, as from a service that ignores the clause."""
    if query.version_status != "published":
        return None
    for sys in decoded:
        version = sys.version
        if version is None:
            continue
        # The Delivery API may hide single times; the Management API shows all or none.
        if version.changed is None:
            if version.created is not None and query.api == "management":
                return sys.id, "it was never published", ("version-status", "change-marks")
        # Publishing leaves no minor number, and comes after the last save.
        elif (version.version_no or "0.0").endswith(".0"):
            continue
        elif (saved := as_datetime(version.modified)) is not None and saved > (
            as_datetime(version.changed) or saved
        ):
            reason = f"version {show(version.version_no)} was saved after it was published, so it is a draft"
            return sys.id, reason, ("version-status",)
    return None


def _wrong_change_mark(query: EntryQuery, metas: Sequence[EntryMeta]) -> _Contradiction | None:
    """Return an entry that changed at another time than asked for."""
    lower, upper = as_datetime(query.changed_from), as_datetime(query.changed_to)
    if lower is None and upper is None:
        return None
    for meta in metas:
        changed = as_datetime(meta.changed)
        # The search index compares whole milliseconds.
        if changed is not None and (
            (lower is not None and changed < lower - _MILLISECOND)
            or (upper is not None and changed > upper + _MILLISECOND)
        ):
            return meta.id, f"its change mark is {show(meta.changed)}", ("changed-ranges",)
    return None


def _check_utf8(body: memoryview) -> None:
    """Raise UnicodeDecodeError unless bytes are UTF-8.

    In small chunks: text can take four times the memory, and malloc would keep that.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    for start in range(0, len(body), _CHUNK_BYTES):
        decode(body[start : start + _CHUNK_BYTES])
    decode(b"", final=True)
