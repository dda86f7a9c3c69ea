"""The arguments of an export by several workers, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.export.arguments import Parser, number, parse, take
from airflow_provider_contensis.export.destination import folder_url
from airflow_provider_contensis.export.request import ExportArguments, ExportRequest

if TYPE_CHECKING:
    from typing import Self, Unpack

DEFAULT_PARTS = 16
MAX_PARTS = 64


class PartsArguments(ExportArguments, total=False):
    """One export by several workers."""

    parts: int | str


@dataclass(frozen=True, kw_only=True)
class PartsRequest(ExportRequest):
    """One export by several workers, all its arguments checked.

    :param parts: into how many parts it is cut, at most.
    """

    parts: int = DEFAULT_PARTS

    @classmethod
    def from_arguments(cls, **arguments: Unpack[PartsArguments]) -> Self:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        rest: dict[str, Any] = {**arguments}
        own = parse(take(rest, _ARGUMENTS), _ARGUMENTS)
        rest["destination"] = folder_url(rest["destination"], "each part has files of its own")
        request = ExportRequest.from_arguments(**rest)
        if request.destination.file_format == "json":
            raise ConfigurationError(
                "file_format 'json' is one array, which several tasks cannot write: use 'jsonl', 'csv' or "
                "'parquet'."
            )
        return cls(**vars(request), **own)


_ARGUMENTS: dict[str, Parser] = {"parts": number(1, MAX_PARTS)}
