"""The resources of the Contensis API as typed JSON, and the choices its calls offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Api = Literal["management", "delivery"]
VersionStatus = Literal["published", "latest"]
DataFormat = Literal["entry", "asset"]
ContentTypeFormat = Literal["entry", "asset", "form"]

# A search clause, such as {"field": "runtime", "greaterThan": 90} (docs/contensis-api.md, "Search").
Clause = Mapping[str, Any]
# An entry holds `sys` and the fields that its content type's author chose, so its values are really any JSON.
Entry = dict[str, Any]


class Project(TypedDict, total=False):
    """A project (docs/contensis-api.md, "Projects")."""

    id: str
    uuid: str
    name: str
    description: str | None
    primaryLanguage: str
    supportedLanguages: list[str]
    color: str
    deliverySysExclusions: list[str]


class Field(TypedDict, total=False):
    """A field of a content type (docs/contensis-api.md, "Fields")."""

    id: str
    name: dict[str, str]
    dataType: str
    dataFormat: str | None
    validations: dict[str, Any] | None
    fields: list[Field]


class Version(TypedDict, total=False):
    """The version of a content type."""

    versionNo: str
    modified: str
    published: str | None


class ContentType(TypedDict, total=False):
    """The definition of a content type (docs/contensis-api.md, "Content types")."""

    id: str
    uuid: str
    projectId: str
    name: dict[str, str]
    description: dict[str, str]
    dataFormat: str
    entryTitleField: str
    entryDescriptionField: str
    fields: list[Field]
    version: Version


class SearchPage(TypedDict, total=False):
    """One page of a search (docs/contensis-api.md, "Paging")."""

    pageIndex: int
    pageSize: int
    totalCount: int
    pageCount: int
    items: list[Entry]
