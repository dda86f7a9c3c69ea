"""The order of entries in a file depends on the content alone, not on how it was read.

Entries are ordered by created time, cut to the millisecond as the search index is, and then by id; entries
without a created time come last. That is the order of the windows, too, so the same content gives the same
file at every page size.
"""

from __future__ import annotations

import re
from operator import lt
from typing import TYPE_CHECKING

from airflow_provider_contensis.export.times import as_datetime, query_millisecond

if TYPE_CHECKING:
    from airflow_provider_contensis.export.model import Batch

_OTHER = re.compile("[^0-9a-f]")
_WHOLE_SECONDS = len("2031-04-02T00:00:00")
_MILLISECONDS = len("2031-04-02T00:00:00.000")
_LAST = "~"


def in_order(batch: Batch) -> Batch:
    """Return a batch in canonical order."""
    created = [meta.created for meta in batch.metas]
    window = batch.window
    if not any(created) and not (window.undated or window.id_prefix or window.other_ids):
        return batch  # hidden times: only the service knows them, and orders by them
    times = [_millisecond(time) for time in created]
    if all(map(lt, times, times[1:])):
        return batch
    numbers = range(len(times))
    order = sorted(numbers, key=lambda number: (times[number], _id_key(batch.metas[number].id)))
    return batch if order == list(numbers) else batch.take(order)


def _millisecond(created: str | None) -> str:
    if created is None:
        return _LAST
    if created.endswith("Z"):
        time = created[:-1]
        time = time if len(time) > _WHOLE_SECONDS else f"{time}."
        return time.ljust(_MILLISECONDS, "0")[:_MILLISECONDS]
    moment = as_datetime(created)
    return created if moment is None else query_millisecond(moment)[:-1]


def _id_key(entry_id: str) -> str:
    """Return a key that sorts ids as windows are cut by them: hexadecimal digits first, then all others."""
    return _OTHER.sub(lambda match: f"{_LAST}{match[0]}", entry_id.lower()) + _LAST
