"""Fault injection: named faults, and a seeded mixture of them.

    with Sandbox(faults=Mixture(7, {"503": 0.05, "reset": 0.01})) as sandbox:
        ...

Whether a request gets a fault, and which one, depends only on the seed, the request and its occurrence
number, not on tokens or on the order of a client's threads. The same requests with the same seed get the
same faults. Three faults are exceptions: `revoked` and `refused` also affect the next requests, and
`repeated-page` returns the page that was served last.
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

_MILLION = 1_000_000
_PAGES = frozenset({"search", "list"})
_API = frozenset({"project", "content_type", "component", "entry", "other"}) | _PAGES
_ANY = _API | {"token", "file"}
_FILES = frozenset({"file"})


class Occurrences:
    """Counts equal requests, so that faults depend on the request and not on the order of threads."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def identify(self, request: Request) -> str:
        """Return a string that identifies this request: its content and its occurrence number."""
        content = [request.method, request.path, sorted(request.query.items())]
        digest = blake2b(json.dumps(content).encode() + request.body, digest_size=16).digest()
        with self._lock:
            self._counts[digest] += 1
            return f"{digest.hex()} {self._counts[digest]}"


class Mixture:
    """A mixture of faults, for `Sandbox(faults=…)`.

    :param seed: a different seed gives different faults.
    :param shares: by fault name (see `FAULTS` and `FILE_FAULTS`), the share of the requests it applies to
        that get the fault.
    :param retry_after: seconds in the `Retry-After` header of `429-seconds` and `429-date`.
    :param slow: seconds that `slow-first-byte` and `slow-body` take.
    :param outage: seconds for which `refused` refuses connections.
    :raises ValueError: a fault does not exist, a share is negative, or the shares add up to more than 1.
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
        if unknown := sorted(shares.keys() - _ALL.keys()):
            raise ValueError(f"Unknown fault {unknown[0]!r}. Available: {', '.join(_ALL)}")
        if not all(share >= 0 for share in shares.values()) or sum(shares.values()) > 1:
            raise ValueError("Fault shares must not be negative or add up to more than 1")
        self.retry_after = retry_after
        self.slow = slow
        self.outage = outage
        self.last_page: Response | None = None
        self._seed = seed
        self._shares = dict(shares)
        self._occurrences = Occurrences()
        self._injected: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def injected(self) -> Counter[str]:
        """The number of times each fault was injected, by name."""
        with self._lock:
            return self._injected.copy()

    def __call__(self, request: Request) -> Response | None:
        """Return a faulty response, or None for the normal one."""
        draw = Draw(f"{self._seed} {self._occurrences.identify(request)}")
        response, name = None, self._choose(draw)
        if name is not None and request.kind in _ALL[name].kinds:
            response = _ALL[name].make(self, request, draw)
        if response is not None and name is not None:
            with self._lock:
                self._injected[name] += 1
        elif request.kind in _PAGES and "repeated-page" in self._shares:
            self.last_page = response = request.answer()
        return response

    def _choose(self, draw: Draw) -> str | None:
        number = draw.below(_MILLION)
        for name, share in self._shares.items():
            number -= round(share * _MILLION)
            if number < 0:
                return name
        return None


class Fault(NamedTuple):
    """A fault that can be injected.

    :param kinds: the kinds of request it applies to.
    :param make: returns the response, or None if the fault is not possible.
    """

    kinds: frozenset[str]
    make: Callable[[Mixture, Request, Draw], Response | None]


def together(*faults: Faults) -> Faults:
    """Combine fault functions: call them in order until one returns a response."""

    def combined(request: Request) -> Response | None:
        responses = (fault(request) for fault in faults)
        return next((response for response in responses if response is not None), None)

    return combined


def _html(status: int, text: str) -> Response:
    body = f"<html><body><h1>{status} {text}</h1></body></html>\n".encode()
    return Response(status, body, {"content-type": "text/html"})


def _error(status: int, message: str, **members: Any) -> Response:
    envelope = {"logId": "00000000-0000-0000-0000-000000000000", "message": message, "data": None}
    return Response.json({**envelope, "type": "Error", **members}, status)


def _unauthorized(*_: object) -> Response:
    return Response.json({"message": "Authorization has been denied for this request."}, 401)


def _revoked(_: Mixture, request: Request, __: Draw) -> Response:
    request.revoke_tokens()
    return request.answer()


def _rate_limited(*_: object) -> Response:
    return _html(429, "Too Many Requests")


def _rate_limited_for_seconds(mixture: Mixture, *_: object) -> Response:
    headers = {"content-type": "text/html", "retry-after": str(mixture.retry_after)}
    return replace(_html(429, "Too Many Requests"), headers=headers)


def _rate_limited_until(mixture: Mixture, *_: object) -> Response:
    date = formatdate(time.time() + mixture.retry_after, usegmt=True)
    return replace(
        _html(429, "Too Many Requests"), headers={"content-type": "text/html", "retry-after": date}
    )


def _server_error(_: Mixture, __: Request, draw: Draw) -> Response:
    log_id = f"{draw.below(1 << 32):08x}-0000-4000-8000-{draw.below(1 << 48):012x}"
    return _error(500, "An unexpected error has occurred", logId=log_id)


def _broken_gzip(_: Mixture, request: Request, draw: Draw) -> Response:
    answer = request.answer()
    packed = bytearray(gzip.compress(answer.body, 1, mtime=0))
    broken = draw.below(3)
    if broken == 0:  # not gzip
        packed[:2] = b"{}"
    elif broken == 1:  # wrong checksum
        packed[-8] ^= 1
    else:  # truncated, which only gzip itself can detect
        del packed[draw.below(len(packed) - 8) :]
    return replace(answer, body=bytes(packed), headers={**answer.headers, "content-encoding": "gzip"})


def _change_page(change: Callable[[dict[str, Any], Draw], None]) -> Callable[..., Response | None]:
    """Return a fault that changes a page; all remaining numbers keep their digits."""

    def make(_: Mixture, request: Request, draw: Draw) -> Response | None:
        answer = request.answer()
        page = decode(answer.body)
        if answer.status != 200 or not page["items"]:
            return None
        change(page, draw)
        return replace(answer, body=encode(page))

    return make


def _short_page(page: dict[str, Any], draw: Draw) -> None:
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


def _wrong_length(_: Mixture, request: Request, draw: Draw) -> Response | None:
    answer = request.answer()
    if answer.body and draw.below(2):
        return replace(answer, body=answer.body[: draw.below(len(answer.body))])
    return replace(answer, body=answer.body + b".")


FAULTS: Mapping[str, Fault] = {
    "401": Fault(_API, _unauthorized),
    "403": Fault(_API, lambda *_: _error(403, "You do not have permission to access the requested resource")),
    "408": Fault(_ANY, lambda *_: _html(408, "Request Timeout")),
    "429": Fault(_ANY, _rate_limited),
    "429-seconds": Fault(_ANY, _rate_limited_for_seconds),
    "429-date": Fault(_ANY, _rate_limited_until),
    "500": Fault(_ANY, _server_error),
    "502": Fault(_ANY, lambda *_: _html(502, "Bad Gateway")),
    "503": Fault(_ANY, lambda *_: _html(503, "Service Unavailable")),
    "504": Fault(_ANY, lambda *_: _html(504, "Gateway Timeout")),
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
    "html": Fault(_ANY, lambda *_: _html(200, "Please sign in")),
    "slow-first-byte": Fault(_ANY, lambda mixture, request, _: replace(request.answer(), delay=mixture.slow)),
    "slow-body": Fault(_ANY, lambda mixture, request, _: replace(request.answer(), spread=mixture.slow)),
    "repeated-page": Fault(_PAGES, _repeated_page),
    "repeated-entry": Fault(_PAGES, _change_page(_repeated_entry)),
    "short-page": Fault(_PAGES, _change_page(_short_page)),
    "wrong-total": Fault(_PAGES, _change_page(_wrong_total)),
    "window-error": Fault(_PAGES, lambda *_: _error(422, "Result window is too large", type="Validation")),
    "window-empty": Fault(_PAGES, _change_page(_beyond_window)),
    "broken-gzip": Fault(_ANY, _broken_gzip),
}

# Apart from the others, so that these keep their shares of a mixture drawn by chance.
FILE_FAULTS: Mapping[str, Fault] = {
    "wrong-length": Fault(_FILES, _wrong_length),
    "elsewhere": Fault(
        _FILES, lambda *_: Response(302, headers={"location": "https://login.invalid/?next=file"})
    ),
}
_ALL: Mapping[str, Fault] = {**FAULTS, **FILE_FAULTS}
