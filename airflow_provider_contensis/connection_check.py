"""Trying a connection in stages, for the Test button: what works, and what to mend."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.errors import (
    ContensisError,
    InvalidResponseError,
    NotFoundError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_contensis.api.auth import AccessToken
    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.query import Clause

# The button blocks a thread of the API server, which sets no limit of its own.
_SECONDS = 9.0

_ASSIGN = "assign it to a role of the project in Contensis"


def check(client: ContensisClient, *, project_id: str | None) -> tuple[bool, str]:
    """Try a client's connection: host, identity provider, project, entries.

    :param client: without retries; it is closed at the end.
    :param project_id: the project to read; None for the first that the API key may see.
    :return: whether an authenticated read succeeded, and how far it got, without any secret.
    """
    with closing(client):
        return _Check(client, project_id).run()


class _Check:
    def __init__(self, client: ContensisClient, project_id: str | None) -> None:
        self._client = client
        self._project_id = project_id
        self._deadline = time.monotonic() + _SECONDS
        self._patience = client.session.timeout
        self._passed: list[str] = []

    def run(self) -> tuple[bool, str]:
        try:
            self._token()
            self._entries(self._project())
        except ContensisError as error:
            # The reason first: Airflow shows it for five seconds.
            worked = f" What works: {'; '.join(self._passed)}." if self._passed else ""
            return False, f"{str(error).rstrip('.')}.{worked}"
        return True, f"{'; '.join(['The form is complete', *self._passed])}."

    def _token(self) -> None:
        self._hurry()
        try:
            token = self._client.access_token(fresh=True)
        except ContensisError as error:
            if isinstance(error, InvalidResponseError) or not isinstance(error, TransportError):
                self._passed.append(f"{self._client.root_url} answers")
            raise
        self._passed += [f"{self._client.root_url} answers", _describe(token)]

    def _project(self) -> dict[str, object]:
        self._hurry()
        if self._project_id:
            project = self._named_project(self._project_id)
        else:
            projects = self._client.list_projects()
            if not projects:
                raise ContensisError(f"The API key can see no project: {_ASSIGN}.")
            project = projects[0]
            self._passed.append(
                f"'Project' is empty, so each task has to name one (the key can see {_ids(projects)})"
            )
        self._passed.append(f"project '{project.get('id')}' ({project.get('name')}) can be read")
        return project

    def _named_project(self, project_id: str) -> dict[str, object]:
        try:
            return self._client.get_project(project_id)
        except NotFoundError:
            self._hurry()
            projects = self._client.list_projects()
        seen = f"it can see {_ids(projects)}" if projects else f"it can see none: {_ASSIGN}"
        raise ContensisError(f"'Project' names '{project_id}', which the API key can't see; {seen}.")

    def _entries(self, project: dict[str, object]) -> None:
        self._hurry()
        language = project.get("primaryLanguage")
        where: list[Clause] = [
            {"field": "sys.versionStatus", "equalTo": "published"},
            {"field": "sys.language", "equalTo": language},
            {"field": "sys.dataFormat", "equalTo": "entry"},
        ]
        count = self._client.count_entries(str(project.get("id")), where)
        self._passed.append(f"it has {count:,} published entries in {language}")
        if count == 0:
            self._passed.append("if that surprises you, check the roles of the API key")

    def _hurry(self) -> None:
        left = max(0.5, self._deadline - time.monotonic())
        self._client.session.timeout = min(self._patience, left)


def _ids(projects: Sequence[Mapping[str, object]]) -> str:
    return ", ".join(str(project.get("id")) for project in projects)


def _describe(token: AccessToken) -> str:
    key, scopes = token.claims.get("client_username"), token.claims.get("scope")
    name = f" for API key '{key}'" if isinstance(key, str) else ""
    granted = scopes if isinstance(scopes, list) else [scopes]
    listed = " ".join(scope for scope in granted if isinstance(scope, str))
    return f"the identity provider gives a token{name}" + (f" with scopes {listed}" if listed else "")
