"""Which entries are asked for, checked and put into the API's own search clauses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from airflow_provider_contensis.api.errors import ConfigurationError
from airflow_provider_contensis.api.times import query_time, sort_key
from airflow_provider_contensis.api.words import as_text, shown

Api = Literal["management", "delivery"]
VersionStatus = Literal["published", "latest"]
DataFormat = Literal["entry", "asset"]
Clause = Mapping[str, Any]

CREATED = "sys.version.created"
MAX_LINK_DEPTH = 10


@dataclass(frozen=True, kw_only=True)
class EntryQuery:
    """A request for entries, across content types and languages.

    :param content_type_ids: None for all of the project.
    :param languages: None for all that the project supports.
    :param version_status: `published`, or `latest` for the newest version whether published or not.
    :param data_format: `entry`, `asset`, or None for both.
    :param where: further search clauses, all of which must hold.
    :param changed_from: first change mark to include, an ISO time in UTC.
    :param changed_to: first change mark to leave out, an ISO time in UTC.
    :param api: `management` or `delivery`.
    :param link_depth: how deep the Delivery API resolves links.
    :param field_link_depths: the same for single field paths.
    """

    content_type_ids: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    version_status: VersionStatus = "published"
    data_format: DataFormat | None = "entry"
    where: tuple[Clause, ...] = ()
    changed_from: str | None = None
    changed_to: str | None = None
    api: Api = "management"
    link_depth: int | None = None
    field_link_depths: Mapping[str, int] | None = None

    @classmethod
    def from_arguments(
        cls,
        *,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: str = "published",
        data_format: str | None = "entry",
        where: str | Clause | Iterable[Clause] | None = None,
        changed_from: object = None,
        changed_to: object = None,
        api: str = "management",
        link_depth: int | str | None = None,
        field_link_depths: str | Mapping[str, int | str] | None = None,
    ) -> EntryQuery:
        """Return the query that a person's arguments mean, as an operator or a template gives them.

        :raises ConfigurationError: names the argument and what it may be.
        """
        query = cls(
            content_type_ids=names("content_type_id", content_type_id),
            languages=names("language", language),
            version_status=one_of("version_status", version_status, VersionStatus),
            data_format=None if data_format is None else one_of("data_format", data_format, DataFormat),
            where=_clauses(where),
            changed_from=None if changed_from is None else query_time("changed_from", changed_from),
            changed_to=None if changed_to is None else query_time("changed_to", changed_to),
            api=one_of("api", api, Api),
            link_depth=None if link_depth is None else _depth("link_depth", link_depth),
            field_link_depths=_field_link_depths(field_link_depths),
        )
        if (
            query.changed_from
            and query.changed_to
            and sort_key(query.changed_from) >= sort_key(query.changed_to)
        ):
            raise ConfigurationError(
                f"changed_from ({query.changed_from}) must be earlier than changed_to ({query.changed_to}). "
                "Airflow 3 gives runs of a cron schedule an interval without length; "
                "see 'Only what has changed' in the README."
            )
        if query.api != "delivery":
            for name in ("link_depth", "field_link_depths"):
                if getattr(query, name) is not None:
                    raise ConfigurationError(
                        f"{name} needs api='delivery': the Management API never resolves links."
                    )
        return query

    @property
    def change_field(self) -> str:
        """The field that tells when an entry last changed in the version asked for.

        Publishing does not move `sys.version.modified` (API notes, section 4.7).
        """
        return f"sys.version.{'published' if self.version_status == 'published' else 'modified'}"

    def clauses(self, *, language: str, content_type: Clause) -> tuple[Clause, ...]:
        """Return the search clauses for one language and one choice of content types.

        What the service indexes best stands first and on the top level (API notes, section 4.8).

        :param content_type: the clause that chooses the content types.
        """
        formats = {"equalTo": self.data_format} if self.data_format else {"in": list(get_args(DataFormat))}
        clauses: list[Clause] = [
            content_type,
            {"field": "sys.versionStatus", "equalTo": self.version_status},
            {"field": "sys.language", "equalTo": language},
            {"field": "sys.dataFormat", **formats},
            *self.where,
        ]
        if self.changed_from is not None:
            clauses.append({"field": self.change_field, "greaterThanOrEqualTo": self.changed_from})
        if self.changed_to is not None:
            clauses.append({"field": self.change_field, "lessThan": self.changed_to})
        return tuple(clauses)


def names(argument: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return one or several names as a tuple; None stays None.

    :raises ConfigurationError: there is none, or one is not a name.
    """
    if value is None:
        return None
    values = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []
    if not values or not all(isinstance(name, str) and name.strip() for name in values):
        raise ConfigurationError(f"{argument} must be a name or a list of names, but is {shown(value)}.")
    return tuple(dict.fromkeys(name.strip() for name in values))


def one_of(argument: str, value: object, choices: Any) -> Any:
    """Return a value that is one of a Literal's, its case and blanks around it ignored.

    :raises ConfigurationError: it is none of them.
    """
    text = as_text(value).lower()
    allowed = get_args(choices)
    if text not in allowed:
        raise ConfigurationError(f"{argument} must be one of {', '.join(allowed)}, but is {shown(value)}.")
    return text


def whole_number(argument: str, value: object, least: int, most: int) -> int:
    """Return a whole number within bounds; templates give it as text.

    :raises ConfigurationError: it is none.
    """
    try:
        number = int(as_text(value))
    except ValueError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ConfigurationError(
            f"{argument} must be a whole number from {least:,} to {most:,}, but is {shown(value)}."
        )
    return number


def link_params(link_depth: int | None, field_link_depths: Mapping[str, int] | None) -> dict[str, Any]:
    """Return what tells the Delivery API how deep to resolve links, as query parameters.

    They stand in the URL, also of a search that is posted (API notes, section 4.8).
    """
    depths = json.dumps(dict(field_link_depths), separators=(",", ":")) if field_link_depths else None
    return {"linkDepth": link_depth, "fieldLinkDepths": depths}


def _depth(argument: str, value: object) -> int:
    return whole_number(argument, value, 0, MAX_LINK_DEPTH)


def _field_link_depths(value: str | Mapping[str, int | str] | None) -> Mapping[str, int] | None:
    try:
        depths = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        depths = value
    if depths is None:
        return None
    if not isinstance(depths, Mapping) or not all(isinstance(path, str) and path.strip() for path in depths):
        raise ConfigurationError(
            'field_link_depths must hold a depth for each field path, such as {"director": 1}, '
            "or the same as JSON text."
        )
    return {path.strip(): _depth(f"field_link_depths[{path!r}]", depth) for path, depth in depths.items()}


def _clauses(where: str | Clause | Iterable[Clause] | None) -> tuple[Clause, ...]:
    if where is None:
        return ()
    example = '[{"field": "runtime", "greaterThan": 90}]'
    try:
        value = json.loads(where) if isinstance(where, str) else where
        clauses = [value] if isinstance(value, Mapping) else list(value)
        json.dumps(clauses, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(
            f"where must be a list of search clauses, such as {example}, or the same as JSON text."
        ) from None
    if not all(isinstance(clause, Mapping) and clause for clause in clauses):
        raise ConfigurationError(f"where must hold search clauses only, such as {example}.")
    return tuple(clauses)
