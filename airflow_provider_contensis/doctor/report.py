"""The report of an examination, for people."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.doctor.examination import Examination

_WIDTH = 100


def as_text(examination: Examination) -> str:
    """Return a table of all checks, then what each failure means and what to do."""
    width = max(len(finding.check.claim) for finding in examination.findings) + 2
    lines = [
        f"{finding.result:<8}{finding.check.id:<21}{finding.check.claim:<{width}}{finding.detail}"
        for finding in examination.findings
    ]
    for finding in examination.failed:
        check = finding.check
        lines += ["", f"{check.id} fails: {finding.detail}."]
        lines += _paragraph("What it means:", check.impact)
        lines += _paragraph("What to do:", check.advice)
    environment = examination.environment
    results = [finding.result for finding in examination.findings]
    lines += [
        "",
        f"{count(results.count('holds'), 'check')} hold, {results.count('fails')} fail, "
        f"{results.count('skipped')} skipped: {count(environment['requests'], 'request')} in "
        f"{environment['seconds']} s.",
        f"Suitable here: page_size={environment['page_size']}, "
        f"max_concurrent_requests={environment['max_concurrent_requests']}.",
    ]
    return "\n".join(lines)


def _paragraph(title: str, text: str) -> list[str]:
    return textwrap.wrap(f"{title} {text}", _WIDTH, initial_indent="  ", subsequent_indent="  ")
