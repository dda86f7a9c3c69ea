"""The oracle: derives what a feed must say from the sandbox's records, without the product's code.

The catalogue records every change with its revision. A run may have seen any state between the one that
searches showed when its first attempt began, and the one when it was committed.

What the rules exclude, and so the oracle does:

- **Other bytes under the same change mark.** `sys.workflow`, the lists of languages, and the number of a
  version that was published and withdrawn change without it; a copy follows them with the next change of the
  entry, or a full refresh.
- **Entries that were away for a moment.** One that is deleted and restored while a run reads what changed, or
  its content type anew because of another definition, may miss that read and yet be counted. It stays as it
  was until its next change, or a full refresh.
- **Swaps.** If as many entries came back with an old change mark as left, in one language (in one range of
  created times, to be exact), counts agree. The runs that follow count one hexadecimal digit each, and what
  one finds the next may follow up; what a full rotation does not find has swapped within each digit, too,
  and a full refresh finds it. For `latest`, the same goes for entries that came back published and entries
  that were unpublished: no digit shows them. If no entry came back, the first run has to find everything.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.quirks import change_entry
from chaos.oracle import moment_of
from chaos.scenario import WHERE
from chaos.sync.consumer import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_contensis.sandbox.documents import Document
    from chaos.sync.consumer import ChangeSet
    from chaos.sync.scenario import Scenario
    from chaos.sync.world import Moment, World

Entries = dict[Key, bytes]

_MAX_SHOWN = 3
_SMALL_SLICE = 10
_FREE_DELETIONS = 100
_DIGITS = "0123456789abcdef"
_LANGUAGES = ("availableLanguages", "unavailableLanguages", "archivedLanguages", "deletedLanguages")


class Oracle:
    """Judges the runs of one history.

    :param world: the service, before anything has happened.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._scenario: Scenario = world.scenario
        self._status = self._scenario.arguments["version_status"]
        _, documents = world.catalogue.select(lambda bucket: bucket.status == self._status)
        # Each key's versions, with the revision since which it is there.
        self._versions: dict[tuple[str, str], list[tuple[int, Document | None]]] = {
            document.key: [(0, document)] for document in documents
        }
        self._noted = len(world.catalogue.changes)
        self._matching: dict[Document, bool] = {}

    def served(self) -> Entries:
        """Return what the service has now, as far as the query and the API key's roles go."""
        hidden = self._world.roles[-1]
        found = (versions[-1][1] for versions in self._current().values())
        return {
            Key.of(json.loads(text)): text
            for document in found
            if document is not None and document.content_type_id not in hidden and self._matches(document)
            for text in (self._render(document),)
        }

    def judge(
        self,
        change_set: ChangeSet,
        before: Mapping[Key, bytes],
        begin: Moment,
        end: Moment,
        *,
        is_guarded: bool,
    ) -> list[str]:
        """Return what is wrong with a change set.

        :param before: what the consumer held before it.
        :param begin: when the first attempt of the run began.
        :param end: when it was committed, or later.
        :param is_guarded: whether the run refuses to delete very much.
        """
        times = Counter(key for key, _ in [*change_set.upserts, *change_set.deletes])
        upserted = [key for key, _ in change_set.upserts]
        complaints = [
            *_complain("came or left more than once", (key for key, number in times.items() if number > 1)),
            *_complain(
                "came as they were", (key for key, line in change_set.upserts if before.get(key) == line)
            ),
            *_complain(
                "came in no version that was served and matched",
                (key for key, line in change_set.upserts if line not in self._shown(key, begin, end)),
            ),
            *_complain(
                "left, but matched throughout",
                (key for key, reason in change_set.deletes if not self._was_absent(key, reason, begin, end)),
            ),
        ]
        if is_guarded:
            left = Counter(key[:2] for key, _ in change_set.deletes)
            held = Counter(key[:2] for key in before)
            for name, number in left.items():
                if number >= max(held[name], _SMALL_SLICE) and not any(key[:2] == name for key in upserted):
                    complaints.append(
                        f"all {number} entries of {' '.join(name)} left, and nothing stopped it"
                    )
        return complaints

    def may_stop(self, held: Mapping[Key, bytes], begin: Moment, end: Moment) -> bool:
        """Return whether so much may look gone that a run may refuse to go on."""
        gone = [
            key
            for key in held
            if self._was_hidden(key, begin, end) or self._was_absent(key, "not_matching", begin, end)
        ]
        number, total = Counter(key[:2] for key in gone), Counter(key[:2] for key in held)
        return len(gone) > _FREE_DELETIONS or any(
            number[name] >= total[name] >= _SMALL_SLICE for name in number
        )

    def has_returned(self, held: Entries, horizon: str | None) -> bool:
        """Return whether an entry came back with a change mark that the next run does not read.

        Only then may counts agree although an entry has left.

        :param horizon: from which the next run reads.
        """
        served = self.served()
        marks = [
            _change_mark(served[key])
            for key in served
            if key not in held or _is_published(served[key]) > _is_published(held[key])
        ]
        # A mark that is hidden may be old: a search can still go by it.
        return any(mark is None or moment_of(mark) < moment_of(horizon) for mark in marks)

    def compare(self, held: Entries, *, may_swap: bool, kept: int = 0) -> tuple[int, list[str]]:
        """Compare a copy with the service once everything has settled.

        :param may_swap: whether counts may agree, also by hexadecimal digit, although entries differ.
        :param kept: as many entries are gone, and stay in the copy, as the run has said; each may stand for
            one that was unpublished.
        :return: how many entries the rules leave for later, and the violations.
        """
        served = {key: self._without_hidden(entry) for key, entry in self.served().items()}
        held = {key: self._without_hidden(entry) for key, entry in held.items()}
        missing, extra = served.keys() - held.keys(), held.keys() - served.keys()
        complaints = []
        if not (may_swap and _is_swap(missing, extra, by_digit=True)):
            complaints += _complain("are in the service, but not in the copy", missing)
            if len(extra) != kept:
                complaints += _complain("are in the copy, but not in the service", extra)
        common = served.keys() & held.keys()
        published = {key for key in common if _is_published(served[key])}
        still_published = {key for key in common if _is_published(held[key])}
        came, went = published - still_published, still_published - published
        # What swapped as a whole takes part in the counts of published entries.
        came_whole = {key for key in missing if _is_published(served[key])}
        went_whole = {key for key in extra if _is_published(held[key])}
        if not kept and not (may_swap and _is_swap(came | came_whole, went | went_whole, by_digit=False)):
            complaints += _complain("are published in the service, but not in the copy", came)
            complaints += _complain("are published in the copy, but not in the service", went)
        other = {key for key in common - came - went if _content(served[key]) != _content(held[key])}
        returned = {key for key in other if self._returned(key, held[key])}
        complaints += _complain("have other content than in the service", other - returned)
        remarked = {key for key in returned if _change_mark(served[key]) != _change_mark(held[key])}
        return sum(map(len, (missing, extra, came, went, remarked))), complaints

    def _returned(self, key: Key, entry: bytes) -> bool:
        """Return whether an entry left since it was as held, and came back with a change mark from before."""
        versions = [each for _, each in self._current()[key.id.lower(), key.language.lower()]]
        texts = [None if each is None else self._without_hidden(self._render(each)) for each in versions]
        since = texts[len(texts) - 1 - texts[::-1].index(entry) :] if entry in texts else []
        if None not in since or since[-1] is None:
            return False
        before = since[: len(since) - 1 - since[::-1].index(None)]
        return _change_mark(since[-1]) in {_change_mark(each) for each in before if each is not None}

    def _current(self) -> dict[tuple[str, str], list[tuple[int, Document | None]]]:
        changes = self._world.catalogue.changes
        for change in changes[self._noted :]:
            if change.status == self._status:
                self._versions.setdefault(change.key, [(0, None)]).append((change.revision, change.document))
        self._noted = len(changes)
        return self._versions

    def _between(self, key: Key, first: int, last: int) -> Iterator[Document | None]:
        """Yield the versions of an entry that there were between two revisions."""
        versions = self._current().get((key.id.lower(), key.language.lower()), [])
        ends = [revision for revision, _ in versions[1:]] + [last + 1]
        for (revision, document), end in zip(versions, ends, strict=True):
            if revision <= last and end > first:
                yield document
        if not versions:
            yield None

    def _shown(self, key: Key, begin: Moment, end: Moment) -> set[bytes]:
        if all(key.content_type_id in hidden for hidden in self._roles(begin, end)):
            return set()
        versions = self._between(key, begin.indexed, end.revision)
        return {self._render(each) for each in versions if each is not None and self._matches(each)}

    def _was_absent(self, key: Key, reason: str, begin: Moment, end: Moment) -> bool:
        # A get of what a lost role hides has to say so: 403 does not.
        if self._scenario.hidden_status == 404 and self._was_hidden(key, begin, end):
            return True
        # A get shows the present, a search what the index knows.
        first = begin.indexed if reason == "not_matching" else begin.revision
        return not all(
            each is not None and self._matches(each) for each in self._between(key, first, end.revision)
        )

    def _was_hidden(self, key: Key, begin: Moment, end: Moment) -> bool:
        return any(key.content_type_id in hidden for hidden in self._roles(begin, end))

    def _roles(self, begin: Moment, end: Moment) -> list[frozenset[str]]:
        return self._world.roles[begin.roles : end.roles + 1]

    def _render(self, document: Document) -> bytes:
        body = self._world.catalogue.served(document, self._scenario.arguments["api"])
        return change_entry(body, self._world.quirks)

    def _without_hidden(self, entry: bytes) -> bytes:
        """Return an entry without what a quirk may have hidden when it was read."""
        return change_entry(entry, [self._scenario.quirk or ""])

    def _matches(self, document: Document) -> bool:
        found = self._matching.get(document)
        if found is None:
            found = self._matching[document] = self._is_match(document)
        return found

    def _is_match(self, document: Document) -> bool:
        arguments = self._scenario.arguments
        entry = json.loads(document.management)
        clauses = arguments.get("where", [])
        return (
            document.content_type_id in _values(arguments["content_type_id"], document.content_type_id)
            and document.language in _values(arguments["language"], document.language)
            and all(where.holds(entry) for where in WHERE if where.clause in clauses)
        )


def _values(requested: str | list[str] | None, default: str) -> list[str]:
    return [default] if requested is None else [requested] if isinstance(requested, str) else requested


def _is_swap(came: Iterable[Key], went: Iterable[Key], *, by_digit: bool) -> bool:
    """Return whether counting could not tell the entries that came from those that left."""
    if Counter(key.language for key in came) != Counter(key.language for key in went):
        return False
    return not by_digit or all(
        sum(key.id.lower().startswith(digit) for key in came)
        == sum(key.id.lower().startswith(digit) for key in went)
        for digit in _DIGITS
    )


def _is_published(entry: bytes) -> bool:
    version = json.loads(entry)["sys"].get("version") or {}
    return version.get("published") is not None


def _change_mark(entry: bytes) -> str | None:
    """Return the time since which an entry is as it is; None if it is hidden."""
    version = json.loads(entry)["sys"].get("version") or {}
    return max(version.get("published"), version.get("modified"), key=moment_of)


def _content(entry: bytes) -> Any:
    """Return what a change mark covers, every number as it is written."""
    content = json.loads(entry, parse_int=str, parse_float=str)
    for name in ("workflow", *_LANGUAGES):
        content["sys"].pop(name, None)
    (content["sys"].get("version") or {}).pop("versionNo", None)
    return content


def _complain(what: str, keys: Iterable[Key]) -> list[str]:
    some = sorted(keys)
    shown = ", ".join(" ".join(key) for key in some[:_MAX_SHOWN])
    return [f"entries that {what}: {len(some)} ({shown})"] if some else []
