"""The floor: curl reads the same pages over as many connections and throws the bytes away."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return a run of curl."""
    pages = f"{setting.listing}?pageIndex=[0-{setting.pages - 1}]&pageSize={setting.page_size}"
    command = ["curl", "--silent", "--disable", "--noproxy", "*", "--parallel", "--parallel-immediate"]
    command += ["--parallel-max", str(setting.connections), "--output", "/dev/null"]
    command += ["--write-out", "%{http_code}\n", pages]

    def work() -> Outcome:
        answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own
        statuses = Counter(answer.stdout.split())
        if statuses != {"200": setting.pages}:
            raise RuntimeError(f"curl was answered with {dict(statuses)}")
        # Python only waits here; what curl itself takes can't be told apart from what starts it.
        return Outcome(more={"peak_mb": None, "baseline_mb": None})

    return work


if __name__ == "__main__":
    measure(prepare)
