"""Requests and responses, as the sandbox and a test's fault functions see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Framing = Literal["length", "chunked", "close"]


@dataclass(frozen=True)
class Response:
    """A response.

    :param status: the HTTP status.
    :param body: the body as bytes.
    :param headers: the headers. The length is added when the response is sent, and so is the date if there
        is none.
    :param content_length: the length to claim; None means the true one. A false one closes the connection.
    :param drop: close the connection without responding.
    :param reset: end the connection with a TCP reset; with `drop`, instead of a response.
    :param outage: refuse new connections for this many seconds from this response on.
    :param delay: seconds to wait before responding.
    :param spread: seconds over which the body is sent, in pieces.
    :param cut: share of the body to send before the connection ends; 1 sends all of it, less never all.
    :param framing: how the client finds the end of the body: `length`, `chunked`, or `close` (the end of the
        connection).
    :param clock: seconds by which the `Date` header is off; None leaves the header out.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_length: int | None = None
    drop: bool = False
    reset: bool = False
    outage: float = 0.0
    delay: float = 0.0
    spread: float = 0.0
    cut: float = 1.0
    framing: Framing = "length"
    clock: float | None = 0.0

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Return a response with a value as compact JSON."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, body, {"content-type": "application/json; charset=utf-8", **(headers or {})})


@dataclass(frozen=True)
class Request:
    """A request.

    :param number: 1 for the first request the sandbox received, and so on.
    :param kind: the resource: `token`, `project`, `content_type`, `component`, `entry`, `list`, `search`,
        `file` (of an asset), `stats` or `other`.
    :param method: the HTTP method.
    :param path: the decoded path.
    :param query: query parameters, names in lower case.
    :param headers: headers, names in lower case.
    :param body: the body.
    :param answer: returns the response that the sandbox would normally send.
    :param revoke_tokens: revokes every token issued so far.
    """

    number: int
    kind: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    answer: Callable[[], Response] = field(repr=False, compare=False)
    revoke_tokens: Callable[[], None] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Record:
    """A sandbox's record of a request.

    :param number: 1 for the first request the sandbox received, and so on.
    :param kind: as in `Request`.
    :param method: the HTTP method.
    :param path: the decoded path.
    :param query: query parameters, names in lower case.
    :param status: the response's status; 0 if the connection was dropped instead.
    """

    number: int
    kind: str
    method: str
    path: str
    query: Mapping[str, str]
    status: int


Faults = Callable[[Request], Response | None]
