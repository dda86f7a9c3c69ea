"""Content for the benchmark server: entries of one size, prepared once and kept on disk.

Every entry takes exactly `ENTRY_BYTES` bytes, including its trailing comma. Any range of entries is
therefore one slice of the file, and a page costs the server next to nothing. Entry i is the same in every
file, so a file of a million entries also serves the smaller benchmarks.
"""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

PROJECT = "filmArchive"
CONTENT_TYPE = "film"
LANGUAGE = "en-GB"
ENTRY_BYTES = 2190

FIRST_CREATED = datetime(2018, 1, 1, 8, 0, 1, 500_000, tzinfo=UTC)
SPACING = timedelta(seconds=60)

_CHUNK = 5_000
_TEXT_CHARACTERS = 8_000_000  # longer than any compressor's window
_PEOPLE = ("jo.penrose", "m.okafor", "s.llewellyn", "ServicesUser", "a.kowalska", "t.nguyen")
_SYLLABLES = [
    *("ba", "cor", "dell", "en", "fir", "ga", "hol", "is", "jun", "kel", "lan", "mor", "nes"),
    *("ol", "pen", "quay", "ri", "sul", "tor", "un", "ver", "wyn", "yar", "zé"),
]


def prepare(folder: Path, entries: int) -> Path:
    """Return a file of at least this many entries; create or extend it if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = folder / f"entries-{recipe}.bin"
    for other in folder.glob("entries-*.bin"):
        if other != path:
            other.unlink()
    with path.open("ab") as file:
        ready = file.tell() // ENTRY_BYTES
        file.truncate(ready * ENTRY_BYTES)  # an interrupted run may have left a partial entry
        for start in range(ready, entries, _CHUNK):
            file.write(b"".join(map(entry, range(start, min(start + _CHUNK, entries)))))
    return path


def entry(index: int) -> bytes:
    """Return an entry as JSON, as the Management API writes it, followed by a comma."""
    text = _text()
    place = text.index(" ", index * 104_729 % (_TEXT_CHARACTERS - 2 * ENTRY_BYTES)) + 1
    title, tagline = _plain(text[place + 2_000 : place + 2_026]), _plain(text[place + 2_030 : place + 2_090])
    created = FIRST_CREATED + index * SPACING
    modified, published = (
        created + timedelta(days=2, microseconds=204_849),
        created + timedelta(days=2, seconds=1),
    )
    owner = _PEOPLE[index % len(_PEOPLE)]
    head = (
        f'{{"title":"{title}","tagline":"{tagline}","runtime":{60 + index % 120},'
        f'"releaseDate":"{created:%Y-%m-%d}T00:00:00Z",'
        f'"director":{{"sys":{{"id":"{_uuid(index % 5_000, 1)}","dataFormat":"entry",'
        f'"contentTypeId":"person","language":"{LANGUAGE}"}}}},'
        f'"poster":{{"asset":{{"sys":{{"id":"{_uuid(index, 2)}","dataFormat":"asset",'
        f'"contentTypeId":"image","language":"{LANGUAGE}"}}}},'
        f'"altText":"{title}","caption":null,"transformations":null}},"body":"'
    )
    tail = (
        f'","entryTitle":"{title}","entryDescription":"{tagline}",'
        f'"sys":{{"id":"{_uuid(index, 0)}","projectId":"{PROJECT}","contentTypeId":"{CONTENT_TYPE}",'
        f'"dataFormat":"entry","language":"{LANGUAGE}","availableLanguages":["{LANGUAGE}"],'
        f'"unavailableLanguages":["cy"],"deletedLanguages":[],"archivedLanguages":[],"owner":"{owner}",'
        f'"slug":"film-{index}","isPublished":true,"translationState":"none","metadata":{{}},"schedules":{{}},'
        '"workflow":{"id":"contensisEntryBasic","state":"versionComplete","allowedEvents":'
        '["versionComplete.sysUpdate","versionComplete.sysDelete","versionComplete.sysArchive",'
        '"versionComplete.sysUnpublish"],"transition":{'
        f'"invoked":"{_time(published)}","invokedBy":"{owner}","from":"draft","event":"publish","data":null}}}},'
        f'"version":{{"createdBy":"{owner}","created":"{_time(created)}","modifiedBy":"{owner}",'
        f'"modified":"{_time(modified)}","publishedBy":"{owner}","published":"{_time(published)}",'
        '"deletedBy":null,"deleted":null,"archivedBy":null,"archived":null,"versionNo":"2.0"}}},'
    )
    before, after = head.encode(), tail.encode()
    room = ENTRY_BYTES - len(before) - len(after)
    # The cut must not leave half a character or half an escape sequence.
    body = text[place : place + room].encode()[:room].decode(errors="ignore").rstrip("\\").encode()
    return before + body.ljust(room, b".") + after


def created_index(time: str) -> int:
    """Return the index of the first entry created at or after a time."""
    return max(0, -((FIRST_CREATED - datetime.fromisoformat(time)) // SPACING))


def project() -> dict[str, Any]:
    """Return the project as the API describes it."""
    return {
        "id": PROJECT,
        "name": "Film archive",
        "description": "Invented films",
        "primaryLanguage": LANGUAGE,
        "supportedLanguages": [LANGUAGE],
        "deliverySysExclusions": [],
    }


def content_type() -> dict[str, Any]:
    """Return the content type as the API describes it."""
    fields = [
        ("title", "string", None),
        ("tagline", "string", None),
        ("runtime", "integer", None),
        ("releaseDate", "dateTime", None),
        ("director", "object", "entry"),
        ("poster", "object", "image"),
        ("body", "string", "html"),
    ]
    return {
        "id": CONTENT_TYPE,
        "projectId": PROJECT,
        "name": {LANGUAGE: "Film"},
        "description": {},
        "entryTitleField": "title",
        "entryDescriptionField": "tagline",
        "dataFormat": "entry",
        "enabled": True,
        "includeInDelivery": True,
        "defaultLanguage": LANGUAGE,
        "supportedLanguages": [LANGUAGE],
        "workflowId": "contensisEntryBasic",
        "groups": [{"id": "main", "name": {LANGUAGE: "Main"}, "description": {}}],
        "fields": [
            {
                "id": name,
                "name": {LANGUAGE: name},
                "description": {},
                "dataType": data_type,
                "dataFormat": data_format,
                "default": None,
                "validations": None,
                "editor": None,
                "groupId": "main",
            }
            for name, data_type, data_format in fields
        ],
        "version": {
            "versionNo": "1.0",
            "created": "2018-01-01T00:00:00Z",
            "published": "2018-01-01T00:00:00Z",
        },
    }


@lru_cache(maxsize=1)
def _text() -> str:
    """Return marked-up prose, escaped for JSON, the same on every machine."""
    rng = random.Random(7)  # noqa: S311 - repeatable text, not a secret
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(4_000)]
    words += ["the", "of", "a", "and", "in"] * 120
    pieces: list[str] = []
    length = 0
    while length < _TEXT_CHARACTERS:
        sentence = " ".join(rng.choices(words, k=rng.randint(5, 14))).capitalize()
        ends = (". ", ". ", ". ", " \u2013 ", '.</p>\\n<p class=\\"text\\">')
        pieces.append(sentence + rng.choice(ends))
        length += len(pieces[-1])
    return "".join(pieces)


def _plain(text: str) -> str:
    """Return text without markup or escapes, fit for a title."""
    return "".join(character for character in text if character not in '\\"<>=/').strip()


def _time(time: datetime) -> str:
    """Return a time as Contensis writes it, without trailing zeros."""
    text = f"{time:%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{time.microsecond:06}".rstrip("0") + "Z" if time.microsecond else text + "Z"


def _uuid(index: int, kind: int) -> str:
    digits = f"{(index * 0x9E3779B97F4A7C15F39CC0605CEDC835 + kind * 0xD1B54A32D192ED03) % (1 << 128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
