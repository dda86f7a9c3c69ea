"""Where an export goes, and in which form, as a person writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote, unquote

from airflow_provider_contensis.api.errors import ConfigurationError
from airflow_provider_contensis.api.words import as_text, shown
from airflow_provider_contensis.export.formats.base import FileFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

Compression = Literal["gzip", "zstd"]

MANIFEST = "_manifest.json"
# Where it is kept while the files that it names are replaced.
RETIRED_MANIFEST = "._manifest.json.retired"
# What keeps others away meanwhile, where the storage has no locks of its own.
LOCK = "._manifest.json.lock"

_FORMATS = get_args(FileFormat)
_COMPRESSION_SUFFIXES: dict[Compression, str] = {"gzip": ".gz", "zstd": ".zst"}
_COMPRESSIONS: dict[str, Compression] = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}


@dataclass(frozen=True)
class Destination:
    """Where an export goes, and in which form.

    :param url: a local path, or the URL of an object.
    :param is_folder: one file for each content type goes into the folder.
    :param file_format: `jsonl`, `json`, `csv` or `parquet`.
    :param compression: `gzip`, `zstd`, or None.
    """

    url: str
    is_folder: bool
    file_format: FileFormat
    compression: Compression | None

    @classmethod
    def from_arguments(
        cls, destination: str, *, file_format: str | None = None, compression: str | None = None
    ) -> Destination:
        """Return the destination that a person's arguments mean.

        :param destination: a path or a URL; ending in `/`, a folder.
        :param file_format: None to take it from the suffix, or JSON Lines for a folder.
        :param compression: None to take it from the suffix.
        :raises ConfigurationError: names the argument and what it may be.
        """
        url = plain_url(destination)
        is_folder = url.endswith("/")
        suffixes = [] if is_folder else [suffix.lower().lstrip(".") for suffix in Path(url).suffixes]
        from_suffix = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
        if from_suffix is not None:
            suffixes.pop()
        asked = _one_of("compression", compression, _COMPRESSIONS)
        chosen = _COMPRESSIONS[asked] if asked else from_suffix
        named = _one_of("file_format", file_format, dict.fromkeys(_FORMATS))
        format_ = named or (suffixes[-1] if suffixes else "jsonl" if is_folder else "")
        if format_ not in _FORMATS:
            raise ConfigurationError(
                f"destination {shown(destination)} does not tell a file format that can be written: "
                f"end it in .{', .'.join(_FORMATS)} (and .gz or .zst to compress), give file_format, "
                "or end it in / for a folder."
            )
        if format_ == "parquet" and chosen:
            raise ConfigurationError("Parquet is compressed already: leave compression out, and its suffix.")
        return cls(url, is_folder, format_, chosen)  # type: ignore[arg-type]  # checked to be one

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return "://" not in self.url

    def name_for(self, content_type_id: str) -> str:
        """Return the name of a content type's file in the folder; no id can lead out of it."""
        name = quote(content_type_id, safe="", errors="surrogatepass")
        if name[:1] in {"", ".", "_"}:  # hidden files and the manifest are not for content
            name = f"%{ord(name[0]):02X}{name[1:]}" if name else "%"
        return (
            f"{name}.{self.file_format}{_COMPRESSION_SUFFIXES[self.compression] if self.compression else ''}"
        )


def plain_url(destination: str) -> str:
    """Return a destination without blanks around it: a local path, its `~` and `file://` resolved, or a URL.

    :raises ConfigurationError: it is empty, or names another machine or an unknown user.
    """
    text = as_text(destination) if destination is not None else ""
    if not text:
        raise ConfigurationError(
            "destination is empty: give a path, such as /data/entries.jsonl or /data/entries/"
        )
    if "://" not in text:
        try:
            return f"{Path(text).expanduser()}{'/' if text.endswith('/') else ''}"
        except (RuntimeError, ValueError):
            raise ConfigurationError(
                f"destination {shown(text)} names a user that is not known here."
            ) from None
    scheme, _, rest = text.partition("://")
    if scheme != "file":
        return text
    machine, slash, path = rest.partition("/")
    if machine not in {"", "localhost"}:
        raise ConfigurationError(f"destination {shown(text)} names another machine: write file:///path.")
    return unquote(slash + path)


def _one_of(argument: str, value: str | None, choices: Mapping[str, object]) -> str | None:
    text = None if value is None else as_text(value).lower()
    if text is not None and text not in choices:
        raise ConfigurationError(f"{argument} must be one of {', '.join(choices)}, but is {shown(value)}.")
    return text
