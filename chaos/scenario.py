"""The scenario of one run, drawn from its seed."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox import FAULTS, QUIRKS, Catalogue, ExpiresIn, synthetic_catalogue
from airflow_provider_contensis.sandbox.documents import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# No retry fixes these: nearly every export that meets one fails, so they are rare.
FATAL = ("403", "window-error")
# Options of a sandbox whose counts stop early enough for a small catalogue.
CAPPED: dict[str, Any] = {"row_limit": 60, "beyond_window": "serve"}
LANGUAGES = ("en-GB", "cy", "fr")
CONTENT_TYPES = ("article", "event", "person")
CONCURRENCIES = (1, 2, 4, 4, 8)
_TICKS = 10_000  # in a millisecond, each of 100 nanoseconds
# After every `changed_from` that is drawn, and before every `changed_to`.
_IMPORTED = datetime(2025, 12, 1, 10, tzinfo=UTC)


class Where(NamedTuple):
    """A search clause and its meaning for an entry, written separately so that each checks the other."""

    clause: dict[str, Any]
    holds: Callable[[dict[str, Any]], bool]


WHERE = (
    Where({"field": "featured", "equalTo": False}, lambda entry: entry["featured"] is False),
    Where({"field": "serial", "greaterThan": 14 * 10**18}, lambda entry: int(entry["serial"]) > 14 * 10**18),
    Where({"not": {"field": "summary", "exists": True}}, lambda entry: not entry["summary"]),
    Where(
        {"or": [{"field": "keywords", "equalTo": "k3"}, {"field": "title", "startsWith": "article 1"}]},
        lambda entry: "k3" in entry["keywords"] or entry["title"].casefold().startswith("article 1"),
    ),
)


class Kind(NamedTuple):
    """A content type and its entries."""

    id: str
    entries: int
    same_created: int
    drafts: int
    edited: int


@dataclass(frozen=True)
class Scenario:
    """Everything that was drawn for one run.

    :param kinds: the content types.
    :param languages: the languages of the project.
    :param exclusions: the fields that the project hides from the Delivery API.
    :param unlisted: the content type that the Delivery API does not list, although it serves its entries.
    :param arguments: the arguments of the export, as a user gives them.
    :param destination: relative to the run's folder; a folder if it ends in `/`.
    :param has_older: whether the destination already holds an older export.
    :param fault_level: the number of faults: none, few, many or storm.
    :param faults: the share of requests that each fault hits, by name.
    :param edit_level: the number of edits: none, few or many.
    :param edit_rate: edits before each answer.
    :param retry_after: seconds that a 429 answer asks to wait.
    :param slow: seconds that a slow answer takes.
    :param sandbox: other options of the sandbox.
    :param broken_off: for each attempt but the last, the search at which it is interrupted.
    :param quirks: assumptions about the service that do not hold, by name.
    """

    seed: int
    kinds: tuple[Kind, ...]
    languages: tuple[str, ...]
    exclusions: tuple[str, ...]
    unlisted: str | None
    arguments: dict[str, Any]
    destination: str
    has_older: bool
    fault_level: str
    faults: dict[str, float]
    edit_level: str
    edit_rate: float
    retry_after: int
    slow: float
    sandbox: dict[str, Any]
    broken_off: tuple[int, ...] = ()
    quirks: tuple[str, ...] = ()

    def catalogue(self) -> Catalogue:
        """Return the content; it is the same in every call."""
        return build_catalogue(
            self.kinds, self.languages, self.seed, exclusions=self.exclusions, unlisted=self.unlisted
        )


def build_catalogue(
    kinds: Sequence[Kind],
    languages: Sequence[str],
    seed: int,
    *,
    exclusions: Sequence[str] = (),
    unlisted: str | None = None,
) -> Catalogue:
    """Return a project with these content types; it is the same in every call.

    :param exclusions: the fields that the project hides from the Delivery API.
    :param unlisted: the content type that the Delivery API does not list.
    """
    catalogues = [
        synthetic_catalogue(
            kind.entries,
            languages=languages,
            same_created=kind.same_created,
            drafts=kind.drafts,
            edited=kind.edited,
            body_bytes=60,
            content_type_id=kind.id,
            seed=seed,
        )
        for kind in kinds
    ]
    content_types = [each for catalogue in catalogues for each in catalogue.content_types.values()]
    for content_type in content_types:
        content_type["includeInDelivery"] = content_type["id"] != unlisted
    documents = [each for catalogue in catalogues for each in catalogue.select(lambda _: True)[1]]
    project = {**catalogues[0].project, "deliverySysExclusions": list(exclusions)}
    return Catalogue(project, content_types, documents)


def draw_scenario(seed: int) -> Scenario:
    """Return the scenario of a seed; it is the same in every call."""
    rng = random.Random(f"chaos {seed}")
    languages = LANGUAGES[: rng.choice((1, 1, 2, 3))]
    names = CONTENT_TYPES[: rng.choice((1, 1, 2, 3))]
    size = int(20 * 100 ** rng.random()) // len(languages)
    kinds = tuple(draw_kind(rng, name, max(1, size // len(names))) for name in names)
    delivery = rng.random() < 0.25
    exclusions = (
        _maybe_one(rng, 0.4, ("sys.version", "sys.version.created", "sys.version.*")) if delivery else ()
    )
    unlisted = names[-1] if delivery and len(names) > 1 and rng.random() < 0.2 else None
    listed = [name for name in names if name != unlisted]
    status = rng.choice(("published", "published", "latest"))
    arguments: dict[str, Any] = {
        "version_status": status,
        "api": "delivery" if delivery else "management",
        "content_type_id": rng.choice((None, None, listed[0], listed)),
        "language": rng.choice((None, None, languages[0], list(languages))),
        "data_format": rng.choice(("entry", "entry", "entry", None)),
        "page_size": draw_page_size(rng, sum(kind.entries for kind in kinds) * len(languages)),
        "max_concurrent_requests": rng.choice(CONCURRENCIES),
    }
    if rng.random() < 0.3:
        arguments["where"] = [rng.choice(WHERE).clause]
    if rng.random() < 0.2:
        arguments["changed_from"] = f"20{rng.randint(19, 25)}-0{rng.randint(1, 9)}-01T00:00:00Z"
    if rng.random() < 0.1:
        arguments["changed_to"] = f"2026-01-0{rng.randint(1, 9)}T09:00:00.1234567Z"
    destination = _destination(rng, arguments)
    fault_level = rng.choices(("none", "few", "many", "storm"), (20, 45, 30, 5))[0]
    edit_level = rng.choices(("none", "few", "many"), (25, 45, 30))[0]
    if edit_level == "many":  # on smaller pages, editors create entries faster than the export reads them
        arguments["page_size"] = max(10, arguments["page_size"])
    has_older = rng.random() < 0.5
    faults = draw_faults(rng, fault_level)
    edit_rate = {"none": 0.0, "few": rng.uniform(0.03, 0.3), "many": rng.uniform(0.5, 3)}[edit_level]
    retry_after = rng.choice((0, 0, 0, 0, 0, 1))
    slow = rng.choice((0.02, 0.02, 0.05, 0.05, 1.2))
    if faults.get("slow-body", 0) > 0.5:  # a second per answer takes minutes and shows nothing more
        slow = min(slow, 0.05)
    quirks = _quirks(seed, arguments)
    if quirks:  # no export can notice that a clause of its caller is ignored
        arguments.pop("where", None)
    return Scenario(
        seed=seed,
        kinds=kinds,
        languages=languages,
        exclusions=tuple(exclusions),
        unlisted=unlisted,
        arguments=arguments,
        destination=destination,
        has_older=has_older,
        fault_level=fault_level,
        faults=faults,
        edit_level=edit_level,
        edit_rate=edit_rate,
        retry_after=retry_after,
        slow=slow,
        sandbox={
            "token_lifetime": rng.choice((3600, 3600, 3600, 0.3)),
            "expires_in": rng.choice((ExpiresIn.TRUTHFUL, ExpiresIn.TRUTHFUL, ExpiresIn.OMITTED, 3600)),
            "gzip": rng.random() < 0.5,
            "beyond_window": rng.choice(("error", "empty")),
            **(CAPPED if "capped-count" in quirks else {}),
        },
        broken_off=tuple(rng.randint(2, 10) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))),
        quirks=quirks,
    )


def draw_repeats(scenario: Scenario) -> tuple[Scenario, Scenario]:
    """Return two more exports of a scenario, each with another page size and concurrency than the one before.

    The first one is undisturbed. The second one meets a few faults, and may be interrupted.
    """
    rng = random.Random(f"bytes {scenario.seed}")  # of its own, so that the seed draws the same scenario
    undisturbed = replace(
        scenario,
        arguments=_with_other_settings(rng, scenario),
        has_older=False,
        fault_level="none",
        faults={},
        edit_level="none",
        edit_rate=0.0,
        retry_after=0,
        slow=0.02,
        broken_off=(),
        # Tokens that live for a second may well be refused twice in a row, on a busy machine.
        sandbox={**scenario.sandbox, "token_lifetime": 3600, "expires_in": 3600},
    )
    disturbed = replace(
        undisturbed,
        arguments=_with_other_settings(rng, undisturbed),
        fault_level="few",
        faults={name: share for name, share in draw_faults(rng, "few").items() if name not in FATAL},
        broken_off=tuple(rng.randint(2, 10) for _ in range(rng.choice((0, 1)))),
    )
    return undisturbed, disturbed


def _with_other_settings(rng: random.Random, scenario: Scenario) -> dict[str, Any]:
    """Return the arguments of a scenario with another page size and concurrency."""
    entries = sum(kind.entries for kind in scenario.kinds) * len(scenario.languages)
    old, new = scenario.arguments, dict(scenario.arguments)
    while new["page_size"] == old["page_size"]:
        new["page_size"] = max(
            6, draw_page_size(rng, entries)
        )  # smaller pages take long and show nothing more
    while new["max_concurrent_requests"] == old["max_concurrent_requests"]:
        new["max_concurrent_requests"] = rng.choice(CONCURRENCIES)
    return new


def import_in_bulk(scenario: Scenario, catalogue: Catalogue) -> None:
    """Add copies of entries within a few milliseconds, so that windows have to be cut by id."""
    rng = random.Random(f"import {scenario.seed}")
    content_type_id, language = scenario.kinds[0].id, scenario.languages[0]  # every query asks for these
    _, documents = catalogue.select(
        lambda bucket: (
            (bucket.status, bucket.content_type_id, bucket.language) == ("latest", content_type_id, language)
        )
    )
    names = {field["id"] for field in catalogue.content_types[content_type_id]["fields"]}
    begin, length = rng.randrange(_TICKS), rng.choice((1, 2, 3)) * _TICKS
    for document in rng.choices(documents, k=rng.randint(20, 100)) if documents else ():
        ticks = begin + rng.randrange(length)
        if scenario.exclusions:
            # Entries whose times are hidden stay in the order of the index. The service's index holds
            # milliseconds; the sandbox orders by every digit, so it must not get more than that.
            ticks -= ticks % _TICKS
        catalogue.add(
            content_type_id,
            {name: value for name, value in document.entry().items() if name in names},
            entry_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            language=language,
            publish=rng.random() < 0.8,
            at=timestamp(_IMPORTED, ticks),
        )


def draw_kind(rng: random.Random, name: str, entries: int) -> Kind:
    """Return a content type with as many entries."""
    return Kind(
        name,
        entries,
        same_created=int(entries * rng.choice((0, 0, 0.1, 0.5, 1))),
        drafts=int(entries * rng.choice((0, 0.1, 0.3))),
        edited=int(entries * rng.choice((0, 0.1, 0.3))),
    )


def draw_page_size(rng: random.Random, entries: int) -> int:
    """Return a page size that gives many windows, a few, or one."""
    return max(3, entries // rng.choice((1, 4, 10, 20, 40, 80)) + rng.randint(-2, 2))


def _destination(rng: random.Random, arguments: dict[str, Any]) -> str:
    """Return a destination, and add the arguments that its format requires."""
    formats = ["jsonl"] * 12 + ["json"] * 2 + ["csv"] * 2 + (["parquet"] if find_spec("pyarrow") else [])
    file_format = rng.choice(formats)
    compressions = ["", "", ".gz", *([".zst"] if find_spec("zstandard") else [])]
    compression = "" if file_format == "parquet" else rng.choice(compressions)
    if file_format == "parquet":
        arguments["parquet_mode"] = "raw"
    elif file_format != "csv" and rng.random() < 0.15:
        arguments["fields"] = rng.choice((["title", "sys.version"], ["serial", "place.lat", "keywords"]))
    if rng.random() < 0.6:
        return f"entries.{file_format}{compression}"
    arguments["file_format"] = file_format
    arguments["compression"] = {"": None, ".gz": "gzip", ".zst": "zstd"}[compression]
    return "export/"


def _quirks(seed: int, arguments: dict[str, Any]) -> tuple[str, ...]:
    rng = random.Random(f"quirk {seed}")  # of its own, so that the seed draws the same scenario otherwise
    names = set(QUIRKS)
    if arguments["content_type_id"] is not None:  # asking for what is not listed is a wrong argument
        names.remove("unlisted-type")
    return (rng.choice(sorted(names)),) if rng.random() < 0.1 else ()


def draw_faults(rng: random.Random, fault_level: str) -> dict[str, float]:
    """Return the share of requests that each fault hits."""
    if fault_level == "none":
        return {}
    if fault_level == "storm":
        return {rng.choice(list(FAULTS)): rng.uniform(0.8, 1)}
    number = rng.randint(1, 4) if fault_level == "few" else rng.randint(5, 10)
    return {
        name: rng.uniform(0.0005, 0.002) if name in FATAL else rng.uniform(0.003, 0.02)
        for name in rng.sample(list(FAULTS), number)
    }


def _maybe_one(rng: random.Random, share: float, choices: tuple[str, ...]) -> tuple[str, ...]:
    return (rng.choice(choices),) if rng.random() < share else ()
