"""HTTP on the wire: connections come in, answers go out, whole or broken on purpose."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import sys
import threading
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

_GZIP_FROM = 1024
_POLL_SECONDS = 0.02
_LONGEST_WAIT_SECONDS = 1.0
_PIECES = 4
# Close at once, throwing away what was not sent yet: the other side sees a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


def compressed(response: Response, accepted: str) -> Response:
    """Compress an answer that is worth it; one that lies about its length stays as it is.

    :param accepted: the request's `Accept-Encoding` header.
    """
    if (
        len(response.body) <= _GZIP_FROM
        or response.content_length is not None
        or "gzip" not in accepted
        or "content-encoding" in response.headers
    ):
        return response
    body = gzip.compress(response.body, 1, mtime=0)
    return replace(response, body=body, headers={**response.headers, "content-encoding": "gzip"})


class Server(ThreadingHTTPServer):
    """Accepts connections, one thread for each, and can close them all. It listens once it is made.

    :param host: address to listen on.
    :param port: port to listen on; 0 means any free one.
    :param respond: answers a request.
    :param tls: serve https with this context.
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
        self._open: dict[socket.socket, threading.Thread] = {}
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
        """Stop accepting connections, for good."""
        self.stopping.set()
        super().shutdown()

    def refuse(self, seconds: float) -> None:
        """Refuse new connections for a while; those that are open stay so."""
        with self._lock:
            if self._outage:
                return
            self._outage = seconds
        super().shutdown()
        self._refusing.wait(_LONGEST_WAIT_SECONDS)

    def reset(self, connection: socket.socket) -> None:
        """Have a connection end with a reset, once its thread is done with it."""
        with self._lock:
            self._resets.add(connection)

    def server_activate(self) -> None:
        """Listen."""
        super().server_activate()
        if self._tls:
            # The handshake waits for the connection's own thread, so that a slow client holds up no other.
            self.socket = self._tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def _listen_again(self) -> bool:
        """Listen on the same port; return False if it is time to stop."""
        while not self.stopping.is_set():
            self.socket = socket.socket(self.address_family, self.socket_type)
            try:
                self.server_bind()
            except OSError:  # for a moment, somebody else has the port
                self.socket.close()
                self.stopping.wait(_POLL_SECONDS)
            else:
                self.server_activate()
                return True
        return False

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host's name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread that `close_all` can find."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:
            self.accepted += 1
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._open.pop(request, None)
            is_reset = request in self._resets
            self._resets.discard(request)
        if not is_reset:
            super().shutdown_request(request)
            return
        with contextlib.suppress(OSError):
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a defect of the sandbox; a client that went away is none."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_all(self) -> None:
        """Stop listening, close every connection and wait for its thread."""
        self.server_close()
        with self._lock:
            connections = list(self._open.items())
        for connection, thread in connections:
            with contextlib.suppress(OSError):
                # Not the TLS object's own method, which would wait for the client.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests from one connection and writes the answers, each in one piece."""

    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm the last segment of an answer would wait for the client's acknowledgement.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing: the sandbox keeps its own record of requests."""

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

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_method  # noqa: N815  # the base class looks methods up by these names

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
        lines.append(f"date: {formatdate(usegmt=True)}")
        if self.close_connection:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        # Head and body in one segment, where the body comes in one piece.
        first, *rest = [b""] if self.command == "HEAD" else list(_pieces(response))
        self.wfile.write(head + first)
        for piece in rest:
            self.server.stopping.wait(response.spread / _PIECES)
            self.wfile.write(piece)


def _pieces(response: Response) -> Iterator[bytes]:
    """Yield the body as it goes onto the wire: as much as is sent, in its framing, in one piece or some."""
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
