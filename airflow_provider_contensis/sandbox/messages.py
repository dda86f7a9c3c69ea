"""Requests and answers as the sandbox sees them, and as a test that plans faults sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Framing = Literal["length", "chunked", "close"]


@dataclass(frozen=True)
class Response:
    """An answer.

    :param status: HTTP status.
    :param body: the body as bytes.
    :param headers: its headers; the length and the date are added when it is sent.
    :param content_length: the length to claim; None means the true one. A false one closes the connection.
    :param drop: close the connection without answering.
    :param reset: end the connection with a TCP reset; with `drop`, in place of an answer.
    :param outage: seconds for which new connections are refused, from this answer on.
    :param delay: seconds to wait before answering.
    :param spread: seconds over which the body is sent, in pieces.
    :param cut: share of the body that is sent before the connection ends; 1 means all of it, less never all.
    :param framing: how the client learns where the body ends: by its length, by chunks, or by the
        connection's end.
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
    :param revoke_tokens: forgets every token issued so far.
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
