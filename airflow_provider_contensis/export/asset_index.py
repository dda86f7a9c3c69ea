"""The assets of one run, and what becomes of each: on this machine's disk, so that memory stays small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.export.asset import Asset, read_record
from airflow_provider_contensis.export.temporary import temporary_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_contensis.export.asset import AssetRecord

_TABLES = """
CREATE TABLE held (key TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID;
CREATE TABLE files (path TEXT PRIMARY KEY, bytes INTEGER, is_named INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE TABLE assets (number INTEGER PRIMARY KEY, asset TEXT, record TEXT, reason TEXT);
"""


class Missing(NamedTuple):
    """An asset whose file could not be had, and why."""

    asset: Asset
    reason: str


class Totals(NamedTuple):
    """What was found: assets with a file, distinct files and their bytes, and assets without a file."""

    assets: int
    files: int
    bytes: int
    missing: int


class AssetIndex:
    """The assets of one run, in the order of their entries."""

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Remove it."""
        self._database.close()

    # --- what an earlier run has left ---------------------------------------------------------------------

    def hold(self, lines: Iterable[bytes]) -> None:
        """Take the records of an earlier run; later ones replace earlier ones."""
        records = filter(None, map(read_record, lines))
        self._database.executemany(
            "INSERT OR REPLACE INTO held VALUES (?, ?)",
            ((_key(record), json.dumps(record)) for record in records),
        )

    def find_files(self, files: Iterable[tuple[str, int]]) -> None:
        """Take the paths and sizes of the files in the folder."""
        self._database.executemany("INSERT OR REPLACE INTO files (path, bytes) VALUES (?, ?)", files)

    # --- the assets of this run ---------------------------------------------------------------------------

    def add(self, assets: Iterable[Asset]) -> None:
        """Add assets; one whose file is in the folder already is done."""
        for asset in assets:
            held = self._held(asset)
            self._database.execute(
                "INSERT INTO assets (asset, record) VALUES (?, ?)",
                (json.dumps(asset), held and json.dumps(held)),
            )

    def _held(self, asset: Asset) -> AssetRecord | None:
        """Return the record of an asset whose file need not be read again."""
        found = self._database.execute("SELECT record FROM held WHERE key = ?", (asset.key,)).fetchone()
        record = read_record(found[0]) if found else None
        if record is None or not asset.is_as_recorded(record):
            return None
        if self._size_of(record["path"]) != record["bytes"]:
            return None
        return asset.record(
            path=record["path"],
            bytes=record["bytes"],
            sha256=record["sha256"],
            content_type=record["content_type"],
        )

    def _size_of(self, path: str) -> int | None:
        found = self._database.execute("SELECT bytes FROM files WHERE path = ?", (path,)).fetchone()
        return found[0] if found else None

    def wanted(self) -> Iterator[tuple[int, Asset]]:
        """Yield the assets whose files have to be read, with their numbers."""
        last = 0
        while row := self._database.execute(
            "SELECT number, asset FROM assets WHERE number > ? AND record IS NULL AND reason IS NULL"
            " ORDER BY number LIMIT 1",
            (last,),
        ).fetchone():
            last = row[0]
            yield last, Asset(*json.loads(row[1]))

    def done(self, number: int, record: AssetRecord) -> None:
        """Keep the record of an asset whose file was read."""
        self._database.execute("UPDATE assets SET record = ? WHERE number = ?", (json.dumps(record), number))
        self.find_files([(record["path"], record["bytes"])])

    def miss(self, number: int, reason: str) -> None:
        """Keep why the file of an asset could not be had."""
        self._database.execute("UPDATE assets SET reason = ? WHERE number = ?", (reason, number))

    # --- what the folder holds in the end -----------------------------------------------------------------

    def records(self) -> Iterator[AssetRecord]:
        """Yield the records of all assets with a file, in order."""
        for (text,) in self._database.execute(
            "SELECT record FROM assets WHERE record IS NOT NULL ORDER BY number"
        ):
            yield json.loads(text)

    def missing(self) -> Iterator[Missing]:
        """Yield the assets without a file, in order."""
        for text, reason in self._database.execute(
            "SELECT asset, reason FROM assets WHERE reason IS NOT NULL ORDER BY number"
        ):
            yield Missing(Asset(*json.loads(text)), reason)

    def conclude(self) -> Totals:
        """Mark the files that assets name, and return what was found."""
        named = ((record["path"],) for record in self.records())
        self._database.executemany("UPDATE files SET is_named = 1 WHERE path = ?", named)
        [(assets, missing)] = self._database.execute("SELECT count(record), count(reason) FROM assets")
        [(files, size)] = self._database.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE is_named"
        )
        return Totals(assets, files, size, missing)

    def unnamed(self) -> Iterator[str]:
        """Yield the paths of files in the folder that no asset names."""
        for (path,) in self._database.execute("SELECT path FROM files WHERE NOT is_named ORDER BY path"):
            yield path

    def counts(self) -> tuple[int, int]:
        """Return the number of assets, and of those whose files have to be read."""
        [(all_, wanted)] = self._database.execute(
            "SELECT count(*), count(*) - count(record) - count(reason) FROM assets"
        )
        return all_, wanted


def _key(record: AssetRecord) -> str:
    return json.dumps([record["id"].lower(), record["language"].lower()])
