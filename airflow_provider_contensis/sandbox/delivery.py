"""The Delivery form of an entry, derived from its Management form (docs/contensis-api.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from airflow_provider_contensis.sandbox.assets import hashed_path
from airflow_provider_contensis.sandbox.documents import Document, VersionStatus, encode

Find = Callable[[str, str | None, VersionStatus], Document | None]

# Neither `fields` nor a project that hides sys fields can remove these.
_KEPT_SYS = ("id", "language", "dataFormat", "contentTypeId", "uri", "versionStatus")
_MANAGEMENT_ONLY = frozenset(
    ("unavailableLanguages", "deletedLanguages", "archivedLanguages", "translationState", "schedules")
)
_DROPPED = object()


@dataclass(frozen=True)
class Links:
    """How deep to resolve links from a position in an entry. If several paths apply, the longest one counts.

    :param depth: the number of link levels to replace with the linked entries, 0 to 10.
    :param depths: the same for single field paths, such as `director.awards`.
    :param path: the position.
    """

    depth: int = 0
    depths: Mapping[str, int] = field(default_factory=dict)
    path: str = ""

    def at(self, name: str) -> Links:
        """Return the rules for a member of this position."""
        path = f"{self.path}.{name}" if self.path else name
        return replace(self, path=path, depth=self.depths.get(path, self.depth))

    def followed(self) -> Links:
        """Return the rules for an entry that is linked from this position."""
        return replace(self, depth=self.depth - 1)


UNRESOLVED = Links()


class DeliveryView:
    """Turns entries into Delivery JSON.

    :param project: the project; its `deliverySysExclusions` apply (docs/contensis-api.md).
    :param find: finds a linked entry by id, language (None: the primary one) and version status.
    """

    def __init__(self, project: Mapping[str, Any], find: Find) -> None:
        self._find = find
        self._project = project

    def render(self, document: Document, links: Links = UNRESOLVED, fields: Sequence[str] = ()) -> bytes:
        """Return an entry's JSON.

        :param document: the entry.
        :param links: how deep to resolve links.
        :param fields: paths to keep, or to leave out if they start with `-`; empty means all.
        """
        entry = self._entry(document, links)
        return encode(select(entry, fields) if fields else entry)

    def uri(self, document: Document, sys: Mapping[str, Any]) -> str | None:
        """Return an entry's site path: its own, that of its file, or one of content type and slug."""
        if sys.get("uri"):
            return str(sys["uri"])
        if file := sys.get("properties", {}).get("fileId"):
            properties = sys["properties"]
            return quote(hashed_path(properties["filePath"] + properties["filename"], file))
        if not sys.get("slug"):
            return None
        prefix = "" if document.language == self._project["primaryLanguage"] else f"/{document.language}"
        return f"{prefix}/{sys['contentTypeId']}/{sys['slug']}"

    def _entry(self, document: Document, links: Links) -> dict[str, Any]:
        management = document.entry()
        sys = management.pop("sys")
        entry: dict[str, Any] = {}
        for name, value in management.items():
            shown = self._value(value, document.status, links.at(name))
            entry[name] = None if shown is _DROPPED else shown
        if sys["dataFormat"] == "entry":
            entry.setdefault("entryThumbnail", None)
        entry["sys"] = self._sys(document, sys)
        return entry

    def _sys(self, document: Document, management: Mapping[str, Any]) -> dict[str, Any]:
        sys = {name: value for name, value in management.items() if name not in _MANAGEMENT_ONLY}
        sys["uri"] = self.uri(document, sys)
        if sys["dataFormat"] == "entry":
            sys["allUris"] = [sys["uri"]] if sys["uri"] else []
        sys.setdefault("properties", {})
        workflow = sys.get("workflow") or {}
        sys["workflow"] = {name: workflow[name] for name in ("id", "state") if name in workflow}
        sys["versionStatus"] = document.status
        for name in self._project.get("deliverySysExclusions") or ():
            path = name.removeprefix("sys.").removesuffix(".*").split(".")
            if path[0] not in _KEPT_SYS:
                _remove(sys, path)
        return sys

    def _value(self, value: Any, status: VersionStatus, links: Links) -> Any:
        if isinstance(value, list):
            shown = [self._value(item, status, links) for item in value]
            return [item for item in shown if item is not _DROPPED]
        if not isinstance(value, dict):
            return value
        link = value.get("sys")
        if isinstance(link, dict) and "id" in link:
            return self._link(value, link, status, links)
        shown_members = {name: self._value(item, status, links.at(name)) for name, item in value.items()}
        return {name: None if item is _DROPPED else item for name, item in shown_members.items()}

    def _link(self, value: dict[str, Any], link: dict[str, Any], status: VersionStatus, links: Links) -> Any:
        target = self._find(link["id"], link.get("language"), status)
        if links.depth > 0:
            return _DROPPED if target is None else self._entry(target, links.followed())
        uri = None if target is None else self.uri(target, target.entry()["sys"])
        return {**value, "sys": {**link, "uri": uri}}


def select(entry: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Return an entry with the selected fields only (docs/contensis-api.md).

    The parts of `sys` that identify the entry are always kept.

    :param entry: an entry in Delivery form; it may be modified.
    :param fields: paths to keep, or to leave out if they start with `-`.
    """
    wanted = [path.split(".") for path in fields if not path.startswith("-")]
    unwanted = [path[1:].split(".") for path in fields if path.startswith("-")]
    identity = {name: entry["sys"][name] for name in _KEPT_SYS if name in entry["sys"]}
    kept = _keep(entry, wanted) if wanted else entry
    for path in unwanted:
        _remove(kept, path)
    return {**kept, "sys": {**identity, **kept.get("sys", {})}}


def _keep(value: Any, paths: list[list[str]]) -> Any:
    if [] in paths:
        return value
    if isinstance(value, list):
        return [_keep(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    chosen: dict[str, list[list[str]]] = {}
    for name, *rest in paths:
        chosen.setdefault(name, []).append(rest)
    return {name: _keep(item, chosen[name]) for name, item in value.items() if name in chosen}


def _remove(value: Any, path: list[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _remove(item, path)
    elif isinstance(value, dict):
        if len(path) == 1:
            value.pop(path[0], None)
        elif path[0] in value:
            _remove(value[path[0]], path[1:])
