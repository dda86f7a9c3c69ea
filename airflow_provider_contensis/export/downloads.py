"""Files of assets, several at a time, from the website to the folder."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_contensis.exceptions import APIError, ExportError, ServerError, TransportError
from airflow_provider_contensis.export.file_download import FileDownload, NoFileError
from airflow_provider_contensis.export.limits import Limits
from airflow_provider_contensis.export.progress import Progress
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.transport import ContensisSession
    from airflow_provider_contensis.exceptions import ContensisError
    from airflow_provider_contensis.export.asset import Asset, AssetRecord
    from airflow_provider_contensis.export.asset_index import AssetIndex
    from airflow_provider_contensis.export.assets_request import AssetsRequest
    from airflow_provider_contensis.export.sinks.assets import AssetFolder

log = logging.getLogger(__name__)

_SAVE_SECONDS = 3.0
# After a failure, what was read already is stored, if that takes no longer.
_STORE_SECONDS = 10.0
# So many files missing and none to be had: it is the site that is wrong, not the files.
_HOPELESS = 20
# So many failures of the website in a row, and it is down. One or two are about their files.
_OUTAGE = 5
_MAX_REASONS = 100
# Others store a file, or wait before the next attempt, while as many as may be have a request in flight.
_THREADS_PER_REQUEST = 3


class _Fetched(NamedTuple):
    """What became of one file: the record of it, or why there is none.

    :param failure: of the website, if there is none because of that.
    """

    number: int
    asset: Asset
    record: AssetRecord | None
    reason: str
    failure: ContensisError | None = None


class Downloads:
    """Reads the files that an index wants.

    :param client: its retry policy applies.
    :param session: of the website.
    :param request: how many files at a time, how large, and what to do if one is missing.
    :param folder: where they go.
    :param index: which files, and where their records go.
    """

    def __init__(
        self,
        client: ContensisClient,
        session: ContensisSession,
        request: AssetsRequest,
        folder: AssetFolder,
        index: AssetIndex,
    ) -> None:
        self.done = 0
        self.reasons: Counter[str] = Counter()
        self._failures = 0
        self._client = client
        self._session = session
        self._request = request
        self._folder = folder
        self._index = index
        self._limits = Limits(1, request.options.max_concurrent_requests)
        self._stopped = client.cancellation()

    def run(self) -> None:
        """Read them all.

        :raises ExportError: a file is missing, and that is a failure.
        :raises ContensisError: the website could not be asked, or a file could not be stored.
        """
        found, wanted = self._index.counts()
        if not wanted:
            return
        progress = Progress("files")
        progress.begin(wanted)
        is_first = found == wanted
        saved = time.monotonic()
        number = self._request.options.max_concurrent_requests
        threads = _THREADS_PER_REQUEST * number
        executor = ThreadPoolExecutor(threads, thread_name_prefix="contensis-file")
        running: set[Future[_Fetched]] = set()
        try:
            for item in self._index.wanted():
                running.add(executor.submit(self._fetch, *item))
                if len(running) < threads + number:  # so that no thread idles
                    continue
                self._take(running, progress, is_first=is_first)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._folder.save_progress()
                    saved = time.monotonic()
            while running:
                self._take(running, progress, is_first=is_first)
            self._folder.save_progress()
        except BaseException as error:
            self._stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, Exception):  # a kill waits for nothing
                begun = {future for future in running if not future.cancelled()}
                wait(begun, timeout=_STORE_SECONDS)
            with suppress(Exception):  # the first failure counts
                self._keep(running)
            raise
        finally:
            # Otherwise threads that wait for a retry would keep the process from ending.
            self._stopped.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _keep(self, running: set[Future[_Fetched]]) -> None:
        """Keep for the next attempt what is in the folder already."""
        for future in running:
            if future.done() and not future.cancelled() and future.exception() is None:
                record = future.result().record
                if record is not None:
                    self._folder.remember(record)
        self._folder.save_progress()

    def _take(self, running: set[Future[_Fetched]], progress: Progress, *, is_first: bool) -> None:
        """Wait for some files, keep what became of them, and take them out of those that are running.

        Only then: a kill in between keeps the others.
        """
        failed: Exception | None = None
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            try:
                fetched = future.result()
                if fetched.record is not None:
                    self.done += 1
                    self._failures = 0
                    self._index.done(fetched.number, fetched.record)
                    self._folder.remember(fetched.record)
                else:
                    self._index.miss(fetched.number, fetched.reason)
                    self._miss(fetched, is_first=is_first)
            except Exception as error:  # noqa: BLE001 - raised below, once the records of the others are kept
                failed = failed or error
            running.discard(future)
            progress.add(1)
        if failed is not None:
            raise failed

    def _miss(self, fetched: _Fetched, *, is_first: bool) -> None:
        asset, reason = fetched.asset, fetched.reason
        if fetched.failure is not None:
            self._failures += 1
            if self._failures >= _OUTAGE:
                raise fetched.failure
        if self._request.on_missing == "fail":
            failure = ExportError(
                f"{asset.name} cannot be exported: {reason}. Check site_url and send_token, or set "
                'on_missing="report" to list such files in the manifest.'
            )
            failure.retryable = True  # it may be there later, and what was read is kept
            raise failure
        if len(self.reasons) < _MAX_REASONS or reason in self.reasons:
            self.reasons[reason] += 1
        log.info("Missing: %s: %s", asset.name, reason)
        missing = self.reasons.total()
        if is_first and not self.done and missing >= _HOPELESS:
            raise ExportError(
                f"None of the first {count(missing, 'file')} can be exported: {reason}. Check site_url and "
                "send_token."
            )

    def _fetch(self, number: int, asset: Asset) -> _Fetched:
        """Read one file, and store it; runs in a thread."""
        with FileDownload(asset, max_bytes=self._request.max_file_bytes, stopped=self._stopped) as download:
            try:
                download.fetch(self._client, self._session, self._limits)
            except NoFileError as error:
                return _Fetched(number, asset, None, str(error))
            except (ServerError, TransportError) as error:
                if self._request.on_missing != "report" or self._stopped.is_set():
                    raise
                status = f"the website answers {error.status_code}" if isinstance(error, APIError) else None
                return _Fetched(number, asset, None, status or str(error).rstrip("."), error)
            sha256 = download.sha256
            path = asset.path_of(sha256)
            self._folder.store(path, download.content)
            record = asset.record(
                path=path, bytes=download.bytes, sha256=sha256, content_type=download.content_type
            )
            return _Fetched(number, asset, record, "")
