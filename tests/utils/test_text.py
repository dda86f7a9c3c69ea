"""Text for people: any value on one printable line."""

from __future__ import annotations

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.utils.text import as_text, count, duration, show

HUGE = 10**5_000


def test_message_is_one_printable_line() -> None:
    error = ContensisError("He said\r\nERROR all is lost\x1b[2J\u202e\ud800. Caf\u00e9.")
    assert str(error) == r"He said\r\nERROR all is lost\x1b[2J\u202e\ud800. Caf" + "\u00e9."
    assert error.message == str(error)


def test_long_message_loses_its_middle() -> None:
    text = str(ContensisError("What " + "\x00" * 10_000 + " to do."))
    assert len(text) < 2_000
    assert text.startswith("What ")
    assert text.endswith(" to do.")


def test_any_value_can_be_shown() -> None:
    deep: list[object] = []
    for _ in range(20_000):
        deep = [deep]
    assert show("film") == "'film'"
    assert show(HUGE) == as_text(HUGE) == "<int>"
    assert show(deep) == as_text(deep) == "<list>"
    assert len(show("a" * 10_000)) < 300


def test_numbers_agree_with_their_nouns() -> None:
    assert (count(1, "window"), count(2_000, "window")) == ("1 window", "2,000 windows")
    assert (count(1, "entry", "entries"), count(0, "entry", "entries")) == ("1 entry", "0 entries")
    assert (duration(1), duration(1.0), duration(0.2)) == ("1 second", "1 second", "0.2 seconds")
    assert duration(1, "more second") == "1 more second"
