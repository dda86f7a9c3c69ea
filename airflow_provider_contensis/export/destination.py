"""The destination of an export and its file format, as a person writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote, unquote

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import given, one_of
from airflow_provider_contensis.export.formats.base import FileFormat
from airflow_provider_contensis.utils.text import as_text, show

if TYPE_CHECKING:
    from os import PathLike

Compression = Literal["gzip", "zstd"]

MANIFEST = "_manifest.json"
# Keeps the manifest while the files that it names are replaced.
RETIRED_MANIFEST = "._manifest.json.retired"
# Keeps other exports away meanwhile, if the storage has no locks of its own.
LOCK = "._manifest.json.lock"

_FORMATS: dict[str, FileFormat] = {**{name: name for name in get_args(FileFormat)}, "ndjson": "jsonl"}
_COMPRESSION_SUFFIXES: dict[Compression, str] = {"gzip": ".gz", "zstd": ".zst"}
_COMPRESSIONS: dict[str, Compression] = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}

# A user name and a password, or the whole of a query, such as a signature.
_PASSWORD = re.compile(r"^[\w+.-]+:(/*[^/@:]*:(?!\d+/)[^@]*|[^/\\@]+)@")
_QUERY = re.compile(r"^[\w+.-]+:/.*\?[\w.-]+=")
_SECRETS = (
    (re.compile(r"^([\w+.-]+:/*).*:.*@"), r"\1***@"),
    (re.compile(r"^([\w+.-]+:)[^/]+@"), r"\1***@"),
    (re.compile(r"^([\w+.-]+:/.*?)\?.*"), r"\1?***"),
)

# Texts that a file system accepts, but nobody means as they stand.
_MISTAKES = (
    (
        _PASSWORD,
        "contains a password, which logs and results would show: put it into an Airflow connection, and name "
        "that in destination_conn_id",
    ),
    (
        _QUERY,
        "contains a query, which may hold a secret: put credentials into an Airflow connection, and name "
        "that in destination_conn_id",
    ),
    (
        re.compile(r"^https?://", re.IGNORECASE),
        "is a web address, and files cannot be written to one: write a path, or the URL of an object store, "
        "such as s3://bucket/entries.jsonl",
    ),
    (
        re.compile(r"\{[{%#]"),
        "was not rendered: Airflow renders templates in text and paths, not in other objects",
    ),
    (
        re.compile(r"^[a-zA-Z]:([\\/]|$)|\\"),
        "looks like a Windows path: Airflow's workers run on Linux or macOS, so write it like /data/x.jsonl",
    ),
    (
        re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:(?!//)"),
        "looks like a URL that lost a slash: write it as text like 's3://bucket/x.jsonl', not as a Path",
    ),
    (
        re.compile(r"(^|[/=])\$(\w|\{)|(^|/)%\w+%"),
        "contains an environment variable, which is not resolved: use os.environ in the DAG, or a template",
    ),
    (
        re.compile(r"\{\w+\}"),
        "contains a placeholder in single braces: templates are written like {{ ds }}",
    ),
)


@dataclass(frozen=True)
class Destination:
    """The destination of an export and its file format.

    :param url: a local path, or the URL of an object.
    :param is_folder: whether it is a folder with one file for each content type.
    :param file_format: `jsonl`, `json`, `csv` or `parquet`.
    :param compression: `gzip`, `zstd`, or None.
    """

    url: str
    is_folder: bool
    file_format: FileFormat
    compression: Compression | None

    @classmethod
    def from_arguments(
        cls,
        destination: str | PathLike[str],
        *,
        file_format: str | None = None,
        compression: str | None = None,
    ) -> Destination:
        """Return the destination that arguments describe.

        :param destination: a path or a URL; a folder if it ends in `/`.
        :param file_format: None to take it from the suffix; JSON Lines for a folder.
        :param compression: None to take it from the suffix.
        :raises ConfigurationError: names the argument and its choices.
        """
        url = plain_url(destination)
        is_folder = url.endswith("/")
        suffixes = [] if is_folder else [suffix.lower().lstrip(".") for suffix in Path(url).suffixes]
        from_suffix = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
        if from_suffix is not None:
            suffixes.pop()
        compression, file_format = given(compression), given(file_format)
        chosen = from_suffix if compression is None else one_of("compression", compression, _COMPRESSIONS)
        named = None if file_format is None else one_of("file_format", file_format, _FORMATS)
        suffix = suffixes[-1] if suffixes else "jsonl" if is_folder else ""
        format_ = named or _FORMATS.get(suffix)
        if format_ is None:
            raise ConfigurationError(
                f"Cannot tell the file format from destination {show_destination(destination)}: end it in "
                f".{', .'.join(get_args(FileFormat))} (and .gz or .zst to compress), set file_format, or end "
                "it in / for a folder."
            )
        if format_ == "parquet" and chosen:
            raise ConfigurationError("Parquet is compressed already: remove compression, and its suffix.")
        return cls(url, is_folder, format_, chosen)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return "://" not in self.url

    def name_for(self, content_type_id: str) -> str:
        """Return the name of a content type's file; no id can lead out of the folder."""
        name = quote(content_type_id, safe="", errors="surrogatepass")
        if name[:1] in {"", ".", "_"}:  # reserved for hidden files and the manifest
            name = f"%{ord(name[0]):02X}{name[1:]}" if name else "%"
        return (
            f"{name}.{self.file_format}{_COMPRESSION_SUFFIXES[self.compression] if self.compression else ''}"
        )


def show_destination(destination: object) -> str:
    """Return a destination for a message, without a password or a signature."""
    text = as_text(destination)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return show(text)


def plain_url(destination: str | PathLike[str]) -> str:
    """Return a destination as a URL, or as an absolute local path with `~` and `file://` resolved.

    :raises ConfigurationError: it is empty, or seems to name another place than it does.
    """
    text = as_text(given(destination) or "")
    if not text:
        raise ConfigurationError(
            "destination is empty: set a path, such as /data/entries.jsonl or /data/entries/"
        )
    for pattern, problem in _MISTAKES:
        if pattern.search(text):
            raise ConfigurationError(f"destination {show_destination(text)} {problem}.")
    if "://" not in text:
        try:
            return f"{Path(text).expanduser().absolute()}{'/' if text.endswith('/') else ''}"
        except (RuntimeError, ValueError):
            raise ConfigurationError(
                f"destination {show_destination(text)} names a user that does not exist on this machine."
            ) from None
    scheme, _, rest = text.partition("://")
    if scheme.lower() != "file":
        if not rest.partition("/")[0]:
            raise ConfigurationError(
                f"destination {show_destination(text)} names no bucket: write it like {scheme}://bucket/entries.jsonl."
            )
        return text
    machine, slash, path = rest.partition("/")
    if machine not in {"", "localhost"}:
        raise ConfigurationError(
            f"destination {show_destination(text)} names another machine: write file:///path."
        )
    return unquote(slash + path)
