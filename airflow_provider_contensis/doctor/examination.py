"""The examination of an environment: every check in turn, and what was found."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_contensis import __version__
from airflow_provider_contensis.doctor.check import FailedError, SkippedError
from airflow_provider_contensis.doctor.clauses import CHANGES, CLAUSES
from airflow_provider_contensis.doctor.entries import CHANGE_MARKS, ENTRIES, VERSIONS
from airflow_provider_contensis.doctor.pages import PAGES
from airflow_provider_contensis.doctor.probe import Probe
from airflow_provider_contensis.doctor.service import DELIVERY, ENVIRONMENT, SPEED
from airflow_provider_contensis.doctor.speed import Measures
from airflow_provider_contensis.exceptions import APIError, ContensisError

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.doctor.check import Check

CHECKS: tuple[Check, ...] = tuple(
    check
    for checklist in (
        *(ENVIRONMENT, CHANGE_MARKS, CLAUSES, VERSIONS, CHANGES),
        *(PAGES, ENTRIES, DELIVERY, SPEED),
    )
    for check in checklist.checks
)

_VERSION = re.compile(r"[\d.]{1,40}")  # anything else is not for a report

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DoctorOptions:
    """How an environment is examined.

    :param attempts: a check fails only if it fails this often in a row: editors may be at work.
    :param row_limit: the rows of a query that are expected to be in reach, and counted.
    :param slow_page: pages that take longer than this many seconds are not followed by larger ones.
    """

    attempts: int = 3
    row_limit: int = 10_000
    slow_page: float = 5.0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    :param detail: in figures: no content, name, id or secret.
    :param seconds: how long it took.
    """

    check: Check
    result: Literal["holds", "fails", "skipped"]
    detail: str
    seconds: float


@dataclass(frozen=True)
class Examination:
    """What was found in an environment.

    :param findings: of all checks, in order.
    :param environment: figures about it, and the settings that suit it.
    """

    findings: tuple[Finding, ...]
    environment: dict[str, Any]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The checks that fail."""
        return tuple(finding for finding in self.findings if finding.result == "fails")

    def as_json(self) -> dict[str, Any]:
        """Return the report, to be attached to an issue."""
        return {
            "checks": [
                {
                    "id": finding.check.id,
                    "result": finding.result,
                    "detail": finding.detail,
                    "seconds": round(finding.seconds, 3),
                }
                for finding in self.findings
            ],
            "environment": self.environment,
            "package": __version__,
        }


def examine(
    client: ContensisClient,
    project_id: str,
    options: DoctorOptions | None = None,
    *,
    on_progress: OnProgress = lambda *_: None,
) -> Examination:
    """Check what exports, copies and assets rely on. It only reads, and asks one question at a time.

    :param client: sends the calls, about 170, and retries them.
    :param project_id: the project to read.
    :param options: None for the defaults.
    :param on_progress: called before each check with its number, the number of checks, and its claim.
    :raises ContensisError: the project cannot be read, so nothing can be checked.
    """
    options = options or DoctorOptions()
    started, sent_before = time.monotonic(), client.requests_sent
    measures = Measures()
    probe = _probe(client, project_id, options, measures)
    findings: list[Finding] = []
    useless: set[str] = set()  # checks that fail, and those that need one of them
    for number, check in enumerate(CHECKS, 1):
        on_progress(number, len(CHECKS), check.claim)
        if missing := [need for need in check.needs if need in useless]:
            finding = Finding(check, "skipped", f"needs {', '.join(missing)}", 0.0)
        else:
            finding = _find(check, probe, options.attempts)
        if missing or finding.result == "fails":
            useless.add(check.id)
        findings.append(finding)
    environment = {
        "service": version if _VERSION.fullmatch(version := probe.service_version or "") else None,
        "python": platform.python_version(),
        "languages": len(probe.languages),
        "content_types": len(probe.content_types),
        "entries": probe.total,
        "requests": client.requests_sent - sent_before,
        "seconds": round(time.monotonic() - started, 1),
        **measures.as_json(),
    }
    return Examination(tuple(findings), environment)


def _probe(client: ContensisClient, project_id: str, options: DoctorOptions, measures: Measures) -> Probe:
    for attempt in range(options.attempts):
        try:
            return Probe(
                client,
                project_id,
                row_limit=options.row_limit,
                slow_page=options.slow_page,
                measures=measures,
            )
        except APIError:
            if attempt + 1 == options.attempts:
                raise
    raise AssertionError("the last attempt returns or raises")


def _find(check: Check, probe: Probe, attempts: int) -> Finding:
    """Run a check until it does not fail, at most as often as allowed."""
    started = time.monotonic()
    result: Literal["holds", "fails", "skipped"] = "fails"
    detail = ""
    for _ in range(attempts):
        try:
            result, detail = "holds", check.run(probe)
        except SkippedError as skipped:
            result, detail = "skipped", str(skipped)
        except FailedError as failed:
            result, detail = "fails", str(failed)
        except APIError as error:
            result, detail = "fails", f"refused with status {error.status_code}"
        except ContensisError as error:  # its message may name what it asked for
            result, detail = "fails", f"no usable answer ({type(error).__name__})"
        if result != "fails":
            break
    return Finding(check, result, detail, time.monotonic() - started)
