"""The HTTP server: accepts connections and sends responses, complete or broken on purpose."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.messages import Response

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

# Method, target, headers with names in lower case, and body.
Respond = Callable[[str, str, Mapping[str, str], bytes], Response]

_GZIP_THRESHOLD = 1024
_POLL_SECONDS = 0.02
_MAX_WAIT_SECONDS = 1.0
_PIECES = 4
# Close immediately and discard unsent data: the client sees a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


def compress(response: Response, accept_encoding: str) -> Response:
    """Compress a response if it is large enough. A response with a false length is left alone.

    :param accept_encoding: the request's `Accept-Encoding` header.
    """
    if (
        len(response.body) <= _GZIP_THRESHOLD
        or response.content_length is not None
        or "gzip" not in accept_encoding
        or "content-encoding" in response.headers
    ):
        return response
    body = gzip.compress(response.body, 1, mtime=0)
    return replace(response, body=body, headers={**response.headers, "content-encoding": "gzip"})


class Server(ThreadingHTTPServer):
    """Accepts connections, one thread for each, and can close them all. It listens as soon as it is created.

    :param host: the address to listen on.
    :param port: the port to listen on; 0 picks a free port.
    :param respond: returns the response to a request.
    :param tls: serve HTTPS with this context.
    :raises OSError: the port is in use.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, host: str, port: int, respond: Respond, tls: ssl.SSLContext | None) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.respond = respond
        self.accepted = 0
        self.stopping = threading.Event()
        self._tls = tls
        self._outage = 0.0
        self._refusing = threading.Event()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._resets: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def serve(self) -> None:
        """Accept connections until `shutdown`, and again after each outage."""
        while True:
            self.serve_forever(_POLL_SECONDS)
            outage, self._outage = self._outage, 0.0
            if not outage or self.stopping.is_set():
                return
            self.socket.close()
            self._refusing.set()
            self.stopping.wait(outage)
            self._refusing.clear()
            if not self._listen_again():
                return

    def shutdown(self) -> None:
        """Stop accepting connections, also after an outage."""
        self.stopping.set()
        super().shutdown()

    def refuse(self, seconds: float) -> None:
        """Refuse new connections for some seconds; open connections stay open."""
        with self._lock:
            if self._outage:
                return
            self._outage = seconds
        super().shutdown()
        self._refusing.wait(_MAX_WAIT_SECONDS)

    def reset(self, connection: socket.socket) -> None:
        """End a connection with a reset once its thread is done."""
        with self._lock:
            self._resets.add(connection)

    def server_activate(self) -> None:
        """Listen."""
        super().server_activate()
        if self._tls:
            # Each connection's own thread does the handshake, so that a slow client does not block others.
            self.socket = self._tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def _listen_again(self) -> bool:
        """Listen on the same port again; return False if the server is stopping."""
        while not self.stopping.is_set():
            self.socket = socket.socket(self.address_family, self.socket_type)
            try:
                self.server_bind()
            except OSError:  # another process has taken the port for a moment
                self.socket.close()
                self.stopping.wait(_POLL_SECONDS)
            else:
                self.server_activate()
                return True
        return False

    def server_bind(self) -> None:
        """Bind without the base class's host name lookup, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread that `close_all` can join."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self.accepted += 1
            self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._connections.pop(request, None)
            is_reset = request in self._resets
            self._resets.discard(request)
        if not is_reset:
            super().shutdown_request(request)
            return
        with contextlib.suppress(OSError):
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors in the sandbox, but not a client that disconnected."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_all(self) -> None:
        """Stop listening, close every connection and wait for its thread."""
        self.server_close()
        with self._lock:
            connections = list(self._connections.items())
        for connection, thread in connections:
            with contextlib.suppress(OSError):
                # The TLS object's own method would wait for the client.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests from one connection and writes the responses."""

    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm, the last segment of a response would wait for the client's acknowledgement.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing: the sandbox records requests itself."""

    def handle_method(self) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self.close_connection = True
            self._send(Response(411))
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            self.close_connection = True
            self._send(Response(400))
            return
        body = self.rfile.read(int(length))
        self._send(self.server.respond(self.command, self.path, headers, body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_method  # noqa: N815  # the base class looks up methods by these names

    def _send(self, response: Response) -> None:
        if response.outage:
            self.server.refuse(response.outage)
        if response.reset:
            self.server.reset(self.connection)
        if response.drop:
            self.close_connection = True
            return
        length = len(response.body) if response.content_length is None else response.content_length
        is_whole = length == len(response.body) and response.cut >= 1
        if not is_whole or response.reset or response.framing == "close":
            self.close_connection = True
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.framing == "length":
            lines.append(f"content-length: {length}")
        elif response.framing == "chunked":
            lines.append("transfer-encoding: chunked")
        if response.clock is not None and "date" not in map(str.lower, response.headers):
            lines.append(f"date: {formatdate(time.time() + response.clock, usegmt=True)}")
        if self.close_connection:
            lines.append("connection: close")
        header = "\r\n".join([*lines, "", ""]).encode("latin-1")
        # Headers and body go in one segment if the body is one piece.
        first, *rest = [b""] if self.command == "HEAD" else list(_pieces(response))
        self.wfile.write(header + first)
        for piece in rest:
            self.server.stopping.wait(response.spread / _PIECES)
            self.wfile.write(piece)


def _pieces(response: Response) -> Iterator[bytes]:
    """Yield the body as it is sent: cut short and framed as the response says, in one or several pieces."""
    body = response.body
    if response.cut < 1:
        body = body[: int(len(body) * response.cut)]
    size = -(-len(body) // _PIECES) if response.spread else len(body)
    parts = [body[start : start + size] for start in range(0, len(body), size)] if body else [b""]
    if response.framing != "chunked":
        yield from parts
        return
    for part in parts:
        yield b"%x\r\n%b\r\n" % (len(part), part) if part else b""
    if response.cut >= 1:
        yield b"0\r\n\r\n"
