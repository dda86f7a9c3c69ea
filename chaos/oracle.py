"""The oracle: derives what an export must hold from the sandbox's records, without the product's code.

The catalogue records every change with its revision, and the run keeps every page as it was sent. Together
they show which entries matched throughout, which never matched, and which bytes the service ever sent.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.quirks import change_entry
from chaos.scenario import WHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue, Change
    from airflow_provider_contensis.sandbox.documents import Document
    from chaos.scenario import Scenario

Key = tuple[str, str]
NOTES = "notes.txt"  # someone else's file, which an export must leave alone

_JSON = json.JSONDecoder()
_PAGE = b'{"pageIndex":'
_MANIFEST = "_manifest.json"
_MAX_SHOWN = 3


class Row(NamedTuple):
    """An exported entry.

    :param key: id and language, in lower case.
    :param content_type_id: as the entry states it.
    :param content: its JSON as bytes, or its cells in CSV.
    :param file: the name of the file that contains it.
    """

    key: Key
    content_type_id: str
    content: Any
    file: str


class Oracle:
    """Judges one run.

    :param scenario: the scenario of the run.
    :param catalogue: the content that is served; read now, and again when judging.
    """

    def __init__(self, scenario: Scenario, catalogue: Catalogue) -> None:
        self._scenario = scenario
        self._catalogue = catalogue
        self._status = scenario.arguments["version_status"]
        _, self._before = catalogue.select(lambda bucket: bucket.status == self._status)
        self._pages: list[bytes] = []

    def record(self, body: bytes) -> None:
        """Keep the body of an answer if it is a page."""
        if body.startswith(_PAGE):
            self._pages.append(body)

    def judge(self, files: Mapping[str, bytes], reported: int) -> list[str]:
        """Return what is wrong with an export that reports success.

        :param files: everything at the destination, by path.
        :param reported: the number of entries that it reports.
        """
        folder, _, name = self._scenario.destination.rpartition("/")
        if folder:
            exported = {path.removeprefix(f"{folder}/"): content for path, content in files.items()}
            manifest, _ = exported.pop(_MANIFEST, b"{}"), exported.pop(NOTES, None)
            complaints = _check_manifest(manifest, exported)
        else:
            exported = dict(files)
            complaints = [] if files.keys() == {name} else [f"expected only {name}, found {sorted(files)}"]
        if complaints:
            return complaints
        rows = [row for name, content in exported.items() for row in _rows(name, content)]
        throughout, ever = self._matching(self._catalogue.changes)
        found = Counter(row.key for row in rows)
        complaints = [
            *([f"it reported {reported} entries, but wrote {len(rows)}"] if reported != len(rows) else []),
            *_complain("matched throughout, but are not there", throughout - found.keys()),
            *_complain("are there more than once", [key for key, times in found.items() if times > 1]),
            *_complain("are there, but never matched", found.keys() - ever.keys()),
        ]
        is_served = self._content_check()
        complaints += _complain(
            "appear in no version that was served and matched",
            [row.key for row in rows if row.key in ever and not is_served(row, ever[row.key])],
        )
        if folder:
            complaints += _complain(
                "are in the file of another content type",
                [row.key for row in rows if row.file.partition(".")[0] != row.content_type_id],
            )
        return complaints

    def _matching(self, changes: Iterable[Change]) -> tuple[set[Key], dict[Key, list[Document]]]:
        """Return the keys that matched throughout, and the matching versions of all that ever matched."""
        versions: dict[Key, list[Document | None]] = {document.key: [document] for document in self._before}
        for change in changes:
            if change.status == self._status:
                versions.setdefault(change.key, [None]).append(change.document)
        verdicts = {
            key: [document if document is not None and self._matches(document) else None for document in all_]
            for key, all_ in versions.items()
        }
        throughout = {key for key, all_ in verdicts.items() if None not in all_}
        ever = {key: [document for document in all_ if document] for key, all_ in verdicts.items()}
        return throughout, {key: all_ for key, all_ in ever.items() if all_}

    def _matches(self, document: Document) -> bool:
        arguments = self._scenario.arguments
        entry = json.loads(document.management)
        version = entry["sys"]["version"]
        changed = moment_of(version["published" if self._status == "published" else "modified"])
        wheres = [where for where in WHERE if where.clause in arguments.get("where", [])]
        return (
            entry["sys"]["contentTypeId"]
            in _values(arguments["content_type_id"], entry["sys"]["contentTypeId"])
            and entry["sys"]["language"] in _values(arguments["language"], entry["sys"]["language"])
            and all(where.holds(entry) for where in wheres)
            and ("changed_from" not in arguments or changed >= moment_of(arguments["changed_from"]))
            and ("changed_to" not in arguments or changed < moment_of(arguments["changed_to"]))
        )

    def _content_check(self) -> Callable[[Row, list[Document]], bool]:
        """Return a function that checks whether a row is, to the last digit, a version that was served."""
        served = {item for page in self._pages for item in array_items(page, page.index(b'"items":[') + 8)}
        api = self._scenario.arguments["api"]

        def render(document: Document) -> bytes:
            body = self._catalogue.delivery.render(document) if api == "delivery" else document.management
            return change_entry(body, self._scenario.quirks)

        fields = self._scenario.arguments.get("fields")

        def is_served(row: Row, versions: list[Document]) -> bool:
            texts = [text for text in map(render, versions) if text in served]
            if isinstance(row.content, dict):
                return any(_expected_cells(text, row.content) == row.content for text in texts)
            if fields is None:
                return row.content in texts
            kept = _exact(row.content)
            return any(_select_fields(_exact(text), fields) == kept for text in texts)

        return is_served


def array_items(text: bytes, start: int = 0) -> Iterator[bytes]:
    """Yield the items of a JSON array exactly as written.

    :param start: where the array begins.
    """
    decoded = text.decode()
    # Positions in text and in bytes differ, but only ASCII precedes the array.
    position = start + 1
    while True:
        while decoded[position] in " \r\n,":
            position += 1
        if decoded[position] == "]":
            return
        _, end = _JSON.raw_decode(decoded, position)
        yield decoded[position:end].encode()
        position = end


def _check_manifest(manifest: bytes, files: Mapping[str, bytes]) -> list[str]:
    """Return what is wrong with a folder's manifest, which must name each file with its size and hash."""
    named = {file["path"]: file for file in json.loads(manifest).get("files", ())}
    if named.keys() != files.keys():
        return [f"the manifest names {sorted(named)}, but the folder holds {sorted(files)}"]
    return [
        f"the manifest has another size or hash for {name}"
        for name, file in named.items()
        if (file["bytes"], file["sha256"]) != (len(files[name]), hashlib.sha256(files[name]).hexdigest())
    ]


def differing_files(files: Mapping[str, bytes], others: Mapping[str, bytes]) -> list[str]:
    """Return the paths of the files that differ, byte by byte, between two exports of the same content.

    A manifest also holds requests and seconds, so only its list of files must be equal. That list holds the
    hashes of the files, so it is named only if no file differs.
    """
    left, right = _comparable(files), _comparable(others)
    paths = sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))
    return [path for path in paths if not path.endswith(_MANIFEST)] or paths


def _comparable(files: Mapping[str, bytes]) -> dict[str, Any]:
    names = {path: path.rpartition("/")[2] for path in files}
    return {
        path: json.loads(content)["files"] if names[path] == _MANIFEST else content
        for path, content in files.items()
        if names[path] != NOTES
    }


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, including hidden ones, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _rows(name: str, content: bytes) -> Iterator[Row]:
    """Yield the rows of a file, read with other code than wrote it."""
    plain = _decompress(name, content)
    if ".csv" in name:
        for cells in csv.DictReader(io.StringIO(plain.decode(), newline="")):
            key = (cells["sys.id"].lower(), cells["sys.language"].lower())
            yield Row(key, cells["sys.contentTypeId"], cells, name)
        return
    for text in _json_texts(name, plain):
        sys = json.loads(text)["sys"]
        yield Row((sys["id"].lower(), sys["language"].lower()), sys["contentTypeId"], text, name)


def _complain(what: str, keys: Iterable[Key]) -> list[str]:
    some = sorted(keys)
    shown = ", ".join(" ".join(key) for key in some[:_MAX_SHOWN])
    return [f"entries that {what}: {len(some)} ({shown})"] if some else []


def _values(requested: str | Sequence[str] | None, default: str) -> Sequence[str]:
    return [default] if requested is None else [requested] if isinstance(requested, str) else requested


def moment_of(text: str | None) -> tuple[str, str]:
    """Return a UTC time as Contensis writes it in a form that compares; a missing time sorts first."""
    whole, _, fraction = (text or "").rstrip("Z").partition(".")
    return whole, fraction.ljust(7, "0")


def _exact(text: bytes) -> Any:
    """Parse JSON, and keep every number as it is written."""
    return json.loads(text, parse_int=str, parse_float=str)


def _select_fields(entry: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return an entry reduced to the given fields and its identity."""
    kept: dict[str, Any] = {}
    for name, value in entry.items():
        if name in fields:
            kept[name] = value
        elif isinstance(value, dict):
            inner = [path.partition(".")[2] for path in fields if path.startswith(f"{name}.")]
            inner += ["id", "language", "contentTypeId"] if name == "sys" else []
            members = {key: item for key, item in value.items() if key in inner}
            if inner:
                kept[name] = members
        elif any(path.startswith(f"{name}.") for path in fields):
            kept[name] = value
    return kept


def _expected_cells(text: bytes, cells: Mapping[str, str]) -> dict[str, str]:
    """Return the cells that an entry should have: plain values from the entry, all others as given.

    Fields without a column, as in a content type that the project does not list, are JSON in the last
    column.
    """
    entry = _exact(text)
    rest = _exact(cells["_rest"].encode() or b"{}")
    expected = dict(cells)
    if any(entry.get(name) != value for name, value in rest.items()):
        expected["_rest"] = "something else"
    for path in cells.keys() - {"_rest"}:
        value: Any = None if path.partition(".")[0] in rest else entry
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, bool):
            expected[path] = "true" if value else "false"
        elif value is None or isinstance(value, str):
            expected[path] = value or ""
    return expected


def _decompress(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.decompress(content)
    if name.endswith(".zst"):
        import zstandard

        return bytes(zstandard.ZstdDecompressor().stream_reader(content).read())
    return content


def _json_texts(name: str, content: bytes) -> Iterable[bytes]:
    if ".parquet" in name:
        from pyarrow import parquet

        column = parquet.read_table(io.BytesIO(content)).column("entry")
        return [text.encode() for text in column.to_pylist()]
    return array_items(content) if ".json" in name and ".jsonl" not in name else content.splitlines()
