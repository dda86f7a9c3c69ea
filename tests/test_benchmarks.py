"""The logic of the benchmark: its goals, report, chart, kept measurements and content."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ET
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from benchmarks import asset_files, assets
from benchmarks.__main__ import main
from benchmarks.chart import chart
from benchmarks.environments import PeerUnavailable, peer_command
from benchmarks.figures import times
from benchmarks.goals import goals
from benchmarks.matrix import CELLS, contenders, measured_in
from benchmarks.projects import LANGUAGES, log_normal_sizes, university
from benchmarks.report import report
from benchmarks.runner import invalid_reason
from benchmarks.samples import Sample, load, merge, save
from benchmarks.services import project_server
from tests.conftest import SCOPES

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = [("processor", "a slow one"), ("cores", "2"), ("memory", "24 GiB"), ("Python", "CPython 3.11")]
SVG = "{http://www.w3.org/2000/svg}"


def sample(contender: str, seconds: float = 1.0, **more: Any) -> Sample:
    values = {"case": "compare", "latency_ms": 0, "page_size": 1000, "entries": 100_000, "round": 0}
    values |= {"more": {"xcom_bytes": 400}, "peak_mb": 150.0, "baseline_mb": 100.0}
    return Sample(**{**values, "contender": contender, "seconds": seconds, **more})


def realistic(contender: str, seconds: float, requests: int) -> Sample:
    return sample(
        contender,
        seconds,
        case="realistic",
        latency_ms=100,
        page_size=500,
        entries=7_805,
        requests=requests,
    )


def goal(samples: list[Sample], title: str) -> tuple[str, str, str]:
    found = next(goal for goal in goals(samples) if title in goal.title)
    return found.aim, found.figure, found.reached


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(14.0, ("at least 14", "14", "yes")), (13.99, ("at least 14", "13.99", "no"))],
)
def test_speedup_is_reached_from_its_bound_on(seconds: float, expected: tuple[str, str, str]) -> None:
    assert goal([sample("ours.jsonl.8", 1.0), sample("http", seconds)], "HttpOperator") == expected


@pytest.mark.parametrize(
    ("requests", "expected"), [(45, ("at most 45", "45", "yes")), (46, ("at most 45", "46", "no"))]
)
def test_requests_are_reached_up_to_their_bound(requests: int, expected: tuple[str, str, str]) -> None:
    assert goal([realistic("ours.realistic.4", 1.0, requests)], "project: requests") == expected


@pytest.mark.parametrize(
    "other",
    [
        [],
        [sample("http", 20.0, error="failed: no memory")],
        [sample("http", 20.0, latency_ms=100)],
        [sample("http", 20.0, entries=10_000)],
        [sample("http", 20.0, case="growth")],
    ],
)
def test_goal_is_not_measured_by_other_runs(other: list[Sample]) -> None:
    assert goal([sample("ours.jsonl.8"), *other], "HttpOperator")[1:] == ("not measured", "-")


def test_memory_goals_compare_the_runs_of_their_size() -> None:
    samples = [
        sample("ours.jsonl.8", case="growth", entries=entries, peak_mb=peak)
        for entries, peak in ((10_000, 130.0), (100_000, 155.0), (1_000_000, 170.0))
    ]
    assert goal(samples, "100,000 entries") == ("at most 60", "55", "yes")
    assert goal(samples, "1,000,000 entries") == ("at most 65", "70", "no")


def test_ratio_is_the_median_of_ratios_within_rounds() -> None:
    ours = [sample("ours.jsonl.8", seconds, round=number) for number, seconds in enumerate((1.0, 2.0, 4.0))]
    slower = [sample("http", seconds, round=number) for number, seconds in enumerate((3.0, 4.0, 4.0, 99.0))]
    assert times([*ours, *slower], "http", "ours.jsonl.8") == 2.0


def test_contenders_with_one_connection_run_once_with_latency() -> None:
    def keys(number: int) -> set[str]:
        return {item.key for item in measured_in(contenders(), CELLS[1], quick=False, number=number)}

    assert {"http", "vendor", "ours.jsonl.1", "curl.8"} <= keys(0)
    assert "curl.8" in keys(1)
    assert not {"http", "vendor", "ours.jsonl.1"} & keys(1)


def test_run_with_missing_rows_does_not_count() -> None:
    short = sample("http", rows=99_999)
    assert invalid_reason(short, 1e9, 100) == "invalid: wrote 99,999 of 100,000 rows"
    assert invalid_reason(sample("curl.8", rows=None), 99, 100) == "invalid: did not request every entry"
    assert invalid_reason(sample("http", rows=100_000), 100, 100) is None


def test_merge_replaces_what_was_measured_again_and_keeps_the_rest(tmp_path: Path) -> None:
    kept = [sample("ours.jsonl.8", 1.0), sample("http", 8.0), sample("http", 9.0, case="growth")]
    save(tmp_path / "samples.json", MACHINE, [*kept, realistic("ours.realistic.4", 9.0, 333)])
    again = realistic("ours.realistic.4", 1.4, 40)
    assert merge(load(tmp_path / "samples.json", MACHINE), [again]) == [*kept, again]


def test_merge_never_mixes_contenders_of_two_runs_in_one_cell() -> None:
    assert merge([sample("ours.jsonl.8"), sample("http", 8.0)], [sample("ours.jsonl.8", 2.0)]) == [
        sample("ours.jsonl.8", 2.0)
    ]


def test_measurements_of_another_machine_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "samples.json", MACHINE, [])
    other = [*MACHINE[:1], ("cores", "8"), *MACHINE[2:]]
    with pytest.raises(ValueError, match=r"another machine \(cores: 2, now 8\)"):
        load(tmp_path / "samples.json", other)


def test_report_shows_requests_beside_seconds() -> None:
    text = report([realistic("ours.realistic.4", 9.2, 333)], MACHINE, "make bench", None)
    assert re.search(r"^\|  \| seconds \| requests \| TCP connections \|", text, re.MULTILINE)
    assert re.search(
        r"^\| \*\*this provider to .jsonl, 4 connections\*\* \| 9.2 \| 333 \|", text, re.MULTILINE
    )


def test_load_into_postgres_is_compared_with_loops_of_the_same_round() -> None:
    def load(contender: str, seconds: float, number: int) -> Sample:
        return sample(contender, seconds, case="postgres", round=number, bytes=300 << 20)

    samples = [
        load("ours.postgres.8", 5.0, 0),
        load("requests.postgres", 10.0, 0),
        load("dlt.postgres", 9.0, 1),
    ]
    assert goal(samples, "PostgreSQL, 0 ms: speedup over the loop") == ("at least 2", "2", "yes")
    assert goal(samples, "PostgreSQL, 0 ms: speedup over dlt") == ("at least 5", "not measured", "-")
    text = report(samples, MACHINE, "make bench", None)
    assert "PostgreSQL 18 on the same machine (300 MiB with indexes)" in text
    assert "| loop of requests and execute_values, the same columns | 10.0 |" in text


def test_report_says_why_a_contender_was_skipped() -> None:
    samples = [sample("ours.jsonl.8"), sample("vendor", error="skipped: node not found")]
    text = report(samples, MACHINE, "make bench", None)
    assert "| the vendor's JavaScript client to .jsonl | skipped: node not found |" in text


def test_vendor_is_unavailable_without_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PeerUnavailable, match="^node not found$"):
        peer_command("vendor")


def test_bars_of_the_chart_are_as_long_as_their_seconds() -> None:
    drawn = ET.fromstring(chart([sample("ours.jsonl.8", 2.0), sample("http", 8.0), sample("curl.8", 0.2)]))
    widths = [float(bar.attrib["width"]) for bar in drawn.iter(f"{SVG}rect") if "bar" in bar.attrib["class"]]
    assert [width / widths[1] for width in widths] == pytest.approx([0.25, 1.0, 0.025], abs=0.001)
    assert [bar.attrib["class"] for bar in drawn.iter(f"{SVG}rect")] == ["page", "bar ours", "bar", "bar"]


def test_chart_is_also_said_in_words() -> None:
    samples = [realistic("ours.realistic.4", 1.4, 40), realistic("dlt.realistic", 32.4, 164)]
    words = (
        "Seconds for 7,805 entries of 80 content types in 2 languages, 100 ms a response: "
        "this provider 1.40 s, 40 requests; dlt 32 s, 164 requests."
    )
    assert ET.fromstring(chart(samples)).findtext(f"{SVG}title") == words
    assert f"![{words}](benchmarks.svg)" in report(samples, MACHINE, "make bench", "benchmarks.svg")


def test_report_without_measured_bars_has_no_chart() -> None:
    assert "![" not in report([sample("http", error="failed")], MACHINE, "make bench", "benchmarks.svg")


def test_sizes_of_the_realistic_project_are_log_normal() -> None:
    sizes = log_normal_sizes(80, 56)
    translated = [round(size * 0.8) for size in sizes]
    assert sizes == sorted(sizes)
    assert min(sizes) >= 1
    assert 7_600 < sum(sizes) + sum(translated) < 8_400
    assert sizes[40] < 30  # most content types are small
    assert sum(-(-size // 500) for size in [*sizes, *translated]) == 161


def test_types_of_the_realistic_project_have_both_languages() -> None:
    catalogue = university(types=5, mean=6)
    entries = [json.loads(entry)["sys"] for entry in catalogue.entries()]
    assert {(entry["contentTypeId"], entry["language"]) for entry in entries} == {
        (content_type, language) for content_type in catalogue.content_types for language in LANGUAGES
    }
    assert len({(entry["id"], entry["language"]) for entry in entries}) == len(entries)


@pytest.mark.slow
def test_project_is_served_with_latency_and_its_requests_are_counted() -> None:
    with project_server("university") as server:
        access = server.access
        credentials = Credentials(access.url, access.client_id, access.client_secret, SCOPES)
        before = server.configure(server.entries, 50)
        started = time.monotonic()
        with closing(ContensisClient(credentials, tokens=TokenCache())) as client:
            assert len(client.list_content_types(access.project_id)) == 80
        assert time.monotonic() - started >= 0.05
        after = server.stats()
        assert [after[name] - before[name] for name in ("requests", "connections")] == [2, 1]
        with pytest.raises(ValueError, match=f"has {server.entries:,} entries, not 100"):
            server.configure(100, 0)


@pytest.mark.slow
def test_one_case_is_measured_reported_and_kept(tmp_path: Path) -> None:
    options = ["--case", "compare", "--only", "ours.jsonl.8", "--quick", "--entries", "1500"]
    written = tmp_path / "benchmarks.md"
    assert main([*options, "--write", str(written), "--samples", str(tmp_path / "samples.json")]) == 0
    samples = load(tmp_path / "samples.json", json.loads((tmp_path / "samples.json").read_text())["machine"])
    assert [(one.contender, one.latency_ms, one.error) for one in samples] == [
        ("ours.jsonl.8", 0, None),
        ("ours.jsonl.8", 100, None),
    ]
    assert all(one.requests >= 2 and one.connections >= 1 for one in samples)
    assert "](benchmarks.svg)" in written.read_text()
    assert ET.parse(tmp_path / "benchmarks.svg").getroot().tag == f"{SVG}svg"


def test_sizes_of_assets_are_log_normal_with_empty_and_large_ones() -> None:
    sizes = asset_files.sizes(10_000, 2_000 << 20)
    assert sizes == asset_files.sizes(10_000, 2_000 << 20)
    assert 0.9 < sum(sizes) / (2_000 << 20) < 1.01
    assert (sizes.count(0), sizes.count(asset_files.LARGE_BYTES)) == (100, 10)
    assert sorted(sizes)[5_000] < sum(sizes) / 10_000 / 2  # most files are small
    contents = [asset_files.content(number, size) for number, size in enumerate(sizes[:50])]
    assert list(map(len, contents)) == sizes[:50]
    assert len({content for content in contents if len(content) > 16}) == sum(
        size > 16 for size in sizes[:50]
    )


@pytest.mark.slow
def test_assets_are_measured_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--assets=60", "--megabytes=2", "--latency-ms=1", "--rounds=1", "--faults=0.2"]
    assert assets.main(arguments) == 0
    report = capsys.readouterr().out
    assert "60 files, 2 MiB, 1 ms, 1 rounds" in report
    assert re.search(
        r"^\| export, 8 in flight \| [\d.]+ \| [\d.]+ \| \d+ \| [\d.]+ \|$", report, re.MULTILINE
    )
    assert "Second run: " in report
    assert "0 requests for files" in report
    assert "every file of every export is right by SHA-256" in report
