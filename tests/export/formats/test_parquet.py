"""Parquet: every value of every data type, in columns of the declared types."""

from __future__ import annotations

import io
import re
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError, ExportError
from airflow_provider_contensis.export.formats import parquet
from airflow_provider_contensis.export.formats.base import FormatOptions
from airflow_provider_contensis.export.formats.parquet import ParquetWriter
from tests.export.formats.every_type import (
    ABSENT,
    ASSET,
    ASSET_TYPE,
    EMPTY,
    ENTRIES,
    EVERY_TYPE,
    FULL,
    RESOLVED,
    UNKNOWN,
    MemorySink,
    Number,
    content_type,
    field,
    metas,
    parse_exact,
    raws,
    sys_json,
)

if TYPE_CHECKING:
    from airflow_provider_contensis.api.resources import ContentType

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COUNT = content_type("count", [field("n", "integer")])


def write_parquet(
    entries: list[bytes],
    definition: ContentType = EVERY_TYPE,
    fields: tuple[str, ...] | None = None,
    **options: Any,
) -> bytes:
    """Write entries, by default with all digits of their times."""
    options = {"timestamp_unit": "ns", **options}
    sink = MemorySink()
    writer = ParquetWriter(
        sink, [definition], FormatOptions(**options), version_status="published", fields=fields
    )
    writer.write(raws(entries), metas(entries))
    writer.close()
    return sink.content


def read_table(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


def read_rows(content: bytes) -> list[dict[str, Any]]:
    table = read_table(content).combine_chunks()
    columns = [to_python(column.chunk(0)) if column.num_chunks else [] for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def to_python(array: Any) -> list[Any]:
    """Return an array's values, with times in nanoseconds: a datetime would lose a digit."""
    if pa.types.is_timestamp(array.type):
        return list(array.cast(pa.int64()).to_pylist())
    if pa.types.is_struct(array.type):
        names = [child.name for child in array.type]
        columns = [to_python(child) for child in array.flatten()]
        structs = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return [
            value if valid else None
            for value, valid in zip(structs, array.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_list(array.type):
        items = iter(to_python(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if length is None else [next(items) for _ in range(length)] for length in lengths]
    return list(array.to_pylist())


def nanoseconds(text: str) -> int:
    match = re.fullmatch(r"(.{10})(T.{8})?(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", text)
    assert match
    day, clock, fraction, offset = match.groups()
    moment = datetime.fromisoformat(day + (clock or "T00:00:00") + (offset or "Z"))
    return int(moment.timestamp()) * 10**9 + int((fraction or "").ljust(9, "0"))


def uncovered(value: Any, actual: Any) -> Any:
    """Check that a column holds a value as served; return the part that it does not hold."""
    if isinstance(value, dict) and isinstance(actual, dict):
        left = {
            name: uncovered(member, actual[name]) if name in actual else member
            for name, member in value.items()
        }
        return {name: member for name, member in left.items() if member is not None} or None
    if isinstance(value, list) and isinstance(actual, list):
        assert len(value) == len(actual)
        return value if any(left is not None for left in map(uncovered, value, actual)) else None
    if isinstance(value, Number):
        assert not isinstance(actual, str)
        assert Decimal(repr(actual) if isinstance(actual, float) else actual) == Decimal(value)
    elif isinstance(value, str) and isinstance(actual, int):
        assert nanoseconds(value) == actual
    else:
        assert value == actual or value == parse_exact(actual)
    return None


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_value_is_in_its_column_or_in_rest(entry: bytes) -> None:
    (row,) = read_rows(write_parquet([entry]))
    rest = row.pop("_rest")
    assert uncovered(parse_exact(entry), row) == (rest and parse_exact(rest))


def test_entries_in_one_file_read_as_in_separate_files() -> None:
    assert read_rows(write_parquet(ENTRIES)) == [
        row for entry in ENTRIES for row in read_rows(write_parquet([entry]))
    ]


@pytest.mark.parametrize(
    ("name", "arrow_type"),
    [
        ("title", "string"),
        ("html", "string"),
        ("topics", "list<element: string>"),
        ("runtime", "int64"),
        ("rating", "double"),
        ("price", "decimal128(38, 20)"),
        ("restored", "bool"),
        ("released", "timestamp[ns, tz=UTC]"),
        ("oldPeriod", "struct<from: timestamp[ns, tz=UTC], to: timestamp[ns, tz=UTC]>"),
        ("place", "struct<lat: double, lon: double>"),
        ("quotes", "list<element: struct<text: string, source: string>>"),
        ("canvas", "string"),
        ("anything", "string"),
        ("unheardOf", "string"),
        ("answers", "list<element: bool>"),
        ("_rest", "string"),
    ],
)
def test_column_has_declared_type(name: str, arrow_type: str) -> None:
    assert str(read_table(write_parquet([])).schema.field(name).type) == arrow_type


MOMENT = content_type("moment", [field("at", "dateTime"), field("span", "object", "dateRange")])


@pytest.mark.parametrize(
    ("served", "read"),
    [
        ("2031-03-30T10:15:10.7048498Z", "2031-03-30T10:15:10.704849+00:00"),
        ("2031-03-30T10:15:10.70484Z", "2031-03-30T10:15:10.704840+00:00"),
        ("2031-03-30T10:15:10.7048499", "2031-03-30T10:15:10.704849+00:00"),
        ("2031-03-30T12:15:10.7048499+02:00", "2031-03-30T10:15:10.704849+00:00"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999+00:00"),
        ("2031-03-30", "2031-03-30T00:00:00+00:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999+00:00"),
    ],
)
@pytest.mark.parametrize("mode", ["typed", "raw"])
def test_times_are_cut_to_microseconds_that_python_reads_without_pandas(
    served: str, read: str, mode: str
) -> None:
    version = f'{{"created":"{served}","published":"{served}"}}'
    sys_ = (
        f'{{"id":"1","language":"en-GB","contentTypeId":"moment","dataFormat":"entry","version":{version}}}'
    )
    entry = f'{{"at":"{served}","span":{{"from":"{served}","to":null}},"sys":{sys_}}}'.encode()
    sink = MemorySink()
    writer = ParquetWriter(sink, [MOMENT], FormatOptions(parquet_mode=mode), version_status="published")  # type: ignore[arg-type]  # a literal
    writer.write(raws([entry]), metas([entry]))
    writer.close()
    [row] = read_table(sink.content).to_pylist()
    times = (
        [row["changed"]]
        if mode == "raw"
        else [row["at"], row["span"]["from"], row["sys"]["version"]["published"]]
    )
    assert [time.isoformat() for time in times] == [read] * len(times)


@pytest.mark.parametrize("served", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+00:01"])
def test_time_in_a_year_that_python_lacks_is_a_mismatch(served: str) -> None:
    entry = f'{{"at":"{served}","sys":{{"id":"1","language":"en-GB"}}}}'.encode()
    with pytest.raises(ExportError, match="of field at does not fit"):
        write_parquet([entry], MOMENT, timestamp_unit="us")
    [row] = read_table(
        write_parquet([entry], MOMENT, timestamp_unit="us", on_type_mismatch="raw")
    ).to_pylist()
    assert row["at"] is None


@pytest.mark.parametrize("mode", ["typed", "raw"])
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_every_time_has_the_chosen_unit(mode: str, unit: str) -> None:
    schema = str(read_table(write_parquet([], timestamp_unit=unit, parquet_mode=mode)).schema)
    assert set(re.findall(r"timestamp\[(\w+), tz=UTC\]", schema)) == {unit}


def test_empty_object_is_not_null() -> None:
    (row,) = read_rows(write_parquet([EMPTY]))
    assert row["period"] == {"from": None, "to": None}
    assert row["anything"] == "{}"
    assert row["choices"] == []
    assert row["title"] == ""


def test_schema_does_not_depend_on_entries() -> None:
    schemas = [
        pq.read_schema(io.BytesIO(write_parquet(entries))) for entries in ([], [ABSENT], [FULL], ENTRIES)
    ]
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)


def test_schema_metadata_names_content_type() -> None:
    schema = pq.read_schema(io.BytesIO(write_parquet([])))
    assert schema.metadata[b"contensis.contentTypeId"] == b"everything"
    assert schema.metadata[b"contensis.contentTypeVersion"] == b"3.0"
    assert schema.metadata[b"contensis.versionStatus"] == b"published"
    assert schema.field("html").metadata[b"contensis.dataFormat"] == b"html"


def test_export_without_entries_has_schema() -> None:
    table = read_table(write_parquet([]))
    assert table.num_rows == 0
    assert table.column_names[:2] == ["title", "html"]


def test_undeclared_values_go_into_rest() -> None:
    (row,) = read_rows(write_parquet([UNKNOWN]))
    assert parse_exact(row["_rest"]) == {
        "extra": {"big": "12345678901234567890", "exact": "1.10"},
        "period": {"mood": "grey"},
        "credits": [{"role": "pilot", "ghost": "1"}],
        "sys": {"novel": ["1"]},
    }


def test_resolved_link_keeps_linked_entry() -> None:
    (row,) = read_rows(write_parquet([RESOLVED]))
    assert row["director"]["sys"]["uri"] == "/people/ines"
    rest = parse_exact(row["_rest"])
    assert rest["director"] == {"name": "Ines", "born": "1.50", "sys": {"owner": "jo"}}
    assert rest["cast"] == parse_exact(RESOLVED)["cast"]


def test_assets_have_columns_for_file_properties() -> None:
    (row,) = read_rows(write_parquet([ASSET], ASSET_TYPE))
    assert row["sys"]["properties"]["fileSize"] == 433023
    assert row["sys"]["version"]["published"] == nanoseconds("2024-10-04T11:09:30.5492109Z")
    assert row["_rest"] == '{"sys":{"properties":{"frames":1}}}'


def test_only_selected_fields_have_columns() -> None:
    schema = read_table(write_parquet([], fields=("place.lat", "title", "credits.role"))).schema
    assert schema.names == ["title", "place", "credits", "sys", "_rest"]
    assert str(schema.field("place").type) == "struct<lat: double>"
    assert str(schema.field("credits").type) == "list<element: struct<role: string>>"


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("string", "5"),
        ("string", "{}"),
        ("integer", '"5"'),
        ("integer", "9223372036854775808"),
        ("integer", "1.5"),
        ("integer", "9007199254740993.5"),
        ("integer", "1e999999999"),
        ("integer", "true"),
        ("integer", "[1]"),
        ("decimal", '"1.5"'),
        ("decimal", "0.12345678901234567890"),
        ("decimal", "1e400"),
        ("decimal", "1.234567890123e-320"),
        ("boolean", "1"),
        ("boolean", '"true"'),
        ("dateTime", '"soon"'),
        ("dateTime", '""'),
        ("dateTime", '"9999-12-31T00:00:00Z"'),
        ("dateTime", '"0001-01-01T00:00:00"'),
        ("dateTime", "5"),
        ("integerArray", "5"),
        ("integerArray", '[1,"2"]'),
    ],
)
def test_type_mismatch_fails_or_keeps_entry_as_json(data_type: str, value: str) -> None:
    definition = content_type("odd", [field("fine", "integer"), field("odd", data_type)])
    good = b'{"fine":1,"odd":null,"sys":' + sys_json("good", content_type_id="odd") + b"}"
    bad = b'{"fine":2,"odd":%s,"sys":%s}' % (value.encode(), sys_json("bad", content_type_id="odd"))
    with pytest.raises(
        ExportError,
        match=r"Entry bad \(en-GB\): the value .+ of field odd.* does not fit .*on_type_mismatch=\"raw\"",
    ):
        write_parquet([good, bad, good], definition)
    rows = read_rows(write_parquet([good, bad, good], definition, on_type_mismatch="raw"))
    assert [row["fine"] for row in rows] == [1, 2, 1]
    assert rows[1]["odd"] in (None, [1, None])
    assert [row["_raw"] for row in rows] == [None, bad.decode(), None]


@pytest.mark.parametrize(
    ("data_type", "data_format", "value", "path"),
    [
        ("object", "entry", '"9a0d"', "odd"),
        ("object", "entry", '{"sys":[]}', "odd.sys"),
        ("object", "dateRange", '{"from":"never"}', "odd.from"),
        ("objectArray", "location", '[{"lat":1},{"lat":"north"}]', "odd.lat"),
        ("objectArray", "location", '[{"lat":1},7]', "odd.1"),
    ],
)
def test_type_mismatch_error_names_path_within_object(
    data_type: str, data_format: str, value: str, path: str
) -> None:
    definition = content_type("odd", [field("odd", data_type, data_format)])
    bad = b'{"odd":%s,"sys":%s}' % (value.encode(), sys_json("bad", content_type_id="odd"))
    with pytest.raises(ExportError, match=rf"Entry bad \(en-GB\): the value .+ of field {path} does not fit"):
        write_parquet([bad], definition)
    assert read_rows(write_parquet([bad], definition, on_type_mismatch="raw"))[0]["_raw"] == bad.decode()


@pytest.mark.parametrize("value", ["94.0", "9.4e1"])
def test_whole_number_in_any_notation_is_an_integer(value: str) -> None:
    entry = b'{"n":%s,"sys":%s}' % (value.encode(), sys_json("1", content_type_id="count"))
    assert read_rows(write_parquet([entry], COUNT))[0]["n"] == 94


def test_raw_column_exists_without_mismatches() -> None:
    assert read_table(write_parquet([FULL], on_type_mismatch="raw")).column("_raw").to_pylist() == [None]
    assert "_raw" not in read_table(write_parquet([FULL])).column_names


def test_raw_mode_keeps_json_as_served() -> None:
    (row,) = read_rows(write_parquet([FULL], parquet_mode="raw"))
    assert row == {
        "id": "full",
        "language": "en-GB",
        "content_type_id": "everything",
        "changed": nanoseconds("2031-03-30T10:15:12Z"),
        "entry": FULL.decode(),
    }


def test_raw_mode_writes_modified_time_of_latest_versions() -> None:
    sink = MemorySink()
    writer = ParquetWriter(
        sink, [], FormatOptions(parquet_mode="raw", timestamp_unit="ns"), version_status="latest"
    )
    writer.write(raws([FULL, ABSENT, ASSET]), metas([FULL, ABSENT, ASSET], "modified"))
    writer.close()
    changed = [row["changed"] for row in read_rows(sink.content)]
    assert changed == [nanoseconds("2031-03-30T10:15:10.7048498Z"), None, None]


@pytest.mark.parametrize("definitions", [[], [EVERY_TYPE, COUNT]])
def test_typed_columns_need_exactly_one_content_type(definitions: list[ContentType]) -> None:
    with pytest.raises(ConfigurationError, match='content_type_id.*folder.*parquet_mode="raw"'):
        ParquetWriter(MemorySink(), definitions, FormatOptions(), version_status="published")


def test_missing_pyarrow_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"airflow-provider-contensis\[parquet\]"):
        ParquetWriter(MemorySink(), [EVERY_TYPE], FormatOptions(), version_status="published")


def test_bytes_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 3)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    entries = ENTRIES * 4
    sink = MemorySink()
    writer = ParquetWriter(sink, [EVERY_TYPE], FormatOptions(timestamp_unit="ns"), version_status="published")
    for start in range(0, len(entries), 5):
        batch = entries[start : start + 5]
        writer.write(raws(batch), metas(batch))
    writer.close()
    assert sink.content == write_parquet(entries)
    metadata = pq.ParquetFile(io.BytesIO(sink.content)).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [12, 12, 4]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_discarded_writer_writes_nothing() -> None:
    sink = MemorySink()
    writer = ParquetWriter(sink, [EVERY_TYPE], FormatOptions(), version_status="published")
    writer.write(raws([FULL]), metas([FULL]))
    del writer
    assert sink.content == b""
