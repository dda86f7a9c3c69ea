"""The Management and Delivery APIs: their routes, and responses in the shapes of the real service."""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote

from airflow_provider_contensis.sandbox.delivery import UNRESOLVED, Links
from airflow_provider_contensis.sandbox.documents import (
    VERSION_STATUSES,
    Document,
    VersionStatus,
    encode,
)
from airflow_provider_contensis.sandbox.messages import Response
from airflow_provider_contensis.sandbox.search import Order, QueryError, Search, parse_order, sort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_contensis.sandbox.catalogue import Catalogue
    from airflow_provider_contensis.sandbox.identity import Identity

BeyondWindow = Literal["error", "empty", "serve"]

# No query reaches past this many rows: the default limit of the search engine behind the service.
RESULT_WINDOW = 10_000
MAX_PAGE_SIZE = 10_000
DEFAULT_PAGE_SIZE = 25
MAX_LINK_DEPTH = 10

_NO_LOG_ID = "00000000-0000-0000-0000-000000000000"
_SERVICE_HEADERS = {
    "origin-content-api-version": "16.102.0.7825",
    "x-alias": "sandbox",
    "access-control-allow-headers": "accesstoken, authorization, content-type, *",
    "access-control-allow-methods": "*",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "surrogate-key",
}
_DELIVERY_CACHING = {"cache-control": "no-store, must-revalidate"}
_DELIVERY_ERROR_CACHING = {"cache-control": "no-cache", "pragma": "no-cache", "expires": "-1"}
_DATA_FORMATS = {"entries": "entry", "assets": "asset", "all": None}


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


class Route(NamedTuple):
    """A path of the service.

    :param kind: the kind of resource, as in `messages.Request`.
    :param pattern: the path.
    :param methods: the methods it accepts.
    :param scope: the scope it needs.
    :param answer: returns the response.
    """

    kind: str
    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    scope: str
    answer: Callable[[Api, Call], Response]


class Api:
    """Answers calls to the Management and Delivery APIs.

    :param catalogues: the projects to serve.
    :param identity: issues and checks the tokens.
    :param forbidden: answer every call with 403, as for a key without a role.
    :param beyond_window: the result past 10,000 rows of a query: `error`, `empty` (no items) or `serve`.
    :param cap_total_count: never report a `totalCount` over 10,000; the search engine may do the same.
    :param seed: makes the order of unordered results repeatable.
    """

    def __init__(
        self,
        catalogues: Sequence[Catalogue],
        identity: Identity,
        *,
        forbidden: bool = False,
        beyond_window: BeyondWindow = "error",
        cap_total_count: bool = False,
        seed: int = 0,
    ) -> None:
        self.forbidden = forbidden
        self.beyond_window = beyond_window
        self.cap_total_count = cap_total_count
        self._identity = identity
        self._projects = {item.project_id.lower(): (item, Search(item)) for item in catalogues}
        self._seed = seed
        self._shuffles = itertools.count()

    def route(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a path, as it appears in the URL, and its path parameters."""
        for route in _ROUTES:
            match = route.pattern.fullmatch(path)
            if match:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def answer(self, route: Route, call: Call) -> Response:
        """Answer a call: check credentials first, then the scope, then the content."""
        if call.method not in route.methods:
            return error_response(405, "The requested resource does not support this method", api=call.api)
        scopes = self._scopes(call)
        if scopes is None:
            # Not the usual envelope (docs/contensis-api.md).
            message = {"message": "Authorization has been denied for this request."}
            return Response.json(message, 401, _SERVICE_HEADERS)
        try:
            if self.forbidden or route.scope not in scopes:
                raise ApiError(403, "You do not have permission to access the requested resource")
            return route.answer(self, call)
        except ApiError as error:
            return error_response(error.status, str(error), error.field, call.api)

    def list_projects(self, call: Call) -> Response:
        """Answer `GET /projects`: a plain array."""
        return _json_response(call, [catalogue.project for catalogue, _ in self._projects.values()])

    def get_project(self, call: Call) -> Response:
        """Answer `GET /projects/{p}`."""
        return _json_response(call, self._project(call)[0].project)

    def list_content_types(self, call: Call) -> Response:
        """Answer `GET …/contenttypes`: a plain array."""
        catalogue, _ = self._project(call)
        _version_status(call)
        wanted = call.query.get("dataformat", "").lower()
        return _json_response(
            call,
            [
                item
                for item in catalogue.content_types.values()
                if wanted in ("", item["dataFormat"].lower()) and _is_visible(call, item)
            ],
        )

    def get_content_type(self, call: Call) -> Response:
        """Answer `GET …/contenttypes/{id}`."""
        content_type = self._content_type(call, self._project(call)[0])
        version = call.query.get("version")
        if version and version != content_type["version"]["versionNo"]:
            raise ApiError(404, f"The specified content type version '{version}' does not exist")
        return _json_response(call, content_type)

    def list_components(self, call: Call) -> Response:
        """Answer `GET …/components`: the sandbox has none."""
        self._project(call)
        return _json_response(call, [])

    def get_component(self, call: Call) -> Response:
        """Answer `GET …/components/{id}`: the sandbox has none."""
        self._project(call)
        raise ApiError(404, f"The specified component with ID '{call.path_params['id']}' does not exist")

    def get_entry(self, call: Call) -> Response:
        """Answer `GET …/entries/{id}`: one variation in one version."""
        catalogue, _ = self._project(call)
        entry_id, language = call.path_params["id"], call.query.get("language") or None
        version = call.query.get("version")
        # A version number takes precedence over a version status (docs/contensis-api.md).
        statuses = VERSION_STATUSES if version else (_version_status(call),)
        found = [catalogue.find(entry_id, language, status) for status in statuses]
        for document in found:
            if document and (not version or document.values("sys.version.versionNo") == (version,)):
                return _response(call, self._renderer(call, catalogue)(document))
        raise ApiError(404, f"The specified entry with ID '{entry_id}' does not exist")

    def list_entries(self, call: Call) -> Response:
        """Answer `GET …/entries` and `GET …/contenttypes/{ct}/entries`."""
        catalogue, search = self._project(call)
        _reject_unsupported(call.query)
        where: list[dict[str, Any]] = [
            {"field": "sys.versionStatus", "equalTo": _version_status(call)},
            {"field": "sys.language", "equalTo": call.query.get("language") or catalogue.primary_language},
        ]
        if "type" in call.path_params:
            content_type = self._content_type(call, catalogue, "type")
            where.append({"field": "sys.contentTypeId", "equalTo": content_type["id"]})
        elif call.api == "management":
            wanted = call.query.get("dataformat", "entries").lower()
            if wanted not in _DATA_FORMATS:
                raise ApiError(422, f"The data format '{wanted}' is not known", "dataFormat")
            if _DATA_FORMATS[wanted]:
                where.append({"field": "sys.dataFormat", "equalTo": _DATA_FORMATS[wanted]})
        order = _order(call.query.get("order"))
        return self._page(call, catalogue, self._find(call, search, where, order, "entryTitle"), call.query)

    def search_entries(self, call: Call) -> Response:
        """Answer `GET` and `POST …/entries/search`."""
        catalogue, search = self._project(call)
        options = _parse_body(call) if call.method == "POST" else _parse_query(call.query)
        _reject_unsupported(options)
        where, order = options.get("where"), _order(options.get("orderby"))
        documents = self._find(call, search, [] if where is None else where, order, None)
        return self._page(call, catalogue, documents, options)

    def _scopes(self, call: Call) -> frozenset[str] | None:
        authorization = call.headers.get("authorization")
        if call.api == "management":
            return self._identity.scopes(authorization)
        return self._identity.delivery_scopes(
            authorization, call.headers.get("accesstoken"), call.query.get("accesstoken")
        )

    def _project(self, call: Call) -> tuple[Catalogue, Search]:
        project_id = call.path_params["project"]
        project = self._projects.get(project_id.lower())
        if project is None:
            raise ApiError(404, f"The specified project with ID '{project_id}' does not exist")
        return project

    def _content_type(self, call: Call, catalogue: Catalogue, name: str = "id") -> dict[str, Any]:
        wanted = call.path_params[name].lower()
        for content_type in catalogue.content_types.values():
            if content_type["id"].lower() == wanted and _is_visible(call, content_type):
                return content_type
        raise ApiError(404, f"The specified content type with ID '{call.path_params[name]}' does not exist")

    def _find(
        self, call: Call, search: Search, where: object, order: Order, default_order: str | None
    ) -> list[Document]:
        """Search. Without an order, equal entries come in a new order each time (docs/contensis-api.md)."""
        default_status: VersionStatus = "latest" if call.api == "management" else "published"
        try:
            documents = search.find(where, order, default_status)
        except QueryError as error:
            raise ApiError(422, str(error), error.field) from None
        if order:
            return documents
        shuffler = random.Random(f"{self._seed}:{next(self._shuffles)}")
        shuffled = shuffler.sample(documents, len(documents))
        if default_order:
            sort(shuffled, ((default_order, False),))
        return shuffled

    def _page(
        self, call: Call, catalogue: Catalogue, documents: list[Document], options: Mapping[str, Any]
    ) -> Response:
        """Return one page of a list (docs/contensis-api.md)."""
        index = _parse_integer(options, "pageIndex", 0, 0, None)
        size = _parse_integer(options, "pageSize", DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE)
        render = self._renderer(call, catalogue, options.get("fields"))
        first, last = index * size, (index + 1) * size
        total = len(documents)
        if last > RESULT_WINDOW and self.beyond_window != "serve":
            if self.beyond_window == "error":
                raise ApiError(
                    422,
                    "Result window is too large, from + size must be less than or equal to: "
                    f"[{RESULT_WINDOW}] but was [{last}]",
                    "pageIndex",
                )
            documents = []
        if self.cap_total_count:
            total = min(total, RESULT_WINDOW)
        prefix = (
            f'{{"pageIndex":{index},"pageSize":{size},"totalCount":{total},'
            f'"pageCount":{-(-total // size)},"items":['
        )
        items = b",".join([render(document) for document in documents[first:last]])
        body = b"".join((prefix.encode(), items, b"]}"))
        if call.api == "management":
            return _response(call, body)
        return _response(call, body, {"content-type": "application/json", "etag": _etag(body)})

    def _renderer(
        self, call: Call, catalogue: Catalogue, fields: object = None
    ) -> Callable[[Document], bytes]:
        """Return a function that renders a document as JSON.

        Only Delivery supports link depths and fields (docs/contensis-api.md).
        """
        if call.api == "management":
            return lambda document: document.management
        links = _parse_links(call.query)
        paths = _parse_fields(call.query.get("fields") if fields is None else fields)
        if links == UNRESOLVED and not paths:
            return lambda document: catalogue.served(document, "delivery")
        return lambda document: catalogue.delivery.render(document, links, paths)


def error_response(status: int, message: str, field: str | None = None, api: str = "management") -> Response:
    """Return an error in the envelope of an API; the letter case differs (docs/contensis-api.md)."""
    delivery = api == "delivery"
    envelope: dict[str, Any] = {
        "logId": _NO_LOG_ID,
        "message": message,
        "data": {} if delivery else None,
        "type": "error" if delivery else "Error",
    }
    if field is not None:
        envelope.update(
            message="There are validation errors in the request",
            data=[{"field": field, "message": message}],
            type="Validation",
        )
    headers = {**_SERVICE_HEADERS, **(_DELIVERY_ERROR_CACHING if delivery else {})}
    return Response.json(envelope, status, headers)


def _json_response(call: Call, value: object) -> Response:
    return _response(call, encode(value))


def _response(call: Call, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    caching = _DELIVERY_CACHING if call.api == "delivery" else {}
    content_type = {"content-type": "application/json; charset=utf-8"}
    return Response(200, body, {**_SERVICE_HEADERS, **caching, **content_type, **(headers or {})})


def _etag(body: bytes) -> str:
    return f'"{base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode().rstrip("=")}"'


def _is_visible(call: Call, content_type: Mapping[str, Any]) -> bool:
    return call.api == "management" or bool(content_type.get("includeInDelivery", True))


def _version_status(call: Call) -> VersionStatus:
    """Return the requested version status; the APIs have different defaults (docs/contensis-api.md)."""
    requested = call.query.get("versionstatus", "").lower()
    for status in VERSION_STATUSES:
        if requested == status:
            return status
    if requested:
        raise ApiError(422, f"The version status '{requested}' is not known", "versionStatus")
    return "latest" if call.api == "management" else "published"


def _parse_integer(options: Mapping[str, Any], name: str, default: int, low: int, high: int | None) -> int:
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


def _order(order: object) -> Order:
    try:
        return parse_order(order)
    except QueryError as error:
        raise ApiError(422, str(error), error.field) from None


def _parse_fields(fields: object) -> list[str]:
    """Parse `fields`: an array, a JSON array, or comma-separated names."""
    if isinstance(fields, str):
        fields = _parse_json(fields, "fields") if fields.startswith("[") else fields.split(",")
    if not isinstance(fields, list | None) or not all(isinstance(path, str) for path in fields or ()):
        raise ApiError(422, "'fields' must be an array of field names", "fields")
    return [path.strip() for path in fields or () if path.strip()]


def _parse_links(query: Mapping[str, Any]) -> Links:
    """Parse `linkDepth` and `fieldLinkDepths`, a JSON object of depths by field path."""
    depths = _parse_json(query.get("fieldlinkdepths") or "{}", "fieldLinkDepths")
    if not isinstance(depths, dict):
        raise ApiError(422, "'fieldLinkDepths' must be an object of depths by field path", "fieldLinkDepths")
    depth = _parse_integer(query, "linkDepth", 0, 0, MAX_LINK_DEPTH)
    by_path = {path.lower(): depth for path, depth in depths.items()}
    return Links(depth, {path: _parse_integer(by_path, path, 0, 0, MAX_LINK_DEPTH) for path in depths})


def _reject_unsupported(options: Mapping[str, Any]) -> None:
    """Reject what the sandbox does not support: ignoring it would answer a different query."""
    for name in ("zenql", "aggregations"):
        if options.get(name):
            raise ApiError(422, f"The sandbox does not speak '{name}': use 'where' in a search", name)


def _parse_body(call: Call) -> dict[str, Any]:
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "The request entity's media type is not supported for this resource")
    try:
        body = _parse_json(call.body.decode(), "body")
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not UTF-8", "body") from None
    if not isinstance(body, dict):
        raise ApiError(422, "The body must be an object", "body")
    return {name.lower(): value for name, value in body.items()}


def _parse_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Parse a search that came as query parameters, some of which hold JSON."""
    options: dict[str, Any] = dict(query)
    if query.get("where"):
        options["where"] = _parse_json(query["where"], "where")
    else:
        options.pop("where", None)
    if query.get("orderby", "").lstrip()[:1] in ("[", "{", '"'):
        options["orderby"] = _parse_json(query["orderby"], "orderBy")
    return options


def _parse_json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ApiError(400, f"'{field}' is not JSON", field) from None


def _route(kind: str, path: str, scope: str, answer: Callable[[Api, Call], Response], *methods: str) -> Route:
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace("{P}", _PROJECT))
    return Route(kind, re.compile(pattern + "/?", re.IGNORECASE), methods or ("GET",), scope, answer)


_PROJECT = "/api/(?P<api>management|delivery)/projects/{project}"
_ROUTES = (
    _route("project", "/api/(?P<api>management)/projects", "Project_Read", Api.list_projects),
    _route("project", "{P}", "Project_Read", Api.get_project),
    _route("content_type", "{P}/contenttypes", "ContentType_Read", Api.list_content_types),
    _route("content_type", "{P}/contenttypes/{id}", "ContentType_Read", Api.get_content_type),
    _route("list", "{P}/contenttypes/{type}/entries", "Entry_Read", Api.list_entries),
    _route("component", "{P}/components", "ContentType_Read", Api.list_components),
    _route("component", "{P}/components/{id}", "ContentType_Read", Api.get_component),
    _route("list", "{P}/entries", "Entry_Read", Api.list_entries),
    _route("search", "{P}/entries/search", "Entry_Read", Api.search_entries, "GET", "POST"),
    _route("entry", "{P}/entries/{id}", "Entry_Read", Api.get_entry),
)
