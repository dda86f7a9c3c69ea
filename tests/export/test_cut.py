"""Cutting a query into windows: they cover it, they do not overlap, and they come in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_contensis.exceptions import ExportError
from airflow_provider_contensis.export.cut import cut
from airflow_provider_contensis.export.model import Measure, Window
from airflow_provider_contensis.sandbox.search import compile_where

QUERY = ({"field": "sys.contentTypeId", "equalTo": "film"},)
ROOT = Window("en-GB", "film", QUERY)
START = datetime(2020, 1, 1, tzinfo=UTC)


class Entry:
    """An entry as the sandbox's search sees one."""

    def __init__(self, created: str | None, entry_id: str) -> None:
        self._values = {"sys.contentTypeId": "film", "sys.id": entry_id, "sys.version.created": created}

    def values(self, path: str) -> tuple[object, ...]:
        return (self._values[path],)


def holders(windows: list[Window], created: str | None, entry_id: str = "a0") -> list[int]:
    """Return which windows hold an entry."""
    entry = Entry(created, entry_id)
    return [
        number
        for number, window in enumerate(windows)
        if all(clause.accepts(entry) for clause in compile_where(window.where))
    ]


def moments(count: int) -> list[str]:
    return [f"{(START + timedelta(hours=n)).isoformat()[:19]}.{n % 10}Z" for n in range(count)]


def test_a_cut_query_covers_every_time_exactly_once_and_in_order() -> None:
    times = moments(500)
    windows = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    found = [holders(windows, time) for time in times]
    assert all(len(each) == 1 for each in found)
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    assert len({each[0] for each in found}) == 7
    for beyond in ("1999-12-31T23:59:59Z", "2999-01-01T00:00:00Z"):
        assert len(holders(windows, beyond)) == 1


def test_an_entry_without_a_created_time_is_in_a_window_too() -> None:
    times = moments(500)
    windows = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    assert holders(windows, None) == [len(windows) - 1]
    assert not holders(cut(ROOT, Measure(20_000, times[0], times[-1], undated=False), aim=3_000), None)


def test_as_many_parts_as_are_read_at_a_time_come_out_even() -> None:
    times = moments(500)
    measure = Measure(20_000, times[0], times[-1])
    ranges = [len(cut(ROOT, measure, aim=3_000, at_once=number)) - 1 for number in (1, 4, 8)]
    assert ranges == [7, 8, 7]


def test_a_window_that_is_cut_again_stays_within_its_bounds() -> None:
    times = moments(500)
    outer = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)
    inner = cut(outer[1], Measure(9_000), aim=3_000)
    for time in times:
        assert len(holders(inner, time)) == (1 if holders(outer, time) == [1] else 0)
    assert holders(inner, None) == []


@pytest.mark.parametrize("last", ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.0009Z"])
def test_entries_that_share_a_moment_are_cut_by_id(last: str) -> None:
    windows = cut(ROOT, Measure(12_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert [window.id_prefix for window in windows] == [*"0123456789abcdef", ""]
    for number, digit in enumerate("0123456789abcdef"):
        assert holders(windows, "2020-01-01T00:00:00Z", f"{digit}7-x") == [number]
        assert holders(windows, "2020-01-01T00:00:00Z", f"{digit}7-x".upper()) == [number]
    assert holders(windows, "2020-01-01T00:00:00Z", "zebra") == [16]
    again = cut(windows[3], Measure(5_000, "2020-01-01T00:00:00Z", last), aim=500)
    assert holders(again, "2020-01-01T00:00:00Z", "3c-x") == [12]
    assert holders(again, "2020-01-01T00:00:00Z", "3-x") == [16]
    assert holders(again, "2020-01-01T00:00:00Z", "4c-x") == []


def test_ids_within_a_range_of_time_keep_to_it() -> None:
    times = moments(500)
    second = cut(ROOT, Measure(20_000, times[0], times[-1]), aim=3_000)[1]
    inside = next(time for time in times if holders([second], time))
    by_id = cut(second, Measure(9_000, inside, inside), aim=500)
    assert len(holders(by_id, inside, "a0")) == 1
    assert holders(by_id, "1999-01-01T00:00:00Z", "a0") == []


def test_what_can_not_be_cut_is_refused_in_a_sentence() -> None:
    window = ROOT
    with pytest.raises(
        ExportError, match="share a created time and the start of their id.*narrow the export"
    ):
        for _ in range(99):
            window = cut(window, Measure(99_000, window.created_from, window.created_from), aim=500)[-1]


def test_hidden_or_unreadable_times_do_not_matter() -> None:
    for first, last in ((None, None), ("soon", "later")):
        windows = cut(ROOT, Measure(20_000, first, last), aim=3_000)
        assert all(len(holders(windows, time)) == 1 for time in moments(50))


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_the_ends_of_the_calendar_do_no_harm(year: str) -> None:
    first, last = f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59.9999999Z"
    windows = cut(ROOT, Measure(20_000, first, last), aim=3_000)
    assert all(len(holders(windows, time)) == 1 for time in (first, f"{year}-07-01T00:00:00Z", last))


def test_a_count_beyond_belief_makes_no_more_windows_than_can_be_held() -> None:
    first, last = moments(2)
    assert len(cut(ROOT, Measure(10**400, first, last), aim=500)) <= 12_000


def test_a_window_tells_what_it_is() -> None:
    windows = cut(ROOT, Measure(20_000, "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"), aim=3_000)
    assert str(ROOT) == "film in en-GB"
    assert str(windows[0]).startswith("film in en-GB, created from the beginning to 2020-")
    assert str(Window("cy", None, ())) == "other content types in cy"


def test_a_window_of_other_ids_holds_none_that_a_digit_begins() -> None:
    *by_digit, other = cut(ROOT, Measure(12_000, "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), aim=500)
    assert [window.may_hold("A7-x") for window in (*by_digit, other)] == [n == 10 for n in range(17)]
    assert other.may_hold("zebra")
    assert str(other) == "film in en-GB, other ids"
