"""The pointer to a checkpoint in a file, for exports without Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class FilePointer:
    """Replaces the task state store.

    :param path: of the file.
    :param is_last_attempt: whether no other attempt will follow this one.
    """

    def __init__(self, path: Path, *, is_last_attempt: bool = False) -> None:
        self.path = path
        self.is_last_attempt = is_last_attempt

    def load(self) -> Any:
        return json.loads(self.path.read_text()) if self.path.exists() else None

    def save(self, pointer: dict[str, str]) -> None:
        # In one step, as Airflow's database would: the process may be killed.
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(pointer))
        part.replace(self.path)

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
