"""One run: a sandbox in trouble, an export from it, and the oracle's verdict."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_contensis.api.auth import Credentials, TokenCache
from airflow_provider_contensis.api.client import ContensisClient, SearchAnswer
from airflow_provider_contensis.api.errors import ContensisError
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.export.entries import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Editors, Mixture, Request, Response, Sandbox
from chaos.oracle import NOTES, Oracle, files_below
from chaos.scenario import Scenario, draw_scenario

if TYPE_CHECKING:
    from types import TracebackType

_SCOPES = ("Entry_Read", "ContentType_Read", "Project_Read")
# As many tries as the product makes by itself, without its patience.
_HASTY = RetryPolicy(attempts=7, initial_wait=0.002, max_wait=2.0, total=20.0)
_TIMEOUT_SECONDS = 1.0
_OUTAGE_SECONDS = 0.02
_LONGEST_SECONDS = 300.0  # what takes longer is taken to never end
_OLDER = {
    "_manifest.json": json.dumps({"files": [{"path": "gone.jsonl"}, {"path": "article.jsonl"}]}),
    "gone.jsonl": "yesterday",
    "article.jsonl": "yesterday",
    NOTES: "of somebody else",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one run; plain, so that it can come from another process.

    :param weather: how many faults there were, in a word.
    :param business: how many edits there were, in a word.
    :param violations: the promises that were broken.
    :param error: the class of the exception that the export failed with; None if it succeeded.
    :param message: what that exception says.
    :param entries: how many were exported.
    :param requests: that the sandbox was sent.
    :param warnings: by the module that warned: `retry` once for each call repeated, `entries` once for each
        part found short and read again.
    :param faults: met by requests, by name.
    :param edits: made meanwhile, by name.
    :param continued: how many tries went on from what an earlier one had read.
    """

    seed: int
    weather: str
    business: str
    violations: list[str]
    error: str | None
    message: str | None
    entries: int
    requests: int
    seconds: float
    warnings: Counter[str]
    faults: Counter[str]
    edits: Counter[str]
    continued: int = 0


class _BrokenOffError(Exception):
    """What ends a task from outside, such as Airflow's time limit."""


class _Client(ContensisClient):
    """A client whose task ends after some searches.

    :param searches: None for no end.
    """

    def __init__(self, *args: Any, searches: int | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last = searches
        self._number = count(1)

    def search(self, *args: Any, **kwargs: Any) -> SearchAnswer:
        if next(self._number) == self._last:
            raise _BrokenOffError
        return super().search(*args, **kwargs)


class _Memory:
    """What the tries of one export tell each other."""

    def __init__(self) -> None:
        self.is_last = False
        self.recalled = 0
        self._pointer: dict[str, str] | None = None

    def recall(self) -> dict[str, str] | None:
        self.recalled += self._pointer is not None
        return self._pointer

    def remember(self, pointer: dict[str, str]) -> None:
        self._pointer = pointer

    def forget(self) -> None:
        self._pointer = None


def run(seed: int) -> Outcome:
    """Make the run of a seed."""
    return run_scenario(draw_scenario(seed))


def run_scenario(scenario: Scenario) -> Outcome:
    """Make a run, and judge it."""
    catalogue = scenario.catalogue()
    oracle = Oracle(scenario, catalogue)
    editors = Editors(catalogue, scenario.seed, scenario.edit_rate)
    mixture = Mixture(
        scenario.seed,
        scenario.faults,
        retry_after=scenario.retry_after,
        slow=scenario.slow,
        outage=_OUTAGE_SECONDS,
    )

    def trouble(request: Request) -> Response:
        editors(request)
        response = mixture(request) or request.answer()
        if request.kind == "search":
            oracle.saw(response.body)
        return response

    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="contensis-chaos-") as folder,
        Sandbox(catalogue, faults=trouble, seed=scenario.seed, **scenario.sandbox) as sandbox,
        _Warnings() as warnings,
    ):
        place = Path(folder)
        _put_older(scenario, place)
        before = files_below(place)
        memory = _Memory()
        told, error = _export(scenario, sandbox, place, memory)
        seconds = time.monotonic() - started
        after = files_below(place)
        requests = sandbox.count()
    violations = oracle.judge(after, told) if error is None else _judge_failure(scenario, error)
    if error is not None and before != after:
        violations.append(f"it failed, and the destination changed: {sorted(before)} became {sorted(after)}")
    if seconds > _LONGEST_SECONDS:
        violations.append(f"it took {seconds:.0f} seconds")
    return Outcome(
        seed=scenario.seed,
        weather=scenario.weather,
        business=scenario.edits,
        violations=violations,
        error=type(error).__name__ if error else None,
        message=str(error) if error else None,
        entries=told,
        requests=requests,
        seconds=seconds,
        warnings=warnings.counts,
        faults=mixture.injected,
        edits=editors.made,
        continued=memory.recalled,
    )


def _export(
    scenario: Scenario, sandbox: Sandbox, place: Path, memory: _Memory
) -> tuple[int, Exception | None]:
    """Export, in as many tries as it takes; return how many entries it tells, or what it failed with."""
    request = ExportRequest.from_arguments(
        destination=f"{place}/{scenario.destination}", **scenario.arguments
    )
    for searches in (*scenario.broken_off, None):
        memory.is_last = searches is None
        credentials = Credentials(sandbox.url, sandbox.client_id, sandbox.client_secret, _SCOPES)
        client = _Client(
            credentials, timeout=_TIMEOUT_SECONDS, retry=_HASTY, tokens=TokenCache(), searches=searches
        )
        watchdog = threading.Timer(_LONGEST_SECONDS, client.close)
        watchdog.start()
        try:
            return export_entries(client, sandbox.project_id, request, memory=memory).entries, None
        except _BrokenOffError:
            continue
        except Exception as error:  # noqa: BLE001  # any that is not ours is what this looks for
            if memory.is_last or not getattr(error, "retryable", False):
                return 0, error
        finally:
            watchdog.cancel()
            client.close()
    raise AssertionError("the last try is not broken off")


def _judge_failure(scenario: Scenario, error: Exception) -> list[str]:
    violations = []
    if not isinstance(error, ContensisError):
        violations.append(f"it failed with a foreign exception, {type(error).__name__}: {error}")
    if scenario.weather == scenario.edits == "none":
        violations.append(f"it failed though nothing was wrong: {error}")
    return violations


def _put_older(scenario: Scenario, place: Path) -> None:
    """Put what an older export left under the destination's name."""
    if not scenario.has_older:
        return
    if not scenario.destination.endswith("/"):
        (place / scenario.destination).write_text("yesterday")
        return
    for name, content in _OLDER.items():
        path = place / scenario.destination / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


class _Warnings(logging.Handler):
    """Counts what the product warns of, by module, and keeps it from the screen."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()
        self._logger = logging.getLogger("airflow_provider_contensis")
        self._propagated = self._logger.propagate

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        self._logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[record.name.rpartition(".")[2]] += 1
