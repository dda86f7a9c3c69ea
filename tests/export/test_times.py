"""Times, as Contensis and people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.times import as_datetime, query_time, sort_key


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2031-04-02T00:00:00Z", "2031-04-02T00:00:00Z"),
        ("2031-04-02", "2031-04-02T00:00:00Z"),
        ("2031-04-02T10:15", "2031-04-02T10:15:00Z"),
        ("2031-04-02 10:15:00+00:00", "2031-04-02T10:15:00Z"),
        ("2031-04-02T10:15:00.1234567Z", "2031-04-02T10:15:00.1234567Z"),
        ("2031-04-02T10:15:00+01:00", "2031-04-02T09:15:00Z"),
        ("2031-04-02T00:15:00.5+0130", "2031-04-01T22:45:00.5Z"),
        (datetime(2031, 4, 2, tzinfo=UTC), "2031-04-02T00:00:00Z"),
        (datetime(2031, 4, 2, 1, tzinfo=timezone(timedelta(hours=1))), "2031-04-02T00:00:00Z"),
    ],
)
def test_time_becomes_an_operand_in_utc_and_keeps_its_digits(value: object, expected: str) -> None:
    assert query_time("changed_from", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "2031-04-02T00:00:00.\u0665Z",
        "\u0662\u0660\u0663\u0661-04-02",
        "",
        "None",
        "yesterday",
        "2031-13-02",
        "2031-04-02T25:00:00Z",
        "2031-04-02T00:00:00+99:99",
        7,
    ],
)
def test_invalid_time_is_refused_with_the_name_of_the_argument(value: object) -> None:
    with pytest.raises(ConfigurationError, match="changed_from must be an ISO 8601 time"):
        query_time("changed_from", value)


def test_times_sort_correctly_without_trailing_zeros() -> None:
    in_order = [
        "2024-10-04T11:09:19Z",
        "2024-10-04T11:09:19.7Z",
        "2024-10-04T11:09:19.7201780Z",
        "2024-10-04T11:09:19.7201781Z",
        "2024-10-04T12:09:20+01:00",
        "2024-10-04T11:09:20.32957Z",
    ]
    assert sorted(in_order, key=sort_key) == in_order


def test_unreadable_time_sorts_without_failing() -> None:
    assert sort_key("soon") == "soon"
    assert as_datetime("soon") is None
    assert as_datetime(None) is None


def test_time_is_read_to_the_microsecond() -> None:
    assert as_datetime("2024-10-04T11:09:30.5492109Z") == datetime(2024, 10, 4, 11, 9, 30, 549210, UTC)
