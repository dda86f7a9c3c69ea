"""Calls to the file system below a folder, one by one: to look at it between them, or to die at one."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CALLS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"})


class _Watch:
    """Calls a function before each call to the file system below a folder.

    Python has no way to remove an audit hook, so there is one in a process, and it is idle most of the time.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self.before: Callable[[], None] | None = None
        self._is_installed = False
        self._busy = threading.local()

    def install(self) -> None:
        if not self._is_installed:
            self._is_installed = True
            sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CALLS or self.folder is None or self.before is None:
            return
        if getattr(self._busy, "is_set", False) or not str(arguments[0]).startswith(self.folder):
            return
        self._busy.is_set = True
        try:
            self.before()
        finally:
            self._busy.is_set = False


_WATCH = _Watch()


@contextmanager
def before_each_call(folder: Path, before: Callable[[], None]) -> Iterator[None]:
    """Call a function before each call to the file system below a folder.

    The function's own calls do not count. What it raises, the call raises.
    """
    _WATCH.install()
    _WATCH.folder, _WATCH.before = str(folder), before
    try:
        yield
    finally:
        _WATCH.folder = _WATCH.before = None
