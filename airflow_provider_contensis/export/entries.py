"""Entries from Contensis to files: plan, read, prove, write, commit."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_contensis.api.errors import ConfigurationError, ExportError, IncompleteReadError
from airflow_provider_contensis.api.times import sort_key
from airflow_provider_contensis.export.destination import MANIFEST, RETIRED_MANIFEST
from airflow_provider_contensis.export.fields import check_fields, field_tree, keep_fields
from airflow_provider_contensis.export.formats import open_writer
from airflow_provider_contensis.export.manifest import file_names, manifest
from airflow_provider_contensis.export.output import OutputFile, WrittenFile
from airflow_provider_contensis.export.plan import Part, Plan, Window
from airflow_provider_contensis.export.progress import Progress
from airflow_provider_contensis.export.read import Block, WindowReader
from airflow_provider_contensis.export.request import ReadOptions
from airflow_provider_contensis.export.spool import Spool, fingerprint_of
from airflow_provider_contensis.export.storage import LocalStorage, write_whole

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.query import Clause, EntryQuery
    from airflow_provider_contensis.export.formats.base import ContentType
    from airflow_provider_contensis.export.request import ExportRequest
    from airflow_provider_contensis.export.spool import Memory
    from airflow_provider_contensis.export.storage import Storage

log = logging.getLogger(__name__)

_PROOF_ATTEMPTS = 4


@dataclass(frozen=True)
class ExportResult:
    """What an export has done.

    :param files: what was written, by content type; None for one file with all of them.
    :param watermark: the greatest change mark exported, as the service wrote it; where there is none,
        `changed_from`.
    :param requests: HTTP requests sent.
    :param seconds: from the first request to the last file's commit.
    """

    request: ExportRequest
    project_id: str
    files: dict[str | None, WrittenFile]
    watermark: str | None
    requests: int
    seconds: float

    @property
    def entries(self) -> int:
        """How many entries were written."""
        return sum(file.rows for file in self.files.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-like values, small enough for an XCom."""
        query = self.request.query
        return {
            "destination": self.request.destination.url,
            "files": [
                {
                    "path": file.path,
                    "content_type_id": content_type_id,
                    "rows": file.rows,
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                }
                for content_type_id, file in self.files.items()
            ],
            "entries": self.entries,
            "project_id": self.project_id,
            "version_status": query.version_status,
            "changed_from": query.changed_from,
            "changed_to": query.changed_to,
            "watermark": self.watermark,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }


class _ReadWindow(NamedTuple):
    """A window that was read, and the fingerprints of what it held: eight bytes an entry.

    Two entries that share a fingerprint may fail an export, but can't hide in one: it is counts that prove.
    """

    window: Window
    seen: array[int]
    is_dated: bool


class EntryReader:
    """Reads the entries of one query, completely.

    :param client: whose connections are used.
    :param project_id: the project to read from.
    :param query: which entries.
    :param options: how they are read.
    """

    def __init__(
        self, client: ContensisClient, project_id: str, query: EntryQuery, options: ReadOptions | None = None
    ) -> None:
        options = options or ReadOptions()
        self._client = client
        self._project_id = project_id
        self._query = query
        self._progress = Progress()
        self._windows = WindowReader(
            client,
            project_id,
            api=query.api,
            link_depth=query.link_depth,
            field_link_depths=query.field_link_depths,
            page_size=options.page_size,
            max_concurrent_requests=options.max_concurrent_requests,
            on_progress=self._progress.add,
        )

    def plan(self) -> Plan:
        """Ask what there is, and cut it into windows.

        :raises ConfigurationError: the project has no such content type or language.
        :raises ContensisError: the service could not be asked.
        """
        query = self._query
        self._client.access_token()  # if it is refused, then once, and not to each of two threads
        with ThreadPoolExecutor(1, thread_name_prefix="contensis-plan") as thread:
            listed = thread.submit(self._content_types)
            languages = self._languages()
            content_types = listed.result()
        content_type_ids = [content_type["id"] for content_type in content_types]
        roots = [
            Window(language, id_, query.clauses(language=language, content_type=clause))
            for (id_, clause), language in product(self._choices(content_type_ids), languages)
        ]
        parts, windows = [], []
        for window, measure in zip(roots, self._windows.measure(roots), strict=True):
            if measure.total == 0:
                continue
            if window.content_type_id is None:
                log.warning(
                    "%d entries in %s have content types that the project does not list; they are read too",
                    measure.total,
                    window.language,
                )
            parts.append(Part(window, measure.total))
            windows += self._windows.parts(window, measure)
        plan = Plan(content_types, tuple(parts), tuple(windows))
        log.info(
            "Plan: %s entries; content types %s; languages %s; %d windows",
            f"{plan.total:,}",
            ", ".join(content_type_ids) or "none",
            ", ".join(languages) or "none",
            len(windows),
        )
        if not windows:
            log.warning("No entry matches. If that surprises you, check the roles of the API key")
        return plan

    def read(self, plan: Plan, spool: Spool | None = None) -> Iterator[Block]:
        """Yield the entries of a plan in order, each window proven complete, and all of them together.

        What the proof finds missing comes last.

        :param spool: what an earlier try has read comes from it, and the rest is kept in it.
        :raises IncompleteReadError: what was read could not be proven complete.
        :raises ContensisError: the service could not be asked.
        """
        done: list[_ReadWindow] = []
        for block in self._planned(plan, spool):
            done.append(_ReadWindow(block.window, block.fingerprints, block.is_dated))
            yield block
        yield from self._prove(plan, done, is_old=spool is not None and spool.plan is not None)

    def _planned(self, plan: Plan, spool: Spool | None) -> Iterator[Block]:
        """Yield the windows of a plan."""
        self._progress.begin(plan.total)
        if spool is None:
            yield from self._windows.read(plan.windows)
            return
        for block in spool.replay():
            self._progress.add(len(block.entries))
            yield block
        for block in self._windows.read(spool.left, on_cut=spool.cut):
            spool.add(block)
            yield block

    def _prove(self, plan: Plan, done: Sequence[_ReadWindow], *, is_old: bool = False) -> Iterator[Block]:
        """Check that the windows of each part add up to the part itself; yield what they lacked.

        Where they do not, somebody may have published an entry into a window that was already read, or
        the service may have kept something back: windows that have grown are read again.

        :param is_old: whether the plan is an earlier try's.
        """
        # What was read of an earlier try's plan may have been deleted since, and hide what is missing.
        found = _found(done)
        unsure = [part.window for part in plan.parts if is_old or found[part.window.part] != part.total]
        for window, total in zip(unsure, self._windows.totals(unsure), strict=True):
            if found[window.part] != total:
                yield from self._missing([each for each in done if each.window.part == window.part])
        for attempt in range(_PROOF_ATTEMPTS):
            short = self._short(plan, done)
            if not short:
                _check_distinct([each for each in done if not each.is_dated])
                log.info(
                    "Proof: %s distinct (sys.id, sys.language) in %d windows, as many as the service counts",
                    f"{sum(len(each.seen) for each in done):,}",
                    len(done),
                )
                return
            if attempt + 1 < _PROOF_ATTEMPTS:
                for part, _, _ in short:
                    yield from self._missing([each for each in done if each.window.part == part.part])
        part, expected, seen = short[0]
        raise IncompleteReadError(
            f"{part}: the service counts {expected:,} entries, but its windows hold {seen:,}. "
            "Somebody may be changing much content: try again later.",
            expected=expected,
            found=seen,
        )

    def _short(self, plan: Plan, done: Sequence[_ReadWindow]) -> list[tuple[Window, int, int]]:
        """Return the parts of which fewer entries were read than there are, with both figures.

        Entries deleted meanwhile may lower the count, so it is asked again where fewer were found.
        """
        found = _found(done)
        short = [part for part in plan.parts if found[part.window.part] < part.total]
        now = self._windows.totals([part.window for part in short])
        figures = [
            (part.window, min(part.total, total), found[part.window.part])
            for part, total in zip(short, now, strict=True)
        ]
        return [(window, expected, seen) for window, expected, seen in figures if seen < expected]

    def _missing(self, done: Sequence[_ReadWindow]) -> Iterator[Block]:
        """Read windows again that hold more now than was seen; yield what was not seen."""
        totals = self._windows.totals([each.window for each in done])
        for each, total in zip(done, totals, strict=True):
            if total <= len(each.seen):
                continue
            log.warning(
                "%s: the service counts %s entries, of which %s were read. Reading again what has grown",
                each.window,
                f"{total:,}",
                f"{len(each.seen):,}",
            )
            for block in self._windows.read([each.window]):
                fresh = block.without(set(each.seen))
                each.seen.extend(fresh.fingerprints)
                yield fresh

    def _languages(self) -> tuple[str, ...]:
        project = self._client.get_project(self._project_id, api=self._query.api)
        supported = project.get("supportedLanguages") or [project.get("primaryLanguage")]
        asked = self._query.languages
        if not isinstance(supported, list) or not all(isinstance(name, str) and name for name in supported):
            if asked is None:
                # To go on without any would export nothing and call it complete.
                raise ExportError(f"Project {self._project_id!r} tells no languages: name them in language.")
            return asked
        known = {language.lower(): language for language in supported}
        return tuple(known.values()) if asked is None else _known("language", asked, known, self._project_id)

    def _content_types(self) -> tuple[ContentType, ...]:
        query = self._query
        status = "latest" if query.api == "management" else "published"
        listed = self._client.list_content_types(self._project_id, version_status=status, api=query.api)
        # Ids that differ in case only would be asked for twice: the service compares without it.
        by_id = {item["id"]: item for item in listed if isinstance(item.get("id"), str)}
        by_id = {id_: by_id[id_] for id_ in {id_.lower(): id_ for id_ in by_id}.values()}
        formats = {id_: str(item.get("dataFormat") or "entry").lower() for id_, item in by_id.items()}
        wanted = {query.data_format} if query.data_format else {"entry", "asset"}
        if query.content_type_ids is None:
            return tuple(by_id[id_] for id_ in sorted(by_id) if formats[id_] in wanted)
        known = {id_.lower(): id_ for id_ in by_id}
        ids = _known("content_type_id", query.content_type_ids, known, self._project_id)
        for id_ in ids:
            if formats[id_] not in wanted:
                raise ConfigurationError(
                    f"content_type_id {id_!r} holds what Contensis calls {formats[id_]!r}, "
                    f"but data_format is {query.data_format!r}: set it to {formats[id_]!r}."
                )
        return tuple(by_id[id_] for id_ in sorted(ids))

    def _choices(self, content_type_ids: Sequence[str]) -> list[tuple[str | None, Clause]]:
        """Return the clause for each content type, and one for whatever none of them covers."""
        choices: list[tuple[str | None, Clause]] = [
            (id_, {"field": "sys.contentTypeId", "equalTo": id_}) for id_ in content_type_ids
        ]
        if self._query.content_type_ids is None:
            listed = {"field": "sys.contentTypeId", "in": list(content_type_ids)}
            choices.append(
                (None, {"not": listed} if content_type_ids else {"field": "sys.id", "exists": True})
            )
        return choices


def _found(done: Iterable[_ReadWindow]) -> Counter[tuple[str | None, str]]:
    """Return how many entries of each part were read."""
    found: Counter[tuple[str | None, str]] = Counter()
    for each in done:
        found[each.window.part] += len(each.seen)
    return found


def _check_distinct(done: Sequence[_ReadWindow]) -> None:
    """Refuse an entry that came in two windows, where its time, being hidden, did not betray it.

    :raises IncompleteReadError: with both figures.
    """
    found = sum(len(each.seen) for each in done)
    distinct = len(set().union(*(each.seen for each in done)))
    if distinct < found:
        raise IncompleteReadError(
            f"{found:,} entries came, but only {distinct:,} distinct ones: the service, or a cache in front "
            "of it, showed a page that was not asked for.",
            expected=found,
            found=distinct,
        )


def _known(argument: str, asked: Iterable[str], known: dict[str, str], project_id: str) -> tuple[str, ...]:
    """Return names as the project spells them.

    :param known: the project's spelling by the lower-case name.
    :raises ConfigurationError: the project has no such name; an empty export would hide the slip.
    """
    for name in asked:
        if name.lower() not in known:
            raise ConfigurationError(
                f"{argument} {name!r} is not in project {project_id!r}, which has: "
                f"{', '.join(sorted(known.values())) or 'none that this API key may see'}."
            )
    return tuple(dict.fromkeys(known[name.lower()] for name in asked))


def export_entries(
    client: ContensisClient,
    project_id: str,
    request: ExportRequest,
    *,
    storage: Storage | None = None,
    root: str | None = None,
    owner: str = "export",
    memory: Memory | None = None,
) -> ExportResult:
    """Export entries to a file, or to a folder with a file for each content type and a manifest.

    :param client: whose connections are used.
    :param project_id: the project to read from.
    :param request: which entries, and where they go.
    :param storage: where files are written; None for this machine.
    :param root: the destination as the storage names it; None if that is its URL.
    :param owner: names the task, the same for all its tries; leftovers of its dead tries are removed.
    :param memory: what the task's tries tell each other, so that one goes on from what another has read;
        None to read everything, and to keep nothing for another try.
    :raises ContensisError: whatever was under the destination's name is untouched.
    """
    started, sent_before = time.monotonic(), client.requests_sent
    query = request.query
    log.info(
        "Exporting %s entries of project %s (%s API) to %s",
        query.version_status,
        project_id,
        query.api,
        request.destination.url,
    )
    reader = EntryReader(client, project_id, query, request.options)
    root = root or request.destination.url
    with ExitStack() as stack:
        spool = stack.enter_context(
            Spool(
                request.destination,
                fingerprint_of(client, project_id, query),
                owner=owner,
                memory=None if request.start_over else memory,
            )
        )
        plan = spool.plan or reader.plan()
        if request.fields is not None:
            check_fields(request.fields, plan.content_types)
        writer = stack.enter_context(_Writer(request, plan, storage or LocalStorage(), root, owner=owner))
        spool.begin(plan)
        for block in reader.read(plan, spool):
            writer.write(block)

        def result() -> ExportResult:
            return ExportResult(
                request=request,
                project_id=project_id,
                files=writer.written,
                watermark=writer.watermark,
                requests=client.requests_sent - sent_before,
                seconds=time.monotonic() - started,
            )

        writer.finish()
        writer.commit(result().as_dict())
    done = result()
    for file in done.files.values():
        log.info(
            "Wrote %s: %s entries, %s bytes, sha256 %s",
            file.path,
            f"{file.rows:,}",
            f"{file.bytes:,}",
            file.sha256,
        )
    log.info(
        "Exported %s entries with %d requests in %.1f s", f"{done.entries:,}", done.requests, done.seconds
    )
    return done


class _Writer:
    """The files of one export; nothing under their names changes before `commit`."""

    def __init__(
        self, request: ExportRequest, plan: Plan, storage: Storage, root: str, *, owner: str
    ) -> None:
        self._request = request
        self._destination = request.destination
        self._content_types = {content_type["id"]: content_type for content_type in plan.content_types}
        self._storage = storage
        self._root = root
        self._owner = owner
        self._kept = None if request.fields is None else field_tree(request.fields)
        self._files: dict[str | None, OutputFile] = {}
        # Where nothing is seen, the next export goes on from where this one began.
        self.watermark = request.query.changed_from
        try:
            # What is asked for gets a file even if it holds nothing: yesterday's content must not stay.
            for content_type_id in self._content_types if self._destination.is_folder else [None]:
                self._file(content_type_id)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    @property
    def written(self) -> dict[str | None, WrittenFile]:
        """What the finished files are, under the URLs that a person would name them by."""
        url = self._destination.url
        return {
            content_type_id: replace(
                file.written,
                path=url if content_type_id is None else url + self._destination.name_for(content_type_id),
            )
            for content_type_id, file in self._files.items()
        }

    def write(self, block: Block) -> None:
        """Append the entries of a window."""
        entries, heads = block.entries, block.heads
        if self._kept is not None:
            entries = [keep_fields(entry, self._kept) for entry in entries]
        if not self._destination.is_folder:
            self._file(None).write(entries, heads)
        elif block.window.content_type_id is not None:
            self._file(block.window.content_type_id).write(entries, heads)
        else:
            rows = zip(entries, heads, strict=True)
            for content_type_id, run in groupby(rows, key=lambda row: row[1].sys.content_type_id):
                some_entries, some_heads = zip(*run, strict=True)
                self._file(content_type_id).write(some_entries, some_heads)
        self._raise_watermark(block)

    def finish(self) -> None:
        """Write all that is left, not yet under the final names."""
        for file in self._files.values():
            file.finish()

    def commit(self, summary: dict[str, Any]) -> None:
        """Give all files their names, a folder's manifest last; then remove what it no longer names.

        While a folder's files are replaced it has no manifest: killed there, it is no export rather than
        half of two.
        """
        if not self._destination.is_folder:
            self._files[None].commit()
            return
        for file in summary["files"]:
            file["path"] = file["path"].removeprefix(self._destination.url)
        content = manifest(
            summary, query=asdict(self._request.query), content_types=self._content_types.values()
        )
        storage, path, retired = self._storage, f"{self._root}{MANIFEST}", f"{self._root}{RETIRED_MANIFEST}"
        pending = storage.create(path, owner=self._owner)
        try:
            pending.write(content)
            pending.finish()
            with storage.exclusive(self._root, owner=self._owner):
                current = storage.read(path)
                older = file_names(current) | file_names(storage.read(retired))
                if current is not None:
                    # It goes on telling which files are an export's own, should this one not come to its end.
                    write_whole(storage, retired, current, owner=self._owner)
                    storage.remove(path)
                for output in self._files.values():
                    output.commit()
                pending.commit()
                for name in older - {file["path"] for file in summary["files"]}:
                    storage.remove(f"{self._root}{name}")
                storage.remove(retired)
        finally:
            pending.discard()

    def _discard(self) -> None:
        for file in self._files.values():
            file.discard()

    def _file(self, content_type_id: str | None) -> OutputFile:
        if content_type_id not in self._files:
            destination = self._destination
            if content_type_id is None:
                path, content_types = self._root, list(self._content_types.values())
            else:
                path = f"{self._root}{destination.name_for(content_type_id)}"
                content_types = [
                    self._content_types.get(content_type_id, {"id": content_type_id, "fields": []})
                ]
            self._files[content_type_id] = OutputFile(
                self._storage,
                path,
                owner=self._owner,
                compression=destination.compression,
                make_writer=lambda sink: open_writer(
                    destination.file_format,
                    sink,
                    content_types,
                    self._request.format_options,
                    version_status=self._request.query.version_status,
                    fields=self._request.fields,
                ),
            )
        return self._files[content_type_id]

    def _raise_watermark(self, block: Block) -> None:
        published = self._request.query.version_status == "published"
        versions = [head.sys.version for head in block.heads if head.sys.version]
        marks = [version.published if published else version.modified for version in versions]
        self.watermark = max(filter(None, [self.watermark, *marks]), key=sort_key, default=None)
