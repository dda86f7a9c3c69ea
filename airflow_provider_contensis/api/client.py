"""Authenticated calls to Contensis, retried: the Management and the Delivery API."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from weakref import WeakSet

from airflow_provider_contensis.api import responses
from airflow_provider_contensis.api.auth import SHARED_TOKENS, ContensisAuth, TokenCache, TokenSource
from airflow_provider_contensis.api.buffers import Body, BufferPool
from airflow_provider_contensis.api.environment import secrets_of
from airflow_provider_contensis.api.fork import ForkSafeEvent
from airflow_provider_contensis.api.pause import Pause
from airflow_provider_contensis.api.retry import RetryPolicy
from airflow_provider_contensis.api.transport import ContensisSession, check_call, exchange
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import requests

    from airflow_provider_contensis.api.resources import (
        Api,
        Clause,
        ContentType,
        ContentTypeFormat,
        Entry,
        Project,
        SearchPage,
        VersionStatus,
    )
    from airflow_provider_contensis.api.token_request import AccessToken, Credentials

T = TypeVar("T")

_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class ContensisClient:
    """A client of one Contensis environment, safe to share between threads.

    :param credentials: of the token requests; they name the environment, too.
    :param timeout: seconds to wait for a connection, and again for each read of an answer.
    :param deadline_factor: a whole answer may take this many times the timeout.
    :param verify: True, False, or the path of a CA bundle.
    :param proxies: as in requests.
    :param headers: sent with every request.
    :param retry: how failed calls are repeated.
    :param on_new_token: called with each token value before it is first used, by one thread at a time.
    :param tokens: where tokens are kept; by default all clients of the process share one cache.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        timeout: float = 60.0,
        deadline_factor: float = 10.0,
        verify: bool | str = True,
        proxies: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        on_new_token: Callable[[str], None] | None = None,
        tokens: TokenCache = SHARED_TOKENS,
    ) -> None:
        self.root_url = credentials.root_url
        self.client_id = credentials.client_id
        self._secrets = (credentials.client_secret, *secrets_of(proxies, headers))
        self.scopes = credentials.scopes
        self._retry = retry or RetryPolicy()
        self._closed = ForkSafeEvent()
        self._cancellations: WeakSet[ForkSafeEvent] = WeakSet()
        self._buffers = BufferPool()
        self.session = ContensisSession(
            self.root_url,
            timeout=timeout,
            verify=verify,
            proxies=proxies,
            headers=headers,
            deadline_factor=deadline_factor,
            pause=Pause(max_seconds=self._retry.total, cancelled=self._closed),
        )
        self._tokens = TokenSource(
            self.session,
            credentials,
            retry=self._retry,
            cancelled=self._closed,
            cache=tokens,
            on_new_token=on_new_token,
        )
        self.session.auth = ContensisAuth(self.root_url, self._tokens)

    def close(self) -> None:
        """Close the connections; waits between attempts end at once."""
        self._closed.set()
        for event in list(self._cancellations):
            event.set()
        self.session.close()

    @property
    def requests_sent(self) -> int:
        """How many HTTP requests this client has sent, token requests and retries included."""
        return self.session.requests_sent

    def access_token(self, *, fresh: bool = False) -> AccessToken:
        """Return a current access token.

        :param fresh: request a new one, whatever is cached.
        :raises AuthenticationError: the credentials were refused.
        :raises ContensisError: the identity provider could not be reached, or failed.
        """
        return self._tokens.get_fresh() if fresh else self._tokens.get()

    # --- calls --------------------------------------------------------------------------------------------

    def run(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one authenticated call and return the answer, its body read.

        Idempotent calls (GET, HEAD, OPTIONS, PUT, DELETE, and a search by POST) are retried if they fail
        for a temporary reason.

        :param method: HTTP method.
        :param path: relative to the environment's root, such as `/api/management/projects`.
        :param kwargs: as in `requests.Session.request`: `params`, `json`, `data`, `headers`, `timeout`.
        :raises APIError: an error status; each has its subclass.
        :raises TransportError: no answer, or one that cannot be read.
        :raises AuthenticationError: the credentials were refused.
        """
        return self.call(method, path, lambda response: response, **kwargs)

    def call(
        self,
        method: str,
        path: str,
        parse: Callable[[requests.Response], T],
        **kwargs: Any,
    ) -> T:
        """Send one authenticated call, as `run` does, and return its parsed answer.

        :param parse: takes the answer; if it raises `InvalidResponseError`, the call has failed.
        """
        check_call(method, path, kwargs.get("headers"))
        method = method.upper()
        what = f"{method} {path}"

        def attempt() -> T:
            return parse(self._send(method, path, what=what, **kwargs))

        if method in _REPEATABLE_METHODS or path.endswith("/search"):
            return self.retrying(attempt, what=what)
        return attempt()

    def cancellation(self) -> ForkSafeEvent:
        """Return an event for `retrying`, which `close` sets too."""
        event = ForkSafeEvent()
        self._cancellations.add(event)
        return event

    def retrying(self, attempt: Callable[[], T], *, what: str, cancelled: ForkSafeEvent | None = None) -> T:
        """Return the result of `attempt`, repeating it while it fails for a temporary reason.

        :param attempt: makes one call, such as `search`.
        :param what: names the call in messages.
        :param cancelled: from `cancellation`; once set, no further wait or call begins.
        :raises ContensisError: the last failure.
        """
        return self._retry.call(attempt, what=what, cancelled=cancelled or self._closed)

    def _send(self, method: str, path: str, *, what: str, **kwargs: Any) -> requests.Response:
        if self._closed.is_set():
            raise ContensisError("The client was closed while a call was waiting.")
        response = exchange(self.session, method, path, **kwargs)
        if not response.ok:
            raise responses.api_error(response, what, secrets=self._secrets)
        return response

    # --- resources ----------------------------------------------------------------------------------------

    def list_projects(self) -> list[Project]:
        """Return the projects that the API key may see (docs/contensis-api.md, "Projects")."""
        return self.call("GET", "/api/management/projects", responses.projects)

    def get_project(self, project_id: str, *, api: Api = "management") -> Project:
        """Return a project.

        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        return self.call("GET", _path(api, project_id), partial(responses.project, project_id=project_id))

    def get_date(self, project_id: str, *, api: Api = "management") -> datetime | None:
        """Return the time of the service's clock when it answers for a project; None if it does not say."""
        return self.call("GET", _path(api, project_id), responses.date)

    def list_content_types(
        self,
        project_id: str,
        *,
        data_format: ContentTypeFormat | None = None,
        version_status: VersionStatus = "published",
        api: Api = "management",
    ) -> list[ContentType]:
        """Return the content types of a project (docs/contensis-api.md, "Content types").

        :param data_format: `entry`, `asset` or `form`; None for all.
        :param version_status: `published` or `latest`.
        """
        params = {"dataFormat": data_format, "versionStatus": version_status}
        path = _path(api, project_id, "contenttypes")
        return self.call("GET", path, responses.content_types, params=params)

    def get_content_type(
        self,
        project_id: str,
        content_type_id: str,
        *,
        version_status: VersionStatus = "published",
        api: Api = "management",
    ) -> ContentType:
        """Return a content type.

        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        path = _path(api, project_id, "contenttypes", content_type_id)
        read = partial(responses.content_type, content_type_id=content_type_id)
        return self.call("GET", path, read, params={"versionStatus": version_status})

    def get_entry(
        self,
        project_id: str,
        entry_id: str,
        *,
        language: str | None = None,
        version_status: VersionStatus = "published",
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> Entry:
        """Return one variation of an entry.

        :param language: of the variation; None for the project's primary language.
        :param version_status: `published` or `latest`.
        :param link_depth: levels of links to resolve; Delivery API only.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        params = {
            "language": language,
            "versionStatus": version_status,
            **_link_params(link_depth, field_link_depths),
        }
        read = partial(responses.entry, entry_id=entry_id, language=language, project_id=project_id)
        return self.call("GET", _path(api, project_id, "entries", entry_id), read, params=params)

    def search_entries(
        self,
        project_id: str,
        query: Mapping[str, Any],
        *,
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> SearchPage:
        """Return one page of a search as the API answers it (docs/contensis-api.md, "Search").

        :param query: the search as the API writes it: `where`, `orderBy`, `pageIndex`, `pageSize`.
        :param link_depth: levels of links to resolve; Delivery API only.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        """
        path = _path(api, project_id, "entries", "search")
        params = _link_params(link_depth, field_link_depths)
        return self.call("POST", path, responses.search_page, json=query, params=params)

    def search(
        self,
        project_id: str,
        query: Mapping[str, Any],
        *,
        what: str,
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        api: Api = "management",
    ) -> Body:
        """Return one page of a search as bytes. It is one call, without retries.

        :param query: as for `search_entries`.
        :param what: names the search in messages.
        """
        body = Body(self._buffers)
        self._send(
            "POST",
            _path(api, project_id, "entries", "search"),
            what=what,
            into=body,
            json=query,
            params=_link_params(link_depth, field_link_depths),
        )
        return body

    def count_entries(self, project_id: str, where: Sequence[Clause], *, api: Api = "management") -> int:
        """Return how many entry variations match.

        :param where: search clauses as the API writes them.
        """
        return self.count_entries_at(project_id, where, api=api)[0]

    def count_entries_at(
        self, project_id: str, where: Sequence[Clause], *, api: Api = "management"
    ) -> tuple[int, datetime | None]:
        """Return how many entry variations match, and the time of the service's clock when it answered.

        :param where: search clauses as the API writes them.
        :return: the number, and the time; None if the service does not say.
        """
        return self.call(
            "POST",
            _path(api, project_id, "entries", "search"),
            lambda response: (responses.total_count(response), responses.date(response)),
            json={"where": list(where or ()), "pageIndex": 0, "pageSize": 1},
        )


def _link_params(link_depth: int | None, field_link_depths: Mapping[str, int] | None) -> dict[str, Any]:
    """Return the query parameters by which the Delivery API resolves links.

    They belong into the URL, also when a search is posted (docs/contensis-api.md, "Search").
    """
    depths = json.dumps(dict(field_link_depths), separators=(",", ":")) if field_link_depths else None
    return {"linkDepth": link_depth, "fieldLinkDepths": depths}


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
            raise ConfigurationError(f"{part!r} is not a valid id.")
    return "/".join([f"/api/{api}/projects", *segments])
