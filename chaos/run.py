"""One run: a sandbox with faults and edits, an export from it, and the oracle's verdict."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import ContensisError
from airflow_provider_contensis.export.pipeline import export_entries
from airflow_provider_contensis.export.request import ExportRequest
from airflow_provider_contensis.sandbox import Editors, Request, Response, Sandbox
from chaos.harness import (
    MemoryPointer,
    Service,
    TaskInterruptedError,
    Warnings,
    mixture_of,
    names_check,
    open_client,
)
from chaos.oracle import NOTES, Oracle, differing_files, files_below
from chaos.scenario import Scenario, draw_repeats, draw_scenario, import_in_bulk

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from airflow_provider_contensis.sandbox import Catalogue, Faults

_MAX_RUN_SECONDS = 300.0  # a longer run counts as one that never ends
_OLDER_EXPORT = {
    "_manifest.json": json.dumps({"files": [{"path": "gone.jsonl"}, {"path": "article.jsonl"}]}),
    "gone.jsonl": "yesterday",
    "article.jsonl": "yesterday",
    NOTES: "someone else's",
}


@dataclass(frozen=True)
class Outcome:
    """The result of one run, in plain values that another process can return.

    :param fault_level: none, few, many or storm.
    :param edit_level: none, few or many.
    :param violations: the promises that were broken.
    :param error: the class of the exception that the export failed with; None if it succeeded.
    :param message: the message of that exception.
    :param entries: the number of entries exported.
    :param requests: the number of requests that the sandbox received.
    :param warnings: counts by module: `retry` warns once for each retried call, `proof` once for each
        window found incomplete and read again.
    :param faults: counts of injected faults, by name.
    :param edits: counts of edits during the export, by name.
    :param continued: the number of attempts that continued from a checkpoint.
    :param comparisons: the number of pairs of exports of the same content that were compared byte by byte.
    """

    seed: int
    fault_level: str
    edit_level: str
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
    comparisons: int = 0


def run(seed: int) -> Outcome:
    """Run the scenario of a seed."""
    return run_scenario(draw_scenario(seed))


def run_scenario(scenario: Scenario) -> Outcome:
    """Run a scenario, and judge the export."""
    catalogue = scenario.catalogue()
    oracle = Oracle(scenario, catalogue)
    editors = Editors(catalogue, scenario.seed, scenario.edit_rate)
    mixture = mixture_of(scenario)

    def respond(request: Request) -> Response:
        editors(request)
        response = mixture(request) or request.answer()
        if request.kind == "search":
            oracle.record(response.body)
        return response

    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="contensis-chaos-") as folder,
        _sandbox(scenario, catalogue, respond) as sandbox,
        Warnings() as warnings,
    ):
        place = Path(folder)
        _write_older_export(scenario, place)
        before = files_below(place)
        pointer = MemoryPointer()
        reported, error = _export(scenario, sandbox, place, pointer)
        seconds = time.monotonic() - started
        after = files_below(place)
        requests = sandbox.count()
    violations = oracle.judge(after, reported) if error is None else _judge_failure(scenario, error)
    if error is not None and before != after:
        violations.append(f"it failed, but the destination changed: {sorted(before)} became {sorted(after)}")
    if seconds > _MAX_RUN_SECONDS:
        violations.append(f"it took {seconds:.0f} s")
    comparisons = 0
    if error is None and not violations and _order_shows(scenario):
        own = None if catalogue.changes or warnings.counts["proof"] else after
        comparisons, violations = _compare_bytes(scenario, catalogue, own)
    return Outcome(
        seed=scenario.seed,
        fault_level=scenario.fault_level,
        edit_level=scenario.edit_level,
        violations=violations,
        error=type(error).__name__ if error else None,
        message=str(error) if error else None,
        entries=reported,
        requests=requests,
        seconds=seconds,
        warnings=warnings.counts,
        faults=mixture.injected,
        edits=editors.made,
        continued=pointer.recalled,
        comparisons=comparisons,
    )


def _order_shows(scenario: Scenario) -> bool:
    """Return whether answers show the order of entries: not if times are hidden and ids are in no order."""
    return not scenario.exclusions or "no-id-order" not in scenario.quirks


def _compare_bytes(
    scenario: Scenario, catalogue: Catalogue, files: Mapping[str, bytes] | None
) -> tuple[int, list[str]]:
    """Export the content again, now that nobody edits it, and compare the bytes of two exports.

    Entries that a service kept back at first come last: such exports are not compared.

    :param files: of the export so far; None if they cannot be compared.
    :return: the number of comparisons, and the violations.
    """
    undisturbed, disturbed = draw_repeats(scenario)
    exports: list[tuple[Scenario, Mapping[str, bytes]]] = []
    if files is None:
        import_in_bulk(scenario, catalogue)
        repeats = [undisturbed, disturbed]
    else:
        exports.append((scenario, files))
        repeats = [undisturbed]
    for repeat in repeats:
        repeated, error, has_late_entries = _repeat(repeat, catalogue)
        if has_late_entries:
            return 0, []
        if error is not None:
            violations = _judge_failure(repeat, error)
            return 0, [f"exported again with {_settings(repeat)}: {violation}" for violation in violations]
        exports.append((repeat, repeated))
    (one, files), (other, others) = exports
    return 1, [
        f"{path} differs between an export with {_settings(one)} and one with {_settings(other)}"
        for path in differing_files(files, others)
    ]


def _repeat(scenario: Scenario, catalogue: Catalogue) -> tuple[dict[str, bytes], Exception | None, bool]:
    """Export the content as it is; return the files, any error, and whether the proof found entries."""
    with (
        tempfile.TemporaryDirectory(prefix="contensis-chaos-") as folder,
        _sandbox(scenario, catalogue, mixture_of(scenario)) as sandbox,
        Warnings() as warnings,
    ):
        place = Path(folder)
        _, error = _export(scenario, sandbox, place, MemoryPointer())
        return files_below(place), error, bool(warnings.counts["proof"])


def _settings(scenario: Scenario) -> str:
    names = ("page_size", "max_concurrent_requests")
    return ", ".join(f"{name}={scenario.arguments[name]}" for name in names)


def _sandbox(scenario: Scenario, catalogue: Catalogue, faults: Faults) -> Sandbox:
    return Sandbox(catalogue, faults=faults, quirks=scenario.quirks, seed=scenario.seed, **scenario.sandbox)


def _export(
    scenario: Scenario, sandbox: Sandbox, place: Path, pointer: MemoryPointer
) -> tuple[int, Exception | None]:
    """Export, in as many attempts as it takes; return the reported number of entries, and any error."""
    request = ExportRequest.from_arguments(
        destination=f"{place}/{scenario.destination}", **scenario.arguments
    )
    for searches in (*scenario.broken_off, None):
        pointer.is_last_attempt = searches is None
        client = open_client(Service.of(sandbox), searches)
        watchdog = threading.Timer(_MAX_RUN_SECONDS, client.close)
        watchdog.start()
        try:
            return export_entries(client, sandbox.project_id, request, pointer=pointer).entries, None
        except TaskInterruptedError:
            continue
        except Exception as error:  # noqa: BLE001  # foreign exceptions are what this looks for
            if pointer.is_last_attempt or not getattr(error, "retryable", False):
                return 0, error
        finally:
            watchdog.cancel()
            client.close()
    raise AssertionError("the last attempt is never interrupted")


def _judge_failure(scenario: Scenario, error: Exception) -> list[str]:
    violations = []
    if not isinstance(error, ContensisError):
        violations.append(f"it failed with a foreign exception, {type(error).__name__}: {error}")
    if scenario.fault_level != "none" or scenario.edit_level != "none":
        return violations
    if not scenario.quirks:
        violations.append(f"it failed although nothing was wrong: {error}")
    elif not names_check(error):
        violations.append(f"it failed, and named no check of the doctor: {error}")
    return violations


def _write_older_export(scenario: Scenario, place: Path) -> None:
    """Write an older export to the destination, if the scenario has one."""
    if not scenario.has_older:
        return
    if not scenario.destination.endswith("/"):
        (place / scenario.destination).write_text("yesterday")
        return
    for name, content in _OLDER_EXPORT.items():
        path = place / scenario.destination / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
