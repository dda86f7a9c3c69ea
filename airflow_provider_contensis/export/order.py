"""The order of entries in a file depends on the content alone, not on how it was read.

Entries are ordered by content type, language, created time, cut to the millisecond as the search index is,
and then by id; entries without a created time come last. That is the order of the windows, too, so the same
content gives the same file at every page size.
"""

from __future__ import annotations

import re
from dataclasses import replace
from operator import lt
from typing import TYPE_CHECKING

from airflow_provider_contensis.exceptions import InvalidResponseError
from airflow_provider_contensis.export.times import as_datetime, query_millisecond

if TYPE_CHECKING:
    from airflow_provider_contensis.export.batch import Batch

_OTHER = re.compile("[^0-9a-f]")
_WHOLE_SECONDS = len("2031-04-02T00:00:00")
_MILLISECONDS = len("2031-04-02T00:00:00.000")
_LAST = "~"


def by_slice(batch: Batch) -> list[Batch]:
    """Return the entries of a window with several slices as a batch for each, in canonical order.

    :raises InvalidResponseError: an entry's content type or language is missing.
    """
    window = batch.window
    ids = {id_.lower(): id_ for id_ in window.content_type_ids}
    languages = {language.lower(): language for language in window.languages}
    slices: dict[tuple[str, str], list[int]] = {}
    for number, meta in enumerate(batch.metas):
        if not meta.content_type_id or not meta.language:
            raise InvalidResponseError(f"{window}: entry {meta.id} has no sys.contentTypeId or sys.language.")
        id_ = ids.get(meta.content_type_id.lower(), meta.content_type_id)
        slices.setdefault((id_, languages.get(meta.language.lower(), meta.language)), []).append(number)

    def place(kind: tuple[str, str]) -> tuple[bool, str, int]:
        # Content types that the project does not list come last.
        return kind[0].lower() not in ids, kind[0], window.languages.index(kind[1])

    return [
        in_order(
            batch.take(slices[id_, language])._replace(
                window=replace(window, content_type_ids=(id_,), languages=(language,), unlisted=False)
            )
        )
        for id_, language in sorted(slices, key=place)
    ]


def in_order(batch: Batch) -> Batch:
    """Return the entries of one slice in canonical order."""
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
