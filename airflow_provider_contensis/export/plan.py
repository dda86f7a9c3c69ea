"""The plan of a read: the content types and languages of the project that are asked for."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_contensis.api.resources import DataFormat, VersionStatus
from airflow_provider_contensis.exceptions import APIError, ConfigurationError, ExportError
from airflow_provider_contensis.export.diagnosis import explain_refusal, hint
from airflow_provider_contensis.export.model import Plan
from airflow_provider_contensis.export.paths import check_link_depths
from airflow_provider_contensis.export.search import REFUSED
from airflow_provider_contensis.export.where import check_names, check_where, typed_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import ContentType
    from airflow_provider_contensis.export.model import EntryQuery, Window
    from airflow_provider_contensis.export.search import WindowSearch

log = logging.getLogger(__name__)

# All that there are (docs/contensis-api.md, "Content types"); an export reads the first two.
_FORMATS = ("entry", "asset", "form", "webpage")


class Planner:
    """Plans the read of one query.

    :param client: lists languages and content types.
    :param project_id: the project to read from.
    :param search: counts entries; its query says which.
    """

    def __init__(self, client: ContensisClient, project_id: str, search: WindowSearch) -> None:
        self._client = client
        self._project_id = project_id
        self._search = search

    @property
    def _query(self) -> EntryQuery:
        return self._search.query

    def plan(self) -> Plan:
        """Return the plan.

        :raises ConfigurationError: the project has no such content type or language, or no such field.
        :raises ContensisError: the service could not be asked.
        """
        self._client.access_token()  # so that a refusal happens once, not in each of two threads
        with ThreadPoolExecutor(1, thread_name_prefix="contensis-plan") as thread:
            listing = thread.submit(self._content_types)
            with explain_refusal(self._query.api):
                supported, languages = self._languages()
            listed, content_types = listing.result()
        ids = [content_type["id"] for content_type in content_types]
        log.info("Content types: %s; languages: %s", ", ".join(ids) or "none", ", ".join(languages))
        if not ids:
            ids = self._unlisted(ids, languages)
        known = {"content_type_id": listed, "language": supported}
        try:
            typed = self._checked(content_types, known, {"content_type_id": ids, "language": languages})
        except ConfigurationError:
            if not self._unlisted(ids, languages):  # all that could match is known
                raise
            typed = typed_query(self._query, content_types)
        self._search.query = typed
        everything = self._query.content_type_ids is None
        return Plan(content_types, self._query.window(ids, languages, unlisted=everything))

    def _checked(
        self,
        content_types: Sequence[ContentType],
        known: Mapping[str, Sequence[str]],
        asked: Mapping[str, Sequence[str]],
    ) -> EntryQuery:
        """Return the query, checked against the project.

        :param known: what the project has, by argument.
        :param asked: what the arguments ask for.
        :raises ConfigurationError: the project has no such field, or a clause cannot match.
        """
        query = self._query
        if query.is_typed:
            return query
        formats = [query.data_format] if query.data_format else get_args(DataFormat)
        check_names(
            query.where,
            {**known, "version_status": get_args(VersionStatus), "data_format": _FORMATS},
            {**asked, "version_status": [query.version_status], "data_format": formats},
        )
        check_where(query.where, content_types)
        check_link_depths(query.field_link_depths or (), content_types)
        return typed_query(query, content_types, strict=True)

    def unlisted(self, plan: Plan) -> list[Window]:
        """Return windows for content types that have entries but are not in the plan.

        The API key may not be allowed to see their definitions.
        """
        languages = plan.whole.languages
        return [
            self._query.window([id_], languages)
            for id_ in self._unlisted(plan.whole.content_type_ids, languages)
        ]

    def _unlisted(self, listed: Sequence[str], languages: Sequence[str]) -> list[str]:
        found: list[str] = []
        while self._query.content_type_ids is None:
            known = [*listed, *found]
            others = self._query.window((), languages, unlisted=True, listed=known)
            try:
                page = self._search.confirmed(others, 1)
            except APIError as error:
                if not listed or error.status_code not in REFUSED:
                    raise
                # The last count shows whether such content types hold anything.
                log.warning("Not looking for content types that the project does not list: %s", error)
                break
            id_ = page.batch.metas[0].content_type_id if page.batch.metas else ""
            if not id_ or id_.lower() in map(str.lower, known):
                break
            found.append(id_)
        return sorted(found)

    def languages(self) -> tuple[str, ...]:
        """Return the languages that are asked for, as the project spells them.

        :raises ConfigurationError: the project has no such language.
        :raises ContensisError: the service could not be asked.
        """
        return self._languages()[1]

    def _languages(self) -> tuple[Sequence[str], tuple[str, ...]]:
        """Return the languages that the project supports, and those asked for."""
        project = self._client.get_project(self._project_id, api=self._query.api)
        supported: Any = project.get("supportedLanguages") or [project.get("primaryLanguage")]
        asked = self._query.languages
        if not isinstance(supported, list) or not all(isinstance(name, str) and name for name in supported):
            if asked is None:
                # An export without any language would be empty, and claim to be complete.
                raise ExportError(
                    f"Project {self._project_id!r} lists no languages: set language. {hint('languages')}"
                )
            return asked, asked
        known = {language.lower(): language for language in supported}
        every = tuple(known.values())
        return every, every if asked is None else self._resolve("language", asked, known)

    def _content_types(self) -> tuple[list[str], tuple[ContentType, ...]]:
        """Return the ids that the project lists, and the definitions asked for."""
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
            return list(by_id), tuple(by_id[id_] for id_ in sorted(by_id) if formats[id_] in wanted)
        known = {id_.lower(): id_ for id_ in by_id}
        ids = self._resolve("content_type_id", query.content_type_ids, known)
        for id_ in ids:
            if formats[id_] not in wanted:
                raise ConfigurationError(
                    f"content_type_id {id_!r} has the data format {formats[id_]!r}, "
                    f"but data_format is {query.data_format!r}: set it to {formats[id_]!r}."
                )
        return list(by_id), tuple(by_id[id_] for id_ in sorted(ids))

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
