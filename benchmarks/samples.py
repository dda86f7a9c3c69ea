"""The measurements, and the file that keeps them between runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Machine = list[tuple[str, str]]
_SAME = ("processor", "cores", "memory", "Python")


@dataclass
class Sample:
    """One run of one contender.

    :param case: the case it belongs to.
    :param error: why the run does not count; None if it does.
    :param cpu_seconds: CPU time of the contender, summed over all cores.
    :param peak_mb: its peak memory; None if unknown.
    :param baseline_mb: its peak memory before it started to work.
    :param bytes: size of its output.
    :param requests: requests that the server answered during the run.
    :param connections: connections that the server accepted during the run.
    :param server_cpu_seconds: CPU time that the server used during the run.
    :param more: values that only this contender reports.
    """

    case: str
    contender: str
    latency_ms: int
    page_size: int
    entries: int
    round: int
    error: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    rows: int | None = None
    bytes: int = 0
    peak_mb: float | None = None
    baseline_mb: float | None = None
    requests: int = 0
    connections: int = 0
    server_cpu_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


def save(path: Path, machine: Machine, samples: Iterable[Sample]) -> None:
    """Write the measurements to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine, "samples": [asdict(sample) for sample in samples]}
    path.write_text(json.dumps(kept, indent=1) + "\n")


def load(path: Path, machine: Machine) -> list[Sample]:
    """Read the measurements of an earlier run; none if there was none.

    :raises ValueError: they were measured on another kind of machine.
    """
    if not path.exists():
        return []
    kept = json.loads(path.read_text())
    before, now = dict(kept["machine"]), dict(machine)
    for name in _SAME:
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{path.name} was measured on another machine ({name}: {before.get(name)}, now "
                f"{now.get(name)}). Run all cases without --merge."
            )
    return [Sample(**sample) for sample in kept["samples"]]


def merge(earlier: Sequence[Sample], measured: Sequence[Sample]) -> list[Sample]:
    """Return the earlier samples and the new ones, which replace all of a case's that compare with them.

    Ratios are taken within a round, so a contender's new samples must not meet others' old ones: to measure
    some contenders drops the others of that case, latency and page size.
    """
    replaced = {_cell(sample) for sample in measured}
    return [*(sample for sample in earlier if _cell(sample) not in replaced), *measured]


def _cell(sample: Sample) -> tuple[str, int, int]:
    return sample.case, sample.latency_ms, sample.page_size
