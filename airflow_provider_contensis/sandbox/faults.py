"""Trouble on purpose: named faults, and a seeded mixture of them.

    with Sandbox(faults=Mixture(7, {"503": 0.05, "reset": 0.01})) as sandbox:
        ...

Whether a request meets a fault, and which, depends on nothing but the seed, what the request asks for and
how often that was asked before: not on the order in which the threads of a client come, nor on tokens. A
client that asks for the same again, with the same seed, meets the same. Three faults lean on more than that:
`revoked` and `refused` hit whoever comes next, and `repeated-page` shows the page that was served last.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from dataclasses import replace
from email.utils import formatdate
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import decode, encode
from airflow_provider_contensis.sandbox.messages import Faults, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ONE = 1_000_000
_PAGES = frozenset({"search", "list"})
_API = frozenset({"project", "content_type", "component", "entry", "other"}) | _PAGES
_ANY = _API | {"token"}


class Seen:
    """Counts requests by what they ask for, so that chance can depend on that and not on who comes first."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def name(self, request: Request) -> str:
        """Return a name for this request: what it asks for, and the how manieth time."""
        asked = [request.method, request.path, sorted(request.query.items())]
        digest = blake2b(json.dumps(asked).encode() + request.body, digest_size=16).digest()
        with self._lock:
            self._counts[digest] += 1
            return f"{digest.hex()} {self._counts[digest]}"


class Mixture:
    """A mixture of faults, for `Sandbox(faults=…)`.

    :param seed: another seed gives other faults.
    :param shares: of the requests that each fault can befall, the share that it does; `FAULTS` has the names.
    :param retry_after: seconds that `429-seconds` and `429-date` ask to wait.
    :param slow: seconds that `slow-first-byte` and `slow-body` take.
    :param outage: seconds for which `refused` refuses connections.
    :raises ValueError: there is no such fault, or the shares add up to more than 1.
    """

    def __init__(
        self,
        seed: int,
        shares: Mapping[str, float],
        *,
        retry_after: int = 1,
        slow: float = 1.0,
        outage: float = 0.1,
    ) -> None:
        if unknown := sorted(shares.keys() - FAULTS.keys()):
            raise ValueError(f"There is no fault {unknown[0]!r}: choose of {', '.join(FAULTS)}")
        if not all(share >= 0 for share in shares.values()) or sum(shares.values()) > 1:
            raise ValueError("The shares of faults must not be negative nor add up to more than 1")
        self.retry_after = retry_after
        self.slow = slow
        self.outage = outage
        self.last_page: Response | None = None
        self._seed = seed
        self._shares = dict(shares)
        self._seen = Seen()
        self._injected: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def injected(self) -> Counter[str]:
        """How often each fault was met."""
        with self._lock:
            return self._injected.copy()

    def __call__(self, request: Request) -> Response | None:
        """Return a broken answer, or None for the true one."""
        draw = Draw(f"{self._seed} {self._seen.name(request)}")
        response, name = None, self._chosen(draw)
        if name is not None and request.kind in FAULTS[name].befalls:
            response = FAULTS[name].make(self, request, draw)
        if response is not None and name is not None:
            with self._lock:
                self._injected[name] += 1
        elif request.kind in _PAGES and "repeated-page" in self._shares:
            self.last_page = response = request.answer()
        return response

    def _chosen(self, draw: Draw) -> str | None:
        number = draw.below(_ONE)
        for name, share in self._shares.items():
            number -= round(share * _ONE)
            if number < 0:
                return name
        return None


class Fault(NamedTuple):
    """Something that can go wrong.

    :param befalls: the kinds of request that it can befall.
    :param make: makes the answer, or None if it does not apply.
    """

    befalls: frozenset[str]
    make: Callable[[Mixture, Request, Draw], Response | None]


def together(*faults: Faults) -> Faults:
    """Return faults that are asked one after the other; the first that answers has the word."""

    def ask(request: Request) -> Response | None:
        answers = (fault(request) for fault in faults)
        return next((answer for answer in answers if answer is not None), None)

    return ask


def _page(status: int, words: str) -> Response:
    body = f"<html><body><h1>{status} {words}</h1></body></html>\n".encode()
    return Response(status, body, {"content-type": "text/html"})


def _error(status: int, message: str, **more: Any) -> Response:
    envelope = {"logId": "00000000-0000-0000-0000-000000000000", "message": message, "data": None}
    return Response.json({**envelope, "type": "Error", **more}, status)


def _unauthorized(*_: object) -> Response:
    return Response.json({"message": "Authorization has been denied for this request."}, 401)


def _revoked(_: Mixture, request: Request, __: Draw) -> Response:
    request.revoke_tokens()
    return request.answer()


def _rate_limited(*_: object) -> Response:
    return _page(429, "Too Many Requests")


def _rate_limited_for_seconds(mixture: Mixture, *_: object) -> Response:
    headers = {"content-type": "text/html", "retry-after": str(mixture.retry_after)}
    return replace(_page(429, "Too Many Requests"), headers=headers)


def _rate_limited_until(mixture: Mixture, *_: object) -> Response:
    date = formatdate(time.time() + mixture.retry_after, usegmt=True)
    return replace(
        _page(429, "Too Many Requests"), headers={"content-type": "text/html", "retry-after": date}
    )


def _server_error(_: Mixture, __: Request, draw: Draw) -> Response:
    log_id = f"{draw.below(1 << 32):08x}-0000-4000-8000-{draw.below(1 << 48):012x}"
    return _error(500, "An unexpected error has occurred", logId=log_id)


def _broken_gzip(_: Mixture, request: Request, draw: Draw) -> Response:
    answer = request.answer()
    packed = bytearray(gzip.compress(answer.body, 1, mtime=0))
    broken = draw.below(3)
    if broken == 0:  # not gzip at all
        packed[:2] = b"{}"
    elif broken == 1:  # its checksum does not fit
        packed[-8] ^= 1
    else:  # it ends too early, and nothing but gzip itself tells
        del packed[draw.below(len(packed) - 8) :]
    return replace(answer, body=bytes(packed), headers={**answer.headers, "content-encoding": "gzip"})


def _changed_page(change: Callable[[dict[str, Any], Draw], None]) -> Callable[..., Response | None]:
    """Make a fault of what is done to a page; no digit of what is left of it changes."""

    def make(_: Mixture, request: Request, draw: Draw) -> Response | None:
        answer = request.answer()
        page = decode(answer.body)
        if answer.status != 200 or not page["items"]:
            return None
        change(page, draw)
        return replace(answer, body=encode(page))

    return make


def _short(page: dict[str, Any], draw: Draw) -> None:
    items = page["items"]
    del items[draw.below(len(items)) :]


def _repeated_entry(page: dict[str, Any], draw: Draw) -> None:
    items = page["items"]
    number = draw.below(len(items))
    if len(items) == 1:
        items.append(items[0])
    else:
        items[number] = items[number - 1]


def _wrong_total(page: dict[str, Any], draw: Draw) -> None:
    total = page["totalCount"]
    wrong = (total - 1, total + 1, total // 2, total * 2, total + 1_000, len(page["items"]))
    page["totalCount"] = wrong[draw.below(len(wrong))]


def _beyond_window(page: dict[str, Any], _: Draw) -> None:
    page["items"] = []


def _repeated_page(mixture: Mixture, _: Request, __: Draw) -> Response | None:
    return mixture.last_page


FAULTS: Mapping[str, Fault] = {
    "401": Fault(_API, _unauthorized),
    "403": Fault(_API, lambda *_: _error(403, "You do not have permission to access the requested resource")),
    "408": Fault(_ANY, lambda *_: _page(408, "Request Timeout")),
    "429": Fault(_ANY, _rate_limited),
    "429-seconds": Fault(_ANY, _rate_limited_for_seconds),
    "429-date": Fault(_ANY, _rate_limited_until),
    "500": Fault(_ANY, _server_error),
    "502": Fault(_ANY, lambda *_: _page(502, "Bad Gateway")),
    "503": Fault(_ANY, lambda *_: _page(503, "Service Unavailable")),
    "504": Fault(_ANY, lambda *_: _page(504, "Gateway Timeout")),
    "revoked": Fault(_API, _revoked),
    "closed": Fault(_ANY, lambda *_: Response(drop=True)),
    "reset": Fault(_ANY, lambda *_: Response(drop=True, reset=True)),
    "reset-in-body": Fault(
        _ANY, lambda _, request, draw: replace(request.answer(), cut=draw.below(100) / 100, reset=True)
    ),
    "refused": Fault(_ANY, lambda mixture, *_: Response(drop=True, reset=True, outage=mixture.outage)),
    "cut": Fault(_ANY, lambda _, request, draw: replace(request.answer(), cut=draw.below(100) / 100)),
    "cut-chunked": Fault(
        _ANY, lambda _, request, draw: replace(request.answer(), cut=draw.below(100) / 100, framing="chunked")
    ),
    "cut-without-length": Fault(
        _ANY, lambda _, request, draw: replace(request.answer(), cut=draw.below(100) / 100, framing="close")
    ),
    "html": Fault(_ANY, lambda *_: _page(200, "Please sign in")),
    "slow-first-byte": Fault(_ANY, lambda mixture, request, _: replace(request.answer(), delay=mixture.slow)),
    "slow-body": Fault(_ANY, lambda mixture, request, _: replace(request.answer(), spread=mixture.slow)),
    "repeated-page": Fault(_PAGES, _repeated_page),
    "repeated-entry": Fault(_PAGES, _changed_page(_repeated_entry)),
    "short-page": Fault(_PAGES, _changed_page(_short)),
    "wrong-total": Fault(_PAGES, _changed_page(_wrong_total)),
    "window-error": Fault(_PAGES, lambda *_: _error(422, "Result window is too large", type="Validation")),
    "window-empty": Fault(_PAGES, _changed_page(_beyond_window)),
    "broken-gzip": Fault(_ANY, _broken_gzip),
}
