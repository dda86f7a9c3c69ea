"""Quirks: assumptions about the service that do not hold, each switched off by name.

    with Sandbox(quirks=["no-order"]) as sandbox:
        ...

A fault hits some requests; a quirk is how the environment always behaves. The doctor finds each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.documents import decode, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow_provider_contensis.sandbox.messages import Response
    from airflow_provider_contensis.sandbox.search import Order

_OPERATORS = {
    "range": ("greaterThan", "greaterThanOrEqualTo", "lessThan", "lessThanOrEqualTo", "between"),
    "in": ("in",),
    "or": ("or",),
    "not": ("not",),
    "exists": ("exists",),
    "starts-with": ("startsWith",),
}
_FIELDS = {
    "no-version-status": "sys.versionStatus",
    "no-language": "sys.language",
    "no-content-type": "sys.contentTypeId",
    "no-data-format": "sys.dataFormat",
    "no-id": "sys.id",
}
SMALL_PAGE = 100
_ENTRY_QUIRKS = frozenset({"no-change-marks", "no-asset-properties"})
_CLOCK_SECONDS = -3600.0
_FRACTION = re.compile(r"\.\d+")


def _names(operators: Iterable[str]) -> str:
    return ", ".join(f"`{operator}`" for operator in operators)


QUIRKS: Mapping[str, str] = {
    **{
        f"no-{name}": f"Search clauses with {_names(names)} are ignored."
        for name, names in _OPERATORS.items()
    },
    **{
        f"refused-{name}": f"Searches with {_names(names)} are refused with a 422."
        for name, names in _OPERATORS.items()
    },
    **{
        name: f"Clauses with `equalTo` on `{field}` are ignored."
        for name, field in _FIELDS.items()
        if name != "no-version-status"
    },
    "no-version-status": "Clauses on `sys.versionStatus` are ignored: each API gives its default.",
    "no-order": "`orderBy` is ignored: each answer has another order.",
    "no-id-order": "`sys.id` in `orderBy` is ignored.",
    "coarse-times": "The search index compares times by the second.",
    "capped-count": "`totalCount` stops at 10,000.",
    "unsteady-count": "`totalCount` is one less on all pages but the first.",
    "small-pages": f"A page holds at most {SMALL_PAGE} entries, and its `pageSize` says so.",
    "short-pages": f"A page holds at most {SMALL_PAGE} entries, and its `pageSize` does not say so.",
    "empty-past-window": "Pages past row 10,000 are empty instead of refused.",
    "no-change-marks": "`sys.version` has neither `modified` nor `published`.",
    "no-date": "Responses have no `Date` header.",
    "wrong-clock": "The `Date` header is an hour slow.",
    "latest-by-id": "A get by id always gives the latest version.",
    "html-404": "A get of an unknown id gives a 404 with an HTML page.",
    "no-aggregations": "`aggregations` are ignored.",
    "refused-aggregations": "Searches with `aggregations` are refused with a 422.",
    "wrong-aggregations": "Aggregations count one entry too few.",
    "refused-include-deleted": "Searches with `includeDeleted` are refused with a 422.",
    "no-delivery-bearer": "The Delivery API refuses bearer tokens.",
    "no-link-depth": "`linkDepth` is ignored.",
    "no-asset-properties": "`sys` has no `properties`, which describe the file of an asset.",
    "no-gzip": "Responses are never compressed.",
    "one-at-a-time": "A request gets a 429 while another one is being answered.",
    "unlisted-type": "The last content type is not listed, although its entries are served.",
    "no-languages": "The project does not list its languages.",
    "no-expires-in": "The token response does not say how long the token lives.",
    "opaque-token": "The token has no claims.",
}


class RefusedError(Exception):
    """A search that the service refuses."""


def check_quirks(names: Iterable[str]) -> frozenset[str]:
    """Return the names of quirks.

    :raises ValueError: there is no such quirk.
    """
    quirks = frozenset([names] if isinstance(names, str) else names)
    if unknown := sorted(quirks - QUIRKS.keys()):
        raise ValueError(f"Unknown quirk {unknown[0]!r}. Available: {', '.join(QUIRKS)}")
    return quirks


def change_where(where: Any, quirks: Collection[str]) -> Any:
    """Return the clauses of a search that the service looks at.

    :param where: as the request has it, checked or not.
    :raises RefusedError: it refuses them.
    """
    if not quirks or not isinstance(where, list):
        return where
    kept = (_clause(clause, quirks) for clause in where)
    return [clause for clause in kept if clause is not None]


def change_order(order: Order, quirks: Collection[str]) -> Order:
    """Return the order that the service looks at."""
    if "no-order" in quirks:
        return ()
    return tuple(item for item in order if item[0] != "sys.id") if "no-id-order" in quirks else order


def change_project(project: dict[str, Any], quirks: Collection[str]) -> dict[str, Any]:
    """Return a project as the service shows it."""
    if "no-languages" not in quirks:
        return project
    return {name: value for name, value in project.items() if "anguage" not in name}


def change_entry(body: bytes, quirks: Collection[str]) -> bytes:
    """Return an entry as the service shows it."""
    if _ENTRY_QUIRKS.isdisjoint(quirks):
        return body
    entry = decode(body)
    if "no-change-marks" in quirks:
        for name in ("modified", "published"):
            entry["sys"].get("version", {}).pop(name, None)
    if "no-asset-properties" in quirks:
        entry["sys"].pop("properties", None)
    return encode(entry)


def change_response(response: Response, quirks: Collection[str]) -> Response:
    """Return a response with the `Date` header that the service sends."""
    if "no-date" in quirks:
        return replace(response, clock=None)
    return replace(response, clock=_CLOCK_SECONDS) if "wrong-clock" in quirks else response


def _clause(clause: Any, quirks: Collection[str]) -> Any:
    """Return a clause as the service reads it; None if it ignores it."""
    if not isinstance(clause, Mapping):
        return clause
    for name, operators in _OPERATORS.items():
        used = [operator for operator in operators if operator in clause]
        if not used:
            continue
        if f"refused-{name}" in quirks:
            raise RefusedError(f"The operator '{used[0]}' is not known")
        if f"no-{name}" in quirks:
            return None
    if any(name in quirks and clause.get("field") == field for name, field in _FIELDS.items()) and (
        "equalTo" in clause or clause["field"] == "sys.versionStatus"
    ):
        return None
    if "not" in clause:
        inner = _clause(clause["not"], quirks)
        return None if inner is None else {**clause, "not": inner}
    for operator in ("and", "or"):
        if isinstance(clause.get(operator), list):
            kept = change_where(clause[operator], quirks)
            return {**clause, operator: kept} if kept else None
    if "coarse-times" in quirks and any(operator in clause for operator in _OPERATORS["range"]):
        return {name: _by_the_second(name, value) for name, value in clause.items()}
    return clause


def _by_the_second(name: str, value: Any) -> Any:
    """Return a bound with which a comparison by every digit gives the result of one by the second."""
    if isinstance(value, list):
        return [_by_the_second(name, item) for item in value]
    if name in ("field", "weight") or not isinstance(value, str):
        return value
    return _FRACTION.sub("", value)
