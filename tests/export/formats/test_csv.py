"""CSV: every value of every data type, in columns known before the first row."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.formats.csv import CsvWriter
from tests.export.formats.every_type import (
    ABSENT,
    ASSET,
    ASSET_TYPE,
    ENTRIES,
    EVERY_TYPE,
    FULL,
    RESOLVED,
    UNKNOWN,
    MemorySink,
    content_type,
    field,
    metas,
    parse_exact,
    raws,
    sys_json,
)

if TYPE_CHECKING:
    from airflow_provider_contensis.api.resources import ContentType


def write_csv(
    entries: list[bytes],
    content_types: list[ContentType],
    fields: tuple[str, ...] | None = None,
    **options: Any,
) -> bytes:
    sink = MemorySink()
    writer = CsvWriter(sink, content_types, FormatOptions(**options), fields=fields)
    writer.write(raws(entries), metas(entries))
    writer.close()
    return sink.content


def read_rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))


def read_header(content: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(content.decode(), newline="")))


def pop_path(value: Any, path: str) -> Any:
    """Remove the value of a column from an entry, and return it."""
    *parents, last = path.split(".")
    for name in parents:
        value = value.get(name) if isinstance(value, dict) else None
    return value.pop(last, None) if isinstance(value, dict) else None


def matches_cell(value: Any, cell: str) -> bool:
    if isinstance(value, dict | list):
        return bool(parse_exact(cell) == value)
    if value is None or isinstance(value, bool):
        return cell == ("" if value is None else str(value).lower())
    return cell == str(value)


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {name: without_nulls(member) for name, member in value.items()}
    return {name: member for name, member in kept.items() if member not in (None, {})}


def test_byte_order_mark_is_written_if_asked_for() -> None:
    plain = write_csv([FULL], [EVERY_TYPE])
    assert write_csv([FULL], [EVERY_TYPE], bom=True) == b"\xef\xbb\xbf" + plain
    assert not plain.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_value_is_in_its_column_or_in_rest(entry: bytes) -> None:
    (row,) = read_rows(write_csv([entry], [EVERY_TYPE]))
    served = parse_exact(entry)
    rest = parse_exact(row.pop("_rest") or "{}")
    for path, cell in row.items():
        # A value without a column of its own stays whole in the rest.
        assert matches_cell(pop_path(served, path), cell), path
    served["sys"].pop("workflow", None)
    assert without_nulls(rest) == without_nulls(served)


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
def test_cell_holds_value_as_served(column: str, cell: str) -> None:
    assert read_rows(write_csv([FULL], [EVERY_TYPE]))[0][column] == cell


def test_undeclared_values_go_into_rest_digit_by_digit() -> None:
    (row,) = read_rows(write_csv([UNKNOWN], [EVERY_TYPE]))
    assert row["_rest"] == (
        '{"period":{"mood":"grey"},"sys":{"novel":[1]},"extra":{"big":12345678901234567890,"exact":1.10}}'
    )


def test_resolved_link_keeps_linked_entry() -> None:
    (row,) = read_rows(write_csv([RESOLVED], [EVERY_TYPE]))
    assert row["director.sys.uri"] == "/people/ines"
    assert parse_exact(row["_rest"])["director"] == {"name": "Ines", "born": "1.50", "sys": {"owner": "jo"}}


def test_columns_do_not_depend_on_entries() -> None:
    assert read_header(write_csv([ABSENT], [EVERY_TYPE])) == read_header(write_csv([FULL], [EVERY_TYPE]))


def test_columns_follow_order_of_definition() -> None:
    film = content_type("film", [field("z", "string"), field("a", "object", "dateRange")])
    header = read_header(write_csv([], [film]))
    assert header[:9] == [
        *("z", "a.from", "a.to", "entryTitle", "entryDescription", "entryThumbnail", "entryTags"),
        *("sys.id", "sys.projectId"),
    ]
    assert header[-2:] == ["sys.version.versionNo", "_rest"]


def test_export_without_entries_has_header() -> None:
    content = write_csv([], [EVERY_TYPE])
    assert content.endswith(b"\r\n")
    assert read_rows(content) == []


def test_bytes_do_not_depend_on_batches() -> None:
    sink = MemorySink()
    writer = CsvWriter(sink, [EVERY_TYPE], FormatOptions())
    for entry in ENTRIES:
        writer.write(raws([entry]), metas([entry]))
    writer.close()
    assert sink.content == write_csv(ENTRIES, [EVERY_TYPE])


def test_lines_end_in_crlf_and_quotes_are_doubled() -> None:
    note = content_type("note", [field("text", "string")])
    entry = b'{"text":"a \\"b\\"","sys":' + sys_json("1", content_type_id="note") + b"}"
    header, row, end = write_csv([entry], [note]).split(b"\r\n")
    assert header.startswith(b"text,")
    assert row.startswith(b'"a ""b""",')
    assert end == b""


def test_empty_text_differs_from_null() -> None:
    note = content_type("note", [field("text", "string"), field("more", "string")])
    entry = b'{"text":"","more":null,"sys":' + sys_json("1", content_type_id="note") + b"}"
    assert write_csv([entry], [note]).split(b"\r\n")[1].startswith(b'"",,')


def test_content_types_share_columns_and_entries_keep_order() -> None:
    film = content_type("film", [field("title", "string"), field("when", "dateTime")])
    tour = content_type("tour", [field("when", "object", "dateRange"), field("title", "string")])
    entries = [
        b'{"title":"a","when":"2031-01-01","sys":' + sys_json("1", content_type_id="film") + b"}",
        b'{"when":{"from":"2031-01-02"},"title":"b","sys":' + sys_json("2", content_type_id="tour") + b"}",
        b'{"title":"c","sys":' + sys_json("3", content_type_id="film") + b"}",
        b'{"title":"d","sys":' + sys_json("4", content_type_id="unlisted") + b"}",
    ]
    content = write_csv(entries, [film, tour])
    assert read_header(content)[:5] == ["title", "when", "when.from", "when.to", "entryTitle"]
    chosen = [[row[name] for name in ("title", "when", "when.from", "_rest")] for row in read_rows(content)]
    assert chosen == [
        ["a", "2031-01-01", "", ""],
        ["b", "", "2031-01-02", ""],
        ["c", "", "", ""],
        ["", "", "", '{"title":"d"}'],
    ]


def test_assets_have_columns_for_file_properties() -> None:
    (row,) = read_rows(write_csv([ASSET], [ASSET_TYPE]))
    assert row["sys.properties.filename"] == "gate.jpg"
    assert row["sys.properties.fileSize"] == "433023"
    assert row["sys.metadata"] == '{"includeInAToZ":false,"nodeId":"0c64"}'
    assert row["_rest"] == '{"sys":{"properties":{"frames":1}}}'


def test_workflow_is_omitted_unless_requested() -> None:
    assert "sys.workflow" not in read_header(write_csv([FULL], [EVERY_TYPE]))
    entry = b'{"sys":{"id":"1","language":"cy","contentTypeId":"everything","workflow":{"state":"draft"}}}'
    (row,) = read_rows(write_csv([entry], [EVERY_TYPE], fields=("sys.workflow.state",)))
    assert row["sys.workflow"] == '{"state":"draft"}'


def test_only_selected_fields_have_columns() -> None:
    fields = ("place", "title", "period.to", "no.such", "credits.role")
    assert read_header(write_csv([], [EVERY_TYPE], fields=fields)) == [
        *("title", "period.to", "place.lat", "place.lon", "credits"),
        *("sys.id", "sys.contentTypeId", "sys.language", "_rest"),
    ]


@pytest.mark.parametrize("text", ["=1+1", "+44 1", "-x", "@a", "\tx", "\rx", '=HYPERLINK("a","b")'])
def test_text_that_looks_like_formula_is_escaped(text: str) -> None:
    note = content_type("note", [field("text", "string"), field("topic", "string", "taxonomy")])
    encoded = text.replace('"', '\\"').replace("\t", "\\t").replace("\r", "\\r").encode()
    entry = b'{"text":"%s","topic":"%s","sys":%s}' % (encoded, encoded, sys_json("1", content_type_id="note"))
    row, _ = read_rows(write_csv([entry, entry], [note], escape_formulas=True))
    assert (row["text"], row["topic"]) == (f"'{text}", f"'{text}")
    assert read_rows(write_csv([entry], [note]))[0]["text"] == text


def test_numbers_are_not_escaped() -> None:
    note = content_type("note", [field("count", "integer"), field("text", "string")])
    entry = b'{"count":-5,"text":-6,"sys":' + sys_json("1", content_type_id="note") + b"}"
    (row,) = read_rows(write_csv([entry], [note], escape_formulas=True))
    assert (row["count"], row["text"]) == ("-5", "-6")


def test_value_that_does_not_fit_declared_type_is_written() -> None:
    note = content_type(
        "note", [field("text", "string"), field("count", "integer"), field("link", "object", "entry")]
    )
    entry = b'{"text":12.50,"count":"a,b","link":"x","sys":' + sys_json("1", content_type_id="note") + b"}"
    (row,) = read_rows(write_csv([entry], [note]))
    assert (row["text"], row["count"], row["link.sys.id"]) == ("12.50", "a,b", "")
    assert row["_rest"] == '{"link":"x"}'
