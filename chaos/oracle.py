"""What an export must hold, worked out from the sandbox's own record and from nothing that the product does.

The catalogue tells every change with its revision, and the run keeps every page as it was sent. From both
follows which entries matched throughout, which never did, and which bytes the service ever showed.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from chaos.scenario import WHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from airflow_provider_contensis.sandbox import Catalogue, Change
    from airflow_provider_contensis.sandbox.documents import Document
    from chaos.scenario import Scenario

Key = tuple[str, str]
NOTES = "notes.txt"  # somebody else's file, which an export leaves alone

_JSON = json.JSONDecoder()
_PAGE = b'{"pageIndex":'
_MANIFEST = "_manifest.json"
_SHOWN = 3


class Row(NamedTuple):
    """An exported entry.

    :param key: id and language, in lower case.
    :param content_type_id: what it says of itself.
    :param content: its JSON as bytes, or what of it the format holds.
    :param file: the name of the file that it is in.
    """

    key: Key
    content_type_id: str
    content: Any
    file: str


class Oracle:
    """Judges one run.

    :param scenario: what was asked for.
    :param catalogue: what was served; it is looked at now, and again when judging.
    """

    def __init__(self, scenario: Scenario, catalogue: Catalogue) -> None:
        self._scenario = scenario
        self._catalogue = catalogue
        self._status = scenario.arguments["version_status"]
        _, self._before = catalogue.select(lambda bucket: bucket.status == self._status)
        self._pages: list[bytes] = []

    def saw(self, body: bytes) -> None:
        """Keep what was sent, if it is a page."""
        if body.startswith(_PAGE):
            self._pages.append(body)

    def judge(self, files: Mapping[str, bytes], told: int) -> list[str]:
        """Return what is wrong with an export that says it succeeded.

        :param files: all that stands where it wrote, by path.
        :param told: how many entries it says it wrote.
        """
        folder, _, name = self._scenario.destination.rpartition("/")
        if folder:
            exported = {path.removeprefix(f"{folder}/"): content for path, content in files.items()}
            manifest, _ = exported.pop(_MANIFEST, b"{}"), exported.pop(NOTES, None)
            complaints = _check_manifest(manifest, exported)
        else:
            exported = dict(files)
            complaints = [] if files.keys() == {name} else [f"there are the files {sorted(files)}"]
        if complaints:
            return complaints
        rows = [row for name, content in exported.items() for row in _rows(name, content)]
        throughout, ever = self._matching(self._catalogue.changes)
        found = Counter(row.key for row in rows)
        complaints = [
            *([f"it tells of {told} entries, but there are {len(rows)}"] if told != len(rows) else []),
            *_complain("matched throughout, but are not there", throughout - found.keys()),
            *_complain("are there more than once", [key for key, times in found.items() if times > 1]),
            *_complain("are there, but never matched", found.keys() - ever.keys()),
        ]
        is_served = self._check_of_content()
        complaints += _complain(
            "are in no version that was served and matched",
            [row.key for row in rows if row.key in ever and not is_served(row, ever[row.key])],
        )
        if folder:
            complaints += _complain(
                "are in the file of another content type",
                [row.key for row in rows if row.file.partition(".")[0] != row.content_type_id],
            )
        return complaints

    def _matching(self, changes: Iterable[Change]) -> tuple[set[Key], dict[Key, list[Document]]]:
        """Return which variations matched at every moment, and every version of any that ever matched."""
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
        changed = _moment(version["published" if self._status == "published" else "modified"])
        wheres = [where for where in WHERE if where.clause in arguments.get("where", [])]
        return (
            entry["sys"]["contentTypeId"]
            in _all_or(arguments["content_type_id"], entry["sys"]["contentTypeId"])
            and entry["sys"]["language"] in _all_or(arguments["language"], entry["sys"]["language"])
            and all(where.holds(entry) for where in wheres)
            and ("changed_from" not in arguments or changed >= _moment(arguments["changed_from"]))
            and ("changed_to" not in arguments or changed < _moment(arguments["changed_to"]))
        )

    def _check_of_content(self) -> Callable[[Row, list[Document]], bool]:
        """Return what tells whether a row is, to the last digit, a version that was served."""
        served = {item for page in self._pages for item in array_items(page, page.index(b'"items":[') + 8)}
        render = (
            self._catalogue.delivery.render
            if self._scenario.arguments["api"] == "delivery"
            else lambda document: document.management
        )
        fields = self._scenario.arguments.get("fields")

        def is_served(row: Row, versions: list[Document]) -> bool:
            texts = [text for text in map(render, versions) if text in served]
            if isinstance(row.content, dict):
                return any(_cells(text, row.content) == row.content for text in texts)
            if fields is None:
                return row.content in texts
            kept = _exact(row.content)
            return any(_kept(_exact(text), fields) == kept for text in texts)

        return is_served


def array_items(text: bytes, start: int = 0) -> Iterator[bytes]:
    """Yield the items of a JSON array as they stand in the text.

    :param start: where the array begins.
    """
    decoded = text.decode()
    # Positions in text are not those in bytes, but an array begins behind plain ASCII.
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
    """Return what is wrong with a folder's manifest: it names each file, with its size and hash."""
    named = {file["path"]: file for file in json.loads(manifest).get("files", ())}
    if named.keys() != files.keys():
        return [f"the manifest names {sorted(named)}, but the folder holds {sorted(files)}"]
    return [
        f"the manifest tells another size or hash of {name}"
        for name, file in named.items()
        if (file["bytes"], file["sha256"]) != (len(files[name]), hashlib.sha256(files[name]).hexdigest())
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too, by its path in there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _rows(name: str, content: bytes) -> Iterator[Row]:
    """Yield what is in a file, read with other means than it was written with."""
    plain = _decompressed(name, content)
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
    shown = ", ".join(" ".join(key) for key in some[:_SHOWN])
    return [f"{len(some)} entries {what}: {shown}"] if some else []


def _all_or(asked: str | Sequence[str] | None, own: str) -> Sequence[str]:
    return [own] if asked is None else [asked] if isinstance(asked, str) else asked


def _moment(text: str | None) -> tuple[str, str]:
    """Return a time in UTC, as Contensis writes it, as something that compares; no time is before all."""
    whole, _, fraction = (text or "").rstrip("Z").partition(".")
    return whole, fraction.ljust(7, "0")


def _exact(text: bytes) -> Any:
    """Return JSON with every number as it is written."""
    return json.loads(text, parse_int=str, parse_float=str)


def _kept(entry: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return what is left of an entry when only some fields are kept, and what identifies it."""
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


def _cells(text: bytes, cells: Mapping[str, str]) -> dict[str, str]:
    """Return the cells of an entry, of those that are a plain value; the others as they are given.

    What has no column of its own, as in a content type that the project does not list, stands in the last
    one as JSON.
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


def _decompressed(name: str, content: bytes) -> bytes:
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
