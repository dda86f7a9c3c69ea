"""A copy through pgbouncer in transaction mode, where each transaction may run in another session."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.export.test_changes import ids, several_types
from tests.feeds import served
from tests.postgres import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.export.copies import Copy
    from tests.postgres import Postgres

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
TIMEOUT = 20.0


@contextmanager
def pooled(postgres: Postgres, folder: Path) -> Iterator[str]:
    """Run pgbouncer before a database, with a single session for all; yield the URL of its own."""
    parts = urlsplit(postgres.url)
    host = parts.hostname or parse_qs(parts.query)["host"][0]
    password = f" password={parts.password}" if parts.password else ""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "users.txt").write_text(f'"{parts.username}" ""\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={host} port={parts.port or 5432}{password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\n"
        "pool_mode = transaction\ndefault_pool_size = 1\n"
    )
    command = [str(PROGRAM), str(settings)]
    if os.geteuid() == 0:  # which it refuses to run as; the server's user may enter its socket's folder
        user = pwd.getpwuid(Path(host).stat().st_uid).pw_name if host[0] == "/" else "nobody"
        command = [command[0], "-u", user, command[1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://{parts.username}@127.0.0.1:{port}/{postgres.name}"
    try:
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                psycopg.connect(url, connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian: pgbouncer)")
def test_copy_follows_through_pgbouncer_in_transaction_mode(
    copy_of: Callable[..., Copy], postgres: Postgres, tmp_path: Path
) -> None:
    copy = copy_of(several_types(10))
    with pooled(postgres, tmp_path) as url:
        for number, driver in enumerate([*DRIVERS, *DRIVERS]):
            copy.connect = lambda _, connect=DRIVERS[driver]: connect(url)  # type: ignore[misc]  # bound now
            entries = ids(copy.catalogue)
            copy.catalogue.update(entries[number], {"title": f"changed {number}"})
            copy.catalogue.delete(entries[-1])
            result = copy.run()
            assert (result["upserts"], result["deletes"]) == ((1, 2) if number else (58, 0))
        assert postgres.load() == served(copy.catalogue)
