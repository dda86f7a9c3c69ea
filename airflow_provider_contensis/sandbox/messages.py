"""Requests and answers as the sandbox sees them, and as a test that plans faults sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Response:
    """An answer.

    :param status: HTTP status.
    :param body: the body as bytes.
    :param headers: its headers; the length and the date are added when it is sent.
    :param content_length: the length to claim; None means the true one. A false one closes the connection.
    :param drop: close the connection without answering.
    :param delay: seconds to wait before answering.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_length: int | None = None
    drop: bool = False
    delay: float = 0.0

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Return an answer whose body is a value as compact JSON."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json; charset=utf-8", **(headers or {})})


@dataclass(frozen=True)
class Request:
    """A request.

    :param number: 1 for the first request that the sandbox received, and so on.
    :param kind: what it asks for: `token`, `project`, `content_type`, `component`, `entry`, `list`, `search`,
        `stats` or `other`.
    :param method: HTTP method.
    :param path: path, decoded.
    :param query: query parameters, names in lower case.
    :param headers: headers, names in lower case.
    :param body: the body.
    :param answer: makes the answer that the sandbox would give.
    """

    number: int
    kind: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    answer: Callable[[], Response] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Record:
    """What a sandbox remembers of a request.

    :param number: 1 for the first request that the sandbox received, and so on.
    :param kind: as in `Request`.
    :param method: HTTP method.
    :param path: path, decoded.
    :param query: query parameters, names in lower case.
    :param status: status of the answer; 0 when the connection was dropped instead.
    """

    number: int
    kind: str
    method: str
    path: str
    query: Mapping[str, str]
    status: int


Faults = Callable[[Request], Response | None]
