"""The hook: an Airflow connection in, authenticated calls to Contensis out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_contensis import connection_form
from airflow_provider_contensis.connection import ConnectionSettings
from airflow_provider_contensis.exceptions import ConfigurationError, ContensisError, InvalidResponseError
from airflow_provider_contensis.export.arguments import optional_name
from airflow_provider_contensis.lineage import report_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    import requests

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import (
        Api,
        Clause,
        ContentType,
        ContentTypeFormat,
        DataFormat,
        Entry,
        Project,
        SearchPage,
        VersionStatus,
    )


__all__ = ["ContensisHook"]


class ContensisHook(BaseHook):
    """Calls the Contensis Management and Delivery APIs with an API key from an Airflow connection.

    The access token (OAuth 2.0 client credentials) is requested by the first call, shared by all hooks of the
    process that use the same key, and renewed when it expires or is refused.

    :param contensis_conn_id: the Airflow connection, of type `contensis`.
    :param project_id: the default project of all calls; None for the connection's.
    """

    conn_name_attr = "contensis_conn_id"
    default_conn_name = "contensis_default"
    conn_type = "contensis"
    hook_name = "Contensis"

    def __init__(self, contensis_conn_id: str = default_conn_name, *, project_id: str | None = None) -> None:
        super().__init__()
        self.contensis_conn_id = contensis_conn_id
        self._project_id = project_id

    # --- the connection form of Airflow 2.11 to 3.1; later versions read get_provider_info() ---------------

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's custom fields, for Airflow before 3.2."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's labels and placeholders, for Airflow before 3.2."""
        return connection_form.behaviour()

    # --- the connection -----------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The settings in the connection.

        :raises ConfigurationError: names the field to correct.
        """
        conn_id = optional_name("contensis_conn_id", self.contensis_conn_id) or self.default_conn_name
        settings = ConnectionSettings.from_connection(self.get_connection(conn_id))
        for secret in settings.secrets:
            # Airflow masks the shared secret only with the spaces pasted around it, and no other secret.
            mask_secret(secret)
        return settings

    @cached_property
    def client(self) -> ContensisClient:
        """The client that sends the calls of this hook."""
        return self.settings.client()

    @property
    def project_id(self) -> str:
        """The default project.

        :raises ConfigurationError: neither the hook nor the connection has one.
        """
        project_id = self._project_id or self.settings.project_id
        if not project_id:
            raise ConfigurationError("No project: set project_id, or 'Project' in the connection.")
        return project_id

    def get_conn(self) -> requests.Session:
        """Return a session whose requests carry the access token.

        Its URLs may be relative to the environment's root. It calls no other host.
        """
        return self.client.session

    def get_access_token(self) -> str:
        """Return a current access token; request one only if there is none.

        :raises AuthenticationError: the credentials were refused; names the field to correct.
        """
        return self.client.access_token().value

    def close(self) -> None:
        """Close the connections. The hook can be used again."""
        client = self.__dict__.pop("client", None)
        if client is not None:
            client.close()

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection in stages, and say which passed.

        It requests a new token, whatever is cached, and succeeds only after it has counted entries. It gives
        up within about ten seconds.
        """
        from airflow_provider_contensis.connection_check import check

        try:
            settings = self.settings
        except ContensisError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - the API server shows what is returned, not what is raised
            return False, f"The connection could not be read: {type(error).__name__}."
        return check(
            settings.client(is_patient=False),
            project_id=self._project_id or settings.project_id,
            unknown_fields=settings.unknown_fields,
        )

    # --- calls --------------------------------------------------------------------------------------------

    def run(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one authenticated call to the Management or the Delivery API.

        Idempotent calls are retried if they fail for a temporary reason.

        :param method: HTTP method.
        :param path: relative to the environment's root, such as `/api/management/projects`.
        :param kwargs: as in `requests.Session.request`: `params`, `json`, `data`, `headers`, `timeout`.
        :return: the answer, its body read.
        :raises APIError: Contensis answered with an error status; each has its subclass.
        :raises TransportError: no answer, or one that cannot be read.
        :raises AuthenticationError: the credentials were refused.
        """
        return self.client.run(method, path, **kwargs)

    def list_projects(self) -> list[Project]:
        """Return the projects that the API key can see."""
        return self.client.list_projects()

    def get_project(self, project_id: str | None = None, *, api: Api = "management") -> Project:
        """Return a project.

        :param project_id: None for the default project.
        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        return self.client.get_project(project_id or self.project_id, api=api)

    def list_content_types(
        self,
        *,
        data_format: ContentTypeFormat | None = None,
        version_status: VersionStatus = "published",
        project_id: str | None = None,
        api: Api = "management",
    ) -> list[ContentType]:
        """Return the content types of a project.

        :param data_format: `entry`, `asset` or `form`; None for all.
        :param version_status: `published` or `latest`.
        """
        return self.client.list_content_types(
            project_id or self.project_id, data_format=data_format, version_status=version_status, api=api
        )

    def get_content_type(
        self,
        content_type_id: str,
        *,
        version_status: VersionStatus = "published",
        project_id: str | None = None,
        api: Api = "management",
    ) -> ContentType:
        """Return a content type, with its fields.

        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        return self.client.get_content_type(
            project_id or self.project_id, content_type_id, version_status=version_status, api=api
        )

    def get_entry(
        self,
        entry_id: str,
        *,
        language: str | None = None,
        version_status: VersionStatus = "published",
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        project_id: str | None = None,
        api: Api = "management",
    ) -> Entry:
        """Return one variation of an entry.

        :param language: None for the project's primary language.
        :param version_status: `published` or `latest`.
        :param link_depth: levels of links to resolve; Delivery API only.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        :raises NotFoundError: it does not exist, or the API key may not see it.
        """
        report_read(self, self.settings.root_url, project_id or self.project_id)
        return self.client.get_entry(
            project_id or self.project_id,
            entry_id,
            language=language,
            version_status=version_status,
            link_depth=link_depth,
            field_link_depths=field_link_depths,
            api=api,
        )

    def search_entries(
        self,
        query: Mapping[str, Any],
        *,
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        project_id: str | None = None,
        api: Api = "management",
    ) -> SearchPage:
        """Return one page of a search, as the API answers it.

        To read all entries of a search, use `iter_entries`, which proves that none is missing.

        :param query: as the API writes it: `where`, `orderBy`, `pageIndex`, `pageSize`.
        """
        report_read(self, self.settings.root_url, project_id or self.project_id)
        return self.client.search_entries(
            project_id or self.project_id,
            query,
            link_depth=link_depth,
            field_link_depths=field_link_depths,
            api=api,
        )

    def count_entries(
        self,
        where: Sequence[Clause] = (),
        *,
        project_id: str | None = None,
        api: Api = "management",
    ) -> int:
        """Return how many entry variations match.

        :param where: search clauses as the API writes them. Include `sys.versionStatus` and `sys.language`:
            what the service counts without them is not documented.
        """
        return self.client.count_entries(project_id or self.project_id, where, api=api)

    def iter_entries(
        self,
        *,
        content_type_id: str | Iterable[str] | None = None,
        language: str | Iterable[str] | None = None,
        version_status: VersionStatus = "published",
        data_format: DataFormat | None = "entry",
        where: Sequence[Clause] | None = None,
        changed_from: str | datetime | None = None,
        changed_to: str | datetime | None = None,
        api: Api = "management",
        link_depth: int | None = None,
        field_link_depths: Mapping[str, int] | None = None,
        page_size: int = 500,
        max_concurrent_requests: int = 4,
        project_id: str | None = None,
    ) -> Iterator[Entry]:
        """Yield entries one by one, each (`sys.id`, `sys.language`) once and none missing.

        :param content_type_id: one or several; None for all of the project.
        :param language: one or several; None for all that the project supports.
        :param version_status: `published` or `latest`.
        :param data_format: `entry`, `asset`, or None for both.
        :param where: further search clauses, as the API writes them.
        :param changed_from: ISO time, inclusive, compared with the time of publishing (`latest`: saving).
            Without an offset it is UTC.
        :param changed_to: ISO time, exclusive.
        :param api: `management` or `delivery`.
        :param link_depth: levels of links that the Delivery API resolves, 0 to 10.
        :param field_link_depths: the same for single field paths, such as `{"director": 1}`.
        :param page_size: entries a page, 1 to 10,000.
        :param max_concurrent_requests: requests in flight, 1 to 32.
        :raises ConfigurationError: names the wrong argument.
        :raises IncompleteReadError: the read could not be proven complete; raised at the end at the latest,
            so act on the entries only once the iterator has ended.
        """
        from airflow_provider_contensis.export.request import entry_query, read_options
        from airflow_provider_contensis.export.source import EntrySource
        from airflow_provider_contensis.utils.json import loads_json

        query = entry_query(
            content_type_id=content_type_id,
            language=language,
            version_status=version_status,
            data_format=data_format,
            where=where,
            changed_from=changed_from,
            changed_to=changed_to,
            api=api,
            link_depth=link_depth,
            field_link_depths=field_link_depths,
        )
        options = read_options(page_size=page_size, max_concurrent_requests=max_concurrent_requests)
        source = EntrySource(self.client, project_id or self.project_id, query, options)
        report_read(self, self.settings.root_url, project_id or self.project_id)
        for batch in source.read(source.plan()):
            for entry in batch.entries:
                try:
                    yield loads_json(bytes(entry))
                except ValueError:
                    raise InvalidResponseError("An entry contains JSON that Python cannot read.") from None
