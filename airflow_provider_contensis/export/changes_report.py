"""What a run of a copy has found, for its result and its log."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.diagnosis import hint
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.export.changes import Position
    from airflow_provider_contensis.export.ledger import HeldSlice
    from airflow_provider_contensis.export.results import ContentTypeChanges

log = logging.getLogger(__name__)

_SHOWN_SLICES = 5


@dataclass
class Findings:
    """What a run has found.

    :param position: where the next run begins.
    :param changed_from: where this run began; None for a snapshot.
    :param new: how many entries are new, by slice.
    :param changed: how many entries differ, by slice.
    :param deleted: how many entries have left, by slice and reason.
    :param drift: how many entries a full refresh found missing, extra or with another change mark, which no
        earlier run should have left; None without a full refresh.
    :param refreshed: how many entries it found with other content under the same change mark.
    :param unconfirmed: how many entries a search did not find but a get did, so that they stay.
    """

    position: Position
    changed_from: str | None
    new: Counter[HeldSlice] = field(default_factory=Counter)
    changed: Counter[HeldSlice] = field(default_factory=Counter)
    deleted: Counter[tuple[HeldSlice, str]] = field(default_factory=Counter)
    drift: int | None = None
    refreshed: int = 0
    unconfirmed: int = 0


def changes_by_type(found: Findings) -> tuple[int, int, dict[str, ContentTypeChanges]]:
    """Return how many upserts and deletes there are, in all and by content type."""
    upserts: Counter[str] = Counter()
    deletes: Counter[str] = Counter()
    for counter in (found.new, found.changed):
        for held_slice, number in counter.items():
            upserts[held_slice.content_type_id] += number
    for (held_slice, _), number in found.deleted.items():
        deletes[held_slice.content_type_id] += number
    content_types: dict[str, ContentTypeChanges] = {
        id_: {"upserts": upserts[id_], "deletes": deletes[id_]} for id_ in sorted({*+upserts, *+deletes})
    }
    return upserts.total(), deletes.total(), content_types


def log_changes(found: Findings, committed: str | None, *, requests: int, seconds: float) -> None:
    """Log what a run found, one line for each step.

    :param committed: what it has committed; None if nothing changed.
    """
    log.info(
        "Since %s: %s changed, %s new",
        found.changed_from or "the beginning",
        f"{found.changed.total():,}",
        f"{found.new.total():,}",
    )
    if found.deleted:
        log.info("%s: %s", count(found.deleted.total(), "deletion"), _by_slice(found.deleted))
    if found.unconfirmed:
        log.warning(
            "%s not found by a search but by id, and stay: the search index may lag behind. %s",
            count(found.unconfirmed, "entry was", "entries were"),
            hint("get-by-id", "missing-entry"),
        )
    if found.drift is not None:
        log.log(
            logging.WARNING if found.drift else logging.INFO,
            "Full refresh: %s (missing, extra or with another change mark), %s refreshed under the same mark",
            count(found.drift, "entry had drifted", "entries had drifted"),
            f"{found.refreshed:,}",
        )
    log.info(
        "%s (%s, %.1f s)",
        committed or f"Nothing changed: the next run reads from {found.position.horizon} on",
        count(requests, "request"),
        seconds,
    )


def _by_slice(deleted: Counter[tuple[HeldSlice, str]]) -> str:
    """Return deletions by slice and reason, such as `2 in film/en-GB (1 unpublished, 1 deleted)`."""
    slices: dict[HeldSlice, list[str]] = {}
    for (held_slice, reason), number in sorted(deleted.items()):
        slices.setdefault(held_slice, []).append(f"{number:,} {reason}")
    shown = [f"{held_slice}: {', '.join(reasons)}" for held_slice, reasons in slices.items()]
    rest = [f"and {count(len(shown) - _SHOWN_SLICES, 'more slice')}"] if len(shown) > _SHOWN_SLICES else []
    return "; ".join([*shown[:_SHOWN_SLICES], *rest])
