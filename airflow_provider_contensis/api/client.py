"""Authenticated calls to Contensis: the Management and the Delivery API."""

from __future__ import annotations

import codecs
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import msgspec

from airflow_provider_contensis.api.auth import (
    SHARED_TOKENS,
    AccessToken,
    ContensisAuth,
    Credentials,
    TokenCache,
    request_token,
)
from airflow_provider_contensis.api.errors import (
    APIError,
    ConfigurationError,
    ContensisError,
    InvalidResponseError,
    api_error_class,
)
from airflow_provider_contensis.api.query import link_params
from airflow_provider_contensis.api.retry import RetryPolicy, parse_retry_after
from airflow_provider_contensis.api.transport import Body, BodyMemory, ContensisSession, exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

    from airflow_provider_contensis.api.query import Api

T = TypeVar("T")
Entry = dict[str, Any]

_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_PIECE_BYTES = 1 << 13
_NO_LOG_ID = "00000000-0000-0000-0000-000000000000"


class EntriesPage(msgspec.Struct, rename="camel"):
    """One page of entries (API notes, section 4.6).

    :param total_count: how many entries match, on all pages.
    :param items: the entries of this page, as the bytes that were served; one that spans lines has lost
        the blanks between its tokens.
    :param page_size: how many entries the service gives a page at the most, if it tells.
    """

    total_count: int
    items: list[msgspec.Raw]
    page_size: int | None = None


_PAGE = msgspec.json.Decoder(EntriesPage)


@dataclass(frozen=True)
class SearchAnswer:
    """An answer to a search, all of it here and not looked into yet."""

    response: requests.Response
    body: Body

    def page(self) -> EntriesPage:
        """Return the page of entries that it is.

        :raises InvalidResponseError: it is something else.
        """
        try:
            _check_utf8(self.body.view)  # entries are passed on as bytes, and msgspec does not look into them
            page = _PAGE.decode(self.body.view)
            if self.body.spans_lines:
                page.items = [msgspec.Raw(msgspec.json.format(bytes(item), indent=-1)) for item in page.items]
        except (ValueError, msgspec.MsgspecError, RecursionError):
            page = None
        if page is None:  # raised outside the handler: the original error holds the body
            raise _unexpected(self.response, "a page of entries")
        return page


class ContensisClient:
    """A client of one Contensis environment, safe to share between threads.

    :param credentials: what tokens are asked for with; they name the environment too.
    :param timeout: seconds for a connection, and again for each read of an answer.
    :param verify: True, False, or the path of a CA bundle.
    :param proxies: as in requests.
    :param retry: how failed calls are repeated.
    :param on_new_token: called with each token value this client comes to use, before it is sent; by one
        thread at a time.
    :param tokens: where tokens are kept; by default all clients of the process share one cache.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        timeout: float = 60.0,
        verify: bool | str = True,
        proxies: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        on_new_token: Callable[[str], None] | None = None,
        tokens: TokenCache = SHARED_TOKENS,
    ) -> None:
        self.root_url = credentials.root_url
        self.client_id = credentials.client_id
        self._credentials = credentials
        self._retry = retry or RetryPolicy()
        self._on_new_token = on_new_token
        self._announced: str | None = None
        self._announcing = threading.Lock()
        self._tokens = tokens
        self._closed = threading.Event()
        self._memory = BodyMemory()
        self.session = ContensisSession(self.root_url, timeout=timeout, verify=verify, proxies=proxies)
        self.session.auth = ContensisAuth(self.root_url, self._token_value)

    def close(self) -> None:
        """Release the connections; waits between retries end at once."""
        self._closed.set()
        self.session.close()

    @property
    def requests_sent(self) -> int:
        """How many HTTP requests this client has sent, tokens and retries included."""
        return self.session.requests_sent

    # --- tokens -------------------------------------------------------------------------------------------

    def access_token(self, *, fresh: bool = False, rejected: str | None = None) -> AccessToken:
        """Return an access token that is current.

        :param fresh: ask the identity provider even if a current token is at hand.
        :param rejected: a token just refused with 401; another one is returned.
        :raises AuthenticationError: the credentials were refused.
        :raises ContensisError: the identity provider could not be reached or failed.
        """
        if fresh:
            token = self._tokens.refresh(self._credentials, self._fetch_token)
        else:
            token = self._tokens.get(self._credentials, self._fetch_token, rejected=rejected)
        if self._on_new_token is not None:
            with self._announcing:
                if token.value != self._announced:
                    self._on_new_token(token.value)
                    self._announced = token.value
        return token

    def _token_value(self, rejected: str | None) -> str:
        return self.access_token(rejected=rejected).value

    def _fetch_token(self) -> AccessToken:
        return self._retry.call(
            lambda: request_token(self.session, self._credentials),
            what="The token request",
            cancelled=self._closed,
        )

    # --- calls --------------------------------------------------------------------------------------------

    def run(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one authenticated call and return the answer, its body read.

        A call that may be repeated without harm (GET, HEAD, OPTIONS, PUT, DELETE, and a search
        by POST) is retried when it fails for a passing reason.

        :param method: HTTP method.
        :param path: relative to the environment's root, such as `/api/management/projects`.
        :param kwargs: as in `requests.Session.request`: `params`, `json`, `data`, `headers`, `timeout`.
        :raises APIError: an error status; the subclass tells which.
        :raises TransportError: no answer, or none that can be read.
        :raises AuthenticationError: no token was given.
        """
        return self.call(method, path, lambda response: response, **kwargs)

    def call(
        self,
        method: str,
        path: str,
        parse: Callable[[requests.Response], T],
        **kwargs: Any,
    ) -> T:
        """Send one authenticated call and return what `parse` makes of the answer.

        As `run`; that `parse` raises `InvalidResponseError` counts as a failure of the call.
        """
        method = method.upper()
        what = f"{method} {path}"

        def attempt() -> T:
            return parse(self._send(method, path, what=what, **kwargs))

        if method in _REPEATABLE_METHODS or path.endswith("/search"):
            return self.retrying(attempt, what=what)
        return attempt()

    def retrying(self, attempt: Callable[[], T], *, what: str) -> T:
        """Return what `attempt` returns, repeating it while it fails for a passing reason.

        :param attempt: makes one call, such as `search`.
        :param what: names the call in messages.
        :raises ContensisError: the last failure.
        """
        return self._retry.call(attempt, what=what, cancelled=self._closed)

    def _send(self, method: str, path: str, *, what: str, **kwargs: Any) -> requests.Response:
        if self._closed.is_set():
            raise ContensisError("The client was closed while a call was waiting.")
        response = exchange(self.session, method, path, **kwargs)
        if not response.ok:
            raise self._api_error(response, what)
        return response

    def _api_error(self, response: requests.Response, what: str) -> APIError:
        body = self._error_body(response)
        status = response.status_code
        detail, log_id = body.get("message"), body.get("logid")
        detail = detail if isinstance(detail, str) and detail.strip() else None
        log_id = log_id if isinstance(log_id, str) and log_id != _NO_LOG_ID else None
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        message = f"{what} was answered with status {status}: {_meaning(status, retry_after)}"
        if detail:
            message += f" Contensis says: {detail}"
        if problems := _problems(body.get("data")):
            message += f" ({problems})"
        if log_id:
            message += f" (logId {log_id})"
        return api_error_class(status)(
            message,
            status_code=status,
            detail=detail,
            log_id=log_id,
            error_type=body.get("type") if isinstance(body.get("type"), str) else None,
            data=body.get("data"),
            retry_after=retry_after,
        )

    def _error_body(self, response: requests.Response) -> dict[str, Any]:
        """Return the error envelope with lower-case keys (API notes, section 9): their case varies."""
        # A gateway's error page may echo the request. Looked for in what was decoded: JSON can hide them.
        secrets = _sent_token(response), self._credentials.client_secret
        try:
            body = _without(secrets, json.loads(response.content))
        except (ValueError, RecursionError):
            return {}
        return {key.lower(): value for key, value in body.items()} if isinstance(body, dict) else {}

    # --- resources ----------------------------------------------------------------------------------------

    def list_projects(self) -> list[dict[str, Any]]:
        """Return the projects that the API key may see (API notes, section 3.1)."""
        return self.call("GET", "/api/management/projects", _json_list)

    def get_project(self, project_id: str, *, api: Api = "management") -> dict[str, Any]:
        """Return a project.

        :raises NotFoundError: there is none of this id, or the API key may not see it.
        """
        return self.call("GET", _path(api, project_id), _json_object)

    def list_content_types(
        self,
        project_id: str,
        *,
        data_format: str | None = None,
        version_status: str = "published",
        api: Api = "management",
    ) -> list[dict[str, Any]]:
        """Return the content types of a project (API notes, section 3.2).

        :param data_format: `entry`, `asset` or `form`; None for all.
        :param version_status: `published` or `latest`.
        """
        params = {"dataFormat": data_format, "versionStatus": version_status}
        return self.call("GET", _path(api, project_id, "contenttypes"), _definitions, params=params)

    def get_content_type(
        self,
        project_id: str,
        content_type_id: str,
        *,
        version_status: str = "published",
        api: Api = "management",
    ) -> dict[str, Any]:
        """Return a content type.

        :raises NotFoundError: the project has none of this id, or the API key may not see it.
        """
        path = _path(api, project_id, "contenttypes", content_type_id)
        return self.call("GET", path, _json_object, params={"versionStatus": version_status})

    def get_entry(
        self,
        project_id: str,
        entry_id: str,
        *,
        language: str | None = None,
        version_status: str = "published",
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> Entry:
        """Return one variation of an entry.

        :param language: of the variation; None for the project's primary language.
        :param version_status: `published` or `latest`.
        :param link_depth: how deep links are resolved; the Delivery API only.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        :raises NotFoundError: there is no such variation, or the API key may not see it.
        """
        params = {
            "language": language,
            "versionStatus": version_status,
            **link_params(link_depth, field_link_depths),
        }
        return self.call("GET", _path(api, project_id, "entries", entry_id), _json_object, params=params)

    def search_entries(
        self,
        project_id: str,
        query: Mapping[str, Any],
        *,
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> dict[str, Any]:
        """Return one page of a search as the API answers it (API notes, section 4.8).

        :param query: the search as the API writes it: `where`, `orderBy`, `pageIndex`, `pageSize`.
        :param link_depth: how deep links are resolved; the Delivery API only.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        """
        path = _path(api, project_id, "entries", "search")
        params = link_params(link_depth, field_link_depths)
        return self.call("POST", path, _json_object, json=query, params=params)

    def search(
        self,
        project_id: str,
        query: Mapping[str, Any],
        *,
        what: str,
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> SearchAnswer:
        """Return the answer to a search, whose entries stay bytes: one call, not repeated.

        :param query: as for `search_entries`.
        :param what: names the search in messages.
        """
        body = Body(self._memory)
        response = self._send(
            "POST",
            _path(api, project_id, "entries", "search"),
            what=what,
            into=body,
            json=query,
            params=link_params(link_depth, field_link_depths),
        )
        return SearchAnswer(response, body)

    def count_entries(
        self, project_id: str, where: Sequence[Mapping[str, Any]], *, api: Api = "management"
    ) -> int:
        """Return how many variations match.

        :param where: search clauses as the API writes them.
        """
        query = {"where": list(where), "pageIndex": 0, "pageSize": 1}
        what = f"POST {_path(api, project_id, 'entries', 'search')}"
        return self.retrying(
            lambda: _total(self.search(project_id, query, what=what, api=api).page()), what=what
        )


def _path(api: Api, project_id: str, *parts: str) -> str:
    """Return the path of a project or of something in it; no part can lead out of its place."""
    segments = []
    for part in (project_id, *parts):
        text = str(part).strip() if isinstance(part, str | int) else ""
        try:
            segments.append(quote(text, safe=""))
        except UnicodeEncodeError:
            text = ""
        if text in {"", ".", ".."}:
            raise ConfigurationError(f"{part!r} is no id that Contensis could know.")
    return "/".join([f"/api/{api}/projects", *segments])


def _sent_token(response: requests.Response) -> str:
    return response.request.headers.get("Authorization", "").removeprefix("Bearer ")


def _without(secrets: Sequence[str], value: Any) -> Any:
    """Return a JSON value in which no text holds a secret, plain or as a URL would write it."""
    if isinstance(value, str):
        for secret in filter(None, secrets):
            value = value.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return value
    if isinstance(value, dict):
        return {_without(secrets, key): _without(secrets, item) for key, item in value.items()}
    return [_without(secrets, item) for item in value] if isinstance(value, list) else value


def _problems(data: Any) -> str:
    """Return what a validation error says of each field, such as `where[0]: The operator is not known`."""
    problems = []
    for item in data if isinstance(data, list) else []:
        known = {str(key).lower(): value for key, value in item.items()} if isinstance(item, dict) else {}
        if isinstance(known.get("message"), str):
            problems.append(f"{known.get('field') or 'all'}: {known['message']}")
    return "; ".join(problems[:3])


def _meaning(status: int, retry_after: float | None) -> str:
    if status == 401:
        return "a new access token was refused too. Check that the API key is enabled, and its scopes."
    if status == 403:
        return (
            "the API key may not do this. Assign it to a role of the project in Contensis, "
            "and check the connection's scopes."
        )
    if status == 404:
        return (
            "there is no such thing, or the API key's role may not see it. "
            "Check the project id and the other ids."
        )
    if status == 429:
        asked = "" if retry_after is None else f" It asks to wait {retry_after:g} seconds."
        return f"too many calls.{asked}"
    return "the service failed." if status >= 500 else "the service does not accept the request."


def _json_value(response: requests.Response) -> Any:
    token = _sent_token(response)
    try:
        value = json.loads(response.content)
        # Logs show the ids and languages of such answers, and are no place for a token that is one.
        if not token or token not in json.dumps(value, ensure_ascii=False):
            return value
        came = "the access token that was sent"
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
        came = f"{_without([token], kind)} where JSON was expected"
    raise InvalidResponseError(
        f"{response.request.method} {response.request.path_url.partition('?')[0]} was answered with {came}: "
        "something other than Contensis may have answered."
    )


def _json_object(response: requests.Response) -> dict[str, Any]:
    value = _json_value(response)
    if not isinstance(value, dict):
        raise _unexpected(response, "a JSON object")
    return cast("dict[str, Any]", value)


def _are_fields(value: Any) -> bool:
    return _is_list_of_objects(value) and all(isinstance(field.get("id"), str) for field in value)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _json_list(response: requests.Response) -> list[dict[str, Any]]:
    value = _json_value(response)
    if not _is_list_of_objects(value):
        raise _unexpected(response, "a JSON list of objects")
    return cast("list[dict[str, Any]]", value)


def _definitions(response: requests.Response) -> list[dict[str, Any]]:
    """Return definitions of content types, of the shape and the text that files can be made from."""
    definitions = _json_list(response)
    try:
        json.dumps(definitions, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise _unexpected(response, "definitions that are text") from None
    for definition in definitions:
        fields, version = definition.get("fields"), definition.get("version")
        if not isinstance(version, dict | None) or not (fields is None or _are_fields(fields)):
            raise _unexpected(response, "definitions of content types")
    return definitions


def _total(page: EntriesPage) -> int:
    if page.total_count < len(page.items):
        raise InvalidResponseError(
            f"The service counts {page.total_count} entries but shows {len(page.items)} of them."
        )
    return page.total_count


def _check_utf8(body: memoryview) -> None:
    """Raise UnicodeDecodeError unless bytes are UTF-8.

    In small pieces, for text may take four times the room, and every thread would keep that.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    for start in range(0, len(body), _PIECE_BYTES):
        decode(body[start : start + _PIECE_BYTES])
    decode(b"", final=True)


def _unexpected(response: requests.Response, expected: str) -> InvalidResponseError:
    path = response.request.path_url.partition("?")[0]
    return InvalidResponseError(
        f"{response.request.method} {path} was answered with something else than {expected}."
    )
