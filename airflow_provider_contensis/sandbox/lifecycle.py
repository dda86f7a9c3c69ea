"""What an edit does to the JSON of an entry or a content type (docs/contensis-api.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.shapes import WORKFLOW_EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


def save(
    entry: dict[str, Any], fields: Mapping[str, Any], content_type: Mapping[str, Any], moment: str
) -> None:
    """Save new values of some fields as a draft."""
    entry.update(fields)
    for name in ("entryTitle", "entryDescription"):
        source = content_type.get(f"{name}Field")
        if source:
            entry[name] = entry.get(source)
    version = entry["sys"]["version"]
    major, _, minor = version["versionNo"].partition(".")
    version.update(modified=moment, versionNo=f"{major}.{int(minor) + 1}")
    _set_workflow_state(entry, "draft", "sysUpdate", moment)


def publish(entry: dict[str, Any], moment: str) -> None:
    """Publish a version. Publishing does not change its `modified` time."""
    version = entry["sys"]["version"]
    major = int(version["versionNo"].partition(".")[0])
    version.update(published=moment, publishedBy=version["modifiedBy"], versionNo=f"{major + 1}.0")
    _set_workflow_state(entry, "versionComplete", "publish", moment)


def unpublish(entry: dict[str, Any], moment: str) -> None:
    """Turn an entry into a draft without a published version."""
    _withdraw(entry, "draft", "sysUnpublish", moment)


def delete(entry: dict[str, Any], moment: str) -> None:
    """Mark an entry as deleted."""
    version = entry["sys"]["version"]
    version.update(deleted=moment, deletedBy=version["modifiedBy"])
    _withdraw(entry, "draft", "sysDelete", moment)


def archive(entry: dict[str, Any], moment: str) -> None:
    """Mark an entry as archived."""
    version = entry["sys"]["version"]
    version.update(archived=moment, archivedBy=version["modifiedBy"])
    _withdraw(entry, "archived", "sysArchive", moment)


def bring_back(entry: dict[str, Any], event: str, moment: str) -> None:
    """Turn a deleted or archived entry into a draft. `created` and `modified` do not change."""
    entry["sys"]["version"].update(deleted=None, deletedBy=None, archived=None, archivedBy=None)
    _set_workflow_state(entry, "draft", event, moment)


def set_languages(
    entry: dict[str, Any],
    supported: Iterable[str],
    available: Collection[str],
    archived: Collection[str],
    deleted: Collection[str],
) -> None:
    """State in which languages an entry exists."""
    entry["sys"].update(
        availableLanguages=sorted(available),
        unavailableLanguages=[code for code in supported if code not in available],
        archivedLanguages=sorted(archived),
        deletedLanguages=sorted(deleted),
    )


def _withdraw(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    entry["sys"]["isPublished"] = False
    entry["sys"]["version"].update(published=None, publishedBy=None)
    _set_workflow_state(entry, state, event, moment)


def _set_workflow_state(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    workflow = entry["sys"]["workflow"]
    workflow["transition"].update({"from": workflow["state"], "event": event, "invoked": moment})
    workflow.update(state=state, allowedEvents=WORKFLOW_EVENTS[state])
