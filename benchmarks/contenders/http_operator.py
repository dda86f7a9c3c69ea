"""Airflow's HttpOperator with a pagination function and a response filter that writes JSON Lines.

The filter's return value becomes the XCom: the path of the file, instead of the text of all pages.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.contenders.measure import Outcome, Setting, measure

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(setting: Setting) -> Callable[[], Outcome]:
    """Return the function that executes the operator."""
    os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = setting.url
    from airflow.providers.http.operators.http import HttpOperator

    path = setting.folder / "entries.jsonl"

    def next_page(answer: Any) -> dict[str, Any] | None:
        page = answer.json()
        number = page["pageIndex"] + 1
        return _data(number, setting.page_size) if number < page["pageCount"] else None

    def write(answers: list[Any]) -> str:
        with path.open("w", encoding="utf-8") as file:
            for answer in answers:
                for entry in answer.json()["items"]:
                    file.write(json.dumps(entry) + "\n")
        return str(path)

    export = HttpOperator(
        task_id="export",
        method="GET",
        endpoint=urlsplit(setting.listing).path,
        **_data(0, setting.page_size),
        pagination_function=next_page,
        response_filter=write,
    )

    def work() -> Outcome:
        return Outcome([path], {"xcom_bytes": len(json.dumps(export.execute({})))})

    return work


def _data(number: int, page_size: int) -> dict[str, Any]:
    return {"data": {"pageIndex": number, "pageSize": page_size}}


if __name__ == "__main__":
    measure(prepare, "apache-airflow-providers-http", "apache-airflow")
