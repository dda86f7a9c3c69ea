"""Lineage: asset URIs of Contensis, and which datasets a task has read and written, for OpenLineage.

Nothing here may fail a task, and none of it needs OpenLineage: without its provider, nothing is reported.
Airflow imports this module for every URI `contensis://…`: keep it light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow_provider_contensis.api.environment import origin, root_url
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.courtesy import courtesy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Asset

    from airflow_provider_contensis.api.resources import ContentType, Field

__all__ = ["create_asset"]

SCHEME = "contensis"
# What OpenLineage calls a store of objects, where Airflow has other names for it too.
_STORES = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}


# --- asset URIs -------------------------------------------------------------------------------------------


def create_asset(
    *, host: str, project_id: str, content_type_id: str | None = None, extra: dict[str, Any] | None = None
) -> Asset:
    """Return the Airflow asset of a project, or of one of its content types.

    Its URI is `contensis://host/project/content-type`, and its name is the URI: however the host is written,
    the asset is the same.

    :param host: the environment's URL, host name or alias, as in the connection.
    :param project_id: API id of the project.
    :param content_type_id: API id of a content type; None for the whole project.
    :param extra: what to keep with the asset.
    :raises ConfigurationError: the host is not valid, or an id is empty.
    """
    from airflow.providers.common.compat.sdk import Asset

    ids = [project_id] if content_type_id is None else [project_id, content_type_id]
    if not all(isinstance(id_, str) and id_.strip() for id_ in ids):
        raise ConfigurationError("project_id and content_type_id must be API ids, such as 'website'.")
    path = "/".join(quote(id_.strip(), safe="") for id_ in ids)
    return Asset(uri=f"{SCHEME}://{_authority(host)}/{path}", extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return an asset URI in its one spelling: the host in full and in lower case, the default port left out.

    Ids keep their case, which Contensis may tell apart.

    :raises ValueError: it has no host, or no project.
    """
    _, _, host = uri.netloc.rpartition("@")
    ids = [quote(unquote(part), safe="") for part in uri.path.split("/") if part]
    if not host or not ids:
        raise ValueError("An asset URI of Contensis has a host and a project: contensis://host/project")
    try:
        authority = _authority(host)
    except ConfigurationError as error:
        raise ValueError(f"The host of the asset URI is not valid: {error}") from None
    return uri._replace(netloc=authority, path=f"/{'/'.join(ids)}")


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Any:  # noqa: ARG001 - Airflow passes both
    """Return the OpenLineage dataset of an asset; Airflow calls it."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    uri = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{uri.netloc}", name=unquote(uri.path.strip("/")))


def report_read(hook: object, url: str, project_id: str) -> None:
    """Report to Airflow's collector that a hook reads from a project."""
    with courtesy("The lineage of this task lacks what the hook has read"):
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        get_hook_lineage_collector().add_input_asset(  # type: ignore[no-untyped-call]  # Airflow's
            context=hook, scheme=SCHEME, asset_kwargs={"host": url, "project_id": project_id}
        )


def _authority(host: str) -> str:
    """Return the host of an environment, and its port unless the host alone means the same.

    :raises ConfigurationError: it is neither a URL, a host name nor an alias.
    """
    _, *named = origin(root_url(host))
    name, port = named
    name = f"[{name}]" if ":" in str(name) else str(name)
    # Alone, a loopback host has port 80, any other one 443, and one without a dot would be an alias.
    _, *alone = origin(root_url(name))
    return name if alone == named else f"{name}:{port}"


# --- OpenLineage ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The project that a task has read.

    :param url: the environment's root.
    :param content_types: those that were read.
    """

    url: str
    project_id: str
    content_types: Sequence[ContentType] = ()


@dataclass(frozen=True)
class Output:
    """What a task has written.

    :param url: a local path, or the URL of an object or a table.
    :param rows: entries in a file, or upserts in a copy.
    :param size: in bytes.
    :param deletes: entries that left a copy; None if it is no copy.
    :param columns: the types of a table's columns, by name.
    """

    url: str
    rows: int | None = None
    size: int | None = None
    deletes: int | None = None
    columns: Mapping[str, str] | None = None

    @property
    def dataset(self) -> tuple[str, str]:
        """Namespace and name, by the conventions of OpenLineage."""
        if "://" not in self.url:
            return "file", str(Path(self.url).absolute())
        uri = urlsplit(self.url)
        login, _, host = uri.netloc.rpartition("@")
        if uri.scheme == "file":
            return "file", unquote(uri.path)
        if uri.scheme == "postgres":  # postgres://host:port/database/schema/table
            return f"postgres://{host}", ".".join(map(unquote, uri.path.strip("/").split("/")))
        if login and uri.scheme.startswith("abfs") and "." in host:  # container@account, no connection
            host = uri.netloc
        return f"{_STORES.get(uri.scheme, uri.scheme)}://{host}", uri.path.strip("/") or "/"


class ReportsLineage:
    """An operator that reports what it has read and written, once it is done, if OpenLineage asks."""

    _read: Source | None = None
    _written: Sequence[Output] = ()

    def get_openlineage_facets_on_complete(self, ti: object) -> Any:  # noqa: ARG002 - Airflow passes it
        """Return the datasets of the finished task; Airflow's OpenLineage provider calls it."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        try:
            inputs = [] if self._read is None else [_input(self._read)]
            return OperatorLineage(inputs=inputs, outputs=[_output(output) for output in self._written])
        except Exception:  # noqa: BLE001 - an event without datasets is better than none
            return OperatorLineage()


def is_listening() -> bool:
    """Return whether Airflow's OpenLineage provider is installed and switched on."""
    try:
        from airflow.providers.openlineage.conf import is_disabled

        return not is_disabled()
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the task does not need it
        return False


def table_url(host: str, port: int | None, path: Iterable[str]) -> str:
    """Return the URL of a table in PostgreSQL, for an `Output`.

    :param host: a host name or an address; a path is the socket of a server on this machine.
    :param path: database, schema and table.
    """
    name = "localhost" if host.startswith("/") else host.lower()
    authority = f"[{name}]" if ":" in name else name
    return f"postgres://{authority}:{port or 5432}/{'/'.join(quote(part, safe='') for part in path)}"


def in_folder(folder: str, path: str) -> str:
    """Return the URL of a file that may be named relative to its folder."""
    return path if "://" in path or path.startswith(("/", folder)) else f"{folder}{path}"


def written_files(destination: str, files: Iterable[Mapping[str, Any]]) -> list[Output]:
    """Return the outputs of an export of entries."""
    return [Output(in_folder(destination, file["path"]), file["rows"], file["bytes"]) for file in files]


def _input(source: Source) -> Any:
    from airflow.providers.common.compat.openlineage.facet import (
        InputDataset,
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )

    facets: dict[str, Any] = {}
    if source.content_types:
        types = [
            SchemaDatasetFacetFields(
                name=content_type["id"], type="struct", fields=_fields(content_type.get("fields") or ())
            )
            for content_type in source.content_types
        ]
        facets["schema"] = SchemaDatasetFacet(fields=types)
    namespace = f"{SCHEME}://{_authority(source.url)}"
    return InputDataset(namespace=namespace, name=source.project_id, facets=facets)


def _fields(fields: Iterable[Field]) -> list[Any]:
    from airflow.providers.common.compat.openlineage.facet import SchemaDatasetFacetFields

    return [
        SchemaDatasetFacetFields(
            name=field["id"],
            type=".".join(filter(None, (field.get("dataType"), field.get("dataFormat")))) or None,
            fields=_fields(field.get("fields") or ()),
        )
        for field in fields
    ]


def _output(output: Output) -> Any:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )

    namespace, name = output.dataset
    described: dict[str, Any] = {}
    if output.columns:
        fields = [SchemaDatasetFacetFields(name=column, type=kind) for column, kind in output.columns.items()]
        described["schema"] = SchemaDatasetFacet(fields=fields)
    statistics = OutputStatisticsOutputDatasetFacet(rowCount=output.rows, size=output.size)
    facets: dict[str, Any] = {"outputStatistics": statistics}
    if output.deletes is not None:
        facets["contensis_changes"] = _changes_facet()(upserts=output.rows, deletes=output.deletes)
    return OutputDataset(namespace=namespace, name=name, facets=described, outputFacets=facets)


@cache
def _changes_facet() -> Any:
    """Return the facet of a copy, a class that can only be made with the OpenLineage client."""
    import attr
    from openlineage.client.generated.base import OutputDatasetFacet

    @attr.define
    class ContensisChangesOutputDatasetFacet(OutputDatasetFacet):
        upserts: int | None = attr.field(default=None)
        deletes: int | None = attr.field(default=None)

    return ContensisChangesOutputDatasetFacet
