"""The script that people write first: one request per page, each entry parsed and written as a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import requests

from benchmarks.contenders.measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that runs the loop."""
    path = setting.folder / "entries.jsonl"

    def work() -> Outcome:
        number, pages = 0, 1
        with requests.Session() as session, path.open("w", encoding="utf-8") as file:
            while number < pages:
                answer = session.get(
                    setting.listing, params={"pageIndex": number, "pageSize": setting.page_size}, timeout=60
                )
                answer.raise_for_status()
                page = answer.json()
                for entry in page["items"]:
                    file.write(json.dumps(entry) + "\n")
                number, pages = number + 1, page["pageCount"]
        return Outcome([path])

    return work


if __name__ == "__main__":
    measure(prepare, "requests")
