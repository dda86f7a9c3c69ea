"""The destination of an export and its file format, as a person writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike, fsdecode
from pathlib import Path, PurePath
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import given, one_of
from airflow_provider_contensis.export.formats.base import FileFormat
from airflow_provider_contensis.utils.text import as_text, show

Compression = Literal["gzip", "zstd"]

MANIFEST = "_manifest.json"
# Keeps the manifest while the files that it names are replaced.
RETIRED_MANIFEST = "._manifest.json.retired"
# Keeps other exports away meanwhile, if the storage has no locks of its own.
LOCK = "._manifest.json.lock"

_FORMATS: dict[str, FileFormat] = {**{name: name for name in get_args(FileFormat)}, "ndjson": "jsonl"}
_COMPRESSION_SUFFIXES: dict[Compression, str] = {"gzip": ".gz", "zstd": ".zst"}
_COMPRESSIONS: dict[str, Compression] = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"([^:/]*)(?::(/*)|//+)")
_HOST_AND_PORT = re.compile(r"[^:]*:\d{1,5}")
# Their URLs have no port.
_BUCKETS = {"s3", "s3a", "gs", "gcs"}
# All of a query may be a secret, such as a signature.
_QUERY = re.compile(r"\?.*(=|%3D)|#[^/]*(=|%3D)", re.IGNORECASE)
_OTHER_COMPRESSIONS = {"7z", "br", "bz2", "lz4", "lzma", "rar", "snappy", "xz", "z", "zip"}

# What a file system or an object store accepts, but nobody means as it stands.
_MISTAKES = (
    (
        re.compile(r"^https?://", re.IGNORECASE),
        "is a web address, and files cannot be written to one: write a path, or the URL of an object store, "
        "such as s3://bucket/entries.jsonl",
    ),
    (_CONTROL, "contains a line break or another control character"),
    (
        re.compile(r"\{[{%#]"),
        "was not rendered: Airflow renders templates in text and paths, not in other objects",
    ),
    (re.compile(r"[{}]"), "contains a placeholder in single braces: templates are written like {{ ds }}"),
    (
        re.compile(r"\\|^/*[a-zA-Z]:(/|$)|^[a-zA-Z]:"),
        "looks like a Windows path: Airflow's workers run on Linux or macOS, so write it like /data/x.jsonl",
    ),
    (
        re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:(?!//)"),
        "looks like a URL that lost a slash: write it as text like 's3://bucket/x.jsonl', not as a Path",
    ),
    (
        re.compile(r"^[^/:]*//"),
        "looks like a URL that lost a colon or names a server: write s3://bucket/x.jsonl, or a path with "
        "single slashes",
    ),
    (
        # `%20` is an escape.
        re.compile(r"\$|%\(|%-?[a-z](?![a-z0-9])|%(?![0-9a-f]{2}%)[a-z_]\w*%", re.IGNORECASE),
        "contains an environment variable, a command or a strftime pattern, which is not resolved: use a "
        "template, such as {{ ds }}",
    ),
    (
        re.compile(r"^/(.*/)?~(/|$)"),
        "names a home folder, which only a path that begins with ~ does",
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
        if suffix in _OTHER_COMPRESSIONS or from_suffix not in {None, chosen}:
            raise ConfigurationError(
                f"destination {show_destination(destination)} ends in the suffix of another compression: "
                "use .gz for gzip and .zst for zstd, or set no compression."
            )
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

    @property
    def suffix(self) -> str:
        """The suffix of its files, compression included."""
        return f".{self.file_format}{_COMPRESSION_SUFFIXES[self.compression] if self.compression else ''}"

    def name_for(self, content_type_id: str) -> str:
        """Return the name of a content type's file."""
        return f"{safe_name(content_type_id)}{self.suffix}"


def safe_name(content_type_id: str) -> str:
    """Return the name of a content type's file or folder; no id can lead out of where it is."""
    name = quote(content_type_id, safe="", errors="surrogatepass")
    if name[:1] in {"", ".", "_"}:  # reserved for hidden files and the manifest
        name = f"%{ord(name[0]):02X}{name[1:]}" if name else "%"
    return name


def path_text(destination: Any) -> Any:
    """Return a path as text, so that Airflow renders the templates in it; anything else as it is."""
    if isinstance(destination, PathLike) and "://" not in as_text(destination):
        return fsdecode(destination)
    return as_text(destination) if isinstance(destination, PathLike) else destination


def show_destination(destination: object) -> str:
    """Return a destination for a message, without a password or a signature."""
    text = as_text(path_text(destination))
    found = _secret(text)
    return show(f"{found[1]}***" if found else text)


def _secret(text: str) -> tuple[str, str] | None:
    """Return what is wrong if a destination seems to contain a secret, and what may be shown of it."""
    text = _CONTROL.sub("", text)
    decoded = unquote(text)
    start = _SCHEME.match(decoded)
    rest = decoded[start.end() :] if start else ""
    if start and "@" in rest:
        login = re.split("[/@]", rest, maxsplit=1)[0]
        has_port = start[1].lower() not in _BUCKETS and rest.startswith(f"{login}/")
        has_password = ":" in login and not (has_port and _HOST_AND_PORT.fullmatch(login))
        if has_password or (not start[2] and "/" not in rest.rpartition("@")[0] and ":" in start[0]):
            return "contains a password", start[0]
    if query := _QUERY.search(text):
        return "contains a query, which may hold a secret", text[: query.start() + 1]
    return None


def plain_url(destination: str | PathLike[str]) -> str:
    """Return a destination as a URL, or as an absolute local path with `~` and `file://` resolved.

    :raises ConfigurationError: it is empty, or seems to name another place than it does.
    """
    value = path_text(given(destination) or "")
    text = as_text(value)
    if not text:
        raise ConfigurationError(
            "destination is empty: set a path, such as /data/entries.jsonl or /data/entries/"
        )
    if not isinstance(value, str | int | float) and "://" not in text:  # such as bytes
        raise ConfigurationError(f"destination must be text or a path, not {type(value).__name__}.")
    if found := _secret(text):
        raise ConfigurationError(
            f"destination {show_destination(text)} {found[0]}: logs and results would show it, so "
            "put credentials into an Airflow connection, and name that in destination_conn_id."
        )
    _check_meaning(text, text)
    scheme, is_url, rest = text.partition("://")
    if is_url and scheme.lower() != "file":
        if not rest.partition("/")[0]:
            raise ConfigurationError(
                f"destination {show_destination(text)} names no bucket: write it like {scheme}://bucket/entries.jsonl."
            )
        return text
    if not is_url:
        try:
            return f"{Path(text).expanduser().absolute()}{'/' if text.endswith('/') else ''}"
        except (RuntimeError, UnicodeEncodeError):
            raise ConfigurationError(
                f"destination {show_destination(text)} names a user that does not exist on this machine."
            ) from None
        except OSError:
            raise ConfigurationError(
                f"destination {show_destination(text)} is relative, and the working directory does not exist "
                "anymore: write a path that begins with a slash."
            ) from None
    machine, slash, path = rest.partition("/")
    if machine not in {"", "localhost"}:
        raise ConfigurationError(
            f"destination {show_destination(text)} names another machine: write file:///path."
        )
    path = unquote(slash + path)
    _check_meaning(path, text)
    return path


def folder_url(destination: str | PathLike[str], why: str) -> str:
    """Return the URL of a destination that is a folder, whether it ends in `/` or not.

    :param why: why it is no file.
    :raises ConfigurationError: it has a suffix, or `plain_url` refuses it.
    """
    url = plain_url(destination)
    if not url.endswith("/") and PurePath(url).suffix:
        raise ConfigurationError(
            f"destination {show_destination(url)} must be a folder and end in /, such as /data/contensis/: "
            f"{why}."
        )
    return f"{url.rstrip('/')}/"


def _check_meaning(path: str, destination: str) -> None:
    """Refuse a path that seems to name another place than it does."""
    for pattern, problem in _MISTAKES:
        if pattern.search(path):
            raise ConfigurationError(f"destination {show_destination(destination)} {problem}.")
