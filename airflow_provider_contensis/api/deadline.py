"""A deadline for whole answers: a socket's own timeout starts again with each byte that arrives."""

from __future__ import annotations

import http.client
import io
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import urllib3.connection
import urllib3.connectionpool

from airflow_provider_contensis.utils.text import duration

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping


class DeadlineExceededError(TimeoutError):
    """An answer did not end before its deadline."""


@cache  # classes are garbage that only a full collection removes, and a trigger makes a session for each poll
def pool_classes(deadline_factor: float) -> Mapping[str, Any]:
    """Return urllib3 connection pools, by scheme, whose answers have a deadline.

    :param deadline_factor: a whole answer, headers and body, may take this many times the socket's timeout.
    """

    def read_response(connection: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(connection, *args, **kwargs)
        seconds = connection.gettimeout()
        if seconds is not None:
            raw = response.fp.detach()
            response.fp = io.BufferedReader(_DeadlineReader(raw, seconds * deadline_factor))
        return response

    class Connection(urllib3.connection.HTTPConnection):
        response_class: Any = staticmethod(read_response)

    class SecureConnection(urllib3.connection.HTTPSConnection):
        response_class: Any = staticmethod(read_response)

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline.

    :param raw: the socket's reader.
    :param seconds: time until the deadline.
    """

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise DeadlineExceededError(f"An answer was still arriving after {duration(self._seconds)}.")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
