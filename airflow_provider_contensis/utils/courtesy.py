"""What a task can do without, and must not fail for."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextmanager
def courtesy(consequence: str) -> Iterator[None]:
    """Log a failure of what the task can do without.

    :param consequence: what is missing now.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the export itself does not need it
        log.warning("%s: %s: %s", consequence, type(error).__name__, error)
