"""The deadline for a whole answer, with a server that sends a byte now and then."""

from __future__ import annotations

import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from airflow_provider_contensis import exceptions as errors
from airflow_provider_contensis.api.auth import TokenCache
from airflow_provider_contensis.api.client import ContensisClient
from airflow_provider_contensis.api.retry import NO_RETRIES
from airflow_provider_contensis.api.token_request import Credentials
from tests.tls import authority

if TYPE_CHECKING:
    from pathlib import Path


class SlowServer(socketserver.ThreadingTCPServer):
    """Answers with a fixed start, then a byte every tenth of a second for ten seconds."""

    daemon_threads = True

    def __init__(self, start: bytes) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(1 << 16)
                self.request.sendall(start)
                with suppress(OSError):
                    for _ in range(100):
                        time.sleep(0.1)
                        self.request.sendall(b" ")

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> SlowServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP",
        b"HTTP/1.1 200 OK\r\nserver:",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    ],
    ids=["before-status", "in-headers", "in-body", "in-chunk", "until-close"],
)
def test_answer_that_trickles_in_times_out(tmp_path: Path, start: bytes, is_tls: bool) -> None:
    """Each byte restarts the timeout of the socket, which alone would never end."""
    with SlowServer(start) as server:
        ca = authority(tmp_path)
        if is_tls:
            server.socket = ca.server(tmp_path).wrap_socket(server.socket, server_side=True)
        url = f"http{'s' if is_tls else ''}://127.0.0.1:{server.server_address[1]}"
        client = ContensisClient(
            Credentials(url, "id", "secret", ("Entry_Read",)),
            timeout=0.5,
            verify=str(ca.file),
            retry=NO_RETRIES,
            tokens=TokenCache(),
            deadline_factor=1,
        )
        started = time.monotonic()
        with pytest.raises(errors.RequestTimeoutError, match=r"still arriving after 0\.5 seconds"):
            client.list_projects()
        assert time.monotonic() - started < 5
