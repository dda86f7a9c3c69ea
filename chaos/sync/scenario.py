"""The scenario of one history, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_contensis.export.model import MAX_COUNT
from airflow_provider_contensis.sandbox import QUIRKS
from chaos.scenario import (
    CAPPED,
    CONCURRENCIES,
    CONTENT_TYPES,
    LANGUAGES,
    WHERE,
    Kind,
    build_catalogue,
    draw_faults,
    draw_kind,
    draw_page_size,
)

if TYPE_CHECKING:
    from airflow_provider_contensis.sandbox import Catalogue

HAPPENINGS = ("edit", "import", "discard", "swap", "hide", "show", "redefine", "translate")
End = Literal["interrupted", "killed at a search", "killed at a file", "connection lost"]

_DELIVERY_OVERLAP = 3_900
_LOST_SHARE = 0.4
_MAX_REQUESTS = 70  # most runs send 25 to 80 requests to a store
_QUIRK_SHARE = 0.1
# With them, no copy can notice that a clause of its caller is ignored.
_IGNORED_OPERATORS = frozenset({"no-range", "no-or", "no-not", "no-exists", "no-starts-with"})


class Happening(NamedTuple):
    """What happens between two runs.

    :param name: one of `HAPPENINGS`.
    :param number: how often, or to how many entries.
    """

    name: str
    number: int


class Attempt(NamedTuple):
    """An attempt that does not get to its end.

    :param end: how it ends.
    :param at: the number of the search, or of the call to the file system or store, at which it ends.
    """

    end: End
    at: int


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a history: something happens, time passes, and a task runs.

    :param happenings: what happens.
    :param seconds: how much time passes then.
    :param attempts: the attempts of the task that are broken off; one more follows.
    :param edit_rate: edits before each answer while the task runs.
    :param is_full: whether the task makes a full refresh.
    :param is_guarded: whether the task refuses to delete very much.
    :param is_cleared: whether the task is cleared and runs again after it has succeeded.
    """

    happenings: tuple[Happening, ...]
    seconds: float
    attempts: tuple[Attempt, ...] = ()
    edit_rate: float = 0.0
    is_full: bool = False
    is_guarded: bool = True
    is_cleared: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that was drawn for one history.

    :param kinds: the content types.
    :param languages: the languages of the project.
    :param exclusions: the fields that the project hides from the Delivery API.
    :param arguments: the arguments of the operator, as a user gives them.
    :param phases: what happens, in order; before the first one, the feed does not exist.
    :param lag: seconds until a search finds a change; at most `overlap`.
    :param part_entries: as many entries as are counted at once.
    :param has_date: whether the service gives its time.
    :param worker_ahead: seconds that the worker's clock is ahead of the service's.
    :param is_hidden_for_good: whether a role that was taken from the API key stays away.
    :param hidden_status: the status of a get of what the API key has no role for.
    :param aggregations: whether the service answers aggregations.
    :param fault_level: the number of faults: none, few or many.
    :param faults: the share of requests that each fault hits, by name.
    :param retry_after: seconds that a 429 answer asks to wait.
    :param slow: seconds that a slow answer takes.
    :param quirk: an assumption about the service that does not hold, by name; None if all hold.
    :param quirk_since: the number of the first phase in which it does not.
    :param row_limit: as many entries as the service counts, if its counts stop somewhere.
    """

    seed: int
    kinds: tuple[Kind, ...]
    languages: tuple[str, ...]
    exclusions: tuple[str, ...] = ()
    arguments: dict[str, Any]
    phases: tuple[Phase, ...]
    lag: float = 0.0
    part_entries: int = 5_000
    has_date: bool = True
    worker_ahead: float = 0.0
    is_hidden_for_good: bool = False
    hidden_status: Literal[403, 404] = 404
    aggregations: bool = True
    fault_level: str = "none"
    faults: dict[str, float]
    retry_after: int = 0
    slow: float = 0.02
    quirk: str | None = None
    quirk_since: int = 0
    row_limit: int = MAX_COUNT

    def catalogue(self) -> Catalogue:
        """Return the content at the beginning; it is the same in every call."""
        return build_catalogue(self.kinds, self.languages, self.seed, exclusions=self.exclusions)


def draw_scenario(seed: int, quirk: str | None = None) -> Scenario:
    """Return the scenario of a seed; it is the same in every call.

    :param quirk: the quirk that it has; None to draw whether it has one.
    """
    rng = random.Random(f"sync {seed}")
    languages = LANGUAGES[: rng.choice((1, 1, 2, 3))]
    names = CONTENT_TYPES[: rng.choice((1, 2, 3))]
    size = int(20 * 10 ** rng.random())
    kinds = tuple(draw_kind(rng, name, max(1, size // len(languages) // len(names))) for name in names)
    is_delivery = rng.random() < 0.15
    overlap = rng.choice((60, 600, 600, 3_600))
    arguments: dict[str, Any] = {
        "version_status": "published" if is_delivery else rng.choice(("published", "latest")),
        "api": "delivery" if is_delivery else "management",
        "content_type_id": rng.choice((None, None, None, names[0], list(names))),
        "language": rng.choice((None, None, None, languages[0], list(languages))),
        "data_format": rng.choice(("entry", "entry", None)),
        "compression": rng.choice((None, None, "gzip")),
        "page_size": draw_page_size(rng, size),
        "max_concurrent_requests": rng.choice(CONCURRENCIES),
        "overlap": overlap,
    }
    if rng.random() < 0.3:
        arguments["where"] = [rng.choice(WHERE).clause]
    fault_level = rng.choices(("none", "few", "many"), (50, 35, 15))[0]
    has_lag = rng.random() < 0.3
    has_date = rng.random() < 0.9
    scenario = Scenario(
        seed=seed,
        kinds=kinds,
        languages=languages,
        exclusions=("sys.version",) if is_delivery and rng.random() < 0.4 else (),
        arguments=arguments,
        phases=tuple(_phase(rng, number, overlap) for number in range(rng.randint(2, 5))),
        lag=(_DELIVERY_OVERLAP if is_delivery else overlap) * rng.uniform(0.1, 0.5) if has_lag else 0.0,
        part_entries=rng.choice((10, 30, 100, 5_000)),
        has_date=has_date,
        # Without a date, the worker's clock is all there is.
        worker_ahead=rng.choice((0, 0, -300, 300)) if has_date else 0,
        is_hidden_for_good=rng.random() < 0.5 and arguments["content_type_id"] is None,
        hidden_status=rng.choice((403, 404, 404)),
        aggregations=rng.random() < 0.5,
        fault_level=fault_level,
        faults=draw_faults(rng, fault_level),
        slow=rng.choice((0.01, 0.02)),
    )
    return _with_quirk(scenario, quirk)


def lose_connections(scenario: Scenario) -> Scenario:
    """Return a scenario in which some attempts lose their connection to an object store."""
    rng = random.Random(f"sync store {scenario.seed}")  # of its own, as for quirks
    phases = tuple(
        replace(phase, attempts=(*phase.attempts, Attempt("connection lost", rng.randint(1, _MAX_REQUESTS))))
        if rng.random() < _LOST_SHARE
        else phase
        for phase in scenario.phases
    )
    return replace(scenario, phases=phases)


def _with_quirk(scenario: Scenario, name: str | None) -> Scenario:
    """Return a scenario with a quirk, from the beginning or from a later phase on; most get none.

    What no copy can notice is taken away.
    """
    rng = random.Random(f"sync quirk {scenario.seed}")  # of its own: the seed draws the same scenario else
    has_quirk, drawn = rng.random() < _QUIRK_SHARE, rng.choice(sorted(QUIRKS))
    since = rng.choice((0, rng.randrange(len(scenario.phases))))
    name = name or (drawn if has_quirk else None)
    if name is None:
        return scenario
    arguments, phases = dict(scenario.arguments), scenario.phases
    part_entries, row_limit = scenario.part_entries, scenario.row_limit
    if name in _IGNORED_OPERATORS:
        arguments.pop("where", None)
    if name == "unlisted-type":
        arguments["content_type_id"] = None  # asking for what is not listed is a wrong argument
        # Nothing shows that a definition changed, or came into view again, which is not listed.
        phases = tuple(
            replace(
                phase,
                happenings=tuple(each for each in phase.happenings if each.name not in {"redefine", "hide"}),
            )
            for phase in phases
        )
    if name == "capped-count":  # early enough for a small catalogue; all else keeps its proportion to that
        row_limit = CAPPED["row_limit"]
        part_entries = min(part_entries, row_limit // 2)
        arguments["page_size"] = min(arguments["page_size"], row_limit)
    return replace(
        scenario,
        arguments=arguments,
        phases=phases,
        part_entries=part_entries,
        row_limit=row_limit,
        # Without a date, the worker's clock is all there is.
        worker_ahead=0 if name == "no-date" else scenario.worker_ahead,
        quirk=name,
        quirk_since=since,
    )


def _phase(rng: random.Random, number: int, overlap: int) -> Phase:
    happenings = [Happening("edit", rng.choice((0, 1, 3, 10, 30)))] if number else []
    for name, share in (
        ("import", 0.2),
        ("discard", 0.5),
        ("swap", 0.3),
        ("hide", 0.1),
        ("show", 0.3),
        ("redefine", 0.1),
        ("translate", 0.1),
    ):
        if rng.random() < share:
            happenings.append(Happening(name, rng.randint(1, 5) * (10 if name == "import" else 1)))
    rng.shuffle(happenings)
    return Phase(
        happenings=tuple(happenings),
        seconds=rng.choice((1, overlap / 2, overlap * 2, 86_400)),
        attempts=tuple(_attempt(rng) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))),
        edit_rate=rng.choice((0, 0, 0.1, 0.5)),
        is_full=number > 0 and rng.random() < 0.1,
        is_guarded=rng.random() < 0.7,
        is_cleared=rng.random() < 0.2,
    )


def _attempt(rng: random.Random) -> Attempt:
    """Return an attempt that may end early: most runs search 5 to 50 times, and use files 30 to 100 times."""
    if rng.random() < 0.4:
        return Attempt("killed at a file", rng.randint(1, 70))
    return Attempt(rng.choice(("interrupted", "killed at a search")), int(1 + 30 ** rng.random()))
