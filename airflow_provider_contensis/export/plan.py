"""The plan of a read: what there is of what is asked for, cut into windows that are read side by side."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.exceptions import ConfigurationError, ExportError
from airflow_provider_contensis.export.cut import cut_to_pages
from airflow_provider_contensis.export.model import Measure, Plan, Slice, Window
from airflow_provider_contensis.export.where import check_where
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Clause, ContentType
    from airflow_provider_contensis.export.model import EntryQuery
    from airflow_provider_contensis.export.page import Page
    from airflow_provider_contensis.export.search import WindowSearch

log = logging.getLogger(__name__)


class Planner:
    """Plans the read of one query.

    :param client: lists languages and content types.
    :param project_id: the project to read from.
    :param query: which entries.
    :param search: counts them.
    """

    def __init__(
        self, client: ContensisClient, project_id: str, query: EntryQuery, search: WindowSearch
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._query = query
        self._search = search

    def plan(self) -> Plan:
        """Return the plan.

        :raises ConfigurationError: the project has no such content type or language, or no such field.
        :raises ContensisError: the service could not be asked.
        """
        self._client.access_token()  # so that a refusal happens once, not in each of two threads
        with ThreadPoolExecutor(1, thread_name_prefix="contensis-plan") as thread:
            listed = thread.submit(self._content_types)
            languages = self._languages()
            content_types = listed.result()
        listed_ids = [content_type["id"] for content_type in content_types]
        measures = self._measure_all(self._wholes(listed_ids, languages))
        if unlisted := self._unlisted(measures, listed_ids):
            measures = self._measure_all(self._wholes(listed_ids, languages, unlisted))
        measures = self._measure_again(measures)
        slices, windows = [], []
        for window, measure in measures:
            if measure.total == 0:
                continue
            if window.content_type_id in {None, *unlisted}:
                log.warning(
                    "%s of %s, which the project does not list: exporting them, too",
                    count(measure.total, "entry", "entries"),
                    window,
                )
            slices.append(Slice(window, measure.total))
            windows += self._cut(window, measure)
        if not any(each.window.content_type_id in {None, *unlisted} for each in slices):
            check_where(self._query.where, content_types)  # all that could match is known
        plan = Plan(content_types, tuple(slices), tuple(windows))
        log.info(
            "Plan: %s in %s; content types: %s; languages: %s",
            count(plan.total, "entry", "entries"),
            count(len(windows), "window"),
            ", ".join([*listed_ids, *unlisted]) or "none",
            ", ".join(languages) or "none",
        )
        if not windows:
            log.warning("No entries matched. Check where, changed_from/changed_to and the API key's role")
        return plan

    def _languages(self) -> tuple[str, ...]:
        project = self._client.get_project(self._project_id, api=self._query.api)
        supported: Any = project.get("supportedLanguages") or [project.get("primaryLanguage")]
        asked = self._query.languages
        if not isinstance(supported, list) or not all(isinstance(name, str) and name for name in supported):
            if asked is None:
                # An export without any language would be empty, and claim to be complete.
                raise ExportError(f"Project {self._project_id!r} lists no languages: set language.")
            return asked
        known = {language.lower(): language for language in supported}
        return tuple(known.values()) if asked is None else self._resolve("language", asked, known)

    def _content_types(self) -> tuple[ContentType, ...]:
        query = self._query
        listed = self._client.list_content_types(
            self._project_id,
            version_status="latest" if query.api == "management" else "published",
            api=query.api,
        )
        by_id = {item["id"]: item for item in listed if isinstance(item.get("id"), str)}
        # The service ignores case, so ids that differ only in case would be read twice.
        by_id = {id_: by_id[id_] for id_ in {id_.lower(): id_ for id_ in by_id}.values()}
        formats = {id_: str(item.get("dataFormat") or "entry").lower() for id_, item in by_id.items()}
        wanted = {query.data_format} if query.data_format else {"entry", "asset"}
        if query.content_type_ids is None:
            return tuple(by_id[id_] for id_ in sorted(by_id) if formats[id_] in wanted)
        known = {id_.lower(): id_ for id_ in by_id}
        ids = self._resolve("content_type_id", query.content_type_ids, known)
        for id_ in ids:
            if formats[id_] not in wanted:
                raise ConfigurationError(
                    f"content_type_id {id_!r} has the data format {formats[id_]!r}, "
                    f"but data_format is {query.data_format!r}: set it to {formats[id_]!r}."
                )
        return tuple(by_id[id_] for id_ in sorted(ids))

    def _resolve(self, argument: str, asked: Iterable[str], known: dict[str, str]) -> tuple[str, ...]:
        """Return names as the project spells them.

        :param known: the project's spelling by the lower-case name.
        :raises ConfigurationError: the project has no such name; an empty export would hide the slip.
        """
        for name in asked:
            if name.lower() not in known:
                raise ConfigurationError(
                    f"{argument} {name!r} is not in project {self._project_id!r}, which has: "
                    f"{', '.join(sorted(known.values())) or 'none that this API key may see'}."
                )
        return tuple(dict.fromkeys(known[name.lower()] for name in asked))

    def _wholes(
        self, listed: Sequence[str], languages: Sequence[str], unlisted: Sequence[str] = ()
    ) -> list[Window]:
        """Return a window for each content type and language, and for content types that are not known."""
        ids = [*listed, *unlisted]
        choices: list[tuple[str | None, Clause]] = [
            (id_, {"field": "sys.contentTypeId", "equalTo": id_}) for id_ in ids
        ]
        if self._query.content_type_ids is None:
            known = {"field": "sys.contentTypeId", "in": ids}
            choices.append((None, {"not": known} if ids else {"field": "sys.id", "exists": True}))
        return [
            Window(language, id_, self._query.clauses(language=language, content_type=clause))
            for (id_, clause), language in product(choices, languages)
        ]

    def _unlisted(self, measured: Sequence[tuple[Window, Measure]], listed: Sequence[str]) -> list[str]:
        """Return the content types that have entries but are not listed, as the API key may not see them."""
        found: list[str] = []
        for window, measure in measured:
            if window.content_type_id is not None or not measure.total:
                continue
            known = {id_.lower() for id_ in (*listed, *found)}
            while True:
                rest = self._wholes(listed, [window.language], found)[-1]
                page = self._search.first(rest)
                id_ = page.batch.metas[0].content_type_id if page.batch.metas else ""
                if not id_ or id_.lower() in known:
                    break
                found.append(id_)
                known.add(id_.lower())
        return sorted(found)

    def _measure_again(self, measures: list[tuple[Window, Measure]]) -> list[tuple[Window, Measure]]:
        """Return measures in which slices that seem empty are empty.

        Nothing is read of an empty slice, so nothing would show that its empty pages answered another query.
        Therefore, if the slices of a language hold less than the language, the empty ones are measured again.
        """
        clause: Clause = {"field": "sys.id", "exists": True}
        if self._query.content_type_ids is not None:
            ids = dict.fromkeys(window.content_type_id for window, _ in measures)
            clause = {"field": "sys.contentTypeId", "in": list(ids)}
        wholes = [
            Window(language, None, self._query.clauses(language=language, content_type=clause))
            for language in dict.fromkeys(window.language for window, each in measures if not each.total)
        ]
        for whole, total in zip(wholes, self._search.counts(wholes), strict=True):
            slices = [number for number, (each, _) in enumerate(measures) if each.language == whole.language]
            if total > sum(measures[number][1].total for number in slices):
                empty = [number for number in slices if not measures[number][1].total]
                again = self._measure_all([measures[number][0] for number in empty])
                for number, measured in zip(empty, again, strict=True):
                    measures[number] = measured
        return measures

    def _measure_all(self, windows: Sequence[Window]) -> list[tuple[Window, Measure]]:
        search = self._search
        with search.threads() as executor:
            # With few windows, spare requests ask early for what a large window needs; with many, most
            # would ask in vain.
            spare = search.concurrency // max(1, len(windows)) - 1
            measures = []
            for window in windows:
                last = executor.submit(search.last, window) if spare >= 1 else None
                undated = replace(window, undated=True)
                rest = [executor.submit(search.first, undated) for _ in range(2)] if spare >= 3 else []
                measures.append(executor.submit(self._measure, window, last, rest))
            return [(window, measure.result()) for window, measure in zip(windows, measures, strict=True)]

    def _measure(self, window: Window, last: Future[Page] | None, rest: Sequence[Future[Page]]) -> Measure:
        """Return the size of a window, and its range if it is larger than a page.

        :param last: the page with its last entry, if that was asked for already.
        :param rest: pages with its first entry without a created time, if they were asked for already.
        """
        if last is None:
            page, far = self._search.confirmed(window, 1), None
        else:
            page, far = self._search.first(window), last.result()
        total = max(page.total, far.total if far else 0)
        if total <= self._search.limits.page_size:
            return Measure(total)
        measure = self._search.measure(window, replace(page, total=total), far)
        # Asked twice: an empty page does not prove which query it answers.
        return replace(measure, undated=any(each.result().total for each in rest) or not rest)

    def _cut(self, window: Window, measure: Measure) -> list[Window]:
        page_size = self._search.limits.page_size
        if measure.total <= page_size:
            return [window]
        return cut_to_pages(window, measure, page_size=page_size, concurrency=self._search.concurrency)
