"""What happens in one run, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.sandbox import FAULTS, Catalogue, ExpiresIn, synthetic_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

# What no retry can mend ends nearly every export that meets it, so it comes seldom.
LETHAL = ("403", "window-error")
_LANGUAGES = ("en-GB", "cy", "fr")
_CONTENT_TYPES = ("article", "event", "person")


class Where(NamedTuple):
    """A search clause, and what it means for an entry: written apart, so that each checks the other."""

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
    """All that was drawn for one run.

    :param kinds: the content types.
    :param languages: of the project.
    :param exclusions: the fields that the project hides from the Delivery API.
    :param unlisted: the content type that the Delivery API does not list, though it serves its entries.
    :param arguments: of the export, as a person gives them.
    :param destination: below the run's folder; ending in `/`, a folder.
    :param has_older: whether an older export is there already.
    :param weather: how many faults, in a word.
    :param faults: their shares, by name.
    :param edits: how many edits, in a word.
    :param edit_rate: edits before each answer.
    :param retry_after: seconds that 429 asks to wait.
    :param slow: seconds that what is slow takes.
    :param sandbox: its other options.
    :param broken_off: after how many searches each try but the last is broken off.
    """

    seed: int
    kinds: tuple[Kind, ...]
    languages: tuple[str, ...]
    exclusions: tuple[str, ...]
    unlisted: str | None
    arguments: dict[str, Any]
    destination: str
    has_older: bool
    weather: str
    faults: dict[str, float]
    edits: str
    edit_rate: float
    retry_after: int
    slow: float
    sandbox: dict[str, Any]
    broken_off: tuple[int, ...] = ()

    def catalogue(self) -> Catalogue:
        """Return the content, the same each time."""
        parts = [
            synthetic_catalogue(
                kind.entries,
                languages=self.languages,
                same_created=kind.same_created,
                drafts=kind.drafts,
                edited=kind.edited,
                body_bytes=60,
                content_type_id=kind.id,
                seed=self.seed,
            )
            for kind in self.kinds
        ]
        content_types = [content_type for part in parts for content_type in part.content_types.values()]
        for content_type in content_types:
            content_type["includeInDelivery"] = content_type["id"] != self.unlisted
        documents = [document for part in parts for document in part.select(lambda _: True)[1]]
        project = {**parts[0].project, "deliverySysExclusions": list(self.exclusions)}
        return Catalogue(project, content_types, documents)


def draw_scenario(seed: int) -> Scenario:
    """Return the scenario of a seed, the same each time."""
    chance = random.Random(f"chaos {seed}")
    languages = _LANGUAGES[: chance.choice((1, 1, 2, 3))]
    names = _CONTENT_TYPES[: chance.choice((1, 1, 2, 3))]
    size = int(20 * 100 ** chance.random()) // len(languages)
    kinds = tuple(_kind(chance, name, max(1, size // len(names))) for name in names)
    delivery = chance.random() < 0.25
    exclusions = (
        _some(chance, 0.4, ("sys.version", "sys.version.created", "sys.version.*")) if delivery else ()
    )
    unlisted = names[-1] if delivery and len(names) > 1 and chance.random() < 0.2 else None
    listed = [name for name in names if name != unlisted]
    status = chance.choice(("published", "published", "latest"))
    arguments: dict[str, Any] = {
        "version_status": status,
        "api": "delivery" if delivery else "management",
        "content_type_id": chance.choice((None, None, listed[0], listed)),
        "language": chance.choice((None, None, languages[0], list(languages))),
        "data_format": chance.choice(("entry", "entry", "entry", None)),
        "page_size": _page_size(chance, sum(kind.entries for kind in kinds) * len(languages)),
        "max_concurrent_requests": chance.choice((1, 2, 4, 4, 8)),
    }
    if chance.random() < 0.3:
        arguments["where"] = [chance.choice(WHERE).clause]
    if chance.random() < 0.2:
        arguments["changed_from"] = f"20{chance.randint(19, 25)}-0{chance.randint(1, 9)}-01T00:00:00Z"
    if chance.random() < 0.1:
        arguments["changed_to"] = f"2026-01-0{chance.randint(1, 9)}T09:00:00.1234567Z"
    destination = _destination(chance, arguments)
    weather = chance.choices(("none", "few", "many", "storm"), (20, 45, 30, 5))[0]
    edits = chance.choices(("none", "few", "many"), (25, 45, 30))[0]
    if edits == "many":  # on smaller pages more would be created than is read
        arguments["page_size"] = max(10, arguments["page_size"])
    has_older = chance.random() < 0.5
    faults = _faults(chance, weather)
    edit_rate = {"none": 0.0, "few": chance.uniform(0.03, 0.3), "many": chance.uniform(0.5, 3)}[edits]
    retry_after = chance.choice((0, 0, 0, 0, 0, 1))
    slow = chance.choice((0.02, 0.02, 0.05, 0.05, 1.2))
    if faults.get("slow-body", 0) > 0.5:  # a second for each answer would show no more, and last for minutes
        slow = min(slow, 0.05)
    return Scenario(
        seed=seed,
        kinds=kinds,
        languages=languages,
        exclusions=tuple(exclusions),
        unlisted=unlisted,
        arguments=arguments,
        destination=destination,
        has_older=has_older,
        weather=weather,
        faults=faults,
        edits=edits,
        edit_rate=edit_rate,
        retry_after=retry_after,
        slow=slow,
        sandbox={
            "token_lifetime": chance.choice((3600, 3600, 3600, 0.3)),
            "expires_in": chance.choice((ExpiresIn.TRUTHFUL, ExpiresIn.TRUTHFUL, ExpiresIn.OMITTED, 3600)),
            "gzip": chance.random() < 0.5,
            "beyond_window": chance.choice(("error", "empty")),
        },
        broken_off=tuple(chance.randint(2, 40) for _ in range(chance.choice((0, 0, 0, 1, 1, 2)))),
    )


def _kind(chance: random.Random, name: str, entries: int) -> Kind:
    return Kind(
        name,
        entries,
        same_created=int(entries * chance.choice((0, 0, 0.1, 0.5, 1))),
        drafts=int(entries * chance.choice((0, 0.1, 0.3))),
        edited=int(entries * chance.choice((0, 0.1, 0.3))),
    )


def _page_size(chance: random.Random, entries: int) -> int:
    """Return a size that gives many windows, or a few, or one."""
    return max(3, entries // chance.choice((1, 4, 10, 20, 40, 80)) + chance.randint(-2, 2))


def _destination(chance: random.Random, arguments: dict[str, Any]) -> str:
    """Return a destination; complete the arguments with what its format asks for."""
    formats = ["jsonl"] * 12 + ["json"] * 2 + ["csv"] * 2 + (["parquet"] if find_spec("pyarrow") else [])
    file_format = chance.choice(formats)
    compressions = ["", "", ".gz", *([".zst"] if find_spec("zstandard") else [])]
    compression = "" if file_format == "parquet" else chance.choice(compressions)
    if file_format == "parquet":
        arguments["parquet_mode"] = "raw"
    elif file_format != "csv" and chance.random() < 0.15:
        arguments["fields"] = chance.choice((["title", "sys.version"], ["serial", "place.lat", "keywords"]))
    if chance.random() < 0.6:
        return f"entries.{file_format}{compression}"
    arguments["file_format"] = file_format
    arguments["compression"] = {"": None, ".gz": "gzip", ".zst": "zstd"}[compression]
    return "export/"


def _faults(chance: random.Random, weather: str) -> dict[str, float]:
    if weather == "none":
        return {}
    if weather == "storm":
        return {chance.choice(list(FAULTS)): chance.uniform(0.8, 1)}
    number = chance.randint(1, 4) if weather == "few" else chance.randint(5, 10)
    return {
        name: chance.uniform(0.0005, 0.002) if name in LETHAL else chance.uniform(0.003, 0.02)
        for name in chance.sample(list(FAULTS), number)
    }


def _some(chance: random.Random, share: float, choices: tuple[str, ...]) -> tuple[str, ...]:
    return (chance.choice(choices),) if chance.random() < share else ()
