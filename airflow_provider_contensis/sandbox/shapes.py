"""Projects, content types and entries in the shapes of the Management API: sections 3 and 4."""

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
}
_NAMESPACE = uuid.UUID("6f1d8a52-0c0e-4f0a-9a57-5a1f1e0a7c31")
_BUILT = "2019-01-07T08:00:00.5Z"
_BUILDER = "ada.brook"


@lru_cache(maxsize=1 << 15)
def guid(*parts: str) -> str:
    """Return the GUID that always stands for these names."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def new_project(project_id: str, name: str, description: str, languages: Sequence[str]) -> dict[str, Any]:
    """Return a project.

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

    :param project: the project it belongs to; its languages become the content type's.
    :param name: display name in the primary language.
    :param fields: its fields, as `new_field` makes them.
    :param title_field: id of the field whose value is the entry's title.
    :param description_field: id of the field whose value is the entry's description.
    :param data_format: `entry` or `asset`.
    """
    language = project["primaryLanguage"]
    definition = {
        "version": {
            "createdBy": _BUILDER,
            "created": _BUILT,
            "modifiedBy": _BUILDER,
            "modified": _BUILT,
            "publishedBy": _BUILDER,
            "published": _BUILT,
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
        "fields": [{**field, "name": {language: field["name"]}, "groupId": "main"} for field in fields],
        "defaultLanguage": language,
        "supportedLanguages": list(project["supportedLanguages"]),
        "workflowId": "contensisEntryBasic",
        "dataFormat": data_format,
        "groups": [{"id": "main", "name": {language: "Main"}, "description": {}}],
        "includeInDelivery": True,
        "enabled": True,
        "properties": None,
    }
    # Where no field gives the title or the description, the real service leaves the member out.
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
    :param name: display name.
    :param data_type: such as `string` or `objectArray`.
    :param data_format: such as `entry`; None for plain values.
    :param validations: rules by name, for example `required={}` or `maxLength={"value": 2}`.
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


def link(entry_id: str, content_type_id: str, language: str) -> dict[str, Any]:
    """Return a link to an entry, as a field's value."""
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
    """Return an entry in the form of the Management API (section 4.4).

    :param project: the project it belongs to.
    :param content_type: its content type.
    :param fields: the values of its fields.
    :param available_languages: the languages it exists in, this one included.
    :param created: ISO time of the first save.
    :param modified: ISO time of the last save; by default `created`.
    :param published: ISO time of the last publish; None when this was never published.
    :param version: version number, `major.minor`; minor 0 means a published version.
    :param is_published: whether a published version exists; by default whether this is one.
    """
    available = list(available_languages)
    state = "versionComplete" if version.endswith(".0") else "draft"
    modified = modified or created
    publishes = state == "versionComplete"
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
            "isPublished": publishes if is_published is None else is_published,
            "translationState": "none",
            "metadata": {},
            "schedules": {},
            "workflow": {
                "id": content_type["workflowId"],
                "state": state,
                "allowedEvents": WORKFLOW_EVENTS[state],
                "transition": {
                    "invoked": published if publishes else modified,
                    "invokedBy": author,
                    "from": "draft",
                    "event": "publish" if publishes else "sysUpdate",
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
