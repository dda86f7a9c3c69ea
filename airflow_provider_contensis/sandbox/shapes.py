"""Projects, content types and entries in the shapes of the Management API (docs/contensis-api.md)."""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORKFLOW_EVENTS = {
    "draft": ["draft.sysUpdate", "draft.sysDelete", "draft.sysArchive", "draft.publish"],
    "versionComplete": [
        "versionComplete.sysUpdate",
        "versionComplete.sysDelete",
        "versionComplete.sysArchive",
        "versionComplete.sysUnpublish",
    ],
    "archived": ["archived.sysDelete", "archived.sysUnarchive"],
}
_NAMESPACE = uuid.UUID("6f1d8a52-0c0e-4f0a-9a57-5a1f1e0a7c31")
_CREATED = "2019-01-07T08:00:00.5Z"
_CREATOR = "ada.brook"


@lru_cache(maxsize=1 << 15)
def guid(*parts: str) -> str:
    """Return a GUID that is always the same for these names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def new_project(project_id: str, name: str, description: str, languages: Sequence[str]) -> dict[str, Any]:
    """Return a project.

    :param project_id: its id.
    :param name: the display name.
    :param description: the description.
    :param languages: its languages, the primary one first.
    """
    return {
        "id": project_id,
        "uuid": guid("project", project_id),
        "name": name,
        "description": description,
        "primaryLanguage": languages[0],
        "supportedLanguages": list(languages),
        "color": "teal",
        "deliverySysExclusions": [],
    }


def new_content_type(
    project: Mapping[str, Any],
    content_type_id: str,
    name: str,
    fields: Iterable[Mapping[str, Any]],
    *,
    description: str | None = None,
    title_field: str | None = None,
    description_field: str | None = None,
    data_format: str = "entry",
) -> dict[str, Any]:
    """Return a published content type.

    :param project: the project it belongs to; the content type gets its languages.
    :param content_type_id: its id.
    :param name: the display name in the primary language.
    :param fields: its fields, as `new_field` returns them.
    :param description: the description in the primary language.
    :param title_field: id of the field whose value is the entry's title.
    :param description_field: id of the field whose value is the entry's description.
    :param data_format: `entry` or `asset`.
    """
    language = project["primaryLanguage"]
    definition = {
        "version": {
            "createdBy": _CREATOR,
            "created": _CREATED,
            "modifiedBy": _CREATOR,
            "modified": _CREATED,
            "publishedBy": _CREATOR,
            "published": _CREATED,
            "deletedBy": None,
            "deleted": None,
            "archivedBy": None,
            "archived": None,
            "versionNo": "1.0",
        },
        "uuid": guid("contentType", project["id"], content_type_id),
        "id": content_type_id,
        "projectId": project["id"],
        "name": {language: name},
        "description": {language: description} if description else {},
        "entryTitleField": title_field,
        "entryDescriptionField": description_field,
        "fields": [localise_field(field, language) for field in fields],
        "defaultLanguage": language,
        "supportedLanguages": list(project["supportedLanguages"]),
        "workflowId": "contensisEntryBasic",
        "dataFormat": data_format,
        "groups": [{"id": "main", "name": {language: "Main"}, "description": {}}],
        "includeInDelivery": True,
        "enabled": True,
        "properties": None,
    }
    # If no field is the title or the description, the real service omits the member.
    optional = ("entryTitleField", "entryDescriptionField")
    return {name: value for name, value in definition.items() if value is not None or name not in optional}


def new_field(
    field_id: str,
    name: str,
    data_type: str = "string",
    data_format: str | None = None,
    **validations: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a field, for `new_content_type`.

    :param field_id: its id.
    :param name: the display name.
    :param data_type: the data type, such as `string` or `objectArray`.
    :param data_format: the data format, such as `entry`; None for plain values.
    :param validations: validation rules by name, such as `required={}` or `maxLength={"value": 2}`.
    """
    return {
        "id": field_id,
        "name": name,
        "dataType": data_type,
        "dataFormat": data_format,
        "description": {},
        "default": None,
        "validations": {rule: {"message": None, **details} for rule, details in validations.items()},
        "editor": None,
    }


def localise_field(field: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return a field as a content type holds it. A field that comes from one does not change.

    :param field: the field, as `new_field` returns it or as a content type holds it.
    :param language: the language of its display name.
    """
    name = field["name"]
    localised = name if isinstance(name, dict) else {language: name}
    return {**field, "name": localised, "groupId": field.get("groupId", "main")}


def link(entry_id: str, content_type_id: str, language: str) -> dict[str, Any]:
    """Return a link to an entry, as the value of a field."""
    return {
        "sys": {
            "id": entry_id,
            "dataFormat": "entry",
            "language": language,
            "contentTypeId": content_type_id,
        }
    }


def new_entry(
    project: Mapping[str, Any],
    content_type: Mapping[str, Any],
    fields: Mapping[str, Any],
    *,
    entry_id: str,
    language: str,
    available_languages: Iterable[str],
    title: str | None,
    description: str | None = None,
    slug: str | None = None,
    author: str = "sandbox",
    created: str,
    modified: str | None = None,
    published: str | None = None,
    version: str = "0.1",
    is_published: bool | None = None,
) -> dict[str, Any]:
    """Return an entry in the form of the Management API (docs/contensis-api.md).

    :param project: the project it belongs to.
    :param content_type: its content type.
    :param fields: the values of its fields.
    :param entry_id: its id.
    :param language: its language.
    :param available_languages: the languages it exists in, including this one.
    :param title: the entry title.
    :param description: the entry description.
    :param slug: the last part of its site path.
    :param author: the user who created, saved and published it.
    :param created: ISO time of the first save.
    :param modified: ISO time of the last save; None means `created`.
    :param published: ISO time of the last publish; None if it was never published.
    :param version: version number, `major.minor`; minor 0 means a published version.
    :param is_published: whether a published version exists; None means that this version decides.
    """
    available = list(available_languages)
    state = "versionComplete" if version.endswith(".0") else "draft"
    modified = modified or created
    is_complete = state == "versionComplete"
    return {
        **fields,
        "entryTitle": title,
        "entryDescription": description,
        "sys": {
            "id": entry_id,
            "projectId": project["id"],
            "contentTypeId": content_type["id"],
            "dataFormat": content_type["dataFormat"],
            "language": language,
            "availableLanguages": available,
            "unavailableLanguages": [
                code for code in content_type["supportedLanguages"] if code not in available
            ],
            "deletedLanguages": [],
            "archivedLanguages": [],
            "owner": author,
            "slug": slug,
            "isPublished": is_complete if is_published is None else is_published,
            "translationState": "none",
            "metadata": {},
            "schedules": {},
            "workflow": {
                "id": content_type["workflowId"],
                "state": state,
                "allowedEvents": WORKFLOW_EVENTS[state],
                "transition": {
                    "invoked": published if is_complete else modified,
                    "invokedBy": author,
                    "from": "draft",
                    "event": "publish" if is_complete else "sysUpdate",
                    "data": None,
                },
            },
            "version": {
                "createdBy": author,
                "created": created,
                "modifiedBy": author,
                "modified": modified,
                "publishedBy": author if published else None,
                "published": published,
                "deletedBy": None,
                "deleted": None,
                "archivedBy": None,
                "archived": None,
                "versionNo": version,
            },
        },
    }
