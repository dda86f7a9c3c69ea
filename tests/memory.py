"""What a task's tries tell each other, in a file, where there is no Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class FileMemory:
    """Stands in for a task state store.

    :param path: of the file.
    :param is_last: whether no other try will follow this one.
    """

    def __init__(self, path: Path, *, is_last: bool = False) -> None:
        self.path = path
        self.is_last = is_last

    def recall(self) -> Any:
        return json.loads(self.path.read_text()) if self.path.exists() else None

    def remember(self, pointer: dict[str, str]) -> None:
        # In one step, as Airflow's database would: the process may be killed.
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(pointer))
        part.replace(self.path)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
