"""One history: where it is followed, from its seed to its outcome."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from chaos.harness import Warnings
from chaos.sync.buckets import Bucket
from chaos.sync.consumer import Consumer, TornFeedError
from chaos.sync.history import History, marks_deletions
from chaos.sync.scenario import draw_scenario, lose_connections
from chaos.sync.tables import TableReader
from chaos.sync.world import World
from tests.postgres import database

if TYPE_CHECKING:
    from chaos.sync.outcome import Outcome
    from chaos.sync.scenario import Scenario

FEED, POSTGRES, S3 = "feed", "postgres", "s3"


def run(seed: int, destination: str = FEED) -> Outcome:
    """Run the scenario of a seed.

    :param destination: `feed`, `s3` for a feed on S3, or `postgres`.
    """
    return run_scenario(draw(seed, destination), destination)


def draw(seed: int, destination: str = FEED) -> Scenario:
    """Return the scenario of a seed."""
    scenario = draw_scenario(seed)
    return lose_connections(scenario) if destination == S3 else scenario


def run_scenario(scenario: Scenario, destination: str = FEED) -> Outcome:
    """Let a history happen, follow it with a feed or in PostgreSQL, and judge every run."""
    if destination == FEED:
        return follow(scenario)
    if destination == S3:
        return follow(scenario, bucket=Bucket.create())
    folder = Path(tempfile.gettempdir(), "contensis-chaos-postgres")
    folder.mkdir(exist_ok=True)
    with database(folder) as made:
        return follow(scenario, made.url)


def follow(scenario: Scenario, url: str | None = None, bucket: Bucket | None = None) -> Outcome:
    """Let a history happen, follow it, and judge every run.

    :param url: of an empty database in PostgreSQL; None to follow it with a feed.
    :param bucket: where the feed is; None for this machine.
    """
    world = World(scenario)
    with (
        tempfile.TemporaryDirectory(prefix="contensis-chaos-") as temporary,
        nullcontext() if url is None else psycopg.connect(url) as reader,
        world.sandbox,
        Warnings(),
    ):
        folder = Path(temporary, "feed")
        marks = marks_deletions(scenario.arguments)
        consumer = Consumer(folder, bucket) if reader is None else TableReader(reader, marks=marks)
        history = History(world, folder, url, consumer, bucket)
        try:
            for number, phase in enumerate(scenario.phases):
                if scenario.quirk is not None and number == scenario.quirk_since:
                    world.quirks = {scenario.quirk}
                history.live(phase)
            history.settle()
        except TornFeedError as error:
            history.complain(str(error))
    outcome = history.outcome
    outcome.happened = world.happened + world.editors.made
    outcome.faults = world.mixture.injected
    return outcome
