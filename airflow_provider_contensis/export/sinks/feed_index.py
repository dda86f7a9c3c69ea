"""The index of a feed, `_feed.json`: what the feed holds, and where its last run left it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from airflow_provider_contensis import __version__
from airflow_provider_contensis.exceptions import ConfigurationError, DestinationError
from airflow_provider_contensis.export.sinks.feed_ledger import LEDGER_FOLDER, SliceSummary
from airflow_provider_contensis.export.storage.base import Stored, write_whole
from airflow_provider_contensis.utils.json import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_contensis.export.results import ChangesSummary
    from airflow_provider_contensis.export.storage.base import FolderStorage

FEED = "_feed.json"
FEED_VERSION = 1

# How many runs a feed remembers, so that a cleared task returns what it had returned.
_MAX_RUNS = 1_000
_CHANGE_SET = re.compile(r"(\d{6,})-\d{8}T\d{6}Z")


class RunName(TypedDict):
    """The Airflow task instance that made a run."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int


class FeedIndex(TypedDict):
    """The content of `_feed.json`.

    `oldest_sequence` and `latest` are None as long as there is no change set. `snapshots` are the sequences
    of change sets from which a consumer can start, as they hold everything. `runs` counts the runs that have
    updated the feed, and `runs_path` names the file that remembers them.
    """

    feed_version: int
    written_by: str
    sequence: int
    oldest_sequence: int | None
    snapshots: list[int]
    latest: str | None
    horizon: str | None
    source: dict[str, str]
    query: dict[str, Any]
    ledger: list[SliceSummary]
    entries: int
    schemas: dict[str, str]
    runs: int
    runs_path: str | None


class _Version(msgspec.Struct):
    feed_version: int


def new_index(source: dict[str, str], query: dict[str, Any]) -> FeedIndex:
    """Return the index of a feed without a run."""
    return {
        "feed_version": FEED_VERSION,
        "written_by": f"airflow-provider-contensis {__version__}",
        "sequence": 0,
        "oldest_sequence": None,
        "snapshots": [],
        "latest": None,
        "horizon": None,
        "source": source,
        "query": query,
        "ledger": [],
        "entries": 0,
        "schemas": {},
        "runs": 0,
        "runs_path": None,
    }


def load_index(content: bytes, url: str) -> FeedIndex:
    """Return the index that `_feed.json` holds.

    :param url: the feed, for messages.
    :raises DestinationError: it is damaged.
    :raises ConfigurationError: a later version of this package wrote it.
    """
    try:
        version = msgspec.json.decode(content, type=_Version).feed_version
        if version == FEED_VERSION:
            index: dict[str, Any] = msgspec.json.decode(content)
            # An early version did not list them: nothing comes before the first change set.
            index.setdefault("snapshots", [1] if index.get("oldest_sequence") == 1 else [])
            return msgspec.convert(index, FeedIndex)
    except UNREADABLE:
        raise _damaged(f"{url}{FEED}") from None
    raise ConfigurationError(
        f"{url}{FEED} has feed_version {version}, and this version of the provider reads {FEED_VERSION}: "
        "upgrade it, or start a feed in another folder."
    )


def _damaged(path: str) -> DestinationError:
    error = DestinationError(f"{path} is damaged: restore the feed, or start one in another folder.")
    error.retryable = False
    return error


def check_same_copy(index: FeedIndex, source: Mapping[str, str], query: Mapping[str, Any], url: str) -> None:
    """Refuse to follow another source or query than the feed does.

    :raises ConfigurationError: says what differs.
    """
    for held, asked in ((index["source"], source), (index["query"], query)):
        for name, value in asked.items():
            if held.get(name) != value:
                raise ConfigurationError(
                    f"{url} holds a feed with {name}={held.get(name)!r}, and this task has {name}={value!r}. "
                    "Use another folder: a feed follows one query of one project."
                )


def forget_change_sets(index: FeedIndex, keep: int) -> None:
    """Let a feed forget old change sets, as far as a snapshot replaces them.

    :param keep: how many of the newest stay in any case.
    """
    first = index["sequence"] + 1 - keep
    if older := [sequence for sequence in index["snapshots"] if sequence <= first]:
        index["oldest_sequence"] = older[-1]
        index["snapshots"] = [sequence for sequence in index["snapshots"] if sequence >= older[-1]]


def read_runs(storage: FolderStorage, root: str, index: FeedIndex) -> list[tuple[RunName, ChangesSummary]]:
    """Return the last runs of a feed, and what they returned.

    :raises DestinationError: the file that remembers them is missing or damaged.
    """
    if index["runs_path"] is None:
        return []
    path = f"{root}{LEDGER_FOLDER}{index['runs_path']}"
    try:
        return msgspec.json.decode(storage.read(path) or b"", type=list[tuple[RunName, Any]])
    except UNREADABLE:
        raise _damaged(path) from None


def write_runs(
    storage: FolderStorage, root: str, runs: list[tuple[RunName, ChangesSummary]], *, owner: str
) -> str:
    """Write the last runs of a feed to a file named by its content, and return its name."""
    content = json.dumps(runs[-_MAX_RUNS:], separators=(",", ":")).encode()
    name = f"{hashlib.sha256(content).hexdigest()[:32]}.runs"
    write_whole(storage, f"{root}{LEDGER_FOLDER}{name}", content, owner=owner)
    return name


def unused(storage: FolderStorage, root: str, index: FeedIndex) -> list[str]:
    """Return what the feed does not refer to: files of dead runs, and change sets that are too old."""
    first, last = index["oldest_sequence"] or 1, index["sequence"]
    found = []
    for name in storage.names(root):
        match = _CHANGE_SET.fullmatch(name)
        if match and not first <= int(match[1]) <= last:
            found.append(f"{root}{name}/")
    used = {index["runs_path"], *(each["path"] for each in index["ledger"])}
    ledger = f"{root}{LEDGER_FOLDER}"
    return found + [f"{ledger}{name}" for name in storage.names(ledger) if name not in used]


def remove_leftovers(
    storage: FolderStorage, root: str, index: FeedIndex, known: Stored, *, owner: str
) -> Stored:
    """Remove what dead runs have left, and return the index's file as it is now.

    A run that seems dead may still commit, if its last request to an object store is on its way: what its
    index refers to would be gone. So that request is made to fail first.

    :param index: what the file holds or, if there is no feed yet, what a new one is to hold.
    :param known: the index's file as it was read.
    :raises DestinationError: another run has updated the feed meanwhile.
    """
    leftovers = unused(storage, root, index)
    if leftovers:
        known = storage.supersede(f"{root}{FEED}", known, dump(index), owner=owner)
        for path in leftovers:
            storage.remove(path)
    return known


def dump(content: Mapping[str, Any]) -> bytes:
    """Return an index or a manifest as JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
