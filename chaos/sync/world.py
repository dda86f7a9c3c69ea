"""The service of one history: its content, its clock, its lagging index, and what happens to them.

Its clock is not this machine's: it begins in January 2026, moves with every request, and jumps by minutes or
days between runs, so that an overlap of ten minutes means something in a test of a second.
"""

from __future__ import annotations

import math
import random
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from airflow_provider_contensis.sandbox import Editors, Sandbox
from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import timestamp
from airflow_provider_contensis.sandbox.shapes import new_field
from chaos.harness import mixture_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_contensis.sandbox import Request, Response
    from airflow_provider_contensis.sandbox.documents import Document, VersionStatus
    from chaos.sync.scenario import Happening, Scenario

_BEGINNING = datetime(2026, 1, 5, 9, tzinfo=UTC)
_NEW_LANGUAGE = "de"
# Few enough for a whole run to go by, and enough for some to come in the middle of one.
_REFRESH_SHARE = 0.02
# A run takes a small part of any overlap.
_REQUESTS_IN_OVERLAP = 300


@dataclass(frozen=True)
class Moment:
    """What the service had, and what its index and the API key's roles showed of it.

    :param revision: the catalogue's revision.
    :param indexed: the revision that searches show.
    :param roles: how many changes of roles there were.
    """

    revision: int
    indexed: int
    roles: int


class World:
    """The service of a history."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.catalogue = scenario.catalogue()
        self.roles: list[frozenset[str]] = [frozenset()]  # the content types hidden from the API key
        self.happened: Counter[str] = Counter()
        self.edit_rate = 0.0
        self.is_disturbed = True
        self.sandbox = Sandbox(
            self.catalogue,
            faults=self._respond,
            seed=scenario.seed,
            aggregations=scenario.aggregations,
            hidden_status=scenario.hidden_status,
            row_limit=scenario.row_limit,
        )
        self.mixture = mixture_of(scenario)
        self._rng = random.Random(f"world {scenario.seed}")
        self._clock = _BEGINNING
        self.editors = Editors(self.catalogue, scenario.seed, 0, clock=self._tick)
        self._discarded: list[Document] = []
        self._edits = 0.0
        self._lock = threading.RLock()
        self._indexed = self._touched = self.catalogue.revision
        self._pending_since: datetime | None = None
        if scenario.lag:
            self.catalogue.index_lag = math.inf

    @property
    def moment(self) -> Moment:
        """The present state."""
        with self._lock:
            return Moment(self.catalogue.revision, self._indexed, len(self.roles) - 1)

    @property
    def quirks(self) -> frozenset[str]:
        """The assumptions that do not hold at present; at most one."""
        return self.sandbox.api.quirks

    @quirks.setter
    def quirks(self, names: Iterable[str]) -> None:
        self.sandbox.api.quirks = frozenset(names)

    @property
    def worker_clock(self) -> datetime:
        """The present time by the worker's clock."""
        with self._lock:
            return self._clock + timedelta(seconds=self.scenario.worker_ahead)

    def happen(self, happening: Happening) -> None:
        """Let something happen, as often as possible."""
        with self._lock:
            for number in range(1 if happening.name == "import" else happening.number):
                before = self.catalogue.revision, len(self.roles)
                getattr(self, f"_{happening.name}")(happening.number)
                self._note_changes()
                self.happened[happening.name] += before != (self.catalogue.revision, len(self.roles))
                if number % 2:
                    self.pass_time(self._rng.random())

    def pass_time(self, seconds: float) -> None:
        """Move the clock; the index catches up with what is older than its lag."""
        with self._lock:
            self._clock += timedelta(seconds=seconds)
            if self._pending_since is not None:
                waited = (self._clock - self._pending_since).total_seconds()
                if waited >= self.scenario.lag or self._rng.random() < _REFRESH_SHARE:
                    self._refresh_index()

    def settle(self) -> None:
        """Let the index catch up, give back a role if the API key gets it back, and stop all faults."""
        with self._lock:
            if not self.scenario.is_hidden_for_good or self.scenario.hidden_status == 403:
                self._show(1)
            self._refresh_index()
            self.edit_rate = 0.0
            self.is_disturbed = False

    def _respond(self, request: Request) -> Response | None:
        with self._lock:
            self.pass_time(self._rng.random() * 2 * self.scenario.arguments["overlap"] / _REQUESTS_IN_OVERLAP)
            self._edits += self.edit_rate
            while self._edits >= 1:
                self._edits -= 1
                self._edit(1)
                self._note_changes()
            date = self._date()
        response = self.mixture(request) if self.is_disturbed else None
        if request.kind != "project":
            return response
        response = response or request.answer()
        return replace(response, headers={**response.headers, "date": date})

    def _date(self) -> str:
        """Return the service's time as it gives it."""
        if not self.scenario.has_date or "no-date" in self.quirks:
            return ""
        slow = timedelta(hours=1) if "wrong-clock" in self.quirks else timedelta()
        return format_datetime(self._clock - slow, usegmt=True)

    def _note_changes(self) -> None:
        if self.catalogue.revision == self._touched:
            return
        self._touched = self.catalogue.revision
        if not self.scenario.lag:
            self._indexed = self._touched
        elif self._pending_since is None:
            self._pending_since = self._clock

    def _refresh_index(self) -> None:
        self.catalogue.refresh_index()
        self._indexed = self.catalogue.revision
        self._pending_since = None

    def _tick(self) -> str:
        """Return the time of an edit; some edits share one."""
        if self._rng.random() < 0.5:
            self._clock += timedelta(milliseconds=self._rng.randint(1, 5))
        return timestamp(self._clock)

    def _edit(self, _: int) -> None:
        self.editors.edit(Draw(f"{self.scenario.seed} {self._rng.random()}"))

    def _import(self, number: int) -> None:
        """Import entries in one millisecond."""
        document = self._choose("latest")
        moment = self._tick()
        if document is None:
            return
        for _ in range(number):
            self._copy(document, str(uuid.UUID(int=self._rng.getrandbits(128), version=4)), moment)

    def _translate(self, _: int) -> None:
        """Add a language if the project has not got it yet, and an entry in it."""
        if _NEW_LANGUAGE not in self.catalogue.project["supportedLanguages"]:
            self.catalogue.add_language(_NEW_LANGUAGE)
        document = self._choose("latest")
        if document is not None and self.catalogue.find(document.key[0], _NEW_LANGUAGE, "latest") is None:
            self._copy(document, document.entry()["sys"]["id"], self._tick(), language=_NEW_LANGUAGE)

    def _copy(self, document: Document, entry_id: str, moment: str, language: str | None = None) -> None:
        entry = document.entry()
        fields = self.catalogue.content_types[document.content_type_id]["fields"]
        self.catalogue.add(
            document.content_type_id,
            {each["id"]: entry.get(each["id"]) for each in fields},
            entry_id=entry_id,
            language=language or document.language,
            publish=self._rng.random() < 0.8,
            at=moment,
        )

    def _discard(self, _: int) -> None:
        """Delete an entry that may return in a swap."""
        document = self._choose(self.scenario.arguments["version_status"])
        if document is not None:
            self._discarded.append(document)
            self.catalogue.delete(document.key[0], language=document.language, at=self._tick())

    def _swap(self, _: int) -> None:
        """Delete an entry, and let another one of its slice return with its old change mark."""
        status = self.scenario.arguments["version_status"]
        if not self._discarded:
            return
        back = self._discarded.pop(self._rng.randrange(len(self._discarded)))
        slices = (back.content_type_id, back.language)
        gone = self._choose(status, slices)
        if gone is None:
            return
        try:
            self.catalogue.restore(back.key[0], language=back.language, at=self._tick())
        except KeyError:  # deleted for good, or restored by somebody else
            return
        old = back.entry()["sys"]["version"]
        latest = self.catalogue.find(*back.key, "latest")
        if old["published"] is not None and latest is not None:
            # Somebody may have edited it meanwhile: other content needs another mark.
            is_same = latest.entry()["sys"]["version"]["modified"] == old["modified"]
            at = old["published"] if is_same else self._tick()
            self.catalogue.publish(back.key[0], language=back.language, at=at)
        self.catalogue.delete(gone.key[0], language=gone.language, at=self._tick())

    def _hide(self, _: int) -> None:
        self._set_roles(frozenset({self._rng.choice(self.scenario.kinds).id}))

    def _show(self, _: int) -> None:
        self._set_roles(frozenset())

    def _set_roles(self, hidden: frozenset[str]) -> None:
        if hidden != self.roles[-1]:
            self.roles.append(hidden)
            self.sandbox.api.hidden_types = hidden

    def _redefine(self, _: int) -> None:
        """Add a field to a content type, and take away another one."""
        name = self._rng.choice(self.scenario.kinds).id
        fields = [each for each in self.catalogue.content_types[name]["fields"] if each["id"] != "remark"]
        added = new_field(f"extra{len(fields)}", "Extra")
        self.catalogue.update_content_type(name, [*fields, added], at=self._tick())

    def _choose(self, status: VersionStatus, held_slice: tuple[str, str] | None = None) -> Document | None:
        """Return an entry, or None."""
        _, found = self.catalogue.select(
            lambda bucket: (
                bucket.status == status and held_slice in (None, (bucket.content_type_id, bucket.language))
            )
        )
        current = [each for document in found if (each := self.catalogue.find(*document.key, status))]
        return self._rng.choice(sorted(current, key=lambda document: document.key)) if current else None
