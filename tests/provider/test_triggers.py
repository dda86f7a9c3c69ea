"""Triggers: an event for each change and none for quiet, whatever the service and Airflow do meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers import base
from asgiref.sync import async_to_sync

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.hooks import contensis
from airflow_provider_contensis.hooks.contensis import ContensisHook
from airflow_provider_contensis.sandbox import Catalogue, Mixture, Request, Response, Sandbox
from airflow_provider_contensis.triggers import entries
from airflow_provider_contensis.triggers.entries import (
    ContensisEntriesChangedTrigger,
    ContensisEntriesTrigger,
)
from tests.catalogues import catalogue_of
from tests.provider import watching
from tests.provider.dags import run as run_dag
from tests.terminal import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
QUICK = 0.02
LOGGER = "airflow_provider_contensis.triggers._polls"


def publish(catalogue: Catalogue, content_type_id: str = "film") -> None:
    [entry, *_] = catalogue.entries(content_type_id=content_type_id)
    catalogue.publish(json.loads(entry)["sys"]["id"])


def delete(catalogue: Catalogue, content_type_id: str = "film") -> None:
    [entry, *_] = catalogue.entries(content_type_id=content_type_id)
    catalogue.delete(json.loads(entry)["sys"]["id"])


class Store:
    """The state store of one asset, as Airflow 3.3 gives it to a trigger."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.is_down = False

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        if self.is_down:
            raise RuntimeError("the API server is down")
        self.values[key] = json.dumps(value)


class Triggerer:
    """Runs triggers as Airflow does: rebuilt from their arguments, on one event loop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.catalogue = sandbox.catalogues[0]
        self.payloads: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, trigger: base.BaseTrigger, store: Store | None = None) -> None:
        path, arguments = trigger.serialize()
        assert path == f"{entries.__name__}.{type(trigger).__name__}"
        rebuilt = type(trigger)(**json.loads(json.dumps(arguments)))
        rebuilt.asset_state_store = store  # type: ignore[attr-defined]  # as Airflow 3.3 does
        self.run(rebuilt.run())

    def run(self, events: AsyncIterator[base.TriggerEvent]) -> None:
        async def collect() -> None:
            async for event in events:
                self.payloads.append(json.loads(json.dumps(event.payload)))

        self._tasks.append(asyncio.ensure_future(collect()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task  # raises what the trigger raised
        self._tasks.clear()

    async def until(self, events: int) -> dict[str, Any]:
        """Wait for the events that there should be by now, and for those that there should not."""
        await self.until_true(lambda: len(self.payloads) >= events)
        await self.polled()
        assert len(self.payloads) == events
        return self.payloads[-1] if events else {}

    async def polled(self, times: int = 3) -> None:
        """Wait until the service was asked some more times."""
        before = self.sandbox.count("search")
        await self.until_true(lambda: self.sandbox.count("search") >= before + 2 * times)

    async def until_true(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert not any(task.done() for task in self._tasks), "a trigger ended"
            assert time.monotonic() < deadline, f"{len(self.payloads)} events"
            await asyncio.sleep(0.01)


@pytest.fixture
def sandbox(connect: Callable[[Sandbox], None]) -> Iterator[Sandbox]:
    with Sandbox(catalogue_of({"film": 20, "person": 10})) as sandbox:
        connect(sandbox)
        yield sandbox


@pytest.fixture
def run(sandbox: Sandbox) -> Callable[[Callable[[Triggerer], Awaitable[None]]], None]:
    """Run what a test does while triggers run."""

    def run(during: Callable[[Triggerer], Awaitable[None]]) -> None:
        async def main() -> None:
            triggerer = Triggerer(sandbox)
            try:
                await during(triggerer)
            finally:
                await triggerer.stop()

        asyncio.run(main())

    return run


def watcher(**arguments: Any) -> ContensisEntriesChangedTrigger:
    return ContensisEntriesChangedTrigger(**{"poke_interval": QUICK, **arguments})


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"version_status": "draft"}, "version_status must be one of published, latest"),
            ({"api": "rest"}, "api must be one of management, delivery"),
            ({"where": "title"}, "where must be a list of search clauses"),
            ({"where": [{"field": "date", "lessThan": "now()"}]}, "relative time 'now\\(\\)'"),
            ({"content_type_id": []}, "content_type_id must be a name or a list of names"),
            ({"poke_interval": 0}, "poke_interval must be a number of seconds above 0"),
            ({"poke_interval": True}, "poke_interval must be a number of seconds above 0"),
            ({"contensis_conn_id": "contensis://a:b@c"}, "contensis_conn_id must be a name of letters"),
        ],
    )
    def test_wrong_argument_fails_when_dag_is_parsed(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            ContensisEntriesChangedTrigger(**arguments)

    def test_arguments_are_plain_json_and_the_same_at_each_parse(self) -> None:
        def serialized() -> str:
            trigger = watcher(
                content_type_id=("film", "person"),
                language={"en-GB", "cy"},
                where=({"field": "sys.id", "in": ("a", "b")},),
            )
            return json.dumps(trigger.serialize())

        assert serialized() == serialized()
        arguments = json.loads(serialized())[1]
        again = ContensisEntriesChangedTrigger(**arguments)
        assert json.loads(json.dumps(again.serialize()))[1] == arguments
        assert arguments["where"] == [{"field": "sys.id", "in": ["a", "b"]}]

    @pytest.mark.skipif(not hasattr(base, "BaseEventTrigger"), reason="Airflow 2 has no asset watchers")
    def test_asset_watcher_takes_it(self) -> None:
        from airflow.sdk import Asset, AssetWatcher

        path, arguments = watcher().serialize()
        hashes = {base.BaseEventTrigger.hash(path, watcher().serialize()[1]) for _ in range(3)}
        assert hashes == {base.BaseEventTrigger.hash(path, json.loads(json.dumps(arguments)))}
        assert Asset(name="entries", watchers=[AssetWatcher(name="contensis", trigger=watcher())])


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.skipif(not hasattr(base, "BaseEventTrigger"), reason="Airflow 2 has no asset watchers")
def test_example_dag_has_a_watcher_and_exports_what_changed(
    run: Any, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTENSIS_EXPORT_FOLDER", str(tmp_path))
    names = runpy.run_path(str(EXAMPLES / "react_to_publish.py"))
    [watching] = names["entries"].watchers
    assert watching.trigger.poke_interval == 30

    async def during(triggerer: Triggerer) -> None:
        triggerer.start(watching.trigger)
        await triggerer.until_true(lambda: bool(triggerer.payloads))

    run(during)
    assert run_dag(names["dag"]).state == "success"
    assert len(list((tmp_path / "feed").glob("000001-*/upserts/*.jsonl"))) == 2


class TestEvents:
    def test_publish_edit_and_deletion_fire_one_event_each(self, run: Any) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(content_type_id="film"))
            first = await triggerer.until(1)
            assert (first["changed"], first["entries"], first["entries_before"]) == (None, 20, None)
            publish(triggerer.catalogue)
            second = await triggerer.until(2)
            assert (second["changed"], second["entries"], second["entries_before"]) == (1, 20, 20)
            delete(triggerer.catalogue)
            third = await triggerer.until(3)
            assert (third["changed"], third["entries"], third["entries_before"]) == (0, 19, 20)
            publish(triggerer.catalogue, "person")
            await triggerer.until(3)

        run(during)

    def test_payload_names_what_was_asked_for(self, run: Any) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(content_type_id=["film"], version_status="latest"))
            payload = await triggerer.until(1)
            assert payload.keys() == {
                *(
                    "project_id",
                    "content_type_id",
                    "language",
                    "version_status",
                    "data_format",
                    "where",
                    "api",
                ),
                *("changed", "entries", "entries_before", "changed_from", "until"),
            }
            assert (payload["project_id"], payload["content_type_id"]) == ("synthetic", ["film"])
            assert payload["changed_from"] < payload["until"]

        run(during)

    def test_many_quiet_polls_fire_no_event(self, run: Any) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(poke_interval=0.001))
            await triggerer.until(1)
            await triggerer.polled(60)
            await triggerer.until(1)

        run(during)

    def test_event_loop_is_not_blocked(self, run: Any, sandbox: Sandbox) -> None:
        turned = threading.Event()
        in_time: list[bool] = []

        def answer_when_the_loop_has_turned(request: Request) -> None:
            in_time.append(turned.wait(10))

        async def during(triggerer: Triggerer) -> None:
            sandbox.faults = answer_when_the_loop_has_turned
            triggerer.start(watcher())
            await triggerer.until_true(lambda: sandbox.connections > 0)
            turned.set()
            await triggerer.until(1)

        run(during)
        assert in_time
        assert all(in_time)


class TestRestarts:
    def test_without_a_state_store_each_start_fires_an_event(self, run: Any) -> None:
        async def during(triggerer: Triggerer) -> None:
            for starts in (1, 2):
                triggerer.start(watcher())
                await triggerer.until(starts)
                await triggerer.stop()

        run(during)

    def test_position_in_the_state_store_outlives_a_restart(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(entries, "_UNTIL_STORED", 0.0)
        store = Store()

        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(), store)
            await triggerer.until(1)
            await triggerer.stop()
            publish(triggerer.catalogue)  # nobody looks
            triggerer.start(watcher(), store)
            assert (await triggerer.until(2))["changed"] == 1
            await triggerer.stop()
            triggerer.start(watcher(), store)
            await triggerer.polled()
            await triggerer.until(2)
            await triggerer.stop()
            # Other entries are at another position; how often it polls does not matter.
            triggerer.start(watcher(content_type_id="film"), store)
            await triggerer.until(3)
            await triggerer.stop()
            triggerer.start(watcher(poke_interval=2 * QUICK), store)
            await triggerer.until(3)

        run(during)
        assert len(store.values) == 2

    def test_event_that_airflow_may_not_have_stored_is_fired_again(self, run: Any) -> None:
        store = Store()

        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(), store)
            await triggerer.until(1)
            await triggerer.stop()
            triggerer.start(watcher(), store)
            await triggerer.until(2)

        run(during)
        assert not store.values

    def test_state_store_that_fails_stops_nothing(
        self, run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(entries, "_UNTIL_STORED", 0.0)
        store = Store()
        store.is_down = True

        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(), store)
            await triggerer.until(1)
            publish(triggerer.catalogue)
            await triggerer.until(2)
            store.is_down = False
            await triggerer.until_true(lambda: bool(store.values))

        with caplog.at_level(logging.WARNING, entries.__name__):
            run(during)
        warnings = [record for record in caplog.records if "position cannot be saved" in record.getMessage()]
        assert len(warnings) == 1

    def test_unusable_position_starts_with_an_event(self, run: Any) -> None:
        store = Store()
        store.get = lambda key, default=None: {"of": "another version"}  # type: ignore[method-assign]  # what it left

        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(), store)
            await triggerer.until(1)

        run(during)


class TestOutages:
    def test_outage_is_waited_for_with_one_warning(
        self, run: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher())
            await triggerer.until(1)
            requests = sandbox.count()
            sandbox.faults = lambda request: Response(drop=True)
            publish(triggerer.catalogue)
            await triggerer.until_true(lambda: sandbox.count() >= requests + 10)
            sandbox.faults = None
            assert (await triggerer.until(2))["changed"] == 1

        with caplog.at_level(logging.INFO):
            run(during)
        ours = [record for record in caplog.records if record.name.startswith("airflow_provider_contensis")]
        assert [record.levelname for record in ours if record.name == LOGGER] == ["WARNING", "INFO"]
        assert not [record for record in ours if "Waiting" in record.getMessage()]

    def test_wait_that_the_service_asks_for_is_kept(self, run: Any, sandbox: Sandbox) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher())
            await triggerer.until(1)
            sandbox.faults = lambda request: Response(429, headers={"Retry-After": "1"})
            start, requests = time.monotonic(), sandbox.count()
            await triggerer.until_true(lambda: sandbox.count() >= requests + 1)
            sandbox.faults = None
            publish(triggerer.catalogue)
            await triggerer.until(2)
            assert time.monotonic() - start >= 1

        run(during)

    def test_mistake_is_named_and_waited_for_too(
        self, run: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(content_type_id="play"))
            await triggerer.until_true(lambda: sandbox.count() >= 20)
            [play] = catalogue_of({"play": 1}).content_types.values()
            triggerer.catalogue.content_types["play"] = play
            assert (await triggerer.until(1))["entries"] == 0

        with caplog.at_level(logging.INFO):
            run(during)
        messages = [record.getMessage() for record in caplog.records if record.name == LOGGER]
        assert len(messages) == 2
        assert "content_type_id 'play' is not in project" in messages[0]

    def test_corrected_connection_is_used_without_a_restart(
        self, run: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_CONTENSIS_DEFAULT")
        broken = {**json.loads(sandbox.connection_json), "password": "revoked"}
        monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(broken))

        async def during(triggerer: Triggerer) -> None:
            triggerer.start(watcher(contensis_conn_id="ours"))
            await triggerer.until_true(lambda: sandbox.count("token") >= 2)
            monkeypatch.setenv("AIRFLOW_CONN_OURS", sandbox.connection_json)
            await triggerer.until(1)

        run(during)

    @pytest.mark.parametrize("call", ["get_connection", "mask_secret"])
    def test_airflow_is_asked_in_a_thread_that_the_event_loop_serves(
        self, run: Any, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        """Else, before Airflow 3.2, it takes answers that are for the triggerer, which then ends."""
        loops = []
        place = ContensisHook if call == "get_connection" else contensis
        original = getattr(place, call)

        async def answer() -> None:
            loops.append(asyncio.get_running_loop())

        def ask_supervisor(argument: str) -> Any:
            async_to_sync(answer)()  # as Airflow does
            return original(argument)

        async def during(triggerer: Triggerer) -> None:
            monkeypatch.setattr(place, call, staticmethod(ask_supervisor))
            triggerer.start(watcher())
            await triggerer.until(1)
            assert set(loops) == {asyncio.get_running_loop()}

        run(during)

    def test_nothing_is_raised_or_missed_under_faults(
        self, sandbox: Sandbox, request: pytest.FixtureRequest
    ) -> None:
        """`make watch DURATION=600` runs it for ten minutes."""
        seconds = float(os.environ.get("DURATION", "3"))
        kinds = ("401", "403", "429", "500", "503", "closed", "cut", "html", "short-page", "wrong-total")
        with subprocess.Popen(
            [sys.executable, "-m", watching.__name__],
            cwd=EXAMPLES.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            # Airflow logs to the same output.
            printed = (json.loads(line) for line in process.stdout if line.startswith("{"))
            assert next(printed)["changed"] is None
            sandbox.faults = Mixture(1, dict.fromkeys(kinds, 0.2 / len(kinds)), retry_after=0)
            deadline = time.monotonic() + seconds
            publishes = events = 0
            while time.monotonic() < deadline:
                publish(sandbox.catalogues[0])
                publishes, changed = publishes + 1, 0
                while not changed:
                    changed = next(printed)["changed"] or 0
                    events += 1
            process.stdin.close()
            *late, end = printed
        assert process.returncode == 0
        tell(
            request,
            f"{publishes} publishes in {seconds:g} s, {events + len(late)} events, "
            f"{sum(sandbox.faults.injected.values())} faults in {sandbox.count()} requests; "
            f"at most, the event loop lagged {end['lag'] * 1_000:.0f} ms "
            f"and computed {end['turn'] * 1_000:.1f} ms at a time",
        )
        assert end["turn"] < 0.05  # on a busy machine, it lags for other reasons
        assert sum(sandbox.faults.injected.values()) >= seconds


@pytest.mark.skipif(find_spec("airflow.triggers.shared_stream") is None, reason="from Airflow 3.3 on")
class TestSharedPolls:
    """Through the manager of Airflow's triggerer."""

    @staticmethod
    def subscribe(triggerer: Triggerer, manager: Any, triggers: list[ContensisEntriesChangedTrigger]) -> None:
        for number, trigger in enumerate(triggers):
            key = trigger.shared_stream_key()
            stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
            triggerer.run(trigger.filter_shared_stream(stream))

    def test_quiet_triggers_of_a_project_share_one_poll(self, run: Any, sandbox: Sandbox) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        last: deque[bool] = deque(maxlen=30)  # whether the last searches were of the whole project

        def note(request: Request) -> None:
            if request.kind == "search":
                last.append(b"contentTypeId" not in request.body)

        sandbox.faults = note

        async def during(triggerer: Triggerer) -> None:
            manager = SharedStreamManager()
            triggers = [
                watcher(where=[{"field": "sys.contentTypeId", "equalTo": id_}])
                for id_ in ("film", "person", "film")
            ]
            self.subscribe(triggerer, manager, triggers)
            try:
                await triggerer.until(3)
                await triggerer.until_true(lambda: all(last))
                publish(triggerer.catalogue, "person")
                await triggerer.until_true(lambda: len(triggerer.payloads) >= 4)
                await triggerer.until_true(lambda: all(last))
                assert len(triggerer.payloads) == 4
                publish(triggerer.catalogue, "film")
                await triggerer.until_true(lambda: len(triggerer.payloads) >= 6)
                delete(triggerer.catalogue, "person")
                await triggerer.until_true(lambda: len(triggerer.payloads) >= 7)
                await triggerer.until_true(lambda: all(last))
                assert len(triggerer.payloads) == 7
            finally:
                await manager.stop_all()

        run(during)

    def test_only_triggers_that_can_share_a_poll_have_the_same_key(self) -> None:
        key = watcher().shared_stream_key()
        assert watcher(content_type_id="film", language="cy", data_format=None).shared_stream_key() == key
        for other in (
            {"contensis_conn_id": "other"},
            {"project_id": "other"},
            {"api": "delivery"},
            {"version_status": "latest"},
            {"poke_interval": 1},
        ):
            assert watcher(**other).shared_stream_key() != key

    def test_what_the_whole_project_cannot_tell_is_asked_of_its_parts(
        self, run: Any, sandbox: Sandbox
    ) -> None:
        def forbid_the_whole(request: Request) -> Response | None:
            is_whole = request.kind == "search" and b"contentTypeId" not in request.body
            return Response.json({"message": "no"}, 403) if is_whole else None

        from airflow.triggers.shared_stream import SharedStreamManager

        sandbox.faults = forbid_the_whole

        async def during(triggerer: Triggerer) -> None:
            manager = SharedStreamManager()
            self.subscribe(triggerer, manager, [watcher(content_type_id="film")])
            try:
                await triggerer.until(1)
                publish(triggerer.catalogue)
                await triggerer.until(2)
            finally:
                await manager.stop_all()

        run(during)


class TestSensorsTrigger:
    @staticmethod
    def trigger(**arguments: Any) -> ContensisEntriesTrigger:
        defaults: dict[str, Any] = {
            "contensis_conn_id": "contensis_default",
            "project_id": None,
            "query": {"content_type_id": ["film"]},
            "min_entries": 21,
            "poke_interval": QUICK,
        }
        return ContensisEntriesTrigger(**{**defaults, **arguments})

    async def event(self, trigger: ContensisEntriesTrigger) -> Any:
        path, arguments = trigger.serialize()
        assert path == f"{entries.__name__}.ContensisEntriesTrigger"
        events = ContensisEntriesTrigger(**json.loads(json.dumps(arguments))).run()
        [payload] = [event.payload async for event in events]
        return payload

    def test_fires_once_when_enough_match(self, sandbox: Sandbox) -> None:
        async def main() -> Any:
            waiting = asyncio.ensure_future(self.event(self.trigger()))
            while sandbox.count("search") < 3:
                await asyncio.sleep(QUICK)
            assert not waiting.done()
            sandbox.error_rate = 1
            sandbox.catalogues[0].add("film", {"title": "new"})
            await asyncio.sleep(3 * QUICK)
            sandbox.error_rate = 0
            return await waiting

        assert asyncio.run(main()) == {"status": "success", "entries": 21, "project_id": "synthetic"}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"query": {"content_type_id": ["play"]}}, "content_type_id 'play' is not in project"),
            ({"contensis_conn_id": "missing"}, "missing"),
        ],
    )
    def test_what_no_retry_can_fix_ends_the_wait(
        self, sandbox: Sandbox, airflow_database: None, arguments: dict[str, Any], message: str
    ) -> None:
        payload = asyncio.run(self.event(self.trigger(**arguments)))
        assert payload["status"] == "error"
        assert message in payload["message"]
