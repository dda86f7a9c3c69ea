"""A local Contensis environment over real HTTP: the `Sandbox`."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections import Counter, deque
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from airflow_provider_contensis.sandbox.api import RESULT_WINDOW, Api, BeyondWindow, error_response
from airflow_provider_contensis.sandbox.assets import serve
from airflow_provider_contensis.sandbox.catalogue import Catalogue
from airflow_provider_contensis.sandbox.identity import SCOPES, Client, ExpiresIn, Identity
from airflow_provider_contensis.sandbox.iso import iso_catalogue
from airflow_provider_contensis.sandbox.messages import Faults, Record, Request, Response
from airflow_provider_contensis.sandbox.options import Call
from airflow_provider_contensis.sandbox.quirks import change_response
from airflow_provider_contensis.sandbox.wire import Server, compress

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from types import TracebackType

    from airflow_provider_contensis.sandbox.documents import VersionStatus

# Public on purpose: they only open a sandbox, which listens on loopback only.
CLIENT_ID = "5a6db0c5-0000-4000-8000-c0a7e2515d0c"
CLIENT_SECRET = "-".join(word * 4 for word in ("5a6db0c5", "c0a7e251", "de304e57"))
ACCESS_TOKEN = "5a6db0c5" * 6

_MAX_RECORDS = 100_000
_TOKEN_PATH = "/authenticate/connect/token"  # noqa: S105  # a path
_STATS_PATH = "/_sandbox/stats"
_UNAVAILABLE = b"<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>\n"


class Sandbox:
    """A Contensis environment on this machine. Use it as a context manager, or call `start` and `stop`.

    Everything that can change during a test is an attribute: `faults`, `latency`, `error_rate` and `gzip`
    here, `forbidden`, `hidden_types`, `hidden_status`, `beyond_window`, `cap_total_count`, `aggregations` and
    `quirks` on `api`, `token_lifetime`, `expires_in` and `refused_status` on `identity`, and `index_lag` on
    `catalogue`.

    :param catalogue: the content: one project or several; None means the ISO lists (`iso_catalogue`).
    :param host: the loopback address to listen on.
    :param port: the port to listen on; 0 picks a free port.
    :param client_id: the client id of the API key.
    :param client_secret: the shared secret of the API key.
    :param client_name: the display name of the API key.
    :param client_enabled: whether the key may use the client credentials flow.
    :param allowed_scopes: the scopes the key may request.
    :param access_tokens: read-only tokens that the Delivery API accepts instead of a bearer token.
    :param token_lifetime: seconds for which a token is accepted.
    :param expires_in: the lifetime in the token response: any JSON value, or an `ExpiresIn`.
    :param refused_status: the response status for wrong credentials. The vendor's docs say 400 in an example
        and 401 in the text.
    :param forbidden: answer every API call with 403, as for a key without a role.
    :param hidden_types: ids of content types that the API key has no role for: neither they nor their entries
        are served.
    :param hidden_status: the status of a get of something hidden: 404, as if it did not exist, or 403. The
        vendor's docs allow both.
    :param beyond_window: the result past 10,000 rows of a query: `error`, `empty` (no items) or `serve`.
    :param cap_total_count: never report a `totalCount` over 10,000.
    :param aggregations: answer `aggregations`; otherwise they are ignored, as an older service might do.
    :param quirks: names of quirks, of `QUIRKS`: assumptions about the service that do not hold.
    :param row_limit: the rows of a query that can be reached, and the highest `totalCount` if it is capped.
    :param latency: seconds of delay before each API response.
    :param error_rate: share of API calls that get a 503 with an HTML page, 0 to 1.
    :param faults: called first for every request; if it returns a response, that response is sent.
    :param gzip: compress larger responses for clients that accept it.
    :param seed: makes errors and the order of unordered results repeatable.
    :param tls: serve HTTPS with this context.
    :raises ValueError: `host` is not a loopback address.
    """

    def __init__(
        self,
        catalogue: Catalogue | Sequence[Catalogue] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        client_name: str = "Sandbox key",
        client_enabled: bool = True,
        allowed_scopes: Collection[str] = SCOPES,
        access_tokens: Collection[str] = (ACCESS_TOKEN,),
        token_lifetime: float = 3600,
        expires_in: object = ExpiresIn.TRUTHFUL,
        refused_status: int = 400,
        forbidden: bool = False,
        hidden_types: Collection[str] = (),
        hidden_status: Literal[403, 404] = 404,
        beyond_window: BeyondWindow = "error",
        cap_total_count: bool = False,
        aggregations: bool = True,
        quirks: Iterable[str] = (),
        row_limit: int = RESULT_WINDOW,
        latency: float = 0.0,
        error_rate: float = 0.0,
        faults: Faults | None = None,
        gzip: bool = True,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if host != "localhost" and not _is_loopback(host):
            raise ValueError(f"The sandbox listens on loopback addresses only, not on {host!r}")
        if catalogue is None:
            catalogue = iso_catalogue()
        self.catalogues = [catalogue] if isinstance(catalogue, Catalogue) else list(catalogue)
        self.client_id = client_id
        self.client_secret = client_secret
        self.identity = Identity(
            Client(client_id, client_secret, client_name, allowed_scopes, client_enabled),
            token_lifetime=token_lifetime,
            expires_in=expires_in,
            refused_status=refused_status,
            access_tokens=access_tokens,
        )
        self.api = Api(
            self.catalogues,
            self.identity,
            forbidden=forbidden,
            hidden_types=hidden_types,
            hidden_status=hidden_status,
            beyond_window=beyond_window,
            cap_total_count=cap_total_count,
            aggregations=aggregations,
            quirks=quirks,
            row_limit=row_limit,
            seed=seed,
        )
        self.latency = latency
        self.error_rate = error_rate
        self.faults = faults
        self.gzip = gzip
        self._host = host
        self._port = port
        self._tls = tls
        self._random = random.Random(seed)
        self._request_numbers = itertools.count(1)
        self._records: deque[Record] = deque(maxlen=_MAX_RECORDS)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve until `stop`. Does nothing if the sandbox is already running.

        :raises OSError: the port is in use.
        """
        if self._server:
            return
        self._stopping.clear()
        self._server = Server(self._host, self._port, self._respond, self._tls)
        self.identity.issuer = f"{self.url}/authenticate"
        self._thread = threading.Thread(target=self._server.serve, name="sandbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, close all connections and wait for their threads. Does nothing if not running."""
        if not self._server or not self._thread:
            return
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_all()
        self._server = self._thread = None

    @property
    def catalogue(self) -> Catalogue:
        """The first project's content."""
        return self.catalogues[0]

    @property
    def project_id(self) -> str:
        """The id of the first project."""
        return self.catalogue.project_id

    @property
    def port(self) -> int:
        """The port it listens on.

        :raises RuntimeError: it is not running.
        """
        if self._server is None:
            raise RuntimeError("The sandbox is not running")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The root URL, such as `http://127.0.0.1:54321`.

        :raises RuntimeError: it is not running.
        """
        return f"{self._origin}:{self.port}"

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection to this sandbox, in Airflow's JSON form."""
        return {
            "conn_type": "contensis",
            "host": self._origin,
            "port": self.port,
            "login": self.client_id,
            "password": self.client_secret,
            "extra": {"project_id": self.project_id},
        }

    @property
    def connection_json(self) -> str:
        """`connection` as JSON, for the environment variable AIRFLOW_CONN_CONTENSIS_DEFAULT."""
        return json.dumps(self.connection)

    @property
    def connection_uri(self) -> str:
        """`connection` as a URI, for the same environment variable."""
        # A loopback host without a scheme means http, so https goes into the host.
        host = quote(self._origin, safe="") if self._tls else self._origin.removeprefix("http://")
        user = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        query = urlencode({"project_id": self.project_id})
        return f"contensis://{user}@{host}:{self.port}/?{query}"

    @property
    def requests(self) -> list[Record]:
        """The requests so far, oldest first; only the last 100,000 are kept."""
        with self._lock:
            return list(self._records)

    @property
    def connections(self) -> int:
        """The number of connections accepted since the start."""
        return self._server.accepted if self._server else 0

    def count(self, kind: str | None = None) -> int:
        """Return the number of requests of a kind.

        :param kind: a kind of `Request`, such as `token` or `search`; None counts all.
        """
        with self._lock:
            return self._counts.total() if kind is None else self._counts[kind]

    def forget_requests(self) -> None:
        """Clear the recorded requests and their counts."""
        with self._lock:
            self._records.clear()
            self._counts.clear()

    def revoke_tokens(self) -> None:
        """Revoke every token issued so far, as when a key is disabled and enabled again."""
        self.identity.revoke()

    @property
    def _origin(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}"

    def _respond(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        parts = urlsplit(target)
        query: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            query.setdefault(name.lower(), value)
        kind, answer = self._dispatch(method, parts.path, query, headers, body)
        request = Request(
            next(self._request_numbers),
            kind,
            method,
            unquote(parts.path),
            query,
            headers,
            body,
            answer,
            self.revoke_tokens,
        )
        response = self.faults(request) if self.faults else None
        if response is None:
            response = answer()
        if response.delay:
            self._stopping.wait(response.delay)
        response = change_response(response, self.api.quirks)
        # Images and archives are compressed already, so websites send them as they are.
        if self.gzip and kind != "file" and "no-gzip" not in self.api.quirks:
            response = compress(response, headers.get("accept-encoding", ""))
        status = 0 if response.drop else response.status
        with self._lock:
            self._records.append(Record(request.number, kind, method, request.path, query, status))
            self._counts[kind] += 1
        return response

    def _dispatch(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[str, Callable[[], Response]]:
        """Return the kind of a request, and a function that returns its normal response."""
        plain_path = path.rstrip("/").lower()
        if plain_path == _TOKEN_PATH:
            if method != "POST":
                return "token", lambda: Response(405, headers={"allow": "POST"})
            return "token", lambda: self.identity.token(headers, body, self.api.quirks)
        if plain_path == _STATS_PATH:
            return "stats", self._stats
        found = self.api.route(path)
        if found is None and not plain_path.startswith("/api/") and method in ("GET", "HEAD"):
            # A token shows drafts, too.
            status: VersionStatus = (
                "latest" if self.identity.scopes(headers.get("authorization")) else "published"
            )
            files = (item.file(unquote(path), status) for item in self.catalogues)
            if file := next(filter(None, files), None):
                return "file", lambda: self._delay_or_fail(lambda: serve(file, path, headers))
        if found is None:
            api = "delivery" if plain_path.startswith("/api/delivery/") else "management"
            return "other", lambda: self._delay_or_fail(
                lambda: error_response(404, f"No resource was found at '{unquote(path)}'", api=api)
            )
        route, path_params = found
        call = Call(path_params["api"].lower(), method, path_params, query, headers, body)
        return route.kind, lambda: self._delay_or_fail(lambda: self.api.answer(route, call))

    def _stats(self) -> Response:
        with self._lock:
            requests = dict(self._counts)
        return Response.json({"requests": requests, "connections": self.connections})

    def _delay_or_fail(self, answer: Callable[[], Response]) -> Response:
        """Answer an API call with the configured latency and error rate."""
        if self.latency:
            self._stopping.wait(self.latency)
        if self.error_rate and self._random.random() < self.error_rate:
            return Response(503, _UNAVAILABLE, {"content-type": "text/html"})
        return answer()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
