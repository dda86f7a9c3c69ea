"""One HTTP exchange with one host: timeouts, TLS, redirects, and failures as our own exceptions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urljoin

import requests
import requests.adapters
import requests.cookies

from airflow_provider_contensis import __version__
from airflow_provider_contensis.api.buffers import read_body
from airflow_provider_contensis.api.deadline import pool_classes
from airflow_provider_contensis.api.environment import origin
from airflow_provider_contensis.api.fork import ForkSafeEvent, reset_in_children
from airflow_provider_contensis.api.network_errors import (
    NETWORK_ERRORS,
    PROXY_LOGIN_REQUIRED,
    proxy_refusal,
    translate,
)
from airflow_provider_contensis.api.pause import Pause
from airflow_provider_contensis.api.responses import retry_after
from airflow_provider_contensis.api.retry import DEFAULT_RETRY_SECONDS
from airflow_provider_contensis.exceptions import (
    RETRYABLE_STATUS_CODES,
    ConfigurationError,
    ContensisError,
    RedirectRefusedError,
)

_POOL_SIZE = 64
# A whole answer may take this many times the timeout.
_DEADLINE_FACTOR = 10
# A file of 2 GB may take an hour where a page of entries may take ten minutes.
_FILE_DEADLINE_FACTOR = 6
_METHOD_KEEPING_REDIRECTS = frozenset({307, 308})
_STAYS_HERE = (
    "and the access token must not go there. "
    "If the environment has moved, put its new URL into the connection's host."
)


class Receiver(Protocol):
    """Takes the body of a successful answer that may be large."""

    def fill(self, response: requests.Response) -> None:
        """Read the whole body of an answer."""


class _Adapter(requests.adapters.HTTPAdapter):
    """Reads whole answers within a deadline, keeps pauses, and counts the requests that really go out.

    A session does not see them all: not those that answer redirects, nor calls repeated after a 401.
    """

    def __init__(self, deadline_factor: float, pause: Pause, **kwargs: Any) -> None:
        self._pool_classes = pool_classes(deadline_factor)
        self._pause = pause
        super().__init__(**kwargs)
        self._counter = itertools.count(1)
        self.sent = 0

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._pause.wait()
        self.sent = next(self._counter)
        stream = kwargs.get("stream", False)
        response = super().send(request, *args, **{**kwargs, "stream": True})
        if response.status_code in RETRYABLE_STATUS_CODES:
            self._pause.extend(retry_after(response) or 0.0, response.status_code)
        if not stream:
            response._content = read_body(response)  # noqa: SLF001 - as Response.content does, but faster
        return response


class ContensisSession(requests.Session):
    """A pooled `requests.Session` bound to one Contensis environment.

    Relative URLs are resolved against the environment's root, every request has a
    timeout, and no redirect leaves the environment.

    :param root_url: the environment's root URL, without a trailing slash.
    :param timeout: seconds to wait for a connection, and again for each read.
    :param verify: as in requests: True, False, or the path of a CA bundle.
    :param proxies: as in requests.
    :param deadline_factor: a whole answer may take this many times the timeout.
    :param pause: kept by all requests; answers with a `Retry-After` extend it.
    :param headers: sent with every request.
    :param redirect_advice: why no redirect may leave the host, and what to do if one does.
    """

    def __init__(
        self,
        root_url: str,
        *,
        timeout: float = 60.0,
        verify: bool | str = True,
        proxies: Mapping[str, str] | None = None,
        deadline_factor: float = _DEADLINE_FACTOR,
        pause: Pause | None = None,
        headers: Mapping[str, str] | None = None,
        redirect_advice: str = _STAYS_HERE,
    ) -> None:
        super().__init__()
        self.root_url = root_url
        self.timeout = timeout
        self.verify = verify
        self.proxies.update(proxies or {})
        # Plain http is for loopback hosts only: a proxy from the environment variables would read the secret.
        self.trust_env = not root_url.startswith("http:")
        self.headers["Accept"] = "application/json"
        self.headers["User-Agent"] = (
            f"airflow-provider-contensis/{__version__} {requests.utils.default_user_agent()}"
        )
        self.headers.update(headers or {})
        pause = pause or Pause(max_seconds=DEFAULT_RETRY_SECONDS, cancelled=ForkSafeEvent())
        self._deadline_factor = deadline_factor
        self._pause = pause
        self._redirect_advice = redirect_advice
        self._mount_adapter()
        reset_in_children(self)

    def for_files(self, root_url: str, *, send_token: bool, redirect_advice: str) -> ContensisSession:
        """Return a session for files of this environment, or of another host, with the same settings.

        :param root_url: the host that serves the files. The connection's headers go to the environment only.
        :param send_token: send the access token, if that host is the environment's own.
        :param redirect_advice: as for the class.
        """
        is_own = origin(root_url) == origin(self.root_url)
        session = ContensisSession(
            root_url,
            timeout=self.timeout,
            verify=True if self.verify is None else self.verify,
            proxies=self.proxies,
            deadline_factor=self._deadline_factor * _FILE_DEADLINE_FACTOR,
            pause=self._pause if is_own else self._pause.for_another_host(),
            headers={
                **({name: str(value) for name, value in self.headers.items()} if is_own else {}),
                "Accept": "*/*",
                # A range of a compressed file could not be told from one of the file.
                "Accept-Encoding": "identity",
            },
            redirect_advice=redirect_advice,
        )
        session.auth = self.auth if is_own and send_token else no_auth
        return session

    def reset_after_fork(self) -> None:
        """Leave the sockets, and the lock of the cookies, to the parent."""
        self.cookies = requests.cookies.RequestsCookieJar()
        self._mount_adapter()

    def _mount_adapter(self) -> None:
        # As many idle connections as any export has threads, so that none is opened twice.
        self._adapter = _Adapter(
            self._deadline_factor, self._pause, pool_connections=2, pool_maxsize=_POOL_SIZE
        )
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)

    @property
    def requests_sent(self) -> int:
        """How many HTTP requests this session has sent."""
        return self._adapter.sent

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; as `requests.Session.request`, with this environment's defaults."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        if kwargs.get("verify") is None:
            # Given with each request, or REQUESTS_CA_BUNDLE in the environment would take precedence.
            kwargs["verify"] = self.verify
        if kwargs.get("proxies") is None:
            kwargs["proxies"] = dict(self.proxies)  # likewise HTTPS_PROXY; a copy, for requests changes it
        text = url.decode() if isinstance(url, bytes) else url
        return super().request(method, urljoin(f"{self.root_url}/", text), *args, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a redirect leads, or refuse it.

        The token goes to the configured host only, and a redirect that turns a POST into a GET
        would change the caller's question.

        :raises RedirectRefusedError: for another host, scheme or port, or a changed method.
        """
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        try:
            return self._checked_target(resp, target)
        except RedirectRefusedError:
            resp.close()  # a body that was not read would keep its connection
            raise

    def _checked_target(self, resp: requests.Response, target: str) -> str:
        try:
            destination = urljoin(resp.url, target)
            origin(destination)
        except ValueError:
            raise RedirectRefusedError(f"{self.root_url} redirects to an invalid URL.") from None
        if origin(destination) != origin(self.root_url):
            scheme, host, _ = origin(destination)
            raise RedirectRefusedError(
                f"{self.root_url} redirects to {scheme}://{host}, {self._redirect_advice}"
            )
        token = str(resp.request.headers.get("Authorization") or "").rpartition(" ")[2]
        if token and token in target:
            raise RedirectRefusedError(
                f"{self.root_url} redirects to a URL that holds the access token, which logs would show. "
                "Check the connection's host."
            )
        if resp.request.method not in {"GET", "HEAD"} and resp.status_code not in _METHOD_KEEPING_REDIRECTS:
            raise RedirectRefusedError(
                f"{self.root_url} answered {resp.request.method} with redirect {resp.status_code}, "
                "which would change the method of the call. Check the connection's host."
            )
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Keep the Authorization header: redirects stay on this host, and .netrc is ignored."""


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request as it is; given as `auth`, it also keeps .netrc from adding a header."""
    return request


def check_call(method: object, path: object, headers: object) -> None:
    """Check what a caller gives of a call.

    :raises ConfigurationError: it is of another type.
    """
    if not isinstance(method, str) or not isinstance(path, str):
        raise ConfigurationError("The method and the path of a call must be text.")
    if not isinstance(headers or {}, Mapping):
        raise ConfigurationError("The call has invalid headers: they must be a dictionary.")


def exchange(
    session: ContensisSession, method: str, url: str, *, into: Receiver | None = None, **kwargs: Any
) -> requests.Response:
    """Send one request and read the whole answer, whatever its status.

    :param session: its defaults apply.
    :param url: absolute, or relative to the environment's root.
    :param into: takes the body of a successful answer that may be large; the response then has none.
    :param kwargs: as in `requests.Session.request`.
    :raises TransportError: no answer, or one cut short.
    :raises ConfigurationError: the request could not be made.
    """
    failure: ContensisError
    try:
        response = session.request(method, url, stream=into is not None, **kwargs)
        if into is not None and response.ok:
            into.fill(response)
        elif into is not None:
            response._content = read_body(response)  # noqa: SLF001 - as the adapter does
        if response.status_code != PROXY_LOGIN_REQUIRED:
            return response
        failure = proxy_refusal(response.status_code, session.root_url)
    except ContensisError:
        raise
    except NETWORK_ERRORS as error:
        failure = translate(error, host=session.root_url, timeout=session.timeout)
    # Raised outside the handler: the original error holds the request, and with it the token.
    raise failure
