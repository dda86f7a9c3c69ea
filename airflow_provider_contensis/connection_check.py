"""The Test button: a connection is tested in stages, and the message says which work and what to fix."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_contensis.api.claims import granted_scopes
from airflow_provider_contensis.connection import KNOWN_FIELDS
from airflow_provider_contensis.exceptions import (
    APIError,
    AuthenticationError,
    ContensisError,
    InvalidResponseError,
    NotFoundError,
)
from airflow_provider_contensis.export.arguments import did_you_mean
from airflow_provider_contensis.utils.text import count, show, single_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_contensis.api.client import ContensisClient
    from airflow_provider_contensis.api.resources import Clause, Project
    from airflow_provider_contensis.api.token_request import AccessToken

# The button blocks a thread of the API server, which has no time limit of its own.
_SECONDS = 9.0

_ASSIGN = "assign it to a role of the project in Contensis"


def check(
    client: ContensisClient, *, project_id: str | None, unknown_fields: Sequence[str] = ()
) -> tuple[bool, str]:
    """Test a connection: host, identity provider, project, entries.

    :param client: without retries, and with a short deadline for answers; it is closed at the end.
    :param project_id: the project to read; None for the first that the API key can see.
    :param unknown_fields: names in the connection's extra that have no effect.
    :return: whether an authenticated read succeeded; the result, and the stages passed, without any secret.
    """
    with closing(client):
        return _Check(client, project_id, unknown_fields).run()


class _Check:
    def __init__(
        self, client: ContensisClient, project_id: str | None, unknown_fields: Sequence[str]
    ) -> None:
        self._client = client
        self._project_id = project_id
        self._deadline = time.monotonic() + _SECONDS
        self._timeout = client.session.timeout
        self._notes = [_misspelt(name) for name in unknown_fields]
        self._passed: list[str] = []

    def run(self) -> tuple[bool, str]:
        # The result first: Airflow shows the message for five seconds.
        try:
            self._token()
            result = self._entries(self._project())
        except ContensisError as error:
            passed = [f"Passed: {'; '.join(self._passed)}."] if self._passed else []
            return False, single_line(" ".join([f"{str(error).rstrip('.')}.", *self._notes, *passed]))
        passed = [f"{'; '.join(['The form is complete', *self._passed])}."]
        return True, single_line(" ".join([f"OK: {result}.", *self._notes, *passed]))

    def _token(self) -> None:
        self._hurry()
        try:
            token = self._client.access_token(fresh=True)
        except ContensisError as error:
            if isinstance(error, APIError | AuthenticationError | InvalidResponseError):
                self._passed.append(f"{self._client.root_url} answers")
            raise
        self._passed += [f"{self._client.root_url} answers", _describe(token)]

    def _project(self) -> Project:
        self._hurry()
        if self._project_id:
            project = self._named_project(self._project_id)
        else:
            projects = self._client.list_projects()
            if not projects:
                raise ContensisError(f"The API key cannot see any project: {_ASSIGN}.")
            project = projects[0]
            self._notes.append(
                "'Project' is empty, so there is no default project: set project_id in every task "
                f"(the key can see {_ids(projects)})."
            )
        self._passed.append(f"project '{project.get('id')}' ({project.get('name')}) can be read")
        return project

    def _named_project(self, project_id: str) -> Project:
        try:
            return self._client.get_project(project_id)
        except NotFoundError:
            self._hurry()
            projects = self._client.list_projects()
        seen = f"it can see {_ids(projects)}" if projects else f"it cannot see any: {_ASSIGN}"
        raise ContensisError(f"'Project' is '{project_id}', which the API key cannot see; {seen}.")

    def _entries(self, project: Project) -> str:
        """Return the result: what there is to read."""
        self._hurry()
        language = project.get("primaryLanguage")
        where: list[Clause] = [
            {"field": "sys.versionStatus", "equalTo": "published"},
            {"field": "sys.language", "equalTo": language},
            {"field": "sys.dataFormat", "equalTo": "entry"},
        ]
        total = self._client.count_entries(str(project.get("id")), where)
        if total == 0:
            self._notes.append("If you expected entries, check the API key's role.")
        entries = count(total, "published entry", "published entries")
        return f"project {project.get('id')}, {entries} in {language}"

    def _hurry(self) -> None:
        left = max(0.5, self._deadline - time.monotonic())
        self._client.session.timeout = min(self._timeout, left)


def _misspelt(name: str) -> str:
    known = did_you_mean(name, KNOWN_FIELDS) or f" Known fields: {', '.join(KNOWN_FIELDS)}."
    return f"The extra field {show(name)} is unknown and has no effect.{known}"


def _ids(projects: Sequence[Project]) -> str:
    return ", ".join(str(project.get("id")) for project in projects)


def _describe(token: AccessToken) -> str:
    key = token.claims.get("client_username")
    name = f" for API key '{key}'" if isinstance(key, str) else ""
    listed = " ".join(granted_scopes(token.value))
    return f"the identity provider grants a token{name}" + (f" with scopes {listed}" if listed else "")
