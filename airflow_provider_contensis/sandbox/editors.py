"""Seeded edits between the requests of a client that is reading."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import timestamp
from airflow_provider_contensis.sandbox.faults import Occurrences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_contensis.sandbox.catalogue import Catalogue
    from airflow_provider_contensis.sandbox.messages import Request

_READS = frozenset({"search", "list", "entry"})
_MILLION = 1_000_000

EDITS = ("create", "save", "publish", "unpublish", "delete", "restore", "archive", "unarchive")
_FIRST_EDIT = datetime(2026, 1, 5, 9, tzinfo=UTC)
# Edits come in pairs with the same time.
_EDIT_INTERVAL = timedelta(milliseconds=5)


class Editors:
    """Editors who create, save, publish, delete, archive and restore entries, for `Sandbox(faults=…)`.

    They edit before each response, so between the pages a client reads. The kind of edit and its entry depend
    on the seed, the request and its occurrence number. If an edit is not possible for that entry, the next
    entry that allows it gets it.

    :param catalogue: the content they edit.
    :param seed: a different seed gives different edits.
    :param rate: edits before each response; 0.1 means one before about every tenth.
    :param shares: the relative frequency of each edit, by name; None means all are equally frequent.
    :param clock: returns the ISO time of an edit; None means times in January 2026, a few milliseconds apart.
    :raises ValueError: an edit in `shares` does not exist.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        seed: int,
        rate: float,
        shares: Mapping[str, int] | None = None,
        *,
        clock: Callable[[], str] | None = None,
    ) -> None:
        if unknown := sorted((shares or {}).keys() - set(EDITS)):
            raise ValueError(f"Unknown edit {unknown[0]!r}. Available: {', '.join(EDITS)}")
        self._catalogue = catalogue
        self._seed = seed
        self._rate = rate
        self._now = clock or self._next_moment
        self._names = [
            name for name, share in (shares or dict.fromkeys(EDITS, 1)).items() for _ in range(share)
        ]
        _, documents = catalogue.select(lambda bucket: bucket.status == "latest")
        self._keys = sorted(document.key for document in documents)
        self._occurrences = Occurrences()
        self._made: Counter[str] = Counter()
        self._edits: dict[str, Callable[[tuple[str, str], Draw], bool]] = {
            "create": self._create,
            "save": self._save,
            "publish": self._publish,
            "unpublish": self._unpublish,
            "delete": self._delete,
            "restore": self._restore,
            "archive": self._archive,
            "unarchive": self._unarchive,
        }
        self._lock = threading.Lock()

    @property
    def made(self) -> Counter[str]:
        """The number of edits made, by name."""
        with self._lock:
            return self._made.copy()

    def __call__(self, request: Request) -> None:
        """Make the edits due before this request; never return a response."""
        if request.kind not in _READS:
            return
        draw = Draw(f"{self._seed} {self._occurrences.identify(request)}")
        edits, remainder = divmod(int(self._rate * _MILLION), _MILLION)
        for number in range(edits + (draw.below(_MILLION) < remainder)):
            self.edit(Draw(f"{self._seed} {draw.below(_MILLION)} {number}"))

    def edit(self, draw: Draw) -> None:
        """Make one edit, if an entry allows it."""
        name = self._names[draw.below(len(self._names))]
        with self._lock:
            start = draw.below(max(len(self._keys), 1))
            for key in [*self._keys[start:], *self._keys[:start]]:
                if self._edits[name](key, draw):
                    self._made[name] += 1
                    return

    def _next_moment(self) -> str:
        total = self._made.total()
        return timestamp(_FIRST_EDIT + (total - total % 2) * _EDIT_INTERVAL)

    def _create(self, key: tuple[str, str], draw: Draw) -> bool:
        """Create an entry with the fields of another one; three in four are published."""
        document = self._catalogue.find(*key, "latest")
        if document is None:
            return False
        entry = document.entry()
        names = {field["id"] for field in self._catalogue.content_types[document.content_type_id]["fields"]}
        fields = {name: value for name, value in entry.items() if name in names}
        entry_id = str(uuid.UUID(int=draw.below(1 << 128), version=4))
        is_published = draw.below(4) > 0
        self._catalogue.add(
            document.content_type_id,
            fields,
            entry_id=entry_id,
            language=document.language,
            publish=is_published,
            at=self._now(),
        )
        self._keys.append((entry_id, document.key[1]))
        return True

    def _save(self, key: tuple[str, str], draw: Draw) -> bool:
        """Save new values; one save in two also publishes."""
        document = self._catalogue.find(*key, "latest")
        if document is None:
            return False
        publish = draw.below(2) == 0
        self._catalogue.update(
            key[0], self._new_values(document.entry(), draw), language=key[1], publish=publish, at=self._now()
        )
        return True

    def _publish(self, key: tuple[str, str], _: Draw) -> bool:
        document = self._catalogue.find(*key, "latest")
        if document is None or document.entry()["sys"]["workflow"]["state"] != "draft":
            return False
        self._catalogue.publish(key[0], language=key[1], at=self._now())
        return True

    def _unpublish(self, key: tuple[str, str], _: Draw) -> bool:
        if self._catalogue.find(*key, "published") is None:
            return False
        self._catalogue.unpublish(key[0], language=key[1], at=self._now())
        return True

    def _delete(self, key: tuple[str, str], draw: Draw) -> bool:
        """Delete one variation of an entry, or all of them; one deletion in four is permanent."""
        if self._catalogue.find(*key, "latest") is None:
            return False
        language = key[1] if draw.below(2) else None
        self._catalogue.delete(key[0], language=language, permanent=draw.below(4) == 0, at=self._now())
        return True

    def _restore(self, key: tuple[str, str], _: Draw) -> bool:
        return self._is_possible(self._catalogue.restore, key)

    def _archive(self, key: tuple[str, str], _: Draw) -> bool:
        return self._is_possible(self._catalogue.archive, key)

    def _unarchive(self, key: tuple[str, str], _: Draw) -> bool:
        return self._is_possible(self._catalogue.unarchive, key)

    def _is_possible(self, edit: Callable[..., None], key: tuple[str, str]) -> bool:
        """Make an edit of a variation, and return whether it was in the state for it."""
        try:
            edit(key[0], language=key[1], at=self._now())
        except KeyError:
            return False
        return True

    def _new_values(self, entry: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
        """Return a new title, and flipped values for some boolean fields."""
        content_type = self._catalogue.content_types[entry["sys"]["contentTypeId"]]
        flags = [field["id"] for field in content_type["fields"] if field["dataType"] == "boolean"]
        values: dict[str, Any] = {flag: not entry.get(flag) for flag in flags if draw.below(2)}
        title = content_type.get("entryTitleField")
        return {**values, title: f"Edit {self._made.total() + 1}"} if title else values
