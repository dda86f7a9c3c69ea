"""Editors at work while a client reads: seeded edits between its requests."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.chance import Draw
from airflow_provider_contensis.sandbox.documents import timestamp
from airflow_provider_contensis.sandbox.faults import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_contensis.sandbox.catalogue import Catalogue
    from airflow_provider_contensis.sandbox.messages import Request

_READS = frozenset({"search", "list", "entry"})
_ONE = 1_000_000

EDITS = ("create", "save", "publish", "unpublish", "delete", "restore")
_FIRST = datetime(2026, 1, 5, 9, tzinfo=UTC)
# Now and then two come in the same hundredth of a second.
_TICK = timedelta(milliseconds=5)


class Editors:
    """Editors who create, save, publish, unpublish, delete and restore entries, for `Sandbox(faults=…)`.

    They work before an answer is made, so between the pages of a client. Which edit, and of which entry,
    depends on the seed, what the request asks for and how often that was asked before; where the edit
    does not suit the entry, as it is by then, the next entry that it suits gets it.

    :param catalogue: what they edit.
    :param seed: another seed gives other edits.
    :param rate: edits before each answer; 0.1 means one before every tenth or so.
    :param shares: how often each edit is chosen, by name; None for all six alike.
    :raises ValueError: there is no such edit.
    """

    def __init__(
        self, catalogue: Catalogue, seed: int, rate: float, shares: Mapping[str, int] | None = None
    ) -> None:
        if unknown := sorted((shares or {}).keys() - set(EDITS)):
            raise ValueError(f"There is no edit {unknown[0]!r}: choose of {', '.join(EDITS)}")
        self._catalogue = catalogue
        self._seed = seed
        self._rate = rate
        self._names = [
            name for name, share in (shares or dict.fromkeys(EDITS, 1)).items() for _ in range(share)
        ]
        _, documents = catalogue.select(lambda bucket: bucket.status == "latest")
        self._keys = sorted(document.key for document in documents)
        self._seen = Seen()
        self._made: Counter[str] = Counter()
        self._edits: dict[str, Callable[[tuple[str, str], Draw], bool]] = {
            "create": self._create,
            "save": self._save,
            "publish": self._publish,
            "unpublish": self._unpublish,
            "delete": self._delete,
            "restore": self._restore,
        }
        self._lock = threading.Lock()

    @property
    def made(self) -> Counter[str]:
        """How often each edit was made."""
        with self._lock:
            return self._made.copy()

    def __call__(self, request: Request) -> None:
        """Work for a moment; never answers the request."""
        if request.kind not in _READS:
            return
        draw = Draw(f"{self._seed} {self._seen.name(request)}")
        edits, chance = divmod(int(self._rate * _ONE), _ONE)
        for number in range(edits + (draw.below(_ONE) < chance)):
            self.edit(Draw(f"{self._seed} {draw.below(_ONE)} {number}"))

    def edit(self, draw: Draw) -> None:
        """Make one edit, if there is an entry that it suits."""
        name = self._names[draw.below(len(self._names))]
        with self._lock:
            start = draw.below(max(len(self._keys), 1))
            for key in [*self._keys[start:], *self._keys[:start]]:
                if self._edits[name](key, draw):
                    self._made[name] += 1
                    return

    def _now(self) -> str:
        return timestamp(_FIRST + self._made.total() * _TICK - self._made.total() % 2 * _TICK)

    def _create(self, key: tuple[str, str], draw: Draw) -> bool:
        """Create an entry, mostly published, with the fields of another one."""
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
        """Save new values; published at once, every other time."""
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
        self._catalogue.unpublish(key[0], language=key[1])
        return True

    def _delete(self, key: tuple[str, str], draw: Draw) -> bool:
        """Delete a variation, or all of them."""
        if self._catalogue.find(*key, "latest") is None:
            return False
        self._catalogue.delete(key[0], language=key[1] if draw.below(2) else None)
        return True

    def _restore(self, key: tuple[str, str], _: Draw) -> bool:
        try:
            self._catalogue.restore(key[0], language=key[1])
        except KeyError:
            return False
        return True

    def _new_values(self, entry: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
        """Return a new title, and other values of fields that are a boolean."""
        content_type = self._catalogue.content_types[entry["sys"]["contentTypeId"]]
        flags = [field["id"] for field in content_type["fields"] if field["dataType"] == "boolean"]
        values: dict[str, Any] = {flag: not entry.get(flag) for flag in flags if draw.below(2)}
        title = content_type.get("entryTitleField")
        return {**values, title: f"Edit {self._made.total() + 1}"} if title else values
