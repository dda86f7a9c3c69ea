"""What an edit does to the JSON of an entry or a content type (docs/contensis-api.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.sandbox.shapes import WORKFLOW_EVENTS, localise_field

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


def conform(entry: Mapping[str, Any], old: Collection[str], new: Collection[str]) -> dict[str, Any]:
    """Return an entry after its content type changed: new fields are null, and removed ones are gone.

    :param old: the ids of the fields before the change.
    :param new: the ids of the fields after it.
    """
    fields = {name: entry.get(name) for name in new}
    return fields | {name: value for name, value in entry.items() if name not in old and name not in new}


def redefine(
    content_type: Mapping[str, Any], fields: Iterable[Mapping[str, Any]], moment: str
) -> dict[str, Any]:
    """Return the next published version of a content type, with other fields."""
    old = content_type["version"]
    version = old | {
        "modified": moment,
        "published": moment,
        "versionNo": f"{int(old['versionNo'].partition('.')[0]) + 1}.0",
    }
    return {
        **content_type,
        "version": version,
        "fields": [localise_field(field, content_type["defaultLanguage"]) for field in fields],
    }


def _withdraw(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    entry["sys"]["isPublished"] = False
    entry["sys"]["version"].update(published=None, publishedBy=None)
    _set_workflow_state(entry, state, event, moment)


def _set_workflow_state(entry: dict[str, Any], state: str, event: str, moment: str) -> None:
    workflow = entry["sys"]["workflow"]
    workflow["transition"].update({"from": workflow["state"], "event": event, "invoked": moment})
    workflow.update(state=state, allowedEvents=WORKFLOW_EVENTS[state])
