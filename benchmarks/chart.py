"""Draw the seconds of the contenders as an SVG: bars that need no library, in light and in dark."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import good, number, of_case, of_contender
from benchmarks.matrix import COMPARE, OURS_KEY, REALISTIC, REALISTIC_KEY, Cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.samples import Sample

_COMPARED = {
    OURS_KEY: "this provider",
    "vendor": "vendor's client",
    "requests": "loop of requests",
    "http": "HttpOperator",
    "dlt.jsonl": "dlt",
    "curl.8": "curl, bytes discarded",
}
_PROJECT = {REALISTIC_KEY: "this provider", "dlt.realistic": "dlt"}
_OURS = {OURS_KEY, REALISTIC_KEY}

_WIDTH, _MARGIN, _LABELS, _VALUES = 760, 20, 160, 150
_ROW, _BAR, _TITLE, _GAP = 24, 15, 28, 16

# An image follows the reader's system, not the page that shows it, so it brings its own background.
_STYLE = """
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; stroke: #d0d7de; }
text { fill: #24292f; }
.title { font-weight: 600; }
.bar { fill: #8c959f; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  .page { fill: #161b22; stroke: #30363d; }
  text { fill: #e6edf3; }
  .bar { fill: #768390; }
  .ours { fill: #4493f8; }
}
"""


@dataclass(frozen=True)
class Bar:
    """The seconds of one contender.

    :param text: the figure as it is written beside the bar.
    """

    label: str
    seconds: float
    text: str
    is_ours: bool


@dataclass(frozen=True)
class Panel:
    """The bars of one cell."""

    title: str
    bars: list[Bar]


def panels(samples: Sequence[Sample]) -> list[Panel]:
    """Return what the chart shows: the cells with large pages, and the realistic project with latency."""
    drawn = []
    for cell in (Cell(0, 1000), Cell(100, 1000)):
        here = good(of_case(samples, COMPARE, cell))
        entries = max((sample.entries for sample in here), default=0)
        title = f"Seconds for {entries:,} entries to JSON Lines, {cell.latency_ms} ms a response"
        drawn.append(Panel(title, _bars(here, _COMPARED, with_requests=False)))
    here = good(of_case(samples, REALISTIC, Cell(100, 500)))
    entries = max((sample.entries for sample in here), default=0)
    title = f"Seconds for {entries:,} entries of 80 content types in 2 languages, 100 ms a response"
    drawn.append(Panel(title, _bars(here, _PROJECT, with_requests=True)))
    return [panel for panel in drawn if panel.bars]


def chart(samples: Sequence[Sample]) -> str:
    """Return the chart as SVG; its text alternative is the title inside."""
    drawn = panels(samples)
    parts, top = [], _MARGIN
    for panel in drawn:
        parts.append(_text(_MARGIN, top + 14, panel.title, "title"))
        top += _TITLE
        longest = max(bar.seconds for bar in panel.bars)
        for bar in panel.bars:
            width = max(1.0, (_WIDTH - 2 * _MARGIN - _LABELS - _VALUES) * bar.seconds / longest)
            left = _MARGIN + _LABELS
            parts.append(_text(left - 8, top + 12, bar.label, "label"))
            parts.append(
                f'<rect class="bar{" ours" if bar.is_ours else ""}" x="{left}" y="{top}" '
                f'width="{width:.1f}" height="{_BAR}" rx="2"/>'
            )
            parts.append(_text(left + width + 6, top + 12, bar.text))
            top += _ROW
        top += _GAP
    height = top - _GAP + _MARGIN // 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            'aria-labelledby="alternative">',
            f'<title id="alternative">{escape(alternative(samples))}</title>',
            f"<style>{_STYLE}.label {{ text-anchor: end; }}\n</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
            *parts,
            "</svg>\n",
        ]
    )


def alternative(samples: Sequence[Sample]) -> str:
    """Return the chart in words."""
    return " ".join(
        f"{panel.title}: {'; '.join(f'{bar.label} {bar.text}' for bar in panel.bars)}."
        for panel in panels(samples)
    )


def _bars(here: Sequence[Sample], labels: Mapping[str, str], *, with_requests: bool) -> list[Bar]:
    bars = []
    for key, label in labels.items():
        mine = of_contender(here, key)
        if mine:
            seconds = median(sample.seconds for sample in mine)
            text = f"{number(seconds)} s"
            if with_requests:
                text += f", {median(sample.requests for sample in mine):,.0f} requests"
            bars.append(Bar(label, seconds, text, key in _OURS))
    return bars


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{named}>{escape(text)}</text>'
