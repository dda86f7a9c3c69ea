"""Bodies of answers: read whole, within a size limit, large ones into memory that is reused."""

from __future__ import annotations

import mmap
import re
import weakref
from collections import deque
from typing import TYPE_CHECKING

import requests

from airflow_provider_contensis.exceptions import InvalidResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 1 << 18
_MAX_RESERVED_BYTES = 1 << 23  # on the word of a Content-Length header
# Ten thousand entries of 25 kB. More is a mistake or an attack: a few bytes that unpack to gigabytes.
_MAX_BODY_BYTES = 1 << 28


def read_body(response: requests.Response) -> bytes:
    """Return the whole body of an answer.

    `Response.content` does the same, but in chunks of 10 kB, which take three times as long.

    :raises InvalidResponseError: the body is larger than any that Contensis has reason to send.
    """
    return b"".join(_chunks(response))


class BufferPool:
    """Memory for large bodies, reused once nothing refers to its content.

    Malloc keeps what each thread frees, in pieces that fit nothing else: an export took 70 MB instead of 40.
    """

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def take(self, size: int) -> mmap.mmap:
        """Return a buffer of at least a size, in bytes."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = None
        return buffer if buffer is not None and len(buffer) >= size else _new_buffer(size)

    def give_back(self, buffer: mmap.mmap, view: memoryview) -> None:
        """Reuse a buffer once nothing refers to a view of it."""
        weakref.finalize(view, self._free.append, buffer).atexit = False


class Body:
    """The body of one answer, in a buffer.

    :param pool: where the buffer comes from.
    """

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self.view = memoryview(b"")
        self.spans_lines = False

    def fill(self, response: requests.Response) -> None:
        """Read the whole body of an answer.

        :raises InvalidResponseError: the body is larger than any that Contensis has reason to send.
        """
        size = 0
        buffer = self._pool.take(max(min(_content_length(response), _MAX_RESERVED_BYTES), _CHUNK_BYTES))
        for chunk in _chunks(response):
            end = size + len(chunk)
            if end > len(buffer):
                larger = _new_buffer(max(end, 2 * len(buffer)))
                larger[:size] = buffer[:size]
                buffer = larger
            buffer[size:end] = chunk
            size = end
            self.spans_lines = self.spans_lines or b"\n" in chunk or b"\r" in chunk
        self.view = memoryview(buffer)[:size]
        self._pool.give_back(buffer, self.view)


def _new_buffer(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _content_length(response: requests.Response) -> int:
    length = response.headers.get("Content-Length", "")
    has_body = response.request.method != "HEAD"
    return int(length) if has_body and re.fullmatch(r"\d{1,18}", length) else 0


def _chunks(response: requests.Response) -> Iterator[bytes]:
    announced = _content_length(response)
    read = 0
    try:
        for chunk in response.iter_content(_CHUNK_BYTES) if announced <= _MAX_BODY_BYTES else ():
            read += len(chunk)
            if read > _MAX_BODY_BYTES:
                break
            yield chunk
    except ValueError as error:  # from http.client, for an invalid chunk length
        raise requests.exceptions.ChunkedEncodingError(str(error), request=response.request) from error
    if max(read, announced) > _MAX_BODY_BYTES:
        response.close()
        failure = InvalidResponseError(
            f"Refused an answer of more than {_MAX_BODY_BYTES >> 20} MiB: set a smaller page_size."
        )
        failure.retryable = False
        raise failure
