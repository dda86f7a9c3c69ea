"""Questions to the service, as the checks ask them, and a sample of what it holds."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from airflow_provider_contensis.doctor.check import SkippedError
from airflow_provider_contensis.exceptions import ContensisError, InvalidResponseError
from airflow_provider_contensis.export.times import as_datetime
from airflow_provider_contensis.utils.json import UNREADABLE, loads_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import requests

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Api, Clause, ContentType, Project
    from airflow_provider_contensis.doctor.speed import Measures

CREATED, MODIFIED, PUBLISHED = (f"sys.version.{name}" for name in ("created", "modified", "published"))

_SAMPLE = 200
_FEW = 50
_CONTENT_TYPES = 20


class Version(msgspec.Struct, rename="camel"):
    """`sys.version` of an entry."""

    created: str | None = None
    modified: str | None = None
    published: str | None = None
    version_no: str | None = None


class Sys(msgspec.Struct, rename="camel"):
    """`sys` of an entry, as far as checks look into it."""

    id: str
    language: str = ""
    content_type_id: str = ""
    data_format: str = ""
    version: Version = msgspec.field(default_factory=Version)

    @property
    def is_edited(self) -> bool:
        """Whether it was saved after it was published, and so is no published version."""
        published, modified = as_datetime(self.version.published), as_datetime(self.version.modified)
        return published is not None and modified is not None and modified > published


class Item(msgspec.Struct):
    """An entry, as far as checks look into it."""

    sys: Sys


class Page(msgspec.Struct, rename="camel"):
    """A page of entries (docs/contensis-api.md, "Paging")."""

    total_count: int
    items: list[Item]
    page_size: int | None = None
    aggregations: Any = None

    @property
    def entries(self) -> list[Sys]:
        """`sys` of its entries."""
        return [item.sys for item in self.items]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The identity of its entries."""
        return [(entry.id.lower(), entry.language.lower()) for entry in self.entries]


_PAGE = msgspec.json.Decoder(Page)


@dataclass(frozen=True)
class Answer:
    """A page and the headers that came with it; `body` is its JSON."""

    page: Page
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Probe:
    """Asks an environment questions, one at a time.

    `everything` are the clauses of all published entries in the main language, `slice` those of a content
    type of moderate size: they use `equalTo` only, so that no other assumption is in the way.

    :param client: sends the calls, and retries them.
    :param project_id: the project to read.
    :param row_limit: the rows of a query that are expected to be in reach, and counted.
    :param slow_page: pages that take longer than this many seconds are not followed by larger ones.
    :raises ContensisError: the project cannot be read.
    """

    def __init__(
        self,
        client: ContensisClient,
        project_id: str,
        *,
        row_limit: int,
        slow_page: float,
        measures: Measures,
    ) -> None:
        self.client = client
        self.project_id = project_id
        self.row_limit = row_limit
        self.slow_page = slow_page
        self.measures = measures
        self.service_version: str | None = None
        self.project: Project = client.get_project(project_id)
        listed: list[ContentType] = client.list_content_types(project_id, version_status="latest")
        self.content_types = sorted(
            {
                str(item["id"])
                for item in listed
                if item.get("id") and str(item.get("dataFormat") or "entry").lower() in {"entry", "asset"}
            }
        )
        self.languages = self._languages()
        self.everything = self.clauses("published")
        self.total = self.count()
        self.counts = {id_: self.count(base=self.of_type(id_)) for id_ in self.content_types[:_CONTENT_TYPES]}
        self.content_type_id = self._moderate_content_type()
        self.slice = self.of_type(self.content_type_id)
        self.slice_total = self.count(base=self.slice)

    # --- questions ----------------------------------------------------------------------------------------

    def search(
        self, query: Mapping[str, Any], *, api: Api = "management", link_depth: int | None = None
    ) -> Answer:
        """Return the answer to a search as the API writes it.

        :raises ContensisError: the service refused it, or did not answer it.
        """
        path = f"/api/{api}/projects/{quote(self.project_id, safe='')}/entries/search"
        params = {"linkDepth": link_depth}
        answer = self.client.call("POST", path, _answer, json=query, params=params)
        self.service_version = answer.headers.get("origin-content-api-version")
        return answer

    def page(
        self,
        *clauses: Clause,
        base: Sequence[Clause] | None = None,
        order: Sequence[Mapping[str, str]] = ({"asc": CREATED}, {"asc": "sys.id"}),
        size: int = _SAMPLE,
        index: int = 0,
        api: Api = "management",
    ) -> Page:
        """Return a page of the entries that match some clauses and those of a base.

        :param base: None for `everything`.
        """
        where = [*(self.everything if base is None else base), *clauses]
        query = {"where": where, "orderBy": list(order), "pageIndex": index, "pageSize": size}
        return self.search(query, api=api).page

    def count(self, *clauses: Clause, base: Sequence[Clause] | None = None, api: Api = "management") -> int:
        """Return how many entries match some clauses and those of a base, as `page`."""
        where = [*(self.everything if base is None else base), *clauses]
        return self.search({"where": where, "pageIndex": 0, "pageSize": 1}, api=api).page.total_count

    def clauses(
        self, status: str, *, language: str | None = None, data_format: str = "entry"
    ) -> list[Clause]:
        """Return the clauses of all entries of a version status, language and data format."""
        return [
            {"field": "sys.versionStatus", "equalTo": status},
            {"field": "sys.language", "equalTo": language or self.languages[0]},
            {"field": "sys.dataFormat", "equalTo": data_format},
        ]

    def of_type(self, content_type_id: str | None, status: str = "published") -> list[Clause]:
        """Return the clauses of a content type; None for all of them."""
        clauses = self.clauses(status)
        if content_type_id is not None:
            clauses.insert(0, {"field": "sys.contentTypeId", "equalTo": content_type_id})
        return clauses

    # --- samples ------------------------------------------------------------------------------------------

    @cached_property
    def sample(self) -> list[Sys]:
        """Entries of the slice.

        :raises SkippedError: there are none.
        """
        entries = self.page(base=self.slice).entries
        if not entries:
            raise SkippedError("no published entry in the main language")
        return entries

    @cached_property
    def latest(self) -> list[Sys]:
        """The newest versions of the slice's entries, saved last."""
        order = ({"desc": MODIFIED}, {"asc": "sys.id"})
        return self.page(base=self.of_type(self.content_type_id, "latest"), order=order).entries

    def times(self, name: str) -> list[datetime]:
        """Return the times of the sample, sorted.

        :param name: `created`, `modified` or `published`.
        :raises SkippedError: there are fewer than two.
        """
        moments = {as_datetime(getattr(entry.version, name)) for entry in self.sample}
        found = sorted(moment for moment in moments if moment is not None)
        if len(found) < 2:
            raise SkippedError("fewer than two different times")
        return found

    def _languages(self) -> list[str]:
        """Return the project's languages, the main one first; those of its entries if it lists none."""
        supported = self.project.get("supportedLanguages")
        primary = self.project.get("primaryLanguage")
        names = [primary, *(supported if isinstance(supported, list) else [])]
        languages = list(dict.fromkeys(name for name in names if isinstance(name, str) and name))
        if not languages:
            where = [{"field": "sys.versionStatus", "equalTo": "published"}]
            entries = self.search({"where": where, "pageIndex": 0, "pageSize": 100}).page.entries
            found = Counter(entry.language for entry in entries if entry.language)
            languages = [language for language, _ in found.most_common()]
        if not languages:
            raise ContensisError("The project lists no languages, and the API key can see no entry.")
        return languages

    def _moderate_content_type(self) -> str | None:
        """Return a content type with enough entries to show something, and so few that all are counted."""
        filled = {id_: total for id_, total in self.counts.items() if total}
        fitting = [id_ for id_, total in filled.items() if _FEW <= total <= self.row_limit // 2]
        return max(fitting, key=filled.__getitem__, default=None) or min(
            filled, key=lambda id_: abs(filled[id_] - _FEW), default=None
        )


def _answer(response: requests.Response) -> Answer:
    try:
        page = _PAGE.decode(response.content)
    except UNREADABLE:
        page = None
    if page is None:  # msgspec refuses lone surrogates, which Python reads
        with suppress(msgspec.MsgspecError, ValueError):
            page = msgspec.convert(loads_json(response.content), Page)
    if page is None:  # raised outside the handler: the original error holds the body
        raise InvalidResponseError("A search was not answered with a page of entries.")
    return Answer(page, response.headers, response.content)
