"""How far a read goes ahead of what is written."""

from __future__ import annotations

import pytest

from airflow_provider_contensis.export.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr("airflow_provider_contensis.export.pace.time.monotonic", lambda: now[0])
    return now


def read(pace: Pace, clock: list[float], seconds: float) -> None:
    def window() -> None:
        clock[0] += seconds

    pace.read(window)


def write(pace: Pace, clock: list[float], seconds: float) -> None:
    with pace.writing():
        clock[0] += seconds


def test_reads_as_far_as_allowed_until_speeds_are_known(clock: list[float]) -> None:
    pace = Pace(12)
    assert pace.windows == 12
    read(pace, clock, 1)
    assert pace.windows == 12


def test_slow_writer_has_few_windows_wait_for_it(clock: list[float]) -> None:
    pace = Pace(12)
    read(pace, clock, 0.01)
    write(pace, clock, 0.03)
    assert pace.windows == 3


def test_slow_service_is_asked_for_as_many_windows_as_are_written_meanwhile(clock: list[float]) -> None:
    pace = Pace(12)
    read(pace, clock, 0.25)
    write(pace, clock, 0.0625)
    assert pace.windows == 6
    write(pace, clock, 0.001)
    assert pace.windows == 7
    read(pace, clock, 5)
    assert pace.windows == 12


def test_one_slow_answer_among_fast_ones_is_forgotten_slowly(clock: list[float]) -> None:
    pace = Pace(12)
    write(pace, clock, 0.1)
    read(pace, clock, 1)
    counts = []
    for _ in range(12):
        read(pace, clock, 0.01)
        counts.append(pace.windows)
    assert counts == [10, 9, 8, 7, 6, 5, 5, 4, 4, 4, 3, 3]


def test_error_of_a_reader_is_passed_on() -> None:
    def fail() -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        Pace(2).read(fail)
