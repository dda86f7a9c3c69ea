"""Cutting a query into windows: they cover it, do not overlap, and come in order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.cut import cut
from airflow_provider_contensis.export.model import Measure, Window
from airflow_provider_contensis.sandbox.search import compile_where

QUERY = ({"field": "sys.contentTypeId", "equalTo": "film"},)
ROOT = Window(("film",), ("en-GB",), QUERY)
MILLISECOND = replace(ROOT, created_from="2020-01-01T00:00:00.000Z", created_to="2020-01-01T00:00:00.001Z")
START = datetime(2020, 1, 1, tzinfo=UTC)


class Entry:
    """An entry as the sandbox's search sees it."""

    def __init__(self, created: str | None, entry_id: str) -> None:
        self._values = {"sys.contentTypeId": "film", "sys.id": entry_id, "sys.version.created": created}

    def values(self, path: str) -> tuple[object, ...]:
        return (self._values[path],)


def windows_with(windows: list[Window], created: str | None, entry_id: str = "a0") -> list[int]:
    """Return the numbers of the windows that hold an entry."""
    entry = Entry(created, entry_id)
    return [
        number
        for number, window in enumerate(windows)
        if all(clause.accepts(entry) for clause in compile_where(window.where))
    ]


def hourly_times(count: int) -> list[str]:
    return [f"{(START + timedelta(hours=n)).isoformat()[:19]}.{n % 10}Z" for n in range(count)]


def test_windows_cover_every_time_exactly_once_and_in_order() -> None:
    times = hourly_times(500)
    windows = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    found = [windows_with(windows, time) for time in times]
    assert all(len(each) == 1 for each in found)
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    assert len({each[0] for each in found}) == 7
    for outside in ("1999-12-31T23:59:59Z", "2999-01-01T00:00:00Z"):
        assert len(windows_with(windows, outside)) == 1


def test_entry_without_created_time_is_in_a_window_of_its_own() -> None:
    times = hourly_times(500)
    windows = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    assert windows_with([*windows, replace(ROOT, undated=True)], None) == [len(windows)]


def test_number_of_windows_is_multiple_of_concurrency() -> None:
    times = hourly_times(500)
    measure = Measure(20_000, times[0], times[-1])
    ranges = [len(cut(ROOT, measure, aim=3_000, at_once=number)) for number in (1, 4, 8)]
    assert ranges == [7, 8, 7]


def test_window_cut_again_stays_within_its_bounds() -> None:
    times = hourly_times(500)
    outer = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    inner = cut(outer[1], Measure(9_000), aim=3_000)
    for time in times:
        assert len(windows_with(inner, time)) == (1 if windows_with(outer, time) == [1] else 0)
    assert windows_with(inner, None) == []


@pytest.mark.parametrize("last", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.0009Z"])
def test_entries_of_one_millisecond_are_separated_from_all_others_first(last: str) -> None:
    """Only entries of one millisecond are in order when they are ordered by id."""
    windows = cut(ROOT, Measure(12_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert [(window.created_from, window.created_to) for window in windows] == [
        (None, MILLISECOND.created_from),
        (MILLISECOND.created_from, MILLISECOND.created_to),
        (MILLISECOND.created_to, None),
    ]
    again = cut(replace(MILLISECOND, created_to=None), Measure(12_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert again == [MILLISECOND, replace(MILLISECOND, created_from=MILLISECOND.created_to, created_to=None)]


def test_times_that_share_no_bound_but_differ_in_the_millisecond_are_cut_by_time() -> None:
    times = Measure(12_000, "2020-01-01T00:00:00.0019Z", "2020-01-01T00:00:00.0021Z")
    first, second = cut(ROOT, times, aim=6_000)
    assert first.created_to == second.created_from == "2020-01-01T00:00:00.002Z"


@pytest.mark.parametrize("last", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.0009Z"])
def test_entries_with_one_created_time_are_cut_by_id(last: str) -> None:
    windows = cut(MILLISECOND, Measure(12_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert [window.id_prefix for window in windows] == [*"0123456789abcdef", ""]
    for number, digit in enumerate("0123456789abcdef"):
        assert windows_with(windows, "2020-01-01T00:00:00Z", f"{digit}7-x") == [number]
        assert windows_with(windows, "2020-01-01T00:00:00Z", f"{digit}7-x".upper()) == [number]
    assert windows_with(windows, "2020-01-01T00:00:00Z", "zebra") == [16]
    again = cut(windows[3], Measure(5_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert windows_with(again, "2020-01-01T00:00:00Z", "3c-x") == [12]
    assert windows_with(again, "2020-01-01T00:00:00Z", "3-x") == [16]
    assert windows_with(again, "2020-01-01T00:00:00Z", "4c-x") == []


def test_windows_cut_by_id_keep_their_range_of_time() -> None:
    times = hourly_times(500)
    second = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)[1]
    inside = next(time for time in times if windows_with([second], time))
    by_id = cut(second, Measure(9_000, inside, inside), aim=500)
    assert len(windows_with(by_id, inside, "a0")) == 1
    assert windows_with(by_id, "1999-01-01T00:00:00Z", "a0") == []


def test_window_that_cannot_be_cut_is_refused() -> None:
    window = replace(ROOT, undated=True)
    with pytest.raises(
        ExportError, match="share a created time and the start of their id.*narrow the export"
    ):
        for _ in range(99):
            window = cut(window, Measure(99_000, window.created_from, window.created_from), aim=500)[-1]


def test_hidden_or_invalid_times_are_no_obstacle() -> None:
    for first, last in ((None, None), ("soon", "later")):
        windows = cut(ROOT, Measure(20_000, first, last), aim=3_000)
        assert all(len(windows_with(windows, time)) == 1 for time in hourly_times(50))


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_first_and_last_year_of_calendar_are_covered(year: str) -> None:
    first, last = f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59.9999999Z"
    windows = cut(ROOT, Measure(20_000, first, last), aim=3_000)
    assert all(len(windows_with(windows, time)) == 1 for time in (first, f"{year}-07-01T00:00:00Z", last))


def test_absurd_count_makes_limited_number_of_windows() -> None:
    first, last = hourly_times(2)
    assert len(cut(ROOT, Measure(10**400, first, last), aim=500)) <= 12_000


def test_window_describes_itself() -> None:
    windows = cut(ROOT, Measure(20_000, "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"), aim=3_000)
    assert str(ROOT) == "film in en-GB"
    assert str(windows[0]).startswith("film in en-GB, created from the beginning to 2020-")
    assert str(Window((), ("cy",), (), unlisted=True)) == "other content types in cy"
    assert str(Window(("a", "b"), ("en-GB", "cy"), ())) == "2 content types in 2 languages"
    assert str(Window(("a", "b"), ("cy",), (), unlisted=True)) == "all content types in cy"


def test_window_of_other_ids_holds_no_id_with_hexadecimal_start() -> None:
    *by_digit, other = cut(MILLISECOND, Measure(12_000), aim=500)
    assert [window.may_hold("A7-x") for window in (*by_digit, other)] == [n == 10 for n in range(17)]
    assert other.may_hold("zebra")
    assert str(other).endswith(", other ids")
