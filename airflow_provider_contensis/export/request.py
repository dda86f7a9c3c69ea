"""What an export is asked to do: every argument checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_contensis.api.query import EntryQuery, names, one_of, whole_number
from airflow_provider_contensis.export.destination import Destination
from airflow_provider_contensis.export.formats.base import FormatOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_PAGE_SIZE = 500
DEFAULT_CONCURRENCY = 4
MOST_PAGE_SIZE = 10_000  # API notes, section 4.5
MOST_CONCURRENCY = 32


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How entries are read.

    :param page_size: entries a page.
    :param max_concurrent_requests: pages asked for at the same time.
    """

    page_size: int = DEFAULT_PAGE_SIZE
    max_concurrent_requests: int = DEFAULT_CONCURRENCY

    @classmethod
    def from_arguments(
        cls,
        *,
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
    ) -> ReadOptions:
        """Return the options that a person's arguments mean.

        :raises ConfigurationError: names the argument and what it may be.
        """
        return cls(
            page_size=whole_number("page_size", page_size, 1, MOST_PAGE_SIZE),
            max_concurrent_requests=whole_number(
                "max_concurrent_requests", max_concurrent_requests, 1, MOST_CONCURRENCY
            ),
        )


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export.

    :param query: which entries.
    :param destination: where they go.
    :param fields: the field paths to keep; None for whole entries.
    :param options: how they are read.
    :param start_over: read everything afresh, even if an earlier try has read some of it.
    :param format_options: what may be chosen of the format.
    """

    query: EntryQuery
    destination: Destination
    fields: tuple[str, ...] | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    start_over: bool = False
    format_options: FormatOptions = field(default_factory=FormatOptions)

    @classmethod
    def from_arguments(
        cls,
        *,
        destination: str,
        file_format: str | None = None,
        compression: str | None = None,
        fields: str | Iterable[str] | None = None,
        page_size: int | str = DEFAULT_PAGE_SIZE,
        max_concurrent_requests: int | str = DEFAULT_CONCURRENCY,
        start_over: bool | str = False,
        guard_formulas: bool | str = False,
        parquet_mode: str = "typed",
        misfits: str = "fail",
        **query: Any,
    ) -> ExportRequest:
        """Return the request that a person's arguments mean, as an operator or a template gives them.

        :param query: as in `EntryQuery.from_arguments`.
        :raises ConfigurationError: names the argument and what it may be.
        """
        return cls(
            query=EntryQuery.from_arguments(**query),
            destination=Destination.from_arguments(
                destination, file_format=file_format, compression=compression
            ),
            fields=names("fields", fields),
            options=ReadOptions.from_arguments(
                page_size=page_size, max_concurrent_requests=max_concurrent_requests
            ),
            start_over=one_of("start_over", start_over, Literal["true", "false"]) == "true",
            format_options=FormatOptions(
                guard_formulas=one_of("guard_formulas", guard_formulas, Literal["true", "false"]) == "true",
                parquet_mode=one_of("parquet_mode", parquet_mode, Literal["typed", "raw"]),
                misfits=one_of("misfits", misfits, Literal["fail", "raw"]),
            ),
        )
