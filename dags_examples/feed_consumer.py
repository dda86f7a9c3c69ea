"""Read a feed: which change sets a copy has not applied yet, and where their files are.

Copy this file into your DAGs folder, beside the DAG that uses it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath


class ChangeSet(NamedTuple):
    """A change set of a feed: its folder, and its manifest."""

    folder: ObjectStoragePath
    manifest: dict[str, Any]

    @property
    def sequence(self) -> int:
        """Its number."""
        return int(self.manifest["sequence"])

    @property
    def is_snapshot(self) -> bool:
        """Whether it holds everything, and replaces what a copy holds."""
        return bool(self.manifest["kind"] == "snapshot")

    def files(self, operation: str) -> list[ObjectStoragePath]:
        """Return the files of an operation, `upsert` or `delete`.

        A snapshot replaces everything, so its deletions do not count.
        """
        if self.is_snapshot and operation == "delete":
            return []
        files = self.manifest["files"]
        return [self.folder / file["path"] for file in files if file["operation"] == operation]


def new_change_sets(feed: ObjectStoragePath, applied: int) -> list[ChangeSet]:
    """Return the change sets that a copy has not applied yet, in order.

    A snapshot among them can only be the first: what came before it does not matter any more.

    :param applied: the sequence that the copy has applied last; 0 for a new copy.
    """
    index = json.loads((feed / "_feed.json").read_text())
    if index["sequence"] < applied:
        raise ValueError(f"{feed} begins anew, at {index['sequence']}: empty the copy, which is at {applied}")
    found: list[ChangeSet] = []
    name = index["latest"]  # null as long as no run has come to its end
    while name is not None:
        folder = feed / name.rstrip("/")
        change_set = ChangeSet(folder, json.loads((folder / "_manifest.json").read_text()))
        if change_set.sequence <= applied:
            break
        found.append(change_set)
        if change_set.is_snapshot:
            break
        name = change_set.manifest["previous"]
    return found[::-1]
