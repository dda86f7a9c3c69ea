"""What a copy holds: digests, and the ledger of a feed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import uuid
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from airflow_provider_contensis.exceptions import DestinationError
from airflow_provider_contensis.export.ledger import Held, HeldSlice, Part, holdings
from airflow_provider_contensis.export.page import entry_metas
from airflow_provider_contensis.export.sinks import feed_ledger_file
from airflow_provider_contensis.export.sinks.feed_ledger import FeedLedger
from airflow_provider_contensis.export.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILM = HeldSlice("film", "en-GB")
WHOLE = Part(content_type_ids=("film",), languages=("en-GB",))


def holding(entry: dict[str, Any], *, text: str | None = None) -> Held:
    raw = msgspec.Raw((text or json.dumps(entry, separators=(",", ":"))).encode())
    [held] = holdings([raw], entry_metas([raw], "either"))
    return held


def film(**sys: Any) -> dict[str, Any]:
    return {
        "title": "The Lantern Keeper",
        "sys": {"id": "a1", "language": "en-GB", "contentTypeId": "film", **sys},
    }


class TestDigest:
    def test_who_asks_does_not_matter(self) -> None:
        digests = {
            holding(film(workflow={"id": "basic", "allowedEvents": allowed, "state": "draft"})).digest
            for allowed in ([], ["draft.publish", "draft.sysDelete"], None)
        }
        assert len(digests) == 1

    @pytest.mark.parametrize(
        "other",
        [
            film(workflow={"state": "versionComplete"}),
            film(allowedEvents=["x"]),
            film(slug="another"),
            {**film(), "title": "The lantern keeper"},
            {**film(), "workflow": {"allowedEvents": ["a field of the author's"]}},
        ],
    )
    def test_all_else_matters(self, other: dict[str, Any]) -> None:
        assert holding(other).digest != holding(film()).digest

    def test_every_digit_of_a_number_matters(self) -> None:
        text = '{"ratio":%s,"sys":{"id":"a1","language":"en-GB","contentTypeId":"film"}}'
        one, other = (holding({}, text=text % number) for number in ("0.1", "0.10"))
        assert one.digest != other.digest

    def test_entry_with_lone_surrogate_has_one(self) -> None:
        text = json.dumps({**film(workflow={"allowedEvents": ["x"]}), "title": "\ud83d"})
        assert r"\ud83d" in text
        assert holding({}, text=text).digest == holding({}, text=text.replace('["x"]', "[]")).digest

    def test_is_the_same_in_every_process(self) -> None:
        program = (
            "from tests.export.test_ledger import film, holding; print(holding(film()).digest.hex(), end='')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == holding(film()).digest.hex()


def test_times_are_kept_as_numbers() -> None:
    times = {"created": "1970-01-01T00:00:01.2345678Z", "modified": "1970-01-01T00:00:02.5Z"}
    held = holding(film(version={**times, "published": "1970-01-01T00:00:02.5000019Z"}))
    assert (held.created, held.changed, held.is_published) == (1_234, 2_500_001, True)
    held = holding(film(version={**times, "published": None}))
    assert (held.changed, held.is_published) == (2_500_000, False)
    held = holding(film())
    assert (held.created, held.changed, held.is_published) == (None, None, False)


def invented(number: int, seed: int = 0, *, undated: int = 0) -> list[Held]:
    """Return entries, some of which share a created time, in no order."""
    rng = random.Random(seed)
    entries = [
        Held(
            str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            None if row < undated else 1_500_000_000_000 + rng.randrange(number // 3) * 86_400_000,
            1_600_000_000_000_000 + rng.getrandbits(40),
            rng.randbytes(8),
            rng.random() < 0.5,
        )
        for row in range(number)
    ]
    rng.shuffle(entries)
    return entries


@pytest.fixture
def make_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FeedLedger]]:
    """Make ledgers of one folder, with small blocks."""
    monkeypatch.setattr(feed_ledger_file, "BLOCK_ENTRIES", 50)
    monkeypatch.setattr("airflow_provider_contensis.export.sinks.feed_ledger.BLOCK_ENTRIES", 50)
    made: list[FeedLedger] = []

    def make(summaries: Any = ()) -> FeedLedger:
        made.append(FeedLedger(LocalStorage(), f"{tmp_path}/", summaries))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()


def plain(entries: Any) -> set[tuple[Any, ...]]:
    return {entry[:5] for entry in entries}


def inside(entry: Held, part: Part) -> bool:
    digit = entry.id[len(part.id_prefix) : len(part.id_prefix) + 1]
    return (
        (not part.is_bounded or (entry.created is None) is part.is_undated)
        and (part.created_from is None or (entry.created or 0) >= part.created_from)
        and (part.created_to is None or (entry.created or 0) < part.created_to)
        and entry.id.startswith(part.id_prefix)
        and not (part.other_ids and digit in "0123456789abcdef" and digit)
        and not (entry.is_published and part.only_drafts)
    )


class TestFeedLedger:
    def test_holds_what_was_put_after_it_was_saved(self, make_ledger: Callable[..., FeedLedger]) -> None:
        entries = invented(300, undated=20)
        ledger = make_ledger()
        ledger.put(FILM, entries, replaced=[])
        saved = make_ledger(ledger.save(owner="t"))
        assert saved.slices() == {FILM: 300}
        assert plain(held for _, held in saved.held(WHOLE)) == plain(entries)
        assert not any(held.is_fresh for _, held in saved.held(WHOLE))

    def test_ids_of_every_form_survive(self, make_ledger: Callable[..., FeedLedger]) -> None:
        ids = [
            "0d3f6a7e-2b19-4c77-9d5e-3a1b2c3d4e5f",
            "00000000-0000-0000-0000-000000000000",
            "0D3F6A7E-2B19-4C77-9D5E-3A1B2C3D4E5F",
            "sixteen-letters!",
            "fifteen-letters",
            "ŵ",
        ]
        ledger = make_ledger()
        ledger.put(FILM, [Held(id_, 1, None, b"12345678", True) for id_ in ids], replaced=[])
        saved = make_ledger(ledger.save(owner="t"))
        assert sorted(held.id for _, held in saved.held(WHOLE)) == sorted(ids)
        assert saved.find(FILM, ids).keys() == set(ids)

    def test_counts_with_and_without_its_index_as_its_entries_do(
        self, make_ledger: Callable[..., FeedLedger]
    ) -> None:
        entries = invented(400, undated=30)
        ledger = make_ledger()
        ledger.put(FILM, entries, replaced=[])
        summaries = ledger.save(owner="t")
        cuts = make_ledger(summaries).cuts(WHOLE, 50)
        assert 5 <= len(cuts) <= 8
        bounds = [None, *cuts, None]
        parts: list[dict[str, Any]] = [{}, {"is_undated": True}, {"id_prefix": "a"}, {"other_ids": True}]
        parts += [{"created_from": one, "created_to": other} for one, other in pairwise(bounds)]
        parts += [
            {"id_prefix": "a", "created_to": cuts[2]},
            {"id_prefix": "a", "created_from": cuts[1], "created_to": cuts[3] + 1},
            {"id_prefix": "ab"},
            {"created_from": cuts[0] + 1},
        ]
        for bound in parts:
            for only_drafts in (False, True):
                part = Part(
                    content_type_ids=("film",), languages=("en-GB",), only_drafts=only_drafts, **bound
                )
                saved = make_ledger(summaries)
                number = saved.count(part)
                found = [held for _, held in saved.held(part)]
                assert number == len(found) == saved.count(part), part
                assert plain(found) == plain(entry for entry in entries if inside(entry, part)), part
        # Ranges and the part without created times are all there is.
        saved = make_ledger(summaries)
        ranges = [Part(content_type_ids=("film",), languages=("en-GB",), **bound) for bound in parts[4:-4]]
        undated = Part(content_type_ids=("film",), languages=("en-GB",), is_undated=True)
        assert sum(map(saved.count, [*ranges, undated])) == 400

    def test_cuts_anywhere_leave_entries_of_one_moment_together(
        self, make_ledger: Callable[..., FeedLedger]
    ) -> None:
        ledger = make_ledger()
        times = [1] * 5 + [2] * 30 + [3] + [4] * 4
        entries = [Held(f"id{n}", time, None, b"12345678", True) for n, time in enumerate(times)]
        ledger.put(FILM, entries, replaced=[])
        assert ledger.cuts(WHOLE, 20) == [3]
        assert ledger.cuts(WHOLE, 38) == [4]
        assert ledger.cuts(Part(content_type_ids=("film",), languages=("en-GB",), created_to=3), 30) == [2]
        assert ledger.cuts(Part(content_type_ids=("film",), languages=("en-GB",), created_from=4), 2) == []

    def test_replaces_and_removes(self, make_ledger: Callable[..., FeedLedger]) -> None:
        entries = invented(120)
        ledger = make_ledger()
        ledger.put(FILM, entries, replaced=[])
        saved = make_ledger(ledger.save(owner="t"))
        changed = [entry._replace(digest=b"changed!", created=7) for entry in entries[:10]]
        saved.put(FILM, changed, replaced=[entry.id for entry in changed])
        saved.remove(FILM, [entry.id for entry in entries[100:]])
        assert saved.removed(FILM, [entry.id for entry in entries]) == {entry.id for entry in entries[100:]}
        expected = plain([*changed, *entries[10:100]])
        assert plain(held for _, held in saved.held(WHOLE)) == expected
        assert saved.count(WHOLE) == 100
        again = make_ledger(saved.save(owner="t"))
        assert plain(held for _, held in again.held(WHOLE)) == expected

    def test_only_slices_that_changed_get_new_files(
        self, make_ledger: Callable[..., FeedLedger], tmp_path: Path
    ) -> None:
        person = HeldSlice("person", "cy")
        ledger = make_ledger()
        ledger.put(FILM, invented(60), replaced=[])
        ledger.put(person, invented(60, seed=1), replaced=[])
        first = ledger.save(owner="t")
        saved = make_ledger(first)
        saved.put(person, [Held("x", 1, None, b"12345678", True)], replaced=[])
        second = saved.save(owner="t")
        assert first[0] == second[0]
        assert first[1]["path"] != second[1]["path"]
        assert len(list(tmp_path.glob("_ledger/*.ledger"))) == 3

    def test_same_content_gives_same_file(self, make_ledger: Callable[..., FeedLedger]) -> None:
        entries = invented(130)
        names = set()
        for order in (entries, entries[::-1]):
            ledger = make_ledger()
            ledger.put(FILM, order, replaced=[])
            names.add(ledger.save(owner="t")[0]["path"])
        assert len(names) == 1

    def test_entry_takes_at_most_40_bytes(self, tmp_path: Path) -> None:
        ledger = FeedLedger(LocalStorage(), f"{tmp_path}/", [])
        rng = random.Random(0)
        entries = [
            entry._replace(created=1_500_000_000_000 + rng.getrandbits(37)) for entry in invented(12_000)
        ]
        ledger.put(FILM, entries, replaced=[])
        [summary] = ledger.save(owner="t")
        ledger.close()
        assert (tmp_path / "_ledger" / summary["path"]).stat().st_size <= 40 * 12_000

    @pytest.mark.parametrize("damage", ["cut", "gone", "other"])
    def test_damaged_file_fails_for_good(
        self, make_ledger: Callable[..., FeedLedger], tmp_path: Path, damage: str
    ) -> None:
        ledger = make_ledger()
        ledger.put(FILM, invented(120), replaced=[])
        summaries = ledger.save(owner="t")
        path = tmp_path / "_ledger" / summaries[0]["path"]
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-40] if damage == "cut" else b"something else")
        with pytest.raises(DestinationError, match=r"\.ledger"):
            list(make_ledger(summaries).held(WHOLE))
