"""The floor: curl reads the same pages over the same number of connections and discards them."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.contenders.measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that runs curl."""
    pages = f"{setting.listing}?pageIndex=[0-{setting.pages - 1}]&pageSize={setting.page_size}"
    command = ["curl", "--silent", "--disable", "--noproxy", "*", "--parallel", "--parallel-immediate"]
    command += ["--parallel-max", str(setting.connections), "--output", "/dev/null"]
    command += ["--write-out", "%{http_code}\n", pages]

    def work() -> Outcome:
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own
        statuses = Counter(answer.stdout.split())
        if statuses != {"200": setting.pages}:
            raise RuntimeError(f"curl received unexpected statuses: {dict(statuses)}")
        # This process only waits, and curl's memory cannot be separated from its parent's.
        return Outcome(more={"peak_mb": None, "baseline_mb": None})

    return work


if __name__ == "__main__":
    measure(prepare)
