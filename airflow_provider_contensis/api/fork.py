"""State that must not cross a fork: shared sockets, and locks that other threads hold."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Holds sockets or locks."""

    def reset_after_fork(self) -> None:
        """Replace them; called in the child, which has one thread."""


class ForkSafeEvent:
    """A `threading.Event` that also works in forked processes."""

    def __init__(self) -> None:
        self._event = threading.Event()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may hold."""
        was_set, self._event = self._event.is_set(), threading.Event()
        if was_set:
            self._event.set()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it, which ends all waits."""
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for some seconds; return whether it was set."""
        return self._event.wait(timeout)


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def reset_in_children(forkable: Forkable) -> None:
    """Reset an object in each process that is forked from this one, for as long as it lives."""
    _forkables.add(forkable)


def _reset() -> None:
    for forkable in list(_forkables):
        forkable.reset_after_fork()


os.register_at_fork(after_in_child=_reset)
