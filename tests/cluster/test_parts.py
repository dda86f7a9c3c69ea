"""An export that four workers share: one of them is killed in the middle of a part."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.token_request import Credentials
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from tests.cluster.conftest import MORE_WORKERS, worker_command
from tests.conftest import SCOPES
from tests.searches import window_of

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Request, Sandbox
    from tests.provider.deployment import Deployment


def test_killed_worker_costs_no_more_than_its_part(
    airflow: Deployment, large: Sandbox, folder: Path, tmp_path: Path
) -> None:
    pages: list[tuple[str, bytes]] = []

    def record(request: Request) -> None:
        if (window := window_of(request)) is not None:
            pages.append((window, request.body))

    def running() -> int:
        reads = airflow.task_instances("parts", "export.read")
        return sum(each["state"] == "running" for each in reads)

    for name in MORE_WORKERS:
        airflow.start(name, worker_command(name))
    airflow.wait_for("parts")
    large.faults = record
    states: list[str] = []
    run = threading.Thread(target=lambda: states.append(airflow.run("parts")))
    run.start()
    # Then each of the four workers is in the middle of a part.
    airflow.wait_until(lambda: running() == 4, "four parts are read at once")
    airflow.kill(MORE_WORKERS[-1])
    run.join()
    large.faults = None
    assert states == ["success"]

    reads = airflow.task_instances("parts", "export.read")
    assert sorted(each["try_number"] for each in reads) == [1] * 7 + [2]
    assert all(each["rendered_map_index"].startswith("part ") for each in reads)
    # Of all pages, only some of one part were asked for twice: later pages of a window end where it ends.
    times = Counter(body for _, body in pages)
    assert len({window for window, body in pages if times[body] > 1}) <= 1

    together: dict[str, bytes] = defaultdict(bytes)
    for file in json.loads((folder / "parts" / "_manifest.json").read_bytes())["files"]:
        together[file["content_type_id"]] += (folder / "parts" / file["path"]).read_bytes()
    large.latency = 0
    credentials = Credentials(large.url, large.client_id, large.client_secret, SCOPES)
    with closing(ContensisClient(credentials)) as client:
        request = ExportRequest.from_arguments(destination=f"{tmp_path}/one/")
        one = export_entries(client, large.project_id, request)
    assert one.entries == 6_000
    assert together == {
        name: (tmp_path / "one" / f"{name}.jsonl").read_bytes() for name in ("film", "person")
    }
