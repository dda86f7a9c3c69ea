"""Answers that a sandbox gives instead of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Request, Response

ENVELOPE = {
    "logId": "4f1d2c3b-0000-4000-8000-123456789abc",
    "message": "It broke",
    "data": {},
    "type": "error",
}


class Answers:
    """Sandbox faults for API calls: the given answers in turn, then the normal ones."""

    def __init__(self, *answers: Response | None, kind: str = "project") -> None:
        self.answers = list(answers)
        self.kind = kind
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Response | None:
        if request.kind != self.kind:
            return None
        self.seen.append(request)
        return self.answers.pop(0) if self.answers else None
