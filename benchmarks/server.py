"""A minimal Contensis for the benchmark, fast enough never to be the bottleneck.

One process, one thread, HTTP/1.1 with keep-alive on asyncio's own socket calls: a page is a header and a
slice of the prepared content, handed to the kernel without a copy. It serves

- the token endpoint, the project and its content type;
- the search (GET and POST) for the clauses that an export sends: windows of `sys.version.created` become
  ranges of the prepared entries by arithmetic;
- the plain paged list of a content type's entries, without a depth limit, for the peers and for curl;
- `/_bench/stats` and `/_bench/configure?entries=&latency_ms=`, for the harness.

The latency is added to every API answer, concurrently. The process exits when its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import socket
import sys
import threading
import time
from email.utils import formatdate
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from benchmarks.content import (
    CONTENT_TYPE,
    ENTRY_BYTES,
    LANGUAGE,
    PROJECT,
    content_type,
    created_index,
    prepare,
    project,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CREATED = "sys.version.created"
_RECEIVE_BYTES = 1 << 16
_MATCHING = {
    "sys.contentTypeId": CONTENT_TYPE,
    "sys.versionStatus": "published",
    "sys.language": LANGUAGE,
    "sys.dataFormat": "entry",
}

Buffer = bytes | memoryview


class RequestError(Exception):
    """The server does not support the request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    params: dict[str, str]
    body: bytes
    keep_alive: bool


class Server:
    """The server's content, counters and settings.

    :param data: the prepared entries.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._entries = len(data) // ENTRY_BYTES
        self._latency = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = self.requests = self.entries_served = self.bytes_served = 0

    async def run(self, listener: socket.socket) -> None:
        """Accept connections forever."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(self._handle_connection(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle_connection(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        received, counted = b"", False
        with connection:
            try:
                while True:
                    while (end := received.find(b"\r\n\r\n")) < 0:
                        data = await loop.sock_recv(connection, _RECEIVE_BYTES)
                        if not data:
                            return
                        received += data
                    length = _content_length(received[:end])
                    while len(received) < end + 4 + length:
                        data = await loop.sock_recv(connection, _RECEIVE_BYTES)
                        if not data:
                            return
                        received += data
                    request = _parse(received[:end], received[end + 4 : end + 4 + length])
                    received = received[end + 4 + length :]
                    if request.path.startswith("/_bench/"):
                        await _send(connection, _with_header(200, self._control(request)))
                    else:
                        self.connections += not counted
                        counted = True
                        await self._respond(connection, request)
                    if not request.keep_alive:
                        return
            except ConnectionError:
                return

    async def _respond(self, connection: socket.socket, request: Request) -> None:
        self.requests += 1
        try:
            status, parts = 200, self._route(request)
        except RequestError as error:
            status, parts = error.status, [_json({"message": str(error)})]
        if self._latency:
            await asyncio.sleep(self._latency)
        self.bytes_served += sum(map(len, parts))
        await _send(connection, _with_header(status, parts))

    def _control(self, request: Request) -> list[Buffer]:
        if request.path == "/_bench/configure":
            self._entries = int(request.params["entries"])
            self._latency = int(request.params["latency_ms"]) / 1000
            if self._entries * ENTRY_BYTES > len(self._data):
                raise ValueError("not that many entries are prepared")
            # Read once, so that no contender waits for the disk.
            bytes(self._data[: self._entries * ENTRY_BYTES : mmap.PAGESIZE])
        return [
            _json(
                {
                    "connections": self.connections,
                    "requests": self.requests,
                    "entries": self.entries_served,
                    "bytes": self.bytes_served,
                    "cpu_seconds": time.process_time(),
                }
            )
        ]

    def _route(self, request: Request) -> list[Buffer]:
        if request.path.rstrip("/") == "/authenticate/connect/token":
            return [
                _json({"access_token": "bench." + "t" * 1100, "expires_in": 3600, "token_type": "Bearer"})
            ]
        parts = request.path.strip("/").split("/")
        if parts[:1] != ["api"] or parts[2:4] != ["projects", PROJECT]:
            raise RequestError(404, "Project not found.")
        match parts[4:]:
            case []:
                return [_json(project())]
            case ["contenttypes"]:
                return [_json([content_type()])]
            case ["contenttypes", id_] if id_ == CONTENT_TYPE:
                return [_json(content_type())]
            case ["contenttypes", id_, "entries"] if id_ == CONTENT_TYPE:
                return self._page(range(self._entries), request.params)
            case ["entries", "search"]:
                return self._search(request)
        raise RequestError(404, "Resource not found.")

    def _search(self, request: Request) -> list[Buffer]:
        if request.method == "POST":
            query = json.loads(request.body)
        else:
            query = {
                name: json.loads(text) if name in {"where", "orderBy"} else text
                for name, text in request.params.items()
            }
        found = _matching_range(query.get("where") or [], self._entries)
        descending = query.get("orderBy", [{}])[:1] == [{"desc": CREATED}]
        return self._page(found[::-1] if descending else found, query)

    def _page(self, found: range, query: Mapping[str, Any]) -> list[Buffer]:
        number, size = int(query.get("pageIndex", 0)), int(query.get("pageSize", 25))
        if not 1 <= size <= 10_000 or number < 0:
            raise RequestError(400, "pageSize must be from 1 to 10000.")
        page = found[number * size : (number + 1) * size]
        start = (
            f'{{"pageIndex":{number},"pageSize":{size},"totalCount":{len(found)},'
            f'"pageCount":{ceil(len(found) / size)},"items":['
        )
        self.entries_served += len(page)
        return [start.encode(), self._slice(page), b"]}"]

    def _slice(self, page: range) -> Buffer:
        if not page:
            return b""
        if page.step == 1:
            return self._data[page.start * ENTRY_BYTES : page.stop * ENTRY_BYTES - 1]
        return b",".join(self._data[i * ENTRY_BYTES : (i + 1) * ENTRY_BYTES - 1] for i in page)


def _matching_range(where: Sequence[Mapping[str, Any]], entries: int) -> range:
    """Return the range of entries that match all clauses."""
    first, last = 0, entries
    for clause in where:
        field = clause.get("field")
        if field == CREATED:
            if clause.get("exists") is False:
                return range(0)
            if "greaterThanOrEqualTo" in clause:
                first = max(first, created_index(clause["greaterThanOrEqualTo"]))
            if "lessThan" in clause:
                last = min(last, created_index(clause["lessThan"]))
            if not clause.keys() & {"exists", "greaterThanOrEqualTo", "lessThan"}:
                raise RequestError(400, "This server does not support this comparison of created times.")
        elif not _matches(clause):
            return range(0)
    return range(first, max(first, last))


def _matches(clause: Mapping[str, Any]) -> bool:
    """Return whether a clause holds for every entry; otherwise it holds for none."""
    if "not" in clause:
        return not _matches(clause["not"])
    field = clause.get("field")
    if field == "sys.versionStatus":
        return clause.get("equalTo") in {"published", "latest"}
    if field in _MATCHING:
        return _MATCHING[field] in clause.get("in", [clause.get("equalTo")])
    if field == "sys.id" and "exists" in clause:
        return bool(clause["exists"])
    raise RequestError(400, f"This server does not support the clause {json.dumps(clause)}.")


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _parse(head: bytes, body: bytes) -> Request:
    method, target, version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    parts = urlsplit(target)
    keep_alive = version == "HTTP/1.1" and b"connection: close" not in head.lower()
    return Request(method, parts.path, dict(parse_qsl(parts.query)), body, keep_alive)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _with_header(status: int, parts: list[Buffer]) -> list[Buffer]:
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found"}[status]
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {sum(map(len, parts))}\r\nDate: {formatdate(usegmt=True)}\r\n\r\n"
    )
    return [head.encode(), *parts]


async def _send(connection: socket.socket, parts: list[Buffer]) -> None:
    """Send all parts: in one call if the kernel accepts them, otherwise part by part."""
    try:
        sent = connection.sendmsg(parts)
    except BlockingIOError:
        sent = 0
    loop = asyncio.get_running_loop()
    for part in parts:
        if sent < len(part):
            await loop.sock_sendall(connection, memoryview(part)[sent:])
        sent = max(0, sent - len(part))


def main() -> None:
    """Prepare the content, serve it, and print the URL."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000, help="entries to prepare")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".cache")
    parser.add_argument("--port", type=int, default=0, help="0 for any free port")
    arguments = parser.parse_args()
    path = prepare(arguments.cache, arguments.entries)
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=128)
    listener.setblocking(False)
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_exit_with_stdin, daemon=True).start()
    asyncio.run(Server(data).run(listener))


def _exit_with_stdin() -> None:
    """Exit when the parent process closes standard input or dies."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
