"""The destination of an export and its file format, as a person writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.destination import Destination


@pytest.mark.parametrize(
    ("destination", "url", "is_folder", "file_format", "compression"),
    [
        ("/data/films.jsonl", "/data/films.jsonl", False, "jsonl", None),
        ("/data/films.JSONL.GZ", "/data/films.JSONL.GZ", False, "jsonl", "gzip"),
        ("/data/films.csv.zst", "/data/films.csv.zst", False, "csv", "zstd"),
        ("/data/films.json", "/data/films.json", False, "json", None),
        ("/data/films.ndjson", "/data/films.ndjson", False, "jsonl", None),
        ("s3://bucket/films.NDJSON.gz", "s3://bucket/films.NDJSON.gz", False, "jsonl", "gzip"),
        ("/data/films.parquet", "/data/films.parquet", False, "parquet", None),
        ("/data/v1.2/films.2031.jsonl", "/data/v1.2/films.2031.jsonl", False, "jsonl", None),
        ("file:///data/my%20films.jsonl", "/data/my films.jsonl", False, "jsonl", None),
        ("file://localhost/data/", "/data/", True, "jsonl", None),
        ("/data/", "/data/", True, "jsonl", None),
        (" relative.jsonl ", f"{Path.cwd()}/relative.jsonl", False, "jsonl", None),
        ("s3://bucket/films.csv.gz", "s3://bucket/films.csv.gz", False, "csv", "gzip"),
        ("s3://bucket/films/", "s3://bucket/films/", True, "jsonl", None),
    ],
)
def test_suffix_determines_format_and_compression(
    destination: str, url: str, is_folder: bool, file_format: str, compression: str | None
) -> None:
    parsed = Destination.from_arguments(destination)
    assert (parsed.url, parsed.is_folder) == (url, is_folder)
    assert (parsed.file_format, parsed.compression) == (file_format, compression)
    assert parsed.is_local == (not url.startswith("s3:"))


def test_arguments_add_format_and_compression() -> None:
    parsed = Destination.from_arguments("/data/films", file_format=" JSONL ", compression="GZIP")
    assert (parsed.file_format, parsed.compression) == ("jsonl", "gzip")
    assert Destination.from_arguments("/data/films", file_format="ndjson").file_format == "jsonl"
    folder = Destination.from_arguments("/data/", file_format="csv", compression="gz")
    assert folder.name_for("film") == "film.csv.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destination": ""}, "destination is empty"),
        ({"destination": None}, "destination is empty"),
        ({"destination": "/data/films"}, "Cannot tell the file format from destination"),
        ({"destination": "/data/films.docx"}, "Cannot tell the file format from destination"),
        ({"destination": "/data/films.gz"}, "Cannot tell the file format from destination"),
        (
            {"destination": "/data/films.jsonl", "file_format": "xml"},
            "file_format must be one of jsonl, json",
        ),
        ({"destination": "/data/films.jsonl", "compression": "rar"}, "compression must be one of gz, gzip"),
        ({"destination": "/data/films.parquet", "compression": "gzip"}, "Parquet is compressed already"),
        ({"destination": "/data/films.parquet.gz"}, "Parquet is compressed already"),
        ({"destination": "~no-such-user/films.jsonl"}, "names a user that does not exist on this machine"),
        ({"destination": "~\ud800/films.jsonl"}, "names a user that does not exist on this machine"),
        ({"destination": "~\x00/films.jsonl"}, "contains a line break or another control character"),
        ({"destination": b"/data/films.jsonl"}, "destination must be text or a path, not bytes"),
        ({"destination": object(), "file_format": "csv"}, "destination must be text or a path, not object"),
        (
            {"destination": "/data/films.jsonl.gz", "compression": "zstd"},
            "ends in the suffix of another compression",
        ),
        (
            {"destination": "/data/films.csv.ZST", "compression": "gzip"},
            "ends in the suffix of another compression",
        ),
        (
            {"destination": "/data/films.jsonl.bz2", "file_format": "jsonl"},
            "ends in the suffix of another compression",
        ),
        (
            {"destination": "/data/films.xz", "file_format": "csv"},
            "ends in the suffix of another compression",
        ),
        ({"destination": 10**5_000}, "Cannot tell the file format from destination"),
        ({"destination": "/data/films.jsonl", "file_format": 10**5_000}, "file_format must be one of"),
        ({"destination": "file://elsewhere/films.jsonl"}, "names another machine"),
    ],
)
def test_invalid_arguments_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Destination.from_arguments(**arguments)


@pytest.mark.parametrize(
    ("content_type_id", "name"),
    [
        ("film", "film.jsonl"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.jsonl"),
        ("/etc/passwd", "%2Fetc%2Fpasswd.jsonl"),
        ("..", "%2E..jsonl"),
        ("", "%.jsonl"),
        (".film", "%2Efilm.jsonl"),
        ("_manifest", "%5Fmanifest.jsonl"),
        ("a\x00b", "a%00b.jsonl"),
        ("a\ud800b", "a%ED%A0%80b.jsonl"),
    ],
)
def test_file_name_never_leaves_folder_and_is_never_hidden(content_type_id: str, name: str) -> None:
    assert Destination.from_arguments("/data/").name_for(content_type_id) == name


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        (Path("s3://bucket/x.jsonl"), "looks like a URL that lost a slash"),
        (Path("gs://bucket/x/"), "looks like a URL that lost a slash"),
        ("gs:/bucket/x.jsonl", "looks like a URL that lost a slash"),
        ("file:/data/x.jsonl", "looks like a URL that lost a slash"),
        ("s3:bucket/x.jsonl", "looks like a URL that lost a slash"),
        ("s3:///x.jsonl", "names no bucket"),
        (r"C:\data\x.jsonl", "looks like a Windows path"),
        ("C:/data/x.jsonl", "looks like a Windows path"),
        (r"\\server\share\x.jsonl", "looks like a Windows path"),
        (r"data\x.jsonl", "looks like a Windows path"),
        ("c:x.jsonl", "looks like a Windows path"),
        ("/C:/data/x.jsonl", "looks like a Windows path"),
        ("file:///C:/data/x.jsonl", "looks like a Windows path"),
        ("file:///C%3A%5Cdata%5Cx.jsonl", "looks like a Windows path"),
        ("s3//bucket/x.jsonl", "looks like a URL that lost a colon"),
        ("//server/share/x.jsonl", "looks like a URL that lost a colon or names a server"),
        ("file:////server/share/x.jsonl", "looks like a URL that lost a colon or names a server"),
        ("$DATA/x.jsonl", "contains an environment variable"),
        ("/mnt/${DATA}/x.jsonl", "contains a placeholder"),
        ("/mnt/x-$DS.jsonl", "contains an environment variable"),
        ("$(pwd)/x.jsonl", "contains an environment variable"),
        ("s3://bucket/$DAY/x.jsonl", "contains an environment variable"),
        ("%TEMP%/x.jsonl", "contains an environment variable"),
        ("/data/x-%DATE%.jsonl", "contains an environment variable"),
        ("/data/%Y-%m-%d/x.jsonl", "a strftime pattern, which is not resolved"),
        ("s3://bucket/%Y%m%d.jsonl", "a strftime pattern, which is not resolved"),
        ("/data/%(ds)s/x.jsonl", "a strftime pattern, which is not resolved"),
        ("/data/%d.jsonl", "a strftime pattern, which is not resolved"),
        ("file:///data/%25Y/x.jsonl", "a strftime pattern, which is not resolved"),
        (Path("/out/{{ ds }}/x.jsonl"), "was not rendered"),
        ("/out/{% if x %}x{% endif %}.jsonl", "was not rendered"),
        ("/out/{ds}/x.jsonl", "contains a placeholder in single braces"),
        ("/out/{ ds }/x.jsonl", "contains a placeholder in single braces"),
        ("/out/{}/x.jsonl", "contains a placeholder in single braces"),
        ("file:///~/x.jsonl", "names a home folder"),
        ("/data/~/x.jsonl", "names a home folder"),
    ],
)
def test_path_that_would_silently_mean_another_place_is_refused(
    destination: str | Path, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as failure:
        Destination.from_arguments(destination)
    assert str(destination) in str(failure.value).replace("\\\\", "\\")


@pytest.mark.parametrize("character", ["\n", "\t", "\r", "\x1b", "\x85", "\u2028"])
def test_control_character_is_refused_because_a_url_loses_it(character: str) -> None:
    for destination in (f"s3://bucket/a{character}b.jsonl", f"/data/a{character}b.jsonl"):
        with pytest.raises(ConfigurationError, match="contains a line break or another control character"):
            Destination.from_arguments(destination)


@pytest.mark.parametrize(
    "destination",
    [
        "/data/12:30.jsonl",
        "/data/100%.jsonl",
        "/data/100%pure.jsonl",
        "/data/day=2026-01-01/Größe 映画 ~ (1) #2, a+b; c'd & e!.jsonl",
        "/data/%E6%98%A0%20x/y%20z.jsonl",
        "/data//x.jsonl/a@b.jsonl",
        "s3://bucket/day=2026-01-01/name=a%3Db%3F/x.jsonl",
        "s3://bucket/#1/day=2026-01-01/x.jsonl",
        "s3://bucket/a//x~/~x/x.jsonl",
    ],
)
def test_odd_but_harmless_paths_are_accepted(destination: str) -> None:
    assert Destination.from_arguments(destination).url == destination.replace("data//", "data/")


@pytest.mark.parametrize("folder", ["~/", "~/a b/"])
def test_home_folder_is_resolved(folder: str) -> None:
    assert Destination.from_arguments(folder).url == f"{Path(folder).expanduser()}/"


def test_relative_path_without_a_working_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match="the working directory does not exist"):
        Destination.from_arguments("x.jsonl")
    assert Destination.from_arguments("/data/x.jsonl").url == "/data/x.jsonl"


class OwnPath:
    """A path as `os.fspath` knows it, whose text is none."""

    def __init__(self, path: str | bytes) -> None:
        self.path = path

    def __fspath__(self) -> str | bytes:
        return self.path


@pytest.mark.parametrize("path", ["/data/x.jsonl", b"/data/x.jsonl"])
def test_any_path_object_means_its_path(path: str | bytes) -> None:
    assert Destination.from_arguments(OwnPath(path)).url == "/data/x.jsonl"  # type: ignore[arg-type]  # bytes, too


def test_directory_entry_means_its_path(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with os.scandir(tmp_path) as entries:
        parsed = Destination.from_arguments(next(entries), file_format="csv")
    assert parsed.url == f"{tmp_path}/x"


def test_path_objects_are_accepted() -> None:
    assert Destination.from_arguments(Path("/data/x.jsonl")).url == "/data/x.jsonl"


def test_relative_path_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Destination.from_arguments("out/x.jsonl").url == f"{tmp_path}/out/x.jsonl"
    assert Destination.from_arguments("out/").url == f"{tmp_path}/out/"


class TestSecrets:
    """A destination is in messages, logs, results and asset events, so a secret must not be in it."""

    @pytest.mark.parametrize(
        "destination",
        [
            "sftp://alice:pass-word@files.example/x.jsonl",
            "sftp://alice:pass-word@files.example/folder/",
            "sftp://alice:pass-word@files.example/x.docx",
            "sftp://:pass-word@files.example/x.jsonl",
            "sftp://alice:p@ss/pass-word@files.example:22/x.jsonl",
            "SFTP://alice:pass-word@files.example/{{ ds }}/x.jsonl",
            "s3://AKIAEXAMPLE:pass-word@bucket/x.jsonl",
            "sftp:/alice:pass-word@files.example/x.jsonl",
            Path("sftp://alice:pass-word@files.example/x.jsonl"),
            "alice:pass-word@files.example/x.jsonl",
            "file://alice:pass-word@files.example/x.jsonl",
            "https://alice:pass-word@files.example/x.jsonl",
            "https://bucket.s3.amazonaws.com/x.jsonl?X-Amz-Signature=pass-word",
            "abfs://container@account/x.jsonl?sv=2026&sig=pass-word",
            "s3://bucket/x.jsonl?token=pass-word",
            "s3://AKIAEXAMPLE:1234567/pass-word@bucket/x.jsonl",
            "s3://AKIAEXAMPLE:12345/pass-word@bucket/x.jsonl",
            "s3//AKIAEXAMPLE:pass-word@bucket/x.jsonl",
            "//alice:pass-word@server/x.jsonl",
            "sftp://alice%3Apass-word@files.example/x.jsonl",
            "sftp://alice%3apass-word%40files.example/x.jsonl",
            "sftp://alice:\npass-word@files.example/x.jsonl",
            "sf\ntp://alice:pass-word@files.example/x.jsonl",
            "file:///C:/x.jsonl?sig=pass-word",
            "s3://bucket/x.jsonl?%73ig=pass-word",
            "s3://bucket/x.jsonl?sig%3Dpass-word",
            "s3://bucket/x.jsonl?&sig=pass-word",
            "s3://bucket/x.jsonl?sig[0]=pass-word",
            "s3://bucket/x.jsonl?\nsig=pass-word",
            "s3://bucket/x.jsonl?/sig=pass-word",
            "s3://bucket/x.jsonl#sig=pass-word",
            "s3://bucket/#1/x.jsonl?sig=pass-word",
            "/data/x.jsonl?sig=pass-word",
            OwnPath("s3://bucket/x.jsonl?sig=pass-word"),
        ],
    )
    def test_is_refused_without_being_shown(self, destination: str | Path) -> None:
        with pytest.raises(ConfigurationError, match="^destination ") as failure:
            Destination.from_arguments(destination)
        assert "pass-word" not in str(failure.value)

    @pytest.mark.parametrize(
        "destination",
        [
            "s3://aws_default@bucket/x.jsonl",
            "abfs://container@account/x.jsonl",
            "webhdfs://namenode:9870/user/a@b/x.jsonl",
            "s3://bucket/12:30@noon/x.jsonl",
            "webhdfs://namenode:9870/day=1/a@b/x.jsonl",
            "s3://bucket/why?.jsonl",
            "/data/12:30@noon/x.jsonl",
        ],
    )
    def test_is_not_seen_where_there_is_none(self, destination: str) -> None:
        assert Destination.from_arguments(destination).url == destination


def test_web_address_is_refused_in_its_own_words() -> None:
    for destination in ("https://files.example/x.jsonl", "HTTP://files.example/"):
        with pytest.raises(ConfigurationError, match="is a web address, and files cannot be written to one"):
            Destination.from_arguments(destination)
