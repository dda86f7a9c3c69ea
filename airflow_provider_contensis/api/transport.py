"""One HTTP exchange with one host: timeouts, TLS, redirects, and failures in our own words."""

from __future__ import annotations

import http.client
import io
import itertools
import mmap
import re
import socket
import ssl
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from airflow_provider_contensis.api.environment import origin
from airflow_provider_contensis.api.errors import (
    CertificateError,
    ConfigurationError,
    ContensisError,
    HostUnreachableError,
    InvalidResponseError,
    RedirectRefusedError,
    RequestTimeoutError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_POOL_SIZE = 64
_PIECE_BYTES = 1 << 18
_MOST_RESERVED_BYTES = 1 << 23  # on a mere announcement
# An answer may take so many times the timeout, which by itself begins anew with each byte that arrives.
_PATIENCE = 10
# Ten thousand entries of 25 kB. More is a mistake or an attack: a few bytes that unpack to gigabytes.
_MOST_BYTES = 1 << 28
_METHOD_KEEPING_REDIRECTS = frozenset({307, 308})


class _StillArrivingError(TimeoutError):
    """An answer did not end in time."""


class _InTime(io.RawIOBase):
    """Reads from a socket until a deadline: the socket's own timeout begins anew with each byte that arrives.

    :param raw: the socket's reader.
    :param seconds: from now on.
    """

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise _StillArrivingError(f"An answer was still arriving after {self._seconds:g} seconds.")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Adapter(requests.adapters.HTTPAdapter):
    """Reads whole answers, but none without end, and counts what really goes out.

    It also sees what a session does not: answers that are redirects, and calls repeated after a 401.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._pools = _pools(self._answer)
        super().__init__(**kwargs)
        self._counter = itertools.count(1)
        self.sent = 0
        self.patience = _PATIENCE

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.sent = next(self._counter)
        stream = kwargs.get("stream", False)
        response = super().send(request, *args, **{**kwargs, "stream": True})
        if not stream:
            # What Response.content does itself, but its pieces of 10 kB take three times as long.
            response._content = b"".join(_pieces(response))  # noqa: SLF001 - see above
        return response

    def _answer(self, connection: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        """Return an answer that is about to arrive, head and body, and has only so much time for it."""
        answer = http.client.HTTPResponse(connection, *args, **kwargs)
        seconds = connection.gettimeout()
        if seconds is not None:
            raw = answer.fp.detach()
            answer.fp = io.BufferedReader(_InTime(raw, seconds * self.patience))
        return answer


def _pools(answer: Callable[..., http.client.HTTPResponse]) -> dict[str, Any]:
    """Return urllib3's pools of connections, by scheme.

    :param answer: makes what the connections read their answers with.
    """

    class Connection(urllib3.connection.HTTPConnection):
        response_class: Any = staticmethod(answer)

    class SecureConnection(urllib3.connection.HTTPSConnection):
        response_class: Any = staticmethod(answer)

    class Pool(urllib3.connectionpool.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


class ContensisSession(requests.Session):
    """A pooled `requests.Session` bound to one Contensis environment.

    Relative URLs are resolved against the environment's root, every request has a
    timeout, and no redirect leaves the environment.

    :param root_url: the environment's root URL, without a trailing slash.
    :param timeout: seconds to wait for a connection, and again for each read.
    :param verify: as in requests: True, False, or the path of a CA bundle.
    :param proxies: as in requests.
    """

    def __init__(
        self,
        root_url: str,
        *,
        timeout: float = 60.0,
        verify: bool | str = True,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.root_url = root_url
        self.timeout = timeout
        self.verify = verify
        self.proxies.update(proxies or {})
        # Plain http is for loopback hosts only: a proxy that the environment names would read the secret.
        self.trust_env = not root_url.startswith("http:")
        self.headers["Accept"] = "application/json"
        # As many idle connections as any export has threads, so that none is opened twice.
        self._adapter = _Adapter(pool_connections=2, pool_maxsize=_POOL_SIZE)
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)

    def lose_patience(self) -> None:
        """Give a whole answer no more time than its first byte."""
        self._adapter.patience = 1

    @property
    def requests_sent(self) -> int:
        """How many HTTP requests this session has sent."""
        return self._adapter.sent

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; as `requests.Session.request`, with this environment's defaults."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        if kwargs.get("verify") is None:
            # Said on each request, or REQUESTS_CA_BUNDLE in the environment would overrule it.
            kwargs["verify"] = self.verify
        if kwargs.get("proxies") is None:
            kwargs["proxies"] = dict(self.proxies)  # likewise, HTTPS_PROXY; requests writes into it
        text = url.decode() if isinstance(url, bytes) else url
        return super().request(method, urljoin(f"{self.root_url}/", text), *args, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a redirect leads, or refuse it.

        The token goes to the configured host only, and a redirect that turns a POST into
        a GET would ask for something else than the caller did.

        :raises RedirectRefusedError: for another host, scheme or port, or a changed method.
        """
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        try:
            destination = urljoin(resp.url, target)
            origin(destination)
        except ValueError:
            raise RedirectRefusedError(f"{self.root_url} redirects to what is no URL.") from None
        if origin(destination) != origin(self.root_url):
            scheme, host, _ = origin(destination)
            raise RedirectRefusedError(
                f"{self.root_url} redirects to {scheme}://{host}, and the access token must not go there. "
                "If the environment has moved, put its new URL into the connection's host."
            )
        if resp.request.method not in {"GET", "HEAD"} and resp.status_code not in _METHOD_KEEPING_REDIRECTS:
            raise RedirectRefusedError(
                f"{self.root_url} answered {resp.request.method} with redirect {resp.status_code}, "
                "which would turn it into another call. Check the connection's host."
            )
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Keep the Authorization header: redirects stay on this host, and .netrc has no say."""


class BodyMemory:
    """Memory for large bodies, lent again once nothing refers to what was read into it.

    Malloc keeps what each thread gives back, in pieces that fit nothing else: an export took 70 MB for 40.
    """

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def lend(self, size: int) -> mmap.mmap:
        """Return a piece of at least a size."""
        try:
            piece = self._free.pop()
        except IndexError:
            piece = None
        return piece if piece is not None and len(piece) >= size else _new_memory(size)

    def take_back(self, piece: mmap.mmap, view: memoryview) -> None:
        """Lend a piece again, once nothing refers to a view of it any more."""
        weakref.finalize(view, self._free.append, piece).atexit = False


class Body:
    """A large body.

    :param memory: where it is kept.
    """

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.view = memoryview(b"")
        self.spans_lines = False

    def fill(self, response: requests.Response) -> None:
        """Read the whole body of an answer.

        :raises InvalidResponseError: it is larger than any that Contensis has reason to send.
        """
        piece, size = self._memory.lend(max(min(_announced(response), _MOST_RESERVED_BYTES), _PIECE_BYTES)), 0
        for part in _pieces(response):
            end = size + len(part)
            if end > len(piece):
                larger = _new_memory(max(end, 2 * len(piece)))
                larger[:size] = piece[:size]
                piece = larger
            piece[size:end] = part
            size = end
            self.spans_lines = self.spans_lines or b"\n" in part or b"\r" in part
        self.view = memoryview(piece)[:size]
        self._memory.take_back(piece, self.view)


def _new_memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _announced(response: requests.Response) -> int:
    length = response.headers.get("Content-Length", "")
    has_body = response.request.method != "HEAD"
    return int(length) if has_body and re.fullmatch(r"\d{1,18}", length) else 0


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the body of an answer.

    :raises InvalidResponseError: it is larger than any that Contensis has reason to send.
    """
    announced = _announced(response)
    read = 0
    try:
        for piece in response.iter_content(_PIECE_BYTES) if announced <= _MOST_BYTES else ():
            read += len(piece)
            if read > _MOST_BYTES:
                break
            yield piece
    except ValueError as error:  # http.client's own, for chunks whose length makes no sense
        raise requests.exceptions.ChunkedEncodingError(str(error), request=response.request) from error
    if max(read, announced) > _MOST_BYTES:
        response.close()
        failure = InvalidResponseError(
            f"An answer of more than {_MOST_BYTES >> 20} MiB was refused: set a smaller page_size."
        )
        failure.retryable = False
        raise failure


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request as it is; given as `auth`, it also keeps .netrc from adding a header."""
    return request


def exchange(
    session: ContensisSession, method: str, url: str, *, into: Body | None = None, **kwargs: Any
) -> requests.Response:
    """Send one request and read the whole answer, whatever its status.

    :param session: whose defaults apply.
    :param url: absolute, or relative to the environment's root.
    :param into: where the body of a good answer goes, if it may be large; the response then has none.
    :param kwargs: as in `requests.Session.request`.
    :raises TransportError: no answer, or one cut short.
    :raises ConfigurationError: the request could not even be made.
    """
    failure: ContensisError
    try:
        if into is None:
            return session.request(method, url, **kwargs)
        response = session.request(method, url, stream=True, **kwargs)
        if response.ok:
            into.fill(response)
        else:
            response._content = b"".join(_pieces(response))  # noqa: SLF001 - as the adapter does
        return response
    except ContensisError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, TypeError, ValueError) as error:
        failure = _translate(error, session)
    # Raised outside the handler: the original error holds the request, and with it the token.
    raise failure


def _translate(error: Exception, session: ContensisSession) -> ContensisError:
    """Return our exception for one of requests', urllib3's or the socket's."""
    host = session.root_url
    text = str(error)
    causes = _causes(error)

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    if isinstance(error, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return CertificateError(
                f"The TLS certificate of {host} is not trusted ({_certificate_reason(text)}). If a private "
                "authority signed it, put the path of its CA file into the connection's extra 'verify'."
            )
        if any(isinstance(cause, ssl.SSLError) and cause.library not in {None, "SSL"} for cause in causes):
            return ConfigurationError(
                "The file that the connection's extra 'verify' names holds no CA certificate."
            )
        return HostUnreachableError(
            f"{host} does not speak TLS as expected: check the scheme and port of the connection's host."
        )
    if isinstance(error, requests.TooManyRedirects):
        return RedirectRefusedError(f"{host} redirects without end: check the connection's host.")
    if isinstance(error, requests.exceptions.ProxyError):
        return HostUnreachableError(
            f"The proxy on the way to {host} failed: check the connection's extra 'proxies' "
            "and the environment variables HTTPS_PROXY and NO_PROXY."
        )
    if still_arriving := next((cause for cause in causes if isinstance(cause, _StillArrivingError)), None):
        return RequestTimeoutError(str(still_arriving))
    if isinstance(error, requests.Timeout) or caused_by(urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return RequestTimeoutError(f"{host} did not answer within {session.timeout:g} seconds.")
    if caused_by(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return HostUnreachableError(
            f"The name of {host} is not known: check the connection's host (an alias must be spelt exactly)."
        )
    if caused_by(ConnectionRefusedError):
        return HostUnreachableError(f"{host} refuses connections: check the connection's host and port.")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return InvalidResponseError(f"{host} sent an answer whose compression is broken.")
    if caused_by(requests.exceptions.ChunkedEncodingError, urllib3.exceptions.IncompleteRead):
        return InvalidResponseError(f"{host} sent an answer that was cut short.")
    if isinstance(error, requests.ConnectionError):
        return HostUnreachableError(f"The connection to {host} broke.")
    if isinstance(error, OSError) and "CA certificate" in text:
        return ConfigurationError("The connection's extra 'verify' names a CA file that is not there.")
    if isinstance(error, requests.exceptions.InvalidHeader):
        return InvalidResponseError(f"{host} sent an answer whose headers make no sense.")
    if isinstance(error, TypeError | requests.exceptions.InvalidJSONError):
        return ConfigurationError(f"The call to {host} holds something that JSON has no form for.")
    if isinstance(error, ValueError):
        return ConfigurationError(
            f"No request to {host} can be made ({type(error).__name__}): check the call's path, "
            "and the connection's extra 'proxies' or the environment variable HTTPS_PROXY."
        )
    return TransportError(f"The call to {host} failed ({type(error).__name__}).")


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and all that it wraps: as its cause, its context, its reason or an argument."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        candidate = pending.pop()
        if isinstance(candidate, BaseException) and candidate not in found:
            found.append(candidate)
            pending += [candidate.__cause__, candidate.__context__, getattr(candidate, "reason", None)]
            pending += candidate.args
    return found


def _certificate_reason(text: str) -> str:
    """Return OpenSSL's own words, such as `self-signed certificate`."""
    _, _, rest = text.partition("certificate verify failed: ")
    return rest.partition(" (_ssl")[0].rstrip("')") or "verification failed"
