"""A publish starts a DAG in a real cluster, whatever is killed or down meanwhile. They run in order."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.sandbox import Response
from tests.cluster.conftest import POKE_INTERVAL, WORKERS
from tests.feeds import load, served
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue, Sandbox
    from tests.postgres import Postgres
    from tests.provider.deployment import Deployment

DAG_ID = "contensis_react_to_publish"
PUBLISHES = int(os.environ.get("PUBLISHES", "5"))


class Cluster:
    """The cluster, and what it should have done by now."""

    def __init__(self, airflow: Deployment, sandbox: Sandbox, folder: Path, copy: Postgres) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.catalogue: Catalogue = sandbox.catalogues[0]
        self.feed = folder / "feed"
        self.copy = copy

    def runs(self) -> list[dict[str, Any]]:
        return self.airflow.runs(DAG_ID)

    def events(self) -> int:
        return len(self.airflow.asset_events())

    def is_in_step(self) -> bool:
        entries = served(self.catalogue)
        return (
            (self.feed / "_feed.json").exists() and load(self.feed) == entries and self.copy.load() == entries
        )

    def settle(self) -> None:
        """Wait until the feed and PostgreSQL hold what the service has, and all runs have ended."""
        self.airflow.wait_until(self.is_in_step, "feed and PostgreSQL are in step")
        self.airflow.wait_until(
            lambda: all(run["state"] == "success" for run in self.runs()), "all runs have succeeded"
        )

    def quiet_polls(self, number: int) -> None:
        """Wait for polls that find nothing."""
        searches = self.sandbox.count("search")
        self.airflow.wait_until(lambda: self.sandbox.count("search") >= searches + 2 * number, "it polls")

    def publish(self, number: int = 0) -> None:
        entry = [*self.catalogue.entries(content_type_id="film")][number]
        self.catalogue.publish(json.loads(entry)["sys"]["id"])


@pytest.fixture
def cluster(airflow: Deployment, sandbox: Sandbox, folder: Path, copy: Postgres) -> Cluster:
    """The cluster when it is up, is in step for the first time, and nothing happens."""
    cluster = Cluster(airflow, sandbox, folder, copy)
    airflow.wait_for(DAG_ID)
    cluster.settle()
    cluster.quiet_polls(2)
    return cluster


def event_for(cluster: Cluster, change: Callable[[], object]) -> dict[str, Any]:
    """Return the payload of the one event of a change, once a DAG run has brought the copies in step."""
    before = cluster.events()
    change()
    cluster.settle()
    cluster.airflow.wait_until(lambda: cluster.events() > before, "an event is fired")
    cluster.quiet_polls(3)
    assert cluster.events() == before + 1
    extra = cluster.airflow.asset_events()[-1]["extra"]
    assert extra["from_trigger"] is True
    payload: dict[str, Any] = extra["payload"]
    return payload


def test_first_start_fires_an_event_and_a_run_writes_the_copies(cluster: Cluster) -> None:
    assert cluster.events() == 1
    assert len(cluster.runs()) == 1


def test_publish_starts_a_run(cluster: Cluster) -> None:
    payload = event_for(cluster, cluster.publish)
    assert (payload["changed"], payload["entries"], payload["entries_before"]) == (1, 300, 300)


def test_deletion_starts_a_run(cluster: Cluster) -> None:
    [entry, *_] = cluster.catalogue.entries(content_type_id="person")
    payload = event_for(cluster, lambda: cluster.catalogue.delete(json.loads(entry)["sys"]["id"]))
    assert (payload["changed"], payload["entries"], payload["entries_before"]) == (0, 299, 300)


def test_publish_during_an_outage_starts_a_run_after_it(cluster: Cluster) -> None:
    def outage() -> None:
        requests = cluster.sandbox.count()
        cluster.sandbox.faults = lambda request: Response(drop=True)
        cluster.publish()
        cluster.airflow.wait_until(lambda: cluster.sandbox.count() >= requests + 3, "it polls")
        cluster.sandbox.faults = None

    assert event_for(cluster, outage)["changed"] == 1


def test_publish_while_the_triggerer_is_dead_starts_a_run_after_its_restart(cluster: Cluster) -> None:
    def restart() -> None:
        cluster.airflow.kill("triggerer")
        cluster.publish()
        cluster.airflow.start("triggerer")

    cluster.quiet_polls(4)  # the position of the last event is saved by now
    assert event_for(cluster, restart)["changed"] == 1


def test_restart_of_the_triggerer_starts_no_run_if_nothing_happened(cluster: Cluster) -> None:
    cluster.quiet_polls(4)
    before = cluster.events(), len(cluster.runs())
    cluster.airflow.kill("triggerer")
    cluster.airflow.start("triggerer")
    cluster.quiet_polls(5)
    assert (cluster.events(), len(cluster.runs())) == before


def test_runs_begin_soon_after_each_publish(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    """`make test-cluster PUBLISHES=20` measures twenty."""
    delays = []
    events = cluster.events()
    for number in range(PUBLISHES):
        runs = len(cluster.runs())
        published = time.time()
        cluster.publish(number)
        cluster.airflow.wait_until(lambda: len(cluster.runs()) > runs, "a run begins")  # noqa: B023 - used before the next round
        cluster.settle()
        started = datetime.fromisoformat(cluster.runs()[runs]["start_date"]).timestamp()
        delays.append(started - published)
    tell(
        request,
        f"{PUBLISHES} publishes, a poll every {POKE_INTERVAL} s: {cluster.events() - events} events; a run "
        f"began after {median(delays):.1f} s in the median, {max(delays):.1f} s at worst",
    )
    assert cluster.events() - events >= PUBLISHES
    assert median(delays) < POKE_INTERVAL + 5
    assert max(delays) < POKE_INTERVAL + 15


def test_both_workers_ran_tasks(cluster: Cluster) -> None:
    printed = {name: (cluster.airflow.home / f"{name}.out").read_text() for name in WORKERS}
    assert all("execute_workload" in text for text in printed.values()), printed


def test_no_log_holds_a_secret(cluster: Cluster) -> None:
    logs = cluster.airflow.logs()
    assert "Trigger fired event" in logs
    assert cluster.sandbox.client_secret not in logs
    assert "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiI" not in logs
