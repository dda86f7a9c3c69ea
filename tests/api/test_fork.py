"""A forked child shares no sockets, locks or tokens with its parent."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.api.fork import ForkSafeEvent
from airflow_provider_contensis.exceptions import ContensisError, InvalidResponseError
from airflow_provider_contensis.export.request import ReadOptions, entry_query
from airflow_provider_contensis.export.source import EntrySource
from airflow_provider_contensis.sandbox import Request, Response, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.sandbox import Catalogue

CHILDREN = 4
SECONDS = 60
FORK = multiprocessing.get_context("fork")


def in_children(work: Callable[[int], Any], number: int = CHILDREN) -> list[Any]:
    """Return what a function returns, or raises, in each of several forked children."""
    queue = FORK.Queue()

    def run(child: int) -> None:
        try:
            queue.put((child, work(child)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent compares it
            queue.put((child, repr(error)))

    processes = [FORK.Process(target=run, args=(child,), daemon=True) for child in range(number)]
    for process in processes:
        process.start()
    try:
        results = dict(queue.get(timeout=SECONDS) for _ in processes)
    finally:
        for process in processes:
            process.kill()
    return [results[child] for child in range(number)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_children_get_the_entries_that_they_ask_for(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        ids = sorted({document.id for document in small_catalogue.select(lambda _: True)[1]})[:120]
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox)
            with_sockets = [
                threading.Thread(target=client.get_entry, args=(sandbox.project_id, entry_id))
                for entry_id in ids[:8]
            ]
            for thread in with_sockets:
                thread.start()
            for thread in with_sockets:
                thread.join()

            def read(child: int) -> list[str]:
                mine = ids[child::CHILDREN]
                return [client.get_entry(sandbox.project_id, each)["sys"]["id"] for each in mine]

            assert in_children(read) == [ids[child::CHILDREN] for child in range(CHILDREN)]
            assert client.get_entry(sandbox.project_id, ids[0])["sys"]["id"] == ids[0]

    def test_child_does_not_wait_for_locks_that_other_threads_of_the_parent_hold(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        event = ForkSafeEvent()
        with Sandbox(small_catalogue) as sandbox:
            client = make_client(sandbox, on_new_token=lambda _: None)
            client.list_projects()
            jar: Any = client.session.cookies
            events: list[Any] = [client._closed._event, event._event]
            locks = [
                client._tokens._announcing,
                client._tokens._cache._lock,
                *(slot.lock for slot in client._tokens._cache._slots.values()),
                *(each._cond for each in events),
                jar._cookies_lock,
            ]
            held, done = threading.Event(), threading.Event()

            def hold() -> None:
                for lock in locks:
                    lock.acquire()
                held.set()
                done.wait(SECONDS)
                for lock in locks:
                    lock.release()

            thread = threading.Thread(target=hold, daemon=True)
            thread.start()
            assert held.wait(SECONDS)

            def read(_: int) -> tuple[int, bool]:
                event.set()
                return len(client.list_projects()), event.wait(1)

            try:
                assert in_children(read, 1) == [(1, True)]
            finally:
                done.set()
                thread.join(SECONDS)

    def test_read_does_not_continue_in_a_child(
        self, small_catalogue: Catalogue, make_client: Callable[..., ContensisClient]
    ) -> None:
        with Sandbox(small_catalogue) as sandbox:
            options = ReadOptions(page_size=20)
            source = EntrySource(make_client(sandbox), sandbox.project_id, entry_query(), options)
            batches = source.read(source.plan())
            next(batches)
            [result] = in_children(lambda _: len(list(batches)), 1)
            assert "cannot continue in a forked process" in result
            assert list(batches)  # the parent goes on


class TestEntry:
    @pytest.mark.parametrize("language", [None, "en-GB"])
    def test_another_entry_than_asked_for_is_refused(
        self,
        small_catalogue: Catalogue,
        make_client: Callable[..., ContensisClient],
        language: str | None,
    ) -> None:
        one, other = sorted({document.id for document in small_catalogue.select(lambda _: True)[1]})[:2]
        document = small_catalogue.find(other, None, "published")
        assert document is not None
        body = small_catalogue.served(document)

        def answer_another(request: Request) -> Response | None:
            return Response(200, body) if f"/entries/{one}" in request.path else None

        with Sandbox(small_catalogue, faults=answer_another) as sandbox:
            client = make_client(sandbox)
            with pytest.raises(InvalidResponseError, match="not answered with the entry that was asked for"):
                client.get_entry(sandbox.project_id, one, language=language)
            assert client.get_entry(sandbox.project_id, other.upper(), language=language)

    def test_another_language_than_asked_for_is_refused(
        self, iso_sandbox: Sandbox, make_client: Callable[..., ContensisClient]
    ) -> None:
        countries = iso_sandbox.catalogue.select(lambda bucket: bucket.content_type_id == "country")[1]
        entry_id = countries[0].id
        welsh = iso_sandbox.catalogue.find(entry_id, "cy", "published")
        assert welsh is not None
        body = iso_sandbox.catalogue.served(welsh)

        def answer_in_welsh(request: Request) -> Response | None:
            return Response(200, body) if f"/entries/{entry_id}" in request.path else None

        with Sandbox(iso_sandbox.catalogue, faults=answer_in_welsh) as sandbox:
            client = make_client(sandbox)
            assert client.get_entry(sandbox.project_id, entry_id, language="CY")["sys"]["language"] == "cy"
            with pytest.raises(ContensisError, match="the language that was asked for"):
                client.get_entry(sandbox.project_id, entry_id, language="fr")
