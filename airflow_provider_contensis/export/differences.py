"""Where a copy and the service differ: found by counting, at a cost that grows with the differences.

The service's entries are counted in parts of about 5,000. Where it counts as many as the copy holds, nothing
was deleted: every entry that exists and did not change is in the copy, so equal counts mean equal sets. Where
the counts differ, the part is halved down to about a page, and only that is read. Parts are halved by created
time, which never changes; within one millisecond, and without a created time, by the start of the id.

As many entries may have come back with an old change mark as have left, in one part and one interval. To find
such swaps, each run also counts the ids that begin with one hexadecimal digit, another one each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice, pairwise
from math import ceil
from time import time
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.exceptions import APIError, ExportError
from airflow_provider_contensis.export.ledger import Part
from airflow_provider_contensis.export.model import HEX_DIGITS, MAX_COUNT, MAX_PREFIX
from airflow_provider_contensis.export.search import REFUSED

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from airflow_provider_contensis.export.batch import Batch
    from airflow_provider_contensis.export.ledger import HeldSlice, Ledger
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.search import WindowSearch

PART_ENTRIES = 5_000  # half of what a count can be trusted for (docs/contensis-api.md, "Paging")

_EARLIEST = 946_684_800_000  # the year 2000, in milliseconds since 1970


class Difference(NamedTuple):
    """A part in which the service counts another number of entries than the copy holds.

    :param held: as many as the copy holds.
    :param served: as many as the service counts.
    :param is_inferred: whether the service was not asked, as it had counted all other halves.
    """

    part: Part
    held: int
    served: int
    is_inferred: bool = False


@dataclass(frozen=True)
class Comparison:
    """A part small enough to be compared entry by entry.

    :param batch: the entries that the service has in it; None if it has none.
    """

    part: Part
    batch: Batch | None


class Differences:
    """Finds the parts in which a copy and the service differ.

    :param search: asks the service.
    :param query: which entries the copy follows; the bounds of its change mark do not matter.
    :param ledger: what the copy holds.
    :param held: how many entries it holds of each slice.
    :param listed: the slices that the service lists.
    :param digit: the hexadecimal digit whose ids are counted in addition.
    """

    def __init__(
        self,
        search: WindowSearch,
        query: EntryQuery,
        ledger: Ledger,
        held: Mapping[HeldSlice, int],
        listed: Sequence[HeldSlice],
        *,
        digit: str,
    ) -> None:
        self._search = search
        self._query = replace(query, changed_from=None, changed_to=None)
        self._ledger = ledger
        self._held = held
        self.slices = tuple(dict.fromkeys([*listed, *held]))  # all that there may be
        self._digit = digit
        # It stands still, as halving up to the present would never end.
        self._end = ceil(time() * 1000) + 1

    def passes(self) -> Iterator[list[Difference]]:
        """Yield what differs at first sight, in parts of about 5,000 entries.

        First all entries are counted, then the drafts if that may show more, then those of the digit:
        each pass expects that the ledger shows what the one before has found.
        """
        parts = self._parts()
        with self._search.threads() as executor:
            check = executor.submit(self._check_version_status)
            found = self._count(parts)
            check.result()
        yield found
        if self._query.change_mark == "either":  # to unpublish an entry moves no change mark
            # Drafts, and not the others: an `exists` that is ignored counts them all, and does not agree.
            drafts = self._count([replace(part, only_drafts=True) for part in parts if not part.is_rest])
            yield drafts
            found += drafts
        if found:
            self._held = self._ledger.slices()
        yield self._count(self._digit_parts())

    def _check_version_status(self) -> None:
        """Ask for a draft among the entries of a copy of what is published.

        :raises InvalidResponseError: there is one: to the service, what was unpublished is still there.
        """
        types = self._query.content_type_ids
        languages = tuple(dict.fromkeys(each.language for each in self.slices))
        # The Delivery API serves no drafts by default.
        if self._query.change_mark == "either" or self._query.api == "delivery" or not languages:
            return
        whole = Part(content_type_ids=types or (), languages=languages, is_rest=types is None)
        try:
            self._search.page(replace(whole, only_drafts=True).window(self._query), 1)
        except APIError as error:
            if error.status_code not in REFUSED:  # nothing else of published entries needs `exists`
                raise

    def narrow(self, differences: Iterable[Difference]) -> Iterator[Comparison]:
        """Yield the parts to compare entry by entry, narrowed down from what differs."""
        queue = list(differences)
        page_size = self._search.limits.page_size
        while queue:
            queue = self._count_emptied(queue)
            large: list[Difference] = []
            small: list[Difference] = []
            for each in queue:
                if each.served:
                    fits = max(each.held, each.served) <= page_size and each.served < MAX_COUNT
                    (small if fits else large).append(each)
                else:
                    yield Comparison(each.part, None)
            large += yield from self._read(small)
            queue = self._halve(large)

    def _count_emptied(self, differences: Sequence[Difference]) -> list[Difference]:
        """Count the parts that were found empty by inference: one wrong count would have emptied them."""
        empty = {each for each in differences if each.is_inferred and not each.served}
        counts = self._search.counts([each.part.window(self._query) for each in differences if each in empty])
        counted = [each._replace(served=next(counts)) if each in empty else each for each in differences]
        return [each for each in counted if each.held != each.served]

    def _parts(self) -> list[Part]:
        """Return parts that together hold everything there may be, and those for the digit."""
        parts = list(self._unheld())
        for group in _groups(self._held, PART_ENTRIES):
            whole = _part(group)
            cuts = self._ledger.cuts(whole, PART_ENTRIES) if len(group) == 1 else []
            parts += _ranges(whole, cuts)
        cut = [part for part in parts if part.is_bounded]
        if cut:
            undated = Part(
                content_type_ids=tuple(dict.fromkeys(id_ for part in cut for id_ in part.content_type_ids)),
                languages=tuple(dict.fromkeys(name for part in cut for name in part.languages)),
                is_undated=True,
            )
            # No range holds an entry without a created time, which only the Delivery API hides.
            if self._query.api == "delivery" or self._ledger.count(undated):
                parts.append(undated)
        return parts

    def _unheld(self) -> Iterator[Part]:
        """Yield the parts of which the copy holds nothing."""
        languages = tuple(dict.fromkeys(each.language for each in self.slices))
        types = tuple(dict.fromkeys(each.content_type_id for each in self._held))
        if not languages:
            return
        if self._query.content_type_ids is None:
            yield Part(content_type_ids=types, languages=languages, is_rest=True)
        else:
            missing = {
                each.content_type_id: None for each in self.slices if each.content_type_id not in types
            }
            if missing:
                yield Part(content_type_ids=tuple(missing), languages=languages)
        for language in languages:
            lacking = [
                each.content_type_id
                for each in self.slices
                if each.language == language and each not in self._held and each.content_type_id in types
            ]
            if lacking:
                yield Part(content_type_ids=tuple(lacking), languages=(language,))

    def _digit_parts(self) -> list[Part]:
        """Return parts of about 5,000 ids that begin with the digit, one id in sixteen."""
        held = self._held
        size = PART_ENTRIES * len(HEX_DIGITS)
        parts = []
        groups = [list(held)] if 0 < sum(held.values()) <= size else _groups(held, size)
        for group in groups:
            whole = _part(group)
            cuts = self._ledger.cuts(whole, PART_ENTRIES) if sum(held[each] for each in group) > size else []
            parts += _ranges(replace(whole, id_prefix=self._digit), cuts[:: len(HEX_DIGITS)])
        return parts

    def _count(self, parts: Sequence[Part]) -> list[Difference]:
        return self._differing(parts, self._search.counts([part.window(self._query) for part in parts]))

    def _differing(self, parts: Sequence[Part], served: Iterable[int]) -> list[Difference]:
        # While the ledger counts one part, the service is asked for those that follow.
        counted = [
            Difference(part, self._ledger.count(part), number)
            for part, number in zip(parts, served, strict=True)
        ]
        return [each for each in counted if each.held != each.served]

    def _halve(self, differences: Sequence[Difference]) -> list[Difference]:
        """Return what differs in the halves of parts."""
        cut = [(each, self._cut(each)) for each in differences]
        # The last one holds the rest, unless a count stopped at its limit, or was inferred itself: one wrong
        # count would be handed on from half to half.
        asked = [parts if each.is_inferred or each.served >= MAX_COUNT else parts[:-1] for each, parts in cut]
        counts = self._search.counts([part.window(self._query) for parts in asked for part in parts])
        halves: list[Difference] = []
        for (each, parts), counted in zip(cut, asked, strict=True):
            served = [next(counts) for _ in counted]
            if len(counted) < len(parts):
                served.append(max(0, each.served - sum(served)))
            halves += [
                half._replace(is_inferred=half.part not in counted) for half in self._differing(parts, served)
            ]
        return halves

    def _cut(self, difference: Difference) -> list[Part]:
        """Return smaller parts that together are the given one.

        :raises ExportError: it cannot be cut any further.
        """
        part = difference.part
        ids, languages = part.content_type_ids, part.languages
        if len(languages) > 1:
            middle = len(languages) // 2
            return [replace(part, languages=languages[:middle]), replace(part, languages=languages[middle:])]
        if len(ids) > 1 and not part.is_rest:
            middle = len(ids) // 2
            return [
                replace(part, content_type_ids=ids[:middle]),
                replace(part, content_type_ids=ids[middle:]),
            ]
        bounds = [] if part.is_undated else self._bounds(difference)
        if bounds:
            edges = [part.created_from, *bounds, part.created_to]
            parts = [replace(part, created_from=one, created_to=other) for one, other in pairwise(edges)]
            return parts if part.is_bounded else [*parts, replace(part, is_undated=True)]
        if part.other_ids or len(part.id_prefix) >= MAX_PREFIX:
            raise ExportError(
                f"{part.window(self._query)}: more entries than fit on a page share a created time and the "
                "start of their id. Set a larger page_size."
            )
        prefixes = [replace(part, id_prefix=part.id_prefix + digit) for digit in HEX_DIGITS]
        return [*prefixes, replace(part, other_ids=True)]

    def _bounds(self, difference: Difference) -> list[int]:
        """Return created times to cut a part by; none if it is a single millisecond."""
        part = difference.part
        begin = _EARLIEST if part.created_from is None else part.created_from
        end = self._end if part.created_to is None else part.created_to
        if end - begin <= 1 and part.created_from is not None:
            return []
        if difference.held:
            cuts = self._ledger.cuts(part, ceil(difference.held / 2))
            if cuts:
                return cuts[:1]
            first = next((held.created for _, held in self._ledger.held(part)), None)
            if first is None:
                return []
            # All that the copy holds was created in one millisecond.
            return [edge for edge in (first, first + 1) if edge not in {part.created_from, part.created_to}]
        middle = (begin + end) // 2
        return [middle] if begin < middle < end else []

    def _read(self, differences: Sequence[Difference]) -> Generator[Comparison, None, list[Difference]]:
        """Yield parts with their entries, a few at a time; return those that do not fit on a page."""
        too_large = []
        remaining = iter(differences)
        with self._search.threads() as executor:
            while some := list(islice(remaining, self._search.concurrency)):
                pages = executor.map(lambda each: self._search.confirmed(each.part.window(self._query)), some)
                for each, page in zip(some, pages, strict=True):
                    if page.is_all:
                        yield Comparison(each.part, page.batch)
                    else:
                        too_large.append(Difference(each.part, each.held, page.total))
        return too_large


def _groups(held: Mapping[HeldSlice, int], size: int) -> Iterator[list[HeldSlice]]:
    """Yield slices in groups that hold no more than a size together; a larger slice is a group of its own."""
    group: list[HeldSlice] = []
    entries = 0
    for each in sorted(held, key=lambda each: (each.language, each.content_type_id)):
        if group and (group[0].language != each.language or entries + held[each] > size):
            yield group
            group, entries = [], 0
        group.append(each)
        entries += held[each]
    if group:
        yield group


def _part(group: Sequence[HeldSlice]) -> Part:
    return Part(
        content_type_ids=tuple(dict.fromkeys(each.content_type_id for each in group)),
        languages=tuple(dict.fromkeys(each.language for each in group)),
    )


def _ranges(part: Part, cuts: Sequence[int]) -> list[Part]:
    """Return a part cut at created times."""
    if not cuts:
        return [part]
    edges = [None, *cuts, None]
    return [replace(part, created_from=begin, created_to=end) for begin, end in pairwise(edges)]
