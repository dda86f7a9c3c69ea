"""What a request asks for: its version status, page, order, fields and links."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.aggregations import Aggregation, parse_aggregations
from airflow_provider_contensis.sandbox.delivery import Links
from airflow_provider_contensis.sandbox.documents import VERSION_STATUSES, VersionStatus
from airflow_provider_contensis.sandbox.search import Order, QueryError, parse_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_contensis.sandbox.index import State

MAX_LINK_DEPTH = 10


class ApiError(Exception):
    """A request that gets an error response.

    :param status: the HTTP status.
    :param message: the error message.
    :param field: the part of the request that is wrong; makes this a validation error.
    """

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Call(NamedTuple):
    """One request to an API.

    :param api: `management` or `delivery`, in lower case.
    :param method: the HTTP method.
    :param path_params: the variable parts of the path, decoded.
    :param query: query parameters, names in lower case.
    :param headers: headers, names in lower case.
    :param body: the body.
    """

    api: str
    method: str
    path_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


def version_status(call: Call) -> VersionStatus:
    """Return the requested version status; the APIs have different defaults (docs/contensis-api.md)."""
    requested = call.query.get("versionstatus", "").lower()
    for status in VERSION_STATUSES:
        if requested == status:
            return status
    if requested:
        raise ApiError(422, f"The version status '{requested}' is not known", "versionStatus")
    return "latest" if call.api == "management" else "published"


def parse_integer(options: Mapping[str, Any], name: str, default: int, low: int, high: int | None) -> int:
    """Parse a whole number within limits."""
    value = options.get(name.lower())
    if value is None or value == "":
        return default
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        limits = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ApiError(422, f"'{name}' must be a whole number {limits}", name)
    return number


def order_of(order: object) -> Order:
    """Parse an order, as `search.parse_order` does."""
    try:
        return parse_order(order)
    except QueryError as error:
        raise ApiError(422, str(error), error.field) from None


def parse_fields(fields: object) -> list[str]:
    """Parse `fields`: an array, a JSON array, or comma-separated names."""
    if isinstance(fields, str):
        fields = parse_json(fields, "fields") if fields.startswith("[") else fields.split(",")
    if not isinstance(fields, list | None) or not all(isinstance(path, str) for path in fields or ()):
        raise ApiError(422, "'fields' must be an array of field names", "fields")
    return [path.strip() for path in fields or () if path.strip()]


def parse_links(query: Mapping[str, Any]) -> Links:
    """Parse `linkDepth` and `fieldLinkDepths`, a JSON object of depths by field path."""
    depths = parse_json(query.get("fieldlinkdepths") or "{}", "fieldLinkDepths")
    if not isinstance(depths, dict):
        raise ApiError(422, "'fieldLinkDepths' must be an object of depths by field path", "fieldLinkDepths")
    depth = parse_integer(query, "linkDepth", 0, 0, MAX_LINK_DEPTH)
    by_path = {path.lower(): depth for path, depth in depths.items()}
    return Links(depth, {path: parse_integer(by_path, path, 0, 0, MAX_LINK_DEPTH) for path in depths})


def parse_states(options: Mapping[str, Any]) -> tuple[State, ...]:
    """Return the states to find: live, and with `includeArchived` and `includeDeleted` those, too."""
    states: list[State] = ["live"]
    if _parse_flag(options, "includeArchived"):
        states.append("archived")
    if _parse_flag(options, "includeDeleted"):
        states.append("deleted")
    return tuple(states)


def aggregations_of(options: Mapping[str, Any]) -> list[Aggregation]:
    """Parse the aggregations of a list or search: an object, or JSON in a query parameter."""
    value = options.get("aggregations")
    if not value:
        return []
    try:
        return parse_aggregations(parse_json(value, "aggregations") if isinstance(value, str) else value)
    except QueryError as error:
        raise ApiError(422, str(error), error.field) from None


def parse_body(call: Call) -> dict[str, Any]:
    """Parse a search that came as a JSON body; names become lower case."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "The request entity's media type is not supported for this resource")
    try:
        body = parse_json(call.body.decode(), "body")
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not UTF-8", "body") from None
    if not isinstance(body, dict):
        raise ApiError(422, "The body must be an object", "body")
    return {name.lower(): value for name, value in body.items()}


def parse_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Parse a search that came as query parameters, some of which hold JSON."""
    options: dict[str, Any] = dict(query)
    if query.get("where"):
        options["where"] = parse_json(query["where"], "where")
    else:
        options.pop("where", None)
    if query.get("orderby", "").lstrip()[:1] in ("[", "{", '"'):
        options["orderby"] = parse_json(query["orderby"], "orderBy")
    return options


def parse_json(text: str, field: str) -> Any:
    """Parse JSON in a part of the request."""
    try:
        return json.loads(text)
    except ValueError:
        raise ApiError(400, f"'{field}' is not JSON", field) from None


def _parse_flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name.lower())
    if value is None or isinstance(value, bool):
        return bool(value)
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ApiError(422, f"'{name}' must be true or false", name)
