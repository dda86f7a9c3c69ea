"""OpenLineage's JSON schema, to check events against.

It is made from the classes of OpenLineage's client, which its authors generate from the specification: each
version of the client has the schema of what it sends. To check against the specification itself, set
CONTENSIS_TEST_OPENLINEAGE to the folder `spec` of OpenLineage's repository.
"""

from __future__ import annotations

import enum
import importlib
import json
import os
import pkgutil
import types
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit
from uuid import UUID

import attrs
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
# The specification has them; the classes check them in code.
_FORMATS = {
    "runId": "uuid",
    "eventTime": "date-time",
    "producer": "uri",
    "schemaURL": "uri",
    "_producer": "uri",
    "_schemaURL": "uri",
}
_formats = FormatChecker(formats=())


@_formats.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return str(UUID(str(value))) == value


@_formats.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return datetime.fromisoformat(str(value)).tzinfo is not None


@_formats.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    return bool(urlsplit(str(value)).scheme)


def problems(event: dict[str, Any]) -> list[str]:
    """Return how an event differs from its schema, or one of its facets from that of the facet."""
    found = [] if event["schemaURL"].endswith("/OpenLineage.json#/$defs/RunEvent") else ["it is no RunEvent"]
    parts = [("", event["schemaURL"], event), *_facets(event)]
    for path, url, part in parts:
        validator = Draft202012Validator({"$ref": url}, registry=_registry(), format_checker=_formats)
        found += [f"{path}{error.json_path[1:]}: {error.message}" for error in validator.iter_errors(part)]
    return found


def _facets(event: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the facets of an event: where they are, and the URL of their schema."""
    holders = {"run": event["run"], "job": event["job"]}
    for kind in ("inputs", "outputs"):
        holders |= {f"{kind}[{number}]": dataset for number, dataset in enumerate(event.get(kind) or [])}
    for where, holder in holders.items():
        for kind in ("facets", "inputFacets", "outputFacets"):
            for name, facet in (holder.get(kind) or {}).items():
                yield f"{where}.{kind}.{name}", facet["_schemaURL"], facet


@cache
def _registry() -> Registry[Any]:
    return Registry(retrieve=_retrieve)  # type: ignore[call-arg]  # its class hides its arguments


def _retrieve(url: str) -> Resource[Any]:
    folder = os.environ.get("CONTENSIS_TEST_OPENLINEAGE")
    schemas = _of_the_specification(folder) if folder else _of_the_client()
    return Resource.from_contents(schemas[url], default_specification=DRAFT202012)


@cache
def _of_the_specification(folder: str) -> dict[str, Any]:
    """Return its schemas by their URLs."""
    schemas = [json.loads(path.read_text()) for path in Path(folder).rglob("*.json")]
    return {schema["$id"]: schema for schema in schemas if "$id" in schema}


@cache
def _of_the_client() -> dict[str, Any]:
    """Return the schemas of the client's classes by their URLs."""
    from openlineage.client import generated

    schemas: dict[str, Any] = {}
    for module in pkgutil.iter_modules(generated.__path__, f"{generated.__name__}."):
        for each in vars(importlib.import_module(module.name)).values():
            if isinstance(each, type) and attrs.has(each) and "_get_schema" in vars(each):
                url, name = _url(each).split("#/$defs/")
                schemas.setdefault(url, {"$defs": {}})["$defs"][name] = _object(each)
    return schemas


def _object(described: Any) -> dict[str, Any]:
    hints = get_type_hints(described)
    fields = {field.name: hints[field.name] for field in attrs.fields(described)}
    formats = {name: {"format": _FORMATS[name]} for name in fields.keys() & _FORMATS.keys()}
    return {
        "type": "object",
        "properties": {name: _schema(hint) | formats.get(name, {}) for name, hint in fields.items()},
        # What may be left out may not be null.
        "required": [name for name, hint in fields.items() if type(None) not in get_args(hint)],
    }


def _schema(hint: Any) -> dict[str, Any]:
    arguments = [argument for argument in get_args(hint) if argument is not type(None)]
    if get_origin(hint) in {Union, types.UnionType}:
        return _schema(arguments[0]) if len(arguments) == 1 else {"anyOf": list(map(_schema, arguments))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if get_origin(hint) is Literal:
        return {"enum": arguments}
    if hint is Any:
        return {}
    if issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if not attrs.has(hint):
        return {"type": _TYPES[hint]}
    return {"$ref": _url(hint)} if hasattr(hint, "_get_schema") else _object(hint)


def _url(described: Any) -> str:
    url: str = described._get_schema()
    return url
