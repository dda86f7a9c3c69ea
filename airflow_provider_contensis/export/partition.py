"""Parts of one plan for several workers: of about equal size, disjoint, and together the whole.

Parts follow each other in the order of a file (`order.py`): content type, language, created time. So a part
is all that lies between two places in that order, and no two parts can overlap. Where the places are is
estimated, from a few counts and from samples: a wrong estimate makes parts less equal, but never incomplete.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.exceptions import APIError
from airflow_provider_contensis.export.cut import cut
from airflow_provider_contensis.export.model import MAX_COUNT, Measure
from airflow_provider_contensis.export.search import REFUSED
from airflow_provider_contensis.export.shared_plan import Part
from airflow_provider_contensis.export.times import as_datetime, query_millisecond

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_contensis.export.batch import EntryMeta
    from airflow_provider_contensis.export.model import EntryQuery, Window
    from airflow_provider_contensis.export.page import Page
    from airflow_provider_contensis.export.search import WindowSearch

# Requests beyond the listing of content types and languages: enough for parts of about equal size.
_MAX_REQUESTS = 30
_REQUESTS_PER_PART = 1.5
_PIECES_PER_PART = 1.25
_MIN_SAMPLE = 16


class Place(NamedTuple):
    """A place in the order of entries.

    :param content_type: its number in the plan.
    :param language: its number in the plan.
    :param created: the created time from which entries lie behind it; empty for the slice's beginning.
    """

    content_type: int
    language: int
    created: str = ""


def partition(search: WindowSearch, whole: Window, parts: int) -> list[Part]:
    """Return parts of about equal size; fewer if there would be less than a page in each.

    :param search: its query is what `whole` was made from.
    :param whole: everything; its content types and languages are in the order of entries.
    :param parts: how many there may be.
    :raises ContensisError: the service could not be asked.
    """
    if not whole.content_type_ids:
        return [Part((whole,), 0)]
    return _Partitioner(search, whole, parts).parts()


@dataclass(frozen=True)
class _Stretch:
    """Neighbouring entries, as far as they were counted.

    :param begin: where they begin.
    :param end: where they end.
    :param window: they alone, but for those without a created time.
    :param size: about how many they are.
    :param sample: created times of some of them, drawn at random, sorted.
    :param page: the first answer about them, if there was one.
    :param is_done: whether nothing would be gained from counting parts of it.
    """

    begin: Place
    end: Place
    window: Window
    size: float
    sample: tuple[str, ...] = ()
    page: Page | None = None
    is_done: bool = False


class _Partitioner:
    """Makes one partition; parameters as in `partition`."""

    def __init__(self, search: WindowSearch, whole: Window, parts: int) -> None:
        self._search = search
        self._query: EntryQuery = search.query
        self._whole = whole
        self._parts = parts
        self._requests_left = min(_MAX_REQUESTS, ceil(_REQUESTS_PER_PART * parts) + 2)

    def parts(self) -> list[Part]:
        """Return the parts."""
        page = self._sample(self._whole)
        total = max(page.total, sum((page.sizes or {}).values()))
        number = max(1, min(self._parts, total // page.size))
        begin, end = Place(0, 0), Place(len(self._whole.content_type_ids), 0)
        stretches = [_Stretch(begin, end, self._whole, total, page=page)]
        while number > 1:
            place = max(range(len(stretches)), key=lambda i: (not stretches[i].is_done, stretches[i].size))
            heaviest = stretches[place]
            aim = sum(each.size for each in stretches) / number
            if heaviest.is_done or heaviest.size <= _PIECES_PER_PART * aim:
                break
            stretches[place : place + 1] = self._split(heaviest, aim)
        return [
            Part(tuple(self._between(begin, end)), expected)
            for begin, end, expected in self._ends(stretches, number)
        ]

    # --- where to cut -------------------------------------------------------------------------------------

    def _ends(self, stretches: Sequence[_Stretch], number: int) -> Iterator[tuple[Place, Place, int]]:
        """Yield where each part begins and ends, and about how many entries it holds."""
        sums = [0.0, *accumulate(each.size for each in stretches)]
        places = {stretches[0].begin: 0.0}
        for cut_number in range(1, number):
            aim = sums[-1] * cut_number / number
            index = next(i for i, end in enumerate(sums[1:]) if end >= aim)
            places |= [self._place_at(stretches[index], sums[index], aim)]
        places[stretches[-1].end] = sums[-1]
        first, *others, last = sorted(places.items())
        kept = [first]
        for place in others:
            if place[1] - kept[-1][1] >= 1 and last[1] - place[1] >= 1:
                kept.append(place)
        for (begin, before), (end, after) in pairwise([*kept, last]):
            yield begin, end, round(after - before)

    def _place_at(self, stretch: _Stretch, before: float, aim: float) -> tuple[Place, float]:
        """Return the place nearest to an aim, and how many entries lie before it.

        :param before: how many entries lie before the stretch.
        """
        ends = [(stretch.begin, before), (stretch.end, before + stretch.size)]
        if stretch.window.is_slice and stretch.size:
            share = (aim - before) / stretch.size
            created = self._created_at(stretch, share)
            lower, upper = stretch.window.created_from, stretch.window.created_to
            if created and (not lower or created > lower) and (not upper or created < upper):
                return stretch.begin._replace(created=created), aim
        return min(ends, key=lambda end: abs(end[1] - aim))

    def _created_at(self, stretch: _Stretch, share: float) -> str | None:
        """Return the created time before which a share of a stretch's entries lies; None if unknown."""
        sample, window = stretch.sample, stretch.window
        if len(sample) >= _MIN_SAMPLE:
            return sample[min(len(sample) - 1, int(share * len(sample)))]
        lower = as_datetime(window.created_from or min(sample, default=None))
        upper = as_datetime(window.created_to or max(sample, default=None))
        if lower is None or upper is None:
            return None
        return query_millisecond(lower + (upper - lower) * share)

    def _between(self, begin: Place, end: Place) -> Iterator[Window]:
        """Yield the windows of all that lies between two places."""
        ids, languages = self._whole.content_type_ids, self._whole.languages
        first, language, created = begin
        if created:  # the rest of a slice
            is_same = begin[:2] == end[:2]
            slice_ = self._slice(begin)
            yield replace(slice_, created_from=created, created_to=end.created if is_same else None)
            if is_same:
                return
            yield replace(slice_, undated=True)
            language += 1
            if language == len(languages):
                first, language = first + 1, 0
        if language and first < end.content_type:
            yield self._query.window(ids[first : first + 1], languages[language:])
            first, language = first + 1, 0
        if first < end.content_type:
            yield self._query.window(ids[first : end.content_type], languages)
            language = 0
        if language < end.language:
            yield self._query.window((ids[end.content_type],), languages[language : end.language])
        if end.created:
            yield replace(self._slice(end), created_to=end.created)

    def _slice(self, place: Place) -> Window:
        ids, languages = self._whole.content_type_ids, self._whole.languages
        return self._query.window((ids[place.content_type],), (languages[place.language],))

    # --- what to count ------------------------------------------------------------------------------------

    def _split(self, stretch: _Stretch, aim: float) -> list[_Stretch]:
        """Return smaller stretches that take the place of one, counted if requests are left.

        :param aim: the size of a part.
        """
        by = stretch.window.cut_by
        if by in {"content type", "language"}:
            return self._split_kinds(stretch, is_type=by == "content type")
        if self._requests_left < 4:  # a sample, or a measure, and two counts
            return [replace(stretch, is_done=True)]
        pieces = max(2, min(ceil(_PIECES_PER_PART * stretch.size / aim), self._requests_left - 2))
        return self._split_times(stretch, pieces)

    def _split_kinds(self, stretch: _Stretch, *, is_type: bool) -> list[_Stretch]:
        """Split a stretch into a stretch for each content type, or each language."""
        if stretch.page is None and not self._requests_left:
            return [replace(stretch, is_done=True)]
        page = stretch.page or self._sample(stretch.window)
        window = stretch.window
        kinds = window.content_type_ids if is_type else window.languages
        parts = [
            self._query.window((kind,), window.languages)
            if is_type
            else self._query.window(window.content_type_ids, (kind,))
            for kind in kinds
        ]
        sizes = page.sizes
        if len(kinds) == 1:
            sizes = {kinds[0].lower(): int(stretch.size)}
        elif sizes is None and len(kinds) <= self._requests_left // 3:
            counts = self._counts(parts, stretch.size)
            sizes = {kind.lower(): int(size) for kind, size in zip(kinds, counts, strict=True)}
        elif sizes is None:
            found = Counter(_kind_of(meta, is_type=is_type) for meta in page.batch.metas)
            share = stretch.size / max(found.total(), 1)
            sizes = {kind: int(number * share) for kind, number in found.items()}
        stretches = []
        for number, (kind, part) in enumerate(zip(kinds, parts, strict=True)):
            begin = Place(number, 0) if is_type else stretch.begin._replace(language=number)
            end = Place(number + 1, 0) if is_type else self._behind(begin)
            sample: tuple[str, ...] = ()
            if part.is_slice and _is_random(page):
                of_kind = [m for m in page.batch.metas if _kind_of(m, is_type=is_type) == kind.lower()]
                sample = _times(of_kind)
            its_page = page if part.is_slice and len(kinds) == 1 else None  # the same entries
            stretches.append(_Stretch(begin, end, part, sizes.get(kind.lower(), 0), sample, its_page))
        return stretches

    def _split_times(self, stretch: _Stretch, pieces: int) -> list[_Stretch]:
        """Split a slice, or a range of one, by created time, and count what comes of it."""
        window, sample = stretch.window, stretch.sample
        if len(sample) < _MIN_SAMPLE * pieces:
            page = stretch.page or self._sample(window)
            sample = _times(page.batch.metas) if _is_random(page) else sample
        bounds: list[str] = []
        if len(sample) >= _MIN_SAMPLE:
            quantiles = sorted({sample[len(sample) * i // pieces] for i in range(1, pieces)})
            bounds = [time for time in quantiles if time != window.created_from and _is_within(time, window)]
        if not bounds:
            bounds, sample = self._equal_times(window, stretch.size, pieces)
        if not bounds:
            return [replace(stretch, is_done=True)]  # all of them at one moment, or at a hidden one
        edges = [window.created_from, *bounds, window.created_to]
        windows = [replace(window, created_from=lower, created_to=upper) for lower, upper in pairwise(edges)]
        sizes = self._counts(windows, stretch.size)
        places = [stretch.begin, *(stretch.begin._replace(created=bound) for bound in bounds), stretch.end]
        is_progress = max(sizes) < stretch.size * (1 - 1 / (4 * pieces))
        return [
            _Stretch(
                begin,
                end,
                part,
                size,
                tuple(time for time in sample if _is_within(time, part)) if is_progress else (),
            )
            for (begin, end), part, size in zip(pairwise(places), windows, sizes, strict=True)
        ]

    def _equal_times(self, window: Window, size: float, pieces: int) -> tuple[list[str], tuple[str, ...]]:
        """Return times that cut a window into ranges of equal length; none if it is a single moment.

        :return: besides, the times of its first and its last entry.
        """
        self._requests_left -= 2
        with self._search.threads() as executor:
            ends = [executor.submit(search, window) for search in (self._search.first, self._search.last)]
            first, last = (end.result().first_created for end in ends)
        windows = cut(window, Measure(max(int(size), 2), first, last), aim=max(1, ceil(size / pieces)))
        bounds = [each.created_to for each in windows if not each.id_prefix and not each.other_ids]
        known = tuple(query_millisecond(end) for end in map(as_datetime, (first, last)) if end)
        return sorted({bound for bound in bounds if bound and bound != window.created_to}), known

    def _counts(self, windows: Sequence[Window], size: float) -> list[float]:
        self._requests_left -= len(windows)
        with self._search.threads() as executor:
            totals = [page.total for page in executor.map(self._search.first, windows)]
        # Where a count stops, an equal share is as good a guess as any.
        return [size / len(windows) if total == MAX_COUNT else float(total) for total in totals]

    def _sample(self, window: Window) -> Page:
        """Return a page of a window, at random if ids are: they say nothing of content types and times."""
        self._requests_left -= 1
        try:
            return self._search.page(window, order_by="sys.id")
        except APIError as error:
            if error.status_code not in REFUSED:
                raise
            return self._search.page(window)

    def _behind(self, place: Place) -> Place:
        """Return the beginning of the slice behind the one of a place."""
        is_last = place.language + 1 == len(self._whole.languages)
        return Place(place.content_type + is_last, 0 if is_last else place.language + 1)


def _kind_of(meta: EntryMeta, *, is_type: bool) -> str:
    return (meta.content_type_id if is_type else meta.language).lower()


def _is_random(page: Page) -> bool:
    """Return whether the created times of a page are not in order, as they are where ids grow with time."""
    times = [meta.created or "" for meta in page.batch.metas]
    return times != sorted(times)


def _times(metas: Sequence[EntryMeta]) -> tuple[str, ...]:
    """Return the created times of entries as search operands, sorted."""
    moments = filter(None, (as_datetime(meta.created) for meta in metas))
    return tuple(sorted(map(query_millisecond, moments)))


def _is_within(time: str, window: Window) -> bool:
    return (window.created_from or "") <= time < (window.created_to or "~")
