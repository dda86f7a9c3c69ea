"""One file of an asset, on its way from the website to a temporary file: streamed, resumed and checked."""

from __future__ import annotations

import hashlib
import re
import tempfile
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_contensis.api.responses import api_error_class, retry_after
from airflow_provider_contensis.api.transport import exchange
from airflow_provider_contensis.exceptions import (
    RETRYABLE_STATUS_CODES,
    ContensisError,
    InvalidResponseError,
    RedirectRefusedError,
)
from airflow_provider_contensis.export.temporary import translate_temporary_errors
from airflow_provider_contensis.utils.text import count

if TYPE_CHECKING:
    import requests

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.fork import ForkSafeEvent
    from airflow_provider_contensis.api.transport import ContensisSession
    from airflow_provider_contensis.export.asset import Asset
    from airflow_provider_contensis.export.limits import Limits

_CHUNK_BYTES = 1 << 16  # what a broken connection loses at most
_IN_MEMORY_BYTES = 1 << 19
# How often an answer that is no file is believed to be an accident, such as the login page of a gateway.
_ACCIDENTS = 4
# A broken download goes on as long as each round of attempts brings more of the file. One that cannot be
# resumed, and takes longer than attempts are repeated, begins again a few times.
_MAX_ROUNDS = 1_000
_MAX_RESTARTS = 2
_PAGES = ("text/html", "application/xhtml")
_PAGE_SUFFIXES = (".html", ".htm", ".xhtml", ".xht")
_CLOSED = "The client was closed while files were being read."
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class NoFileError(Exception):
    """The website has no such file. No failure of the export by itself: `on_missing` decides.

    :param reason: what it answers, as the end of a sentence.
    """


class FileDownload:
    """One file. Use it as a context manager: it holds a temporary file, a small one in memory.

    :param asset: describes the file.
    :param max_bytes: the size of the largest file that is read.
    :param stopped: once set, reading ends.
    """

    def __init__(self, asset: Asset, *, max_bytes: int, stopped: ForkSafeEvent) -> None:
        self.asset = asset
        self.bytes = 0
        self.content_type: str | None = None
        self._max_bytes = max_bytes
        self._stopped = stopped
        # On the disk only once it is large.
        self._file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115 - __exit__ closes it
        self._hash = hashlib.sha256()
        self._etag: str | None = None
        self._accidents = self._attempts = 0

    def __enter__(self) -> FileDownload:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of what was read, in hexadecimal."""
        return self._hash.hexdigest()

    @property
    def content(self) -> IO[bytes]:
        """What was read, from the beginning."""
        self._file.seek(0)
        return self._file

    def fetch(self, client: ContensisClient, session: ContensisSession, limits: Limits) -> None:
        """Read the file, with as many attempts as it takes.

        :param client: its retry policy applies.
        :param session: of the website.
        :param limits: how many requests may be in flight; they do not count waits between attempts.
        :raises NoFileError: the website has no such file.
        :raises ContensisError: the website could not be asked, or the file could not be kept.
        """
        asset = self.asset
        if asset.uri is None:
            raise NoFileError(
                "its entry does not say where it is: sys.properties or sys.uri is missing or invalid"
            )
        if asset.size is not None and asset.size > self._max_bytes:
            raise NoFileError(f"it has {count(asset.size, 'byte')}, more than max_file_bytes")
        url = f"{session.root_url}{asset.uri}"
        restarts = 0
        for _ in range(_MAX_ROUNDS):
            before, self._attempts = self.bytes, 0
            try:
                client.retrying(
                    lambda: self._attempt(session, url, limits),
                    what=f"GET {asset.uri}",
                    cancelled=self._stopped,
                )
            except ContensisError as error:
                restarts += self._etag is None
                goes_on = self.bytes > (before if self._etag else 0) and restarts <= _MAX_RESTARTS
                took_long = self._etag is not None or self._attempts == 1
                if not (error.retryable and goes_on and took_long) or self._stopped.is_set():
                    raise
            else:
                return

    def _attempt(self, session: ContensisSession, url: str, limits: Limits) -> None:
        """Send one request as soon as it may be, and read as much of the file as comes."""
        with limits.permit(1):
            if self._stopped.is_set():
                raise ContensisError(_CLOSED)
            self._send(session, url)

    def _send(self, session: ContensisSession, url: str) -> None:
        self._attempts += 1
        headers: dict[str, str] = {}
        if self.bytes and self._etag is not None:
            # The rest of the same content; if that has changed, the answer is all of the new one.
            headers = {"Range": f"bytes={self.bytes}-", "If-Range": self._etag}
        try:
            response = exchange(session, "GET", url, into=self, headers=headers)
        except RedirectRefusedError as error:
            raise self._accident(str(error)) from None
        if not response.ok:
            raise self._refusal(response)
        if self.asset.size is not None and self.bytes != self.asset.size:
            raise self._wrong_size(f"{self.bytes:,} bytes")
        if self.asset.size is None and not self.bytes:
            raise self._accident("the website sent an empty body")

    def fill(self, response: requests.Response) -> None:
        """Read the body of an answer; called by the transport."""
        try:
            self._receive(response)
        except BaseException:
            response.close()
            raise

    def _receive(self, response: requests.Response) -> None:
        """Check an answer's headers, before what was read so far is given up for it; then read its body."""
        self._check_kind(response)
        if self._continues(response):
            self._accidents = 0
        else:
            self._begin(response)
        for chunk in response.iter_content(_CHUNK_BYTES):
            if self._stopped.is_set():
                raise ContensisError(_CLOSED)
            if self.bytes + len(chunk) > self._limit:
                raise self._wrong_size(f"{self.bytes + len(chunk):,} bytes or more")
            with translate_temporary_errors():
                self._file.write(chunk)
            self._hash.update(chunk)
            self.bytes += len(chunk)

    def _check_kind(self, response: requests.Response) -> None:
        continues = self._continues(response)
        if response.status_code != 200 and not continues:
            if response.status_code == 206:
                self._etag = None  # it is the rest of something else: begin again
            raise self._accident(f"the website answers {response.status_code}")
        kind = response.headers.get("Content-Type", "").lower()
        if kind.startswith(_PAGES) and not self.asset.filename.lower().endswith(_PAGE_SUFFIXES):
            raise self._accident("the website sent an HTML page, such as one to log in")
        announced = response.headers.get("Content-Length", "")
        if not announced.isdecimal() or _is_encoded(response):
            return
        total = int(announced) + (self.bytes if continues else 0)
        if total > self._limit or self.asset.size not in {None, total}:
            raise self._wrong_size(f"{total:,} bytes", is_used=continues)

    def _begin(self, response: requests.Response) -> None:
        with translate_temporary_errors():
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.bytes = 0
        self.content_type = response.headers.get("Content-Type") or None
        etag = response.headers.get("ETag", "")
        is_strong = len(etag) > 2 and etag.startswith('"') and etag.endswith('"')
        self._etag = etag if is_strong and not _is_encoded(response) else None

    def _continues(self, response: requests.Response) -> bool:
        """Return whether an answer is the rest of what was read so far."""
        wanted = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return bool(
            response.status_code == 206
            and self._etag is not None
            and response.headers.get("ETag", self._etag) == self._etag
            and wanted
            and int(wanted[1]) == self.bytes
            and not _is_encoded(response)
        )

    @property
    def _limit(self) -> int:
        return self._max_bytes if self.asset.size is None else self.asset.size

    def _wrong_size(self, found: str, *, is_used: bool = True) -> ContensisError | NoFileError:
        """Return the failure of a file of another size.

        :param found: that size.
        :param is_used: whether what was read is a part of it, and has to be read again.
        """
        if is_used:
            self._etag = None
        if self.asset.size is None:
            return NoFileError(f"it has {found}, more than max_file_bytes")
        return self._accident(f"the website sends {found}, and fileSize is {self.asset.size:,}")

    def _refusal(self, response: requests.Response) -> ContensisError | NoFileError:
        """Return what an error status means for the file."""
        status = response.status_code
        if status == 416:  # there is no rest: what was read is of another content
            self._etag = None
            return self._accident(f"the website answers {status}")
        if status in RETRYABLE_STATUS_CODES:
            return api_error_class(status)(
                f"GET {self.asset.uri} was answered with status {status}: the website failed.",
                status_code=status,
                retry_after=retry_after(response),
            )
        return NoFileError(f"the website answers {status}")

    def _accident(self, reason: str) -> ContensisError | NoFileError:
        """Return the failure of an answer that is no file: at first a temporary one."""
        self._accidents += 1
        if self._accidents >= _ACCIDENTS:
            return NoFileError(reason)
        return InvalidResponseError(f"GET {self.asset.uri}: {reason}.")


def _is_encoded(response: Any) -> bool:
    return response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}
