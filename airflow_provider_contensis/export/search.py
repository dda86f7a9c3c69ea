"""Searches for windows: one page at a time, within the limits, retried and checked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow_provider_contensis.exceptions import APIError, InvalidResponseError, ValidationError
from airflow_provider_contensis.export.diagnosis import add_hint, checks_of, hint
from airflow_provider_contensis.export.limits import Limits
from airflow_provider_contensis.export.model import CREATED
from airflow_provider_contensis.export.page import SIZES, Page, check_page, split_page
from airflow_provider_contensis.export.where import number_as_given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_contensis.api.buffers import Body
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.fork import ForkSafeEvent
    from airflow_provider_contensis.export.model import EntryQuery, Window
    from airflow_provider_contensis.export.request import ReadOptions

_Parsed = TypeVar("_Parsed")

# Windows that are read beyond those in flight, so that no thread idles while one is written.
_MORE_WINDOWS = 4
_MIN_SIZES = 1_000
_RECOUNT_SIZES = range(2, 10)
_SIZED_BY = {"content type": "sys.contentTypeId", "language": "sys.language"}
REFUSED = frozenset({400, 422})  # the statuses of a search that the service does not understand


class WindowSearch:
    """Asks the service for windows of one query; safe to share between threads.

    :param client: sends the searches.
    :param project_id: the project to search.
    :param query: its API, link depths and change mark apply; its clauses are in the windows. A plan gives
        its `where` the types of the fields.
    :param options: page size and concurrency to begin with.
    """

    def __init__(
        self, client: ContensisClient, project_id: str, query: EntryQuery, options: ReadOptions
    ) -> None:
        self._client = client
        self._project_id = project_id
        self.query = query
        self.limits = Limits(options.page_size, options.max_concurrent_requests)
        self.concurrency = options.max_concurrent_requests
        self.windows_ahead = options.max_concurrent_requests + _MORE_WINDOWS
        self._has_aggregations = True
        self._recount_sizes = cycle(_RECOUNT_SIZES)
        self._executor: ThreadPoolExecutor | None = None
        self._parser: ThreadPoolExecutor | None = None
        self._stopped: ForkSafeEvent | None = None

    def page(
        self,
        window: Window,
        page_size: int | None = None,
        *,
        order_by: str = CREATED,
        direction: Literal["asc", "desc"] = "asc",
    ) -> Page:
        """Return the first entries of a window, as many as a page holds.

        :param page_size: None for the limit.
        :param order_by: the field that decides which are first.
        :param direction: `desc` for the last entries first.
        :raises IncompleteReadError: the page does not hold what the service says it does.
        :raises ContensisError: the service could not be asked.
        """
        what = f"A page of {window}"
        stopped = self._stopped
        query: dict[str, Any] = {
            "where": window.where,
            # Without an order the service sorts by relevance, anew for each request.
            "orderBy": [{direction: field} for field in dict.fromkeys((order_by, "sys.id"))],
            "pageIndex": 0,
        }

        def attempt() -> Page:
            with self.limits.permit(page_size) as permit:
                search = {**query, "pageSize": permit.page_size}
                if page_size is None:
                    search |= self._aggregations(window)
                try:
                    body = self._send(search, what)
                except APIError as error:
                    if "aggregations" not in search or error.status_code not in REFUSED:
                        raise
                    self._has_aggregations = False
                    body = self._send({**query, "pageSize": permit.page_size}, what)
                permit.release()
                raw = self._parse(split_page, body, window)
            return self._parse(check_page, raw, window, permit.page_size, self.query, self._project_id)

        try:
            return self._client.retrying(attempt, what=what, cancelled=stopped)
        except APIError as error:
            if isinstance(error, ValidationError):
                number_as_given(error, window.where)
            if error.status_code in REFUSED:
                add_hint(error, *checks_of(window.where))
            elif error.status_code == 429:
                add_hint(error, "concurrency")
            raise

    def _parse(self, function: Callable[..., _Parsed], *args: Any) -> _Parsed:
        """Call a function, in one thread for all pages: malloc keeps in each thread what parsing frees."""
        parser = self._parser
        return function(*args) if parser is None else parser.submit(function, *args).result()

    def _send(self, search: dict[str, Any], what: str) -> Body:
        return self._client.search(
            self._project_id,
            search,
            link_depth=self.query.link_depth,
            field_link_depths=self.query.field_link_depths,
            api=self.query.api,
            what=what,
        )

    def _aggregations(self, window: Window) -> dict[str, Any]:
        """Return what asks for the sizes of a window's content types or languages."""
        field = _SIZED_BY.get(window.cut_by)
        if field is None or not self._has_aggregations:
            return {}
        size = max(_MIN_SIZES, len(window.content_type_ids), len(window.languages))
        return {"aggregations": {SIZES: {"field": field, "size": size}}}

    def first(self, window: Window) -> Page:
        """Return a page with the first entry of a window."""
        return self.page(window, 1)

    def last(self, window: Window) -> Page:
        """Return a page with the last entry of a window."""
        return self.page(window, 1, direction="desc")

    def confirmed(self, window: Window, page_size: int | None = None) -> Page:
        """Return a page; count again before believing an empty one, which names no query that it answers."""
        page = self.page(window, page_size)
        return page if page.total or not self.recount(window) else self.page(window, page_size)

    def recount(self, window: Window) -> int:
        """Return how many entries a window holds, even if the service gives answers to earlier searches.

        Their page size shows them: each recount asks for one that no other search nearby asks for.

        :raises InvalidResponseError: the service does not answer this search.
        :raises ContensisError: the service could not be asked.
        """
        for _ in _RECOUNT_SIZES:
            page = self.page(window, size := next(self._recount_sizes))
            if page.named_size in {size, None}:
                return page.total
        raise InvalidResponseError(
            f"{window}: the service, or a cache in front of it, keeps answering earlier searches. "
            + hint("page-size", "total-count")
        )

    def counts(self, windows: Sequence[Window]) -> Iterator[int]:
        """Yield how many entries windows hold; asks for several at once, from the first that is taken on.

        :raises ContensisError: the service could not be asked.
        """
        with self.threads() as executor:
            for page in executor.map(lambda window: self.confirmed(window, 1), windows):
                yield page.total

    @contextmanager
    def threads(self) -> Iterator[ThreadPoolExecutor]:
        """Yield threads for searches; after a failure, do not wait for those still in flight.

        There are more threads than permits, as some wait for their answers to be parsed; but if there is one
        permit, there is one thread, so that the order of requests can be repeated. A proof during a read
        shares its threads.
        """
        if self._executor is not None:
            yield self._executor
            return
        number = self.windows_ahead if self.concurrency > 1 else 1
        self._executor = executor = ThreadPoolExecutor(number, thread_name_prefix="contensis")
        self._parser = parser = ThreadPoolExecutor(1, thread_name_prefix="contensis-parse")
        self._stopped = stopped = self._client.cancellation()
        try:
            yield executor
        finally:
            # Otherwise threads that wait for a retry would keep the process from ending.
            stopped.set()
            self._stopped = None
            self._executor = self._parser = None
            executor.shutdown(wait=False, cancel_futures=True)
            parser.shutdown(wait=False)
