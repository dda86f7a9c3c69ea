"""The Management and Delivery APIs: which path answers what, in the shapes of the real service."""

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

# No query may look past this many rows: the stock limit of the search engine behind the service.
RESULT_WINDOW = 10_000
MAX_PAGE_SIZE = 10_000
DEFAULT_PAGE_SIZE = 25
MAX_LINK_DEPTH = 10

_NO_LOG = "00000000-0000-0000-0000-000000000000"
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


class Refusal(Exception):  # noqa: N818  # it is an answer, not a defect
    """An answer that says no.

    :param status: HTTP status.
    :param message: what is wrong.
    :param field: the part of the request that is wrong; makes it a validation error.
    """

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Call(NamedTuple):
    """One request to an API.

    :param api: `management` or `delivery`, in lower case.
    :param method: HTTP method.
    :param names: the variable parts of the path, decoded.
    :param query: query parameters, names in lower case.
    :param headers: headers, names in lower case.
    :param body: the body.
    """

    api: str
    method: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Route(NamedTuple):
    """A path of the service.

    :param kind: what it gives, as in `messages.Request`.
    :param pattern: the path.
    :param methods: the methods it takes.
    :param scope: the scope it needs.
    :param answer: makes the answer.
    """

    kind: str
    pattern: re.Pattern[str]
    methods: tuple[str, ...]
    scope: str
    answer: Callable[[Api, Call], Response]


class Api:
    """Answers calls to the Management and Delivery APIs.

    :param catalogues: the projects to serve.
    :param identity: who may call.
    :param forbidden: answer 403, as when the key was not assigned to a role.
    :param beyond_window: what happens past 10,000 rows of a query: `error`, `empty` (no items) or `serve`.
    :param cap_total_count: never tell a `totalCount` over 10,000, as the search engine may do.
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
        self._unordered = itertools.count()

    def route(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a path as it stands in the URL, and the names in it."""
        for route in _ROUTES:
            match = route.pattern.fullmatch(path)
            if match:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        return None

    def answer(self, route: Route, call: Call) -> Response:
        """Return the answer to a call: credentials first, then scope, then content."""
        if call.method not in route.methods:
            return refusal(405, "The requested resource does not support this method", api=call.api)
        scopes = self._scopes(call)
        if scopes is None:
            # Not the usual envelope: section 2.5.
            message = {"message": "Authorization has been denied for this request."}
            return Response.json(message, 401, _SERVICE_HEADERS)
        try:
            if self.forbidden or route.scope not in scopes:
                raise Refusal(403, "You do not have permission to access the requested resource")
            return route.answer(self, call)
        except Refusal as error:
            return refusal(error.status, str(error), error.field, call.api)

    def list_projects(self, call: Call) -> Response:
        """Answer `GET /projects`: a plain array."""
        return _json(call, [catalogue.project for catalogue, _ in self._projects.values()])

    def get_project(self, call: Call) -> Response:
        """Answer `GET /projects/{p}`."""
        return _json(call, self._project(call)[0].project)

    def list_content_types(self, call: Call) -> Response:
        """Answer `GET …/contenttypes`: a plain array."""
        catalogue, _ = self._project(call)
        _version_status(call)
        wanted = call.query.get("dataformat", "").lower()
        return _json(
            call,
            [
                item
                for item in catalogue.content_types.values()
                if wanted in ("", item["dataFormat"].lower()) and _is_shown(call, item)
            ],
        )

    def get_content_type(self, call: Call) -> Response:
        """Answer `GET …/contenttypes/{id}`."""
        content_type = self._content_type(call, self._project(call)[0])
        version = call.query.get("version")
        if version and version != content_type["version"]["versionNo"]:
            raise Refusal(404, f"The specified content type version '{version}' does not exist")
        return _json(call, content_type)

    def list_components(self, call: Call) -> Response:
        """Answer `GET …/components`: the sandbox has none."""
        self._project(call)
        return _json(call, [])

    def get_component(self, call: Call) -> Response:
        """Answer `GET …/components/{id}`: the sandbox has none."""
        self._project(call)
        raise Refusal(404, f"The specified component with ID '{call.names['id']}' does not exist")

    def get_entry(self, call: Call) -> Response:
        """Answer `GET …/entries/{id}`: one variation, in one version."""
        catalogue, _ = self._project(call)
        entry_id, language = call.names["id"], call.query.get("language") or None
        version = call.query.get("version")
        # A version number wins over a version status (section 4.5).
        statuses = VERSION_STATUSES if version else (_version_status(call),)
        found = [catalogue.find(entry_id, language, status) for status in statuses]
        for document in found:
            if document and (not version or document.values("sys.version.versionNo") == (version,)):
                return _response(call, self._renderer(call, catalogue)(document))
        raise Refusal(404, f"The specified entry with ID '{entry_id}' does not exist")

    def list_entries(self, call: Call) -> Response:
        """Answer `GET …/entries` and `GET …/contenttypes/{ct}/entries`."""
        catalogue, search = self._project(call)
        _refuse_unsupported(call.query)
        where: list[dict[str, Any]] = [
            {"field": "sys.versionStatus", "equalTo": _version_status(call)},
            {"field": "sys.language", "equalTo": call.query.get("language") or catalogue.primary_language},
        ]
        if "type" in call.names:
            content_type = self._content_type(call, catalogue, "type")
            where.append({"field": "sys.contentTypeId", "equalTo": content_type["id"]})
        elif call.api == "management":
            wanted = call.query.get("dataformat", "entries").lower()
            if wanted not in _DATA_FORMATS:
                raise Refusal(422, f"The data format '{wanted}' is not known", "dataFormat")
            if _DATA_FORMATS[wanted]:
                where.append({"field": "sys.dataFormat", "equalTo": _DATA_FORMATS[wanted]})
        order = _order(call.query.get("order"))
        return self._page(call, catalogue, self._find(call, search, where, order, "entryTitle"), call.query)

    def search_entries(self, call: Call) -> Response:
        """Answer `GET` and `POST …/entries/search`."""
        catalogue, search = self._project(call)
        options = _posted(call) if call.method == "POST" else _query_options(call.query)
        _refuse_unsupported(options)
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
        project_id = call.names["project"]
        project = self._projects.get(project_id.lower())
        if project is None:
            raise Refusal(404, f"The specified project with ID '{project_id}' does not exist")
        return project

    def _content_type(self, call: Call, catalogue: Catalogue, name: str = "id") -> dict[str, Any]:
        wanted = call.names[name].lower()
        for content_type in catalogue.content_types.values():
            if content_type["id"].lower() == wanted and _is_shown(call, content_type):
                return content_type
        raise Refusal(404, f"The specified content type with ID '{call.names[name]}' does not exist")

    def _find(
        self, call: Call, search: Search, where: object, order: Order, tie_order: str | None
    ) -> list[Document]:
        """Search; with no order asked for, equal entries come in another order each time (section 4.7)."""
        default: VersionStatus = "latest" if call.api == "management" else "published"
        try:
            documents = search.find(where, order, default)
        except QueryError as error:
            raise Refusal(422, str(error), error.field) from None
        if order:
            return documents
        chance = random.Random(f"{self._seed}:{next(self._unordered)}")
        shuffled = chance.sample(documents, len(documents))
        if tie_order:
            sort(shuffled, ((tie_order, False),))
        return shuffled

    def _page(
        self, call: Call, catalogue: Catalogue, documents: list[Document], options: Mapping[str, Any]
    ) -> Response:
        """Return one page of a paged list (section 4.6)."""
        index = _integer(options, "pageIndex", 0, 0, None)
        size = _integer(options, "pageSize", DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE)
        render = self._renderer(call, catalogue, options.get("fields"))
        first, last = index * size, (index + 1) * size
        total = len(documents)
        if last > RESULT_WINDOW and self.beyond_window != "serve":
            if self.beyond_window == "error":
                raise Refusal(
                    422,
                    "Result window is too large, from + size must be less than or equal to: "
                    f"[{RESULT_WINDOW}] but was [{last}]",
                    "pageIndex",
                )
            documents = []
        if self.cap_total_count:
            total = min(total, RESULT_WINDOW)
        head = (
            f'{{"pageIndex":{index},"pageSize":{size},"totalCount":{total},'
            f'"pageCount":{-(-total // size)},"items":['
        )
        items = b",".join([render(document) for document in documents[first:last]])
        body = b"".join((head.encode(), items, b"]}"))
        if call.api == "management":
            return _response(call, body)
        return _response(call, body, {"content-type": "application/json", "etag": _etag(body)})

    def _renderer(
        self, call: Call, catalogue: Catalogue, fields: object = None
    ) -> Callable[[Document], bytes]:
        """Return what turns a document into the JSON asked for; only Delivery takes wishes (section 12)."""
        if call.api == "management":
            return lambda document: document.management
        links = _links(call.query)
        paths = _fields(call.query.get("fields") if fields is None else fields)
        if links == UNRESOLVED and not paths:
            return lambda document: catalogue.served(document, "delivery")
        return lambda document: catalogue.delivery.render(document, links, paths)


def refusal(status: int, message: str, field: str | None = None, api: str = "management") -> Response:
    """Return an error in the envelope of an API, whose letter case differs (section 9)."""
    delivery = api == "delivery"
    envelope: dict[str, Any] = {
        "logId": _NO_LOG,
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


def _json(call: Call, value: object) -> Response:
    return _response(call, encode(value))


def _response(call: Call, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    caching = _DELIVERY_CACHING if call.api == "delivery" else {}
    content_type = {"content-type": "application/json; charset=utf-8"}
    return Response(200, body, {**_SERVICE_HEADERS, **caching, **content_type, **(headers or {})})


def _etag(body: bytes) -> str:
    return f'"{base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode().rstrip("=")}"'


def _is_shown(call: Call, content_type: Mapping[str, Any]) -> bool:
    return call.api == "management" or bool(content_type.get("includeInDelivery", True))


def _version_status(call: Call) -> VersionStatus:
    """Return the version status asked for; the default differs between the APIs (section 4.5)."""
    asked = call.query.get("versionstatus", "").lower()
    for status in VERSION_STATUSES:
        if asked == status:
            return status
    if asked:
        raise Refusal(422, f"The version status '{asked}' is not known", "versionStatus")
    return "latest" if call.api == "management" else "published"


def _integer(options: Mapping[str, Any], name: str, default: int, low: int, high: int | None) -> int:
    value = options.get(name.lower())
    if value is None or value == "":
        return default
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        limits = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise Refusal(422, f"'{name}' must be a whole number {limits}", name)
    return number


def _order(order: object) -> Order:
    try:
        return parse_order(order)
    except QueryError as error:
        raise Refusal(422, str(error), error.field) from None


def _fields(fields: object) -> list[str]:
    """Read `fields`: an array, its JSON, or names separated by commas."""
    if isinstance(fields, str):
        fields = _loaded(fields, "fields") if fields.startswith("[") else fields.split(",")
    if not isinstance(fields, list | None) or not all(isinstance(path, str) for path in fields or ()):
        raise Refusal(422, "'fields' must be an array of field names", "fields")
    return [path.strip() for path in fields or () if path.strip()]


def _links(query: Mapping[str, Any]) -> Links:
    """Read `linkDepth`, and `fieldLinkDepths`: a JSON object of depths by field path."""
    depths = _loaded(query.get("fieldlinkdepths") or "{}", "fieldLinkDepths")
    if not isinstance(depths, dict):
        raise Refusal(422, "'fieldLinkDepths' must be an object of depths by field path", "fieldLinkDepths")
    depth = _integer(query, "linkDepth", 0, 0, MAX_LINK_DEPTH)
    by_path = {path.lower(): depth for path, depth in depths.items()}
    return Links(depth, {path: _integer(by_path, path, 0, 0, MAX_LINK_DEPTH) for path in depths})


def _refuse_unsupported(options: Mapping[str, Any]) -> None:
    """Refuse what the sandbox cannot do: to pass over it would answer another question than was asked."""
    for name in ("zenql", "aggregations"):
        if options.get(name):
            raise Refusal(422, f"The sandbox does not speak '{name}': use 'where' in a search", name)


def _posted(call: Call) -> dict[str, Any]:
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The request entity's media type is not supported for this resource")
    try:
        body = _loaded(call.body.decode(), "body")
    except UnicodeDecodeError:
        raise Refusal(400, "The body is not UTF-8", "body") from None
    if not isinstance(body, dict):
        raise Refusal(422, "The body must be an object", "body")
    return {name.lower(): value for name, value in body.items()}


def _query_options(query: Mapping[str, str]) -> dict[str, Any]:
    """Read the sections of a search that came as query parameters, each holding JSON."""
    options: dict[str, Any] = dict(query)
    if query.get("where"):
        options["where"] = _loaded(query["where"], "where")
    else:
        options.pop("where", None)
    if query.get("orderby", "").lstrip()[:1] in ("[", "{", '"'):
        options["orderby"] = _loaded(query["orderby"], "orderBy")
    return options


def _loaded(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Refusal(400, f"'{field}' is not JSON", field) from None


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
