"""The Management and Delivery APIs: their routes, and responses in the shapes of the real service."""

from __future__ import annotations

import base64
import itertools
import random
import re
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn
from urllib.parse import unquote

from airflow_provider_contensis.sandbox.aggregations import aggregate
from airflow_provider_contensis.sandbox.delivery import UNRESOLVED
from airflow_provider_contensis.sandbox.documents import (
    VERSION_STATUSES,
    Document,
    VersionStatus,
    encode,
)
from airflow_provider_contensis.sandbox.index import LIVE
from airflow_provider_contensis.sandbox.messages import Response
from airflow_provider_contensis.sandbox.options import (
    ApiError,
    Call,
    aggregations_of,
    order_of,
    parse_body,
    parse_fields,
    parse_integer,
    parse_links,
    parse_query,
    parse_states,
    version_status,
)
from airflow_provider_contensis.sandbox.quirks import (
    SMALL_PAGE,
    RefusedError,
    change_entry,
    change_order,
    change_project,
    change_where,
    check_quirks,
)
from airflow_provider_contensis.sandbox.search import Order, QueryError, Search, sort

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_provider_contensis.sandbox.catalogue import Catalogue
    from airflow_provider_contensis.sandbox.identity import Identity
    from airflow_provider_contensis.sandbox.index import State

BeyondWindow = Literal["error", "empty", "serve"]

# No query reaches past this many rows: the default limit of the search engine behind the service.
RESULT_WINDOW = 10_000
MAX_PAGE_SIZE = 10_000
DEFAULT_PAGE_SIZE = 25

_NOT_PERMITTED = "You do not have permission to access the requested resource"
_ALONE_SECONDS = 0.005
_NO_LOG_ID = "00000000-0000-0000-0000-000000000000"
_SERVICE_HEADERS = {
    "origin-content-api-version": "16.102.0.7825",
    "x-alias": "sandbox",
    "access-control-allow-headers": "accesstoken, authorization, content-type, *",
    "access-control-allow-methods": "*",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "surrogate-key",
}
_HTML_404 = b"<html><body><h1>404 Not Found</h1></body></html>\n"
_DELIVERY_CACHING = {"cache-control": "no-store, must-revalidate"}
_DELIVERY_ERROR_CACHING = {"cache-control": "no-cache", "pragma": "no-cache", "expires": "-1"}
_DATA_FORMATS = {"entries": "entry", "assets": "asset", "all": None}


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
    :param hidden_types: ids of content types that the API key has no role for: neither they nor their entries
        are served.
    :param hidden_status: the status of a get of something hidden: 404, as if it did not exist, or 403.
    :param beyond_window: the result past 10,000 rows of a query: `error`, `empty` (no items) or `serve`.
    :param cap_total_count: never report a `totalCount` over 10,000; the search engine may do the same.
    :param aggregations: answer `aggregations`; otherwise they are ignored, as an older service might do.
    :param quirks: names of quirks, of `QUIRKS`: assumptions about the service that do not hold.
    :param row_limit: the rows of a query that can be reached, and the highest `totalCount` if it is capped.
    :param seed: makes the order of unordered results repeatable.
    """

    def __init__(
        self,
        catalogues: Sequence[Catalogue],
        identity: Identity,
        *,
        forbidden: bool = False,
        hidden_types: Collection[str] = (),
        hidden_status: Literal[403, 404] = 404,
        beyond_window: BeyondWindow = "error",
        cap_total_count: bool = False,
        aggregations: bool = True,
        quirks: Iterable[str] = (),
        row_limit: int = RESULT_WINDOW,
        seed: int = 0,
    ) -> None:
        self.quirks = check_quirks(quirks)
        self.row_limit = row_limit
        self.forbidden = forbidden
        self.hidden_types = hidden_types
        self.hidden_status = hidden_status
        self.beyond_window = beyond_window
        self.cap_total_count = cap_total_count
        self.aggregations = aggregations
        self._identity = identity
        self._projects = {item.project_id.lower(): (item, Search(item)) for item in catalogues}
        self._seed = seed
        self._shuffles = itertools.count()
        self._answering = threading.Lock()

    def route(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a path, as it appears in the URL, and its path parameters."""
        for route in _ROUTES:
            match = route.pattern.fullmatch(path)
            if match:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def answer(self, route: Route, call: Call) -> Response:
        """Answer a call: check credentials first, then the scope, then the content."""
        if "one-at-a-time" not in self.quirks:
            return self._answer(route, call)
        if not self._answering.acquire(blocking=False):
            return error_response(429, "Too many requests", api=call.api)
        try:
            time.sleep(_ALONE_SECONDS)  # as long as a service takes, so that requests do meet
            return self._answer(route, call)
        finally:
            self._answering.release()

    def _answer(self, route: Route, call: Call) -> Response:
        if call.method not in route.methods:
            return error_response(405, "The requested resource does not support this method", api=call.api)
        scopes = self._scopes(call)
        if scopes is None:
            # Not the usual envelope (docs/contensis-api.md).
            message = {"message": "Authorization has been denied for this request."}
            return Response.json(message, 401, _SERVICE_HEADERS)
        try:
            if self.forbidden or route.scope not in scopes:
                raise ApiError(403, _NOT_PERMITTED)
            return route.answer(self, call)
        except ApiError as error:
            return error_response(error.status, str(error), error.field, call.api)

    def list_projects(self, call: Call) -> Response:
        """Answer `GET /projects`: a plain array."""
        return _json_response(
            call, [change_project(catalogue.project, self.quirks) for catalogue, _ in self._projects.values()]
        )

    def get_project(self, call: Call) -> Response:
        """Answer `GET /projects/{p}`."""
        return _json_response(call, change_project(self._project(call)[0].project, self.quirks))

    def list_content_types(self, call: Call) -> Response:
        """Answer `GET …/contenttypes`: a plain array."""
        catalogue, _ = self._project(call)
        version_status(call)
        wanted = call.query.get("dataformat", "").lower()
        listed = list(catalogue.content_types.values())
        return _json_response(
            call,
            [
                item
                for item in (listed[:-1] if "unlisted-type" in self.quirks else listed)
                if wanted in ("", item["dataFormat"].lower())
                and _is_in_api(call, item)
                and not self._is_hidden(item["id"])
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
        statuses = VERSION_STATUSES if version else (version_status(call),)
        if "latest-by-id" in self.quirks:
            statuses = VERSION_STATUSES
        found = [catalogue.find(entry_id, language, status) for status in statuses]
        for document in found:
            if document and (not version or document.values("sys.version.versionNo") == (version,)):
                if self._is_hidden(document.content_type_id):
                    self._refuse_hidden(f"entry with ID '{entry_id}'")
                return _response(call, self._renderer(call, catalogue)(document))
        if "html-404" in self.quirks:
            return Response(404, _HTML_404, {**_SERVICE_HEADERS, "content-type": "text/html"})
        raise ApiError(404, f"The specified entry with ID '{entry_id}' does not exist")

    def list_entries(self, call: Call) -> Response:
        """Answer `GET …/entries` and `GET …/contenttypes/{ct}/entries`."""
        catalogue, search = self._project(call)
        _reject_zenql(call.query)
        where: list[dict[str, Any]] = [
            {"field": "sys.versionStatus", "equalTo": version_status(call)},
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
        order = order_of(call.query.get("order"))
        return self._page(call, catalogue, self._find(call, search, where, order, "entryTitle"), call.query)

    def search_entries(self, call: Call) -> Response:
        """Answer `GET` and `POST …/entries/search`."""
        catalogue, search = self._project(call)
        options = parse_body(call) if call.method == "POST" else parse_query(call.query)
        _reject_zenql(options)
        where, order = options.get("where"), order_of(options.get("orderby"))
        # Delivery never shows archived or deleted entries (docs/contensis-api.md).
        if "refused-include-deleted" in self.quirks and "includedeleted" in options:
            raise ApiError(422, "The member 'includeDeleted' is not known", "includeDeleted")
        states = parse_states(options) if call.api == "management" else LIVE
        documents = self._find(call, search, [] if where is None else where, order, None, states)
        return self._page(call, catalogue, documents, options)

    def _scopes(self, call: Call) -> frozenset[str] | None:
        authorization = call.headers.get("authorization")
        if call.api == "management":
            return self._identity.scopes(authorization)
        if "no-delivery-bearer" in self.quirks and (authorization or "").lower().startswith("bearer"):
            authorization = None
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
        for content_type in list(catalogue.content_types.values()):
            if content_type["id"].lower() == wanted and _is_in_api(call, content_type):
                if self._is_hidden(content_type["id"]):
                    self._refuse_hidden(f"content type with ID '{call.path_params[name]}'")
                return content_type
        raise ApiError(404, f"The specified content type with ID '{call.path_params[name]}' does not exist")

    def _hidden_types(self) -> frozenset[str]:
        return frozenset(content_type_id.lower() for content_type_id in tuple(self.hidden_types))

    def _is_hidden(self, content_type_id: str) -> bool:
        return content_type_id.lower() in self._hidden_types()

    def _refuse_hidden(self, what: str) -> NoReturn:
        if self.hidden_status == 403:
            raise ApiError(403, _NOT_PERMITTED)
        raise ApiError(404, f"The specified {what} does not exist")

    def _find(
        self,
        call: Call,
        search: Search,
        where: object,
        order: Order,
        default_order: str | None,
        states: Collection[State] = LIVE,
    ) -> Sequence[Document]:
        """Search. Without an order, equal entries come in a new order each time (docs/contensis-api.md)."""
        default_status: VersionStatus = "latest" if call.api == "management" else "published"
        order = change_order(order, self.quirks)
        try:
            documents = search.find(
                change_where(where, self.quirks),
                order,
                default_status,
                states=states,
                hidden_types=self._hidden_types(),
            )
        except QueryError as error:
            raise ApiError(422, str(error), error.field) from None
        except RefusedError as error:
            raise ApiError(422, str(error), "where") from None
        if order:
            return documents
        shuffler = random.Random(f"{self._seed}:{next(self._shuffles)}")
        shuffled = shuffler.sample(documents, len(documents))
        if default_order:
            sort(shuffled, ((default_order, False),))
        return shuffled

    def _page(
        self, call: Call, catalogue: Catalogue, documents: Sequence[Document], options: Mapping[str, Any]
    ) -> Response:
        """Return one page of a list (docs/contensis-api.md)."""
        index = parse_integer(options, "pageIndex", 0, 0, None)
        size = parse_integer(options, "pageSize", DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE)
        render = self._renderer(call, catalogue, options.get("fields"))
        counts = self._aggregations(documents, options)
        if "small-pages" in self.quirks:
            size = min(size, SMALL_PAGE)
        first, last = index * size, (index + 1) * size
        total = len(documents)
        if last > self.row_limit and self.beyond_window != "serve":
            if self.beyond_window == "error" and "empty-past-window" not in self.quirks:
                raise ApiError(
                    422,
                    "Result window is too large, from + size must be less than or equal to: "
                    f"[{self.row_limit}] but was [{last}]",
                    "pageIndex",
                )
            documents = []
        if self.cap_total_count or "capped-count" in self.quirks:
            total = min(total, self.row_limit)
        if index and "unsteady-count" in self.quirks:
            total -= 1
        if "short-pages" in self.quirks:
            last = min(last, first + SMALL_PAGE)
        prefix = (
            f'{{"pageIndex":{index},"pageSize":{size},"totalCount":{total},'
            f'"pageCount":{-(-total // size)},"items":['
        )
        items = b",".join([render(document) for document in documents[first:last]])
        suffix = b',"aggregations":' + encode(counts) if counts else b""
        body = b"".join((prefix.encode(), items, b"]", suffix, b"}"))
        if call.api == "management":
            return _response(call, body)
        return _response(call, body, {"content-type": "application/json", "etag": _etag(body)})

    def _aggregations(
        self, documents: Sequence[Document], options: Mapping[str, Any]
    ) -> dict[str, dict[str, int]]:
        if not self.aggregations or "no-aggregations" in self.quirks:
            return {}
        if "refused-aggregations" in self.quirks and options.get("aggregations"):
            raise ApiError(422, "The member 'aggregations' is not known", "aggregations")
        missing = 1 if "wrong-aggregations" in self.quirks else 0
        return {each.name: aggregate(documents[missing:], each) for each in aggregations_of(options)}

    def _renderer(
        self, call: Call, catalogue: Catalogue, fields: object = None
    ) -> Callable[[Document], bytes]:
        """Return a function that renders a document as JSON.

        Only Delivery supports link depths and fields (docs/contensis-api.md).
        """
        render = self._render(call, catalogue, fields)
        if not self.quirks:
            return render
        return lambda document: change_entry(render(document), self.quirks)

    def _render(self, call: Call, catalogue: Catalogue, fields: object) -> Callable[[Document], bytes]:
        if call.api == "management":
            return lambda document: document.management
        links = UNRESOLVED if "no-link-depth" in self.quirks else parse_links(call.query)
        paths = parse_fields(call.query.get("fields") if fields is None else fields)
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


def _is_in_api(call: Call, content_type: Mapping[str, Any]) -> bool:
    return call.api == "management" or bool(content_type.get("includeInDelivery", True))


def _reject_zenql(options: Mapping[str, Any]) -> None:
    """Reject ZenQL: ignoring it would answer a different query."""
    if options.get("zenql"):
        raise ApiError(422, "The sandbox does not speak 'zenql': use 'where' in a search", "zenql")


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
