"""CSV: every value of every data type, in columns known beforehand."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.formats.csv import CsvWriter
from tests.export.every_type import (
    ABSENT,
    ASSET,
    ASSET_TYPE,
    ENTRIES,
    EVERY_TYPE,
    FULL,
    RESOLVED,
    UNKNOWN,
    Collected,
    content_type,
    exact,
    field,
    metas,
    raws,
    sys,
)

if TYPE_CHECKING:
    from airflow_provider_contensis.api.resources import ContentType


def written(
    entries: list[bytes],
    content_types: list[ContentType],
    fields: tuple[str, ...] | None = None,
    **options: Any,
) -> bytes:
    sink = Collected()
    writer = CsvWriter(sink, content_types, FormatOptions(**options), fields=fields)
    writer.write(raws(entries), metas(entries))
    writer.close()
    return sink.content


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))


def header_of(content: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(content.decode(), newline="")))


def take(value: Any, path: str) -> Any:
    """Remove what a column holds from an entry, and return it."""
    *way, last = path.split(".")
    for name in way:
        value = value.get(name) if isinstance(value, dict) else None
    return value.pop(last, None) if isinstance(value, dict) else None


def is_cell_of(value: Any, cell: str) -> bool:
    if isinstance(value, dict | list):
        return bool(exact(cell) == value)
    if value is None or isinstance(value, bool):
        return cell == ("" if value is None else str(value).lower())
    return cell == str(value)


def without_nothing(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {name: without_nothing(member) for name, member in value.items()}
    return {name: member for name, member in kept.items() if member not in (None, {})}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_value_is_in_its_column_or_in_the_rest(entry: bytes) -> None:
    (row,) = rows_of(written([entry], [EVERY_TYPE]))
    served = exact(entry)
    rest = exact(row.pop("_rest") or "{}")
    for path, cell in row.items():
        # What fits no column of its own stays whole in the rest.
        assert is_cell_of(take(served, path), cell), path
    served["sys"].pop("workflow", None)
    assert without_nothing(rest) == without_nothing(served)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("title", 'The "Lantern", keeper\r\nof the quay \U0001f3ee \U0001f600 \u2028'),
        ("choices", '["a","b, \\"c\\"",""]'),
        ("runtime", "-9223372036854775808"),
        ("rating", "1e-7"),
        ("price", "987.73519103736829737802"),
        ("restored", "false"),
        ("released", "2031-04-02T00:00:00"),
        ("period.from", "2031-04-02T00:00:00+01:00"),
        ("place.lon", "-2.710"),
        ("poster.asset.sys.id", "3c7b"),
        ("poster.transformations", '{"size":{"width":800,"height":1.50}}'),
        ("director.sys.id", "9a0d"),
        ("credit.person.sys.id", "9a0d"),
        ("credit.days", "[1,9007199254740993]"),
        ("anything", '{"big":12345678901234567890,"exact":1.10}'),
        ("sys.version.versionNo", "1.10"),
        ("sys.version.modified", "2031-03-30T10:15:10.7048498Z"),
        ("_rest", ""),
    ],
)
def test_a_value_reads_as_it_was_served(column: str, cell: str) -> None:
    assert rows_of(written([FULL], [EVERY_TYPE]))[0][column] == cell


def test_what_the_definition_does_not_cover_is_kept_with_its_digits() -> None:
    (row,) = rows_of(written([UNKNOWN], [EVERY_TYPE]))
    assert row["_rest"] == (
        '{"period":{"mood":"grey"},"sys":{"novel":[1]},"extra":{"big":12345678901234567890,"exact":1.10}}'
    )


def test_a_resolved_link_keeps_what_it_leads_to() -> None:
    (row,) = rows_of(written([RESOLVED], [EVERY_TYPE]))
    assert row["director.sys.uri"] == "/people/ines"
    assert exact(row["_rest"])["director"] == {"name": "Ines", "born": "1.50", "sys": {"owner": "jo"}}


def test_columns_do_not_depend_on_the_entries() -> None:
    assert header_of(written([ABSENT], [EVERY_TYPE])) == header_of(written([FULL], [EVERY_TYPE]))


def test_columns_stand_in_the_order_of_the_definition() -> None:
    film = content_type("film", [field("z", "string"), field("a", "object", "dateRange")])
    header = header_of(written([], [film]))
    assert header[:9] == [
        *("z", "a.from", "a.to", "entryTitle", "entryDescription", "entryThumbnail", "entryTags"),
        *("sys.id", "sys.projectId"),
    ]
    assert header[-2:] == ["sys.version.versionNo", "_rest"]


def test_an_export_of_nothing_has_a_header() -> None:
    content = written([], [EVERY_TYPE])
    assert content.endswith(b"\r\n")
    assert rows_of(content) == []


def test_the_same_entries_give_the_same_bytes_however_they_come() -> None:
    sink = Collected()
    writer = CsvWriter(sink, [EVERY_TYPE], FormatOptions())
    for entry in ENTRIES:
        writer.write(raws([entry]), metas([entry]))
    writer.close()
    assert sink.content == written(ENTRIES, [EVERY_TYPE])


def test_lines_end_as_rfc_4180_has_it_and_quotes_are_doubled() -> None:
    note = content_type("note", [field("text", "string")])
    entry = b'{"text":"a \\"b\\"","sys":' + sys("1", content_type_id="note") + b"}"
    header, row, end = written([entry], [note]).split(b"\r\n")
    assert header.startswith(b"text,")
    assert row.startswith(b'"a ""b""",')
    assert end == b""


def test_an_empty_text_is_told_from_null() -> None:
    note = content_type("note", [field("text", "string"), field("more", "string")])
    entry = b'{"text":"","more":null,"sys":' + sys("1", content_type_id="note") + b"}"
    assert written([entry], [note]).split(b"\r\n")[1].startswith(b'"",,')


def test_several_content_types_share_columns_and_keep_their_order() -> None:
    film = content_type("film", [field("title", "string"), field("when", "dateTime")])
    tour = content_type("tour", [field("when", "object", "dateRange"), field("title", "string")])
    entries = [
        b'{"title":"a","when":"2031-01-01","sys":' + sys("1", content_type_id="film") + b"}",
        b'{"when":{"from":"2031-01-02"},"title":"b","sys":' + sys("2", content_type_id="tour") + b"}",
        b'{"title":"c","sys":' + sys("3", content_type_id="film") + b"}",
        b'{"title":"d","sys":' + sys("4", content_type_id="stranger") + b"}",
    ]
    content = written(entries, [film, tour])
    assert header_of(content)[:5] == ["title", "when", "when.from", "when.to", "entryTitle"]
    chosen = [[row[name] for name in ("title", "when", "when.from", "_rest")] for row in rows_of(content)]
    assert chosen == [
        ["a", "2031-01-01", "", ""],
        ["b", "", "2031-01-02", ""],
        ["c", "", "", ""],
        ["", "", "", '{"title":"d"}'],
    ]


def test_assets_have_their_file_facts_in_columns() -> None:
    (row,) = rows_of(written([ASSET], [ASSET_TYPE]))
    assert row["sys.properties.filename"] == "gate.jpg"
    assert row["sys.properties.fileSize"] == "433023"
    assert row["sys.metadata"] == '{"includeInAToZ":false,"nodeId":"0c64"}'
    assert row["_rest"] == '{"sys":{"properties":{"frames":1}}}'


def test_the_workflow_is_left_out_unless_asked_for() -> None:
    assert "sys.workflow" not in header_of(written([FULL], [EVERY_TYPE]))
    entry = b'{"sys":{"id":"1","language":"cy","contentTypeId":"everything","workflow":{"state":"draft"}}}'
    (row,) = rows_of(written([entry], [EVERY_TYPE], fields=("sys.workflow.state",)))
    assert row["sys.workflow"] == '{"state":"draft"}'


def test_chosen_fields_have_only_their_columns() -> None:
    fields = ("place", "title", "period.to", "no.such", "credits.role")
    assert header_of(written([], [EVERY_TYPE], fields=fields)) == [
        *("title", "period.to", "place.lat", "place.lon", "credits"),
        *("sys.id", "sys.contentTypeId", "sys.language", "_rest"),
    ]


@pytest.mark.parametrize("text", ["=1+1", "+44 1", "-x", "@a", "\tx", "\rx", '=HYPERLINK("a","b")'])
def test_text_that_a_spreadsheet_would_take_for_a_formula_is_guarded(text: str) -> None:
    note = content_type("note", [field("text", "string"), field("topic", "string", "taxonomy")])
    told = text.replace('"', '\\"').replace("\t", "\\t").replace("\r", "\\r").encode()
    entry = b'{"text":"%s","topic":"%s","sys":%s}' % (told, told, sys("1", content_type_id="note"))
    (row,) = rows_of(written([entry, entry], [note], escape_formulas=True)[: -0 or None])[:1]
    assert (row["text"], row["topic"]) == (f"'{text}", f"'{text}")
    assert rows_of(written([entry], [note]))[0]["text"] == text


def test_numbers_are_never_guarded() -> None:
    note = content_type("note", [field("count", "integer"), field("text", "string")])
    entry = b'{"count":-5,"text":-6,"sys":' + sys("1", content_type_id="note") + b"}"
    (row,) = rows_of(written([entry], [note], escape_formulas=True))
    assert (row["count"], row["text"]) == ("-5", "-6")


def test_a_value_of_another_type_than_declared_is_written_all_the_same() -> None:
    note = content_type(
        "note", [field("text", "string"), field("count", "integer"), field("link", "object", "entry")]
    )
    entry = b'{"text":12.50,"count":"a,b","link":"x","sys":' + sys("1", content_type_id="note") + b"}"
    (row,) = rows_of(written([entry], [note]))
    assert (row["text"], row["count"], row["link.sys.id"]) == ("12.50", "a,b", "")
    assert row["_rest"] == '{"link":"x"}'
