"""Checks of the service as a whole: tokens, project, headers, the Delivery API, speed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.doctor.check import REPORT, Checklist, FailedError, SkippedError
from airflow_provider_contensis.doctor.probe import MODIFIED
from airflow_provider_contensis.doctor.speed import IN_FLIGHT, measure_in_flight
from airflow_provider_contensis.utils.json import loads_json
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_contensis.doctor.probe import Probe

ENVIRONMENT, DELIVERY, SPEED = Checklist(), Checklist(), Checklist()

_LIFETIME_TOLERANCE = 60
_MAX_SKEW = timedelta(seconds=60)
_ASSETS = 25
_LINKS = 100


@ENVIRONMENT.add(
    "token-life",
    "A token states how long it lives",
    impact="A new token is requested every minute. Nothing is lost.",
    advice="Nothing to do; expect more token requests.",
)
def token_life(probe: Probe) -> str:
    """Compare `expires_in` with the claims, if there are any."""
    token = probe.client.access_token(fresh=True)
    if token.lifetime is None:
        raise FailedError("expires_in is missing or not a positive number")
    begin, end = token.claims.get("nbf"), token.claims.get("exp")
    if type(begin) is int and type(end) is int and abs(end - begin - token.lifetime) > _LIFETIME_TOLERANCE:
        raise FailedError(f"expires_in says {token.lifetime:g} seconds, the token {end - begin}")
    return f"{token.lifetime:g} seconds"


@ENVIRONMENT.add(
    "token-claims",
    "A token names the scopes it grants",
    impact="The Test button cannot show the granted scopes. Exports do not depend on it.",
    advice="Nothing to do, unless scopes are missing: then compare Scopes with the API key.",
)
def token_claims(probe: Probe) -> str:
    """Compare the token's scopes with those requested."""
    scope = probe.client.access_token().claims.get("scope")
    granted = {scope} if isinstance(scope, str) else set(scope) if isinstance(scope, list) else set()
    if not granted:
        raise FailedError("the token has no readable scopes")
    requested = set(probe.client.scopes)
    if missing := requested - granted:
        raise FailedError(f"{len(missing)} of {len(requested)} requested scopes are not in the token")
    return f"all {count(len(requested), 'requested scope')}"


@ENVIRONMENT.add(
    "languages",
    "The project lists its languages",
    impact="Exports fail unless `language` is set.",
    advice="Set language in every task.",
)
def languages(probe: Probe) -> str:
    """Look at the project."""
    supported: Any = probe.project.get("supportedLanguages")
    if not isinstance(supported, list) or not supported:
        raise FailedError("supportedLanguages is missing or empty")
    if probe.project.get("primaryLanguage") not in supported:
        raise FailedError("primaryLanguage is not one of supportedLanguages")
    return count(len(supported), "language")


@ENVIRONMENT.add(
    "date-header",
    "Responses carry the time, and the clocks agree",
    impact=(
        "Incremental exports with windows by the worker's clock may leave out entries that were published "
        "within the difference."
    ),
    advice="Synchronize the worker's clock, or let windows overlap by more than the difference.",
)
def date_header(probe: Probe) -> str:
    """Compare the `Date` header with this machine's clock."""
    before = datetime.now(UTC)
    header = probe.search({"where": probe.everything, "pageIndex": 0, "pageSize": 1}).headers.get("Date")
    after = datetime.now(UTC)
    try:
        served = parsedate_to_datetime(header or "")
        served = served if served.tzinfo else served.replace(tzinfo=UTC)
    except ValueError:
        raise FailedError("no readable Date header") from None
    # The header has whole seconds.
    skew = max(before - served - timedelta(seconds=1), served - after, timedelta())
    if skew > _MAX_SKEW:
        raise FailedError(f"{skew.total_seconds():.0f} seconds apart")
    return f"less than {max(1, round(skew.total_seconds()))} s apart"


@ENVIRONMENT.add(
    "gzip",
    "Pages are compressed",
    impact="Exports transfer several times as many bytes, and take longer on slow networks.",
    advice="Look for a proxy between the worker and Contensis that removes Accept-Encoding.",
)
def gzip(probe: Probe) -> str:
    """Look at the encoding of a page that is worth compressing."""
    if not probe.total:
        raise SkippedError("no published entry in the main language")
    answer = probe.search({"where": probe.everything, "pageIndex": 0, "pageSize": _LINKS})
    encoding = answer.headers.get("Content-Encoding", "").lower()
    if encoding in {"gzip", "br", "deflate", "zstd"}:
        return encoding
    raise FailedError("a page came uncompressed")


@DELIVERY.add(
    "delivery",
    "The Delivery API accepts the bearer token",
    impact='Exports with api="delivery" fail.',
    advice='Use api="management", which is the default.',
)
def delivery(probe: Probe) -> str:
    """Count published entries in both APIs."""
    total = probe.count(api="delivery")
    if probe.total and not total:
        raise FailedError(f"it has none of {count(probe.total, 'published entry', 'published entries')}")
    return f"{total:,} of {count(probe.total, 'published entry', 'published entries')}"


@DELIVERY.add(
    "delivery-links",
    "The Delivery API resolves links with linkDepth",
    impact="link_depth and field_link_depths have no effect: links stay links.",
    advice="Resolve links after the export, by sys.id.",
    needs=("delivery", "ids"),
)
def delivery_links(probe: Probe) -> str:
    """Ask for an entry with a link, without and with a link depth."""
    query = {
        "where": probe.everything,
        "orderBy": [{"desc": MODIFIED}],
        "pageIndex": 0,
        "pageSize": _LINKS,
    }
    items = _items(probe.search(query, api="delivery").body)
    for item in items:
        path = next(_links(item), None)
        if path is None:
            continue
        where = [*probe.everything, {"field": "sys.id", "equalTo": item["sys"]["id"]}]
        found = _items(probe.search({**query, "where": where}, api="delivery", link_depth=1).body)
        resolved: Any = found[0] if found else {}
        for step in path:
            resolved = resolved.get(step) if isinstance(resolved, dict) else None
        if isinstance(resolved, dict) and set(resolved) == {"sys"}:
            raise FailedError("a link stays a link")
        return "a link was resolved"
    raise SkippedError(f"no link in {count(len(items), 'entry', 'entries')}")


@DELIVERY.add(
    "assets",
    "Assets say where their file is, and how large",
    impact="Files of assets cannot be exported; what describes them can.",
    advice=REPORT,
    needs=("delivery", "data-format-clause"),
)
def assets(probe: Probe) -> str:
    """Look at `sys` of some assets."""
    where = probe.clauses("published", data_format="asset")
    found = _items(probe.search({"where": where, "pageIndex": 0, "pageSize": _ASSETS}, api="delivery").body)
    if not found:
        raise SkippedError("no published asset in the main language")
    lacking = 0
    for item in found:
        properties = item["sys"].get("properties") or {}
        lacking += not (item["sys"].get("uri") and properties.get("filename") and properties.get("fileSize"))
    if lacking:
        raise FailedError(
            f"uri, filename or fileSize is missing on {lacking} of {count(len(found), 'asset')}"
        )
    return f"seen on {count(len(found), 'asset')}"


@SPEED.add(
    "concurrency",
    f"{IN_FLIGHT[-1]} requests at once are answered",
    impact="Exports lower the number of requests in flight, and take longer. Nothing is lost.",
    advice="Set max_concurrent_requests to the number given below the table.",
)
def concurrency(probe: Probe) -> str:
    """Ask for pages with more and more requests in flight."""
    for number in IN_FLIGHT:
        pages, refused = measure_in_flight(probe, number)
        if refused:
            raise FailedError(f"with {number} in flight, {count(refused, 'request')} refused as too many")
        probe.measures.pages_a_second[number] = pages
    return f"{probe.measures.pages_a_second[IN_FLIGHT[-1]]:.1f} pages a second"


def _items(body: bytes) -> list[dict[str, Any]]:
    """Return the entries of a page with all that they hold."""
    items = loads_json(body).get("items")
    return [item for item in items if isinstance(item.get("sys"), dict) and "id" in item["sys"]]


def _links(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where an entry holds links, outside of arrays, from which links may be dropped."""
    if not isinstance(value, dict):
        return
    if path and set(value) == {"sys"}:
        yield path
        return
    for name, member in value.items():
        if name != "sys":
            yield from _links(member, (*path, name))
