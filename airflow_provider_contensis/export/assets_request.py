"""The arguments of an export of assets, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Required

from airflow_provider_contensis.api.environment import site_url
from airflow_provider_contensis.export.arguments import Parser, choice, flag, number, parse, take
from airflow_provider_contensis.export.destination import folder_url
from airflow_provider_contensis.export.request import (
    QueryArguments,
    ReadArguments,
    ReadOptions,
    entry_query,
    read_options,
)

if TYPE_CHECKING:
    from os import PathLike
    from typing import Unpack

    from airflow_provider_contensis.export.model import EntryQuery

SendToken = Literal["never", "environment"]
OnMissing = Literal["fail", "report"]

DEFAULT_MAX_FILE_BYTES = 2 << 30  # the largest file that Contensis takes (docs/contensis-api.md, "Assets")
_LARGEST = 1 << 50


class AssetsArguments(QueryArguments, ReadArguments, total=False):
    """One export of assets; the meaning of each is in `ContensisExportAssetsOperator`."""

    destination: Required[str | PathLike[str]]
    site_url: str | None
    send_token: SendToken | str
    max_file_bytes: int | str
    on_missing: OnMissing | str
    prune: bool | str


@dataclass(frozen=True, kw_only=True)
class AssetsRequest:
    """One export of assets, all its arguments checked.

    :param query: which assets.
    :param url: the folder, as its URL; it ends in `/`.
    :param options: how assets are read, and how many files at a time.
    :param site_url: where files are served from; None for the environment.
    :param send_token: `never`, or `environment` to send the access token to the environment's own host.
    :param max_file_bytes: the size of the largest file that is asked for.
    :param on_missing: `fail` if a file cannot be had, or `report` it in the manifest.
    :param prune: whether files that no asset names any more are removed.
    """

    query: EntryQuery
    url: str
    options: ReadOptions
    site_url: str | None = None
    send_token: SendToken = "never"  # noqa: S105 - a choice, not a secret
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES
    on_missing: OnMissing = "fail"
    prune: bool = True

    @property
    def sends_token(self) -> bool:
        """Whether the access token goes to the website, if that is the environment."""
        return self.send_token == "environment"  # noqa: S105 - a choice, not a secret

    @classmethod
    def from_arguments(cls, **arguments: Unpack[AssetsArguments]) -> AssetsRequest:
        """Return the request that arguments describe.

        :raises ConfigurationError: names the argument and its choices.
        """
        rest: dict[str, Any] = {**arguments}
        return cls(
            query=entry_query(**take(rest, QueryArguments.__annotations__), data_format="asset"),
            options=read_options(**take(rest, ReadArguments.__annotations__)),
            url=folder_url(rest.pop("destination"), "an export of assets has many files"),
            **parse(rest, _OWN_ARGUMENTS),
        )


_OWN_ARGUMENTS: dict[str, Parser] = {
    "site_url": site_url,
    "send_token": choice(SendToken),
    "max_file_bytes": number(1, _LARGEST),
    "on_missing": choice(OnMissing),
    "prune": flag,
}
