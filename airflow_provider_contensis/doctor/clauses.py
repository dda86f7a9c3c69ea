"""Checks of searches: which entries match a clause, and in which order they come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.doctor.check import EXPORTS_FAIL, REPORT, Checklist, FailedError, SkippedError
from airflow_provider_contensis.doctor.probe import CREATED, PUBLISHED
from airflow_provider_contensis.exceptions import APIError
from airflow_provider_contensis.export.model import HEX_DIGITS
from airflow_provider_contensis.export.times import as_datetime, query_millisecond
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.resources import Clause
    from airflow_provider_contensis.doctor.probe import Probe, Sys

CLAUSES, CHANGES = Checklist(), Checklist()

_NOT_THERE = "zz-not-there"
_FEWEST_IN_ORDER = 5  # fewer may be in order by chance
_MILLISECOND = timedelta(milliseconds=1)
_KEPT_APART = "Exports refuse the entries that they did not ask for, and fail."
_LARGE_FAIL = "Exports of more than about a page of one content type fail."


@CLAUSES.add(
    "content-type-clause",
    "A search by content type finds only its entries",
    impact=_KEPT_APART,
    advice=REPORT,
)
def content_type_clause(probe: Probe) -> str:
    """Search for a content type, and for one that does not exist."""
    if probe.content_type_id is None:
        raise SkippedError("no content type has published entries in the main language")
    others = [entry for entry in probe.sample if not _is(entry.content_type_id, probe.content_type_id)]
    _expect_none("other content types", len(others), len(probe.sample))
    return _absent(probe, "sys.contentTypeId", probe.clauses("published"))


@CLAUSES.add(
    "language-clause", "A search by language finds only that language", impact=_KEPT_APART, advice=REPORT
)
def language_clause(probe: Probe) -> str:
    """Search for a language, and for one that does not exist."""
    others = [entry for entry in probe.sample if not _is(entry.language, probe.languages[0])]
    _expect_none("other languages", len(others), len(probe.sample))
    clauses = [clause for clause in probe.everything if clause["field"] != "sys.language"]
    return _absent(probe, "sys.language", clauses)


@CLAUSES.add(
    "data-format-clause",
    "A search by data format finds only entries, or only assets",
    impact="Assets come along among the entries, or exports refuse them and fail.",
    advice=REPORT,
)
def data_format_clause(probe: Probe) -> str:
    """Search for entries, and for assets."""
    assets = probe.page(base=probe.clauses("published", data_format="asset"), size=25).entries
    for name, entries in (("entry", probe.sample), ("asset", assets)):
        others = [entry for entry in entries if entry.data_format and not _is(entry.data_format, name)]
        _expect_none("another format", len(others), len(entries))
    return f"{count(len(probe.sample), 'entry', 'entries')}, {count(len(assets), 'asset')}"


@CLAUSES.add(
    "ids",
    "A search by id finds that entry",
    impact=EXPORTS_FAIL,
    advice=REPORT,
    needs=("language-clause",),
)
def ids(probe: Probe) -> str:
    """Search for some entries by their ids, one at a time."""
    for id_ in (chosen := _ids(probe)):
        _expect(probe.count(_id(id_), base=probe.slice), 1, "for one id")
    return count(len(chosen), "id")


@CLAUSES.add(
    "in",
    "`in` finds what its values find one by one",
    impact="Exports of several content types or languages at once fail.",
    advice="Export one content type and one language in each task.",
    needs=("content-type-clause", "language-clause", "ids"),
)
def in_(probe: Probe) -> str:
    """Search for content types, languages and ids."""
    types = sorted(probe.counts, key=probe.counts.__getitem__)[:3]
    for field, values, base in (
        ("sys.contentTypeId", types, probe.everything),
        ("sys.language", probe.languages[:2], _without(probe.slice, "sys.language")),
    ):
        parts = sum(probe.count({"field": field, "equalTo": value}, base=base) for value in values)
        _expect(probe.count({"field": field, "in": values}, base=base), parts, "with in, one by one")
    chosen = _ids(probe)
    _expect(probe.count({"field": "sys.id", "in": chosen}, base=probe.slice), len(chosen), "for ids")
    return f"{count(len(types), 'content type')}, {count(len(chosen), 'id')}"


@CLAUSES.add(
    "content-types",
    "The project lists every content type that has entries",
    impact="Exports find the others, warn and include them, as JSON without columns.",
    advice="Assign the API key to a role that may view all content types.",
    needs=("in",),
)
def content_types(probe: Probe) -> str:
    """Count the entries of all listed content types, and all entries."""
    listed = {"field": "sys.contentTypeId", "in": probe.content_types}
    found = probe.count(listed) if probe.content_types else 0
    if found < probe.total:
        raise FailedError(f"{probe.total - found:,} of {probe.total:,} entries are of other content types")
    return f"{count(len(probe.content_types), 'content type')}, {count(found, 'entry', 'entries')}"


@CLAUSES.add(
    "or",
    "`or` finds what its clauses find one by one",
    impact=(
        "Copies of latest versions fail; so do exports of more entries, created within one millisecond, than "
        "fit on a page."
    ),
    advice="Set a larger page_size, and export everything instead of following changes.",
    needs=("ids",),
)
def or_(probe: Probe) -> str:
    """Search for one id or another."""
    chosen = _ids(probe)
    _expect(probe.count({"or": [_id(id_) for id_ in chosen]}, base=probe.slice), len(chosen), "with or")
    return count(len(chosen), "clause")


@CLAUSES.add(
    "not",
    "`not` finds all other entries",
    impact=(
        "Copies fail. Exports warn, and fail if there are entries of content types that the project does not "
        "list."
    ),
    advice="Assign the API key to a role that may view all content types.",
    needs=("ids",),
)
def not_(probe: Probe) -> str:
    """Search for all entries but one."""
    total = probe.count(base=probe.slice)
    id_ = _ids(probe)[0]
    _expect(probe.count({"not": _id(id_)}, base=probe.slice), total - 1, "of all but one")
    return f"{total - 1:,} of {total:,}"


@CLAUSES.add(
    "exists",
    "`exists` tells entries with a value from those without",
    impact=(
        "Copies of latest versions fail; so do exports from the Delivery API of a project that hides "
        "sys.version from it."
    ),
    advice='Use api="management", where sys.version is always there.',
)
def exists(probe: Probe) -> str:
    """Search for entries with and without an id, and with and without a created time."""
    total = probe.count(base=probe.slice)
    for field in ("sys.id", CREATED):
        found = [probe.count({"field": field, "exists": value}, base=probe.slice) for value in (True, False)]
        _expect(sum(found), total, "with and without")
        _expect(found[1], 0, "without")
    return count(total, "entry", "entries")


@CLAUSES.add(
    "starts-with",
    "`startsWith` on sys.id divides entries",
    impact=(
        "Copies fail; so do exports of more entries, created within one millisecond, than fit on a page."
    ),
    advice="Set a larger page_size, and export everything instead of following changes.",
    needs=("ids",),
)
def starts_with(probe: Probe) -> str:
    """Count the ids that start with each hexadecimal digit."""
    total = probe.count(base=probe.slice)
    found = sum(
        probe.count({"field": "sys.id", "startsWith": digit}, base=probe.slice) for digit in HEX_DIGITS
    )
    _expect(found, total, "by the first digit of the id")
    id_ = _ids(probe)[0]
    _expect(probe.count({"field": "sys.id", "startsWith": id_}, base=probe.slice), 1, "for a whole id")
    return count(total, "entry", "entries")


@CLAUSES.add(
    "order",
    "Entries come in the order of their created times",
    impact=_LARGE_FAIL,
    advice=REPORT,
)
def order(probe: Probe) -> str:
    """Compare pages from both ends."""
    found = 0
    for direction in ("asc", "desc"):
        entries = probe.page(base=probe.slice, order=({direction: CREATED}, {direction: "sys.id"})).entries
        moments = [as_datetime(entry.version.created) for entry in entries]
        keys = [query_millisecond(moment) for moment in moments if moment is not None]
        found = _expect_order(keys, direction)
    return count(found, "entry", "entries")


@CLAUSES.add(
    "id-order",
    "Entries can be ordered by sys.id",
    impact="Exports read entries of one created time again if pages overlap, and may fail.",
    advice=REPORT,
)
def id_order(probe: Probe) -> str:
    """Compare pages from both ends."""
    found = 0
    for direction in ("asc", "desc"):
        entries = probe.page(base=probe.slice, order=({direction: "sys.id"},)).entries
        found = _expect_order([entry.id.lower() for entry in entries], direction)
    return count(found, "entry", "entries")


@CLAUSES.add(
    "created-ranges",
    "Ranges of created times add up",
    impact=_LARGE_FAIL,
    advice=REPORT,
)
def created_ranges(probe: Probe) -> str:
    """Count entries before and from some created times on."""
    return _ranges(probe, CREATED)


@CHANGES.add(
    "changed-ranges",
    "Ranges of change marks add up",
    impact="Incremental exports (changed_from, changed_to) and copies fail.",
    advice="Export everything each time.",
    needs=("change-marks", "version-status"),
)
def changed_ranges(probe: Probe) -> str:
    """Count entries published before and from some times on."""
    return _ranges(probe, PUBLISHED)


@CLAUSES.add(
    "time-precision",
    "Times are compared by the millisecond, or finer",
    impact="Exports of more than about a page of one content type may refuse pages, and fail.",
    advice="Set a larger page_size, so that fewer windows are needed.",
    needs=("created-ranges", "ids"),
)
def time_precision(probe: Probe) -> str:
    """Search for an entry within its millisecond, and outside of it."""
    tried = 0
    for entry in probe.sample:
        moment = as_datetime(entry.version.created)
        if moment is None or moment.microsecond < 1_000 or tried == 2:
            continue
        tried += 1
        begin = moment - timedelta(microseconds=moment.microsecond % 1_000)
        for operator, bound, expected in (
            ("greaterThanOrEqualTo", begin, 1),
            ("lessThan", begin + _MILLISECOND, 1),
            ("greaterThanOrEqualTo", begin + _MILLISECOND, 0),
            ("lessThan", begin, 0),
        ):
            clause = {"field": CREATED, operator: query_millisecond(bound)}
            if probe.count(_id(entry.id), clause, base=probe.slice) != expected:
                raise FailedError("a bound within the second of an entry is not respected")
    if not tried:
        raise SkippedError("no created time has a fraction of a second")
    return count(tried, "entry", "entries")


def _ranges(probe: Probe, field: str) -> str:
    moments = probe.times(field.rpartition(".")[2])
    total = probe.count(base=probe.slice)
    for part in (1, 2, 3):
        bound = query_millisecond(moments[len(moments) * part // 4])
        before = probe.count({"field": field, "lessThan": bound}, base=probe.slice)
        after = probe.count({"field": field, "greaterThanOrEqualTo": bound}, base=probe.slice)
        _expect(before + after, total, "before and from a time on")
    return count(total, "entry", "entries")


def _absent(probe: Probe, field: str, base: Sequence[Clause]) -> str:
    """Expect nothing for a value that does not exist; a refusal shows as much."""
    try:
        found = probe.count({"field": field, "equalTo": _NOT_THERE}, base=base)
    except APIError as error:
        if error.status_code not in {400, 404, 422}:
            raise
        found = 0
    _expect_none("a value that does not exist", found, probe.total)
    return count(len(probe.sample), "entry", "entries")


def _expect(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise FailedError(f"{found:,} entries {what}, {expected:,} expected")


def _expect_none(what: str, found: int, among: int) -> None:
    if found:
        raise FailedError(f"{found:,} of {among:,} entries are of {what}")


def _expect_order(keys: list[Any], direction: str) -> int:
    if len(set(keys)) < _FEWEST_IN_ORDER:
        raise SkippedError(f"fewer than {_FEWEST_IN_ORDER} different values")
    if keys != sorted(keys, reverse=direction == "desc"):
        raise FailedError(f"{count(len(keys), 'entry', 'entries')} out of order")
    return len(keys)


def _ids(probe: Probe) -> list[str]:
    return [entry.id for entry in _spread(probe.sample, 3)]


def _spread(entries: list[Sys], number: int) -> list[Sys]:
    return entries[:: max(1, len(entries) // number)][:number]


def _id(id_: str) -> Clause:
    return {"field": "sys.id", "equalTo": id_}


def _is(found: str, asked: str) -> bool:
    return not found or found.lower() == asked.lower()


def _without(clauses: Sequence[Clause], field: str) -> list[Clause]:
    return [clause for clause in clauses if clause["field"] != field]
