"""Answers of the API: their JSON, checked for shape, and their errors as exceptions.

Nothing that an answer says may carry a secret onwards: a gateway's error page may echo the request.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from airflow_provider_contensis.api.claims import granted_scopes
from airflow_provider_contensis.api.retry import parse_retry_after
from airflow_provider_contensis.exceptions import (
    RETRYABLE_STATUS_CODES,
    APIError,
    ConflictError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
    ValidationError,
)
from airflow_provider_contensis.utils.json import loads_json
from airflow_provider_contensis.utils.text import count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import requests

    from airflow_provider_contensis.api.resources import ContentType, Entry, Project, SearchPage

# The scope that a call needs, by what it asks for (docs/contensis-api.md, "Scopes").
_SCOPES = {"entries": "Entry_Read", "contenttypes": "ContentType_Read", "projects": "Project_Read"}
# Statuses by which a firewall, too, refuses a call.
REFUSALS = frozenset({401, 403, 405, 406, 451, 511})
_NO_LOG_ID = "00000000-0000-0000-0000-000000000000"
_ERRORS: dict[int, type[APIError]] = {
    401: UnauthorizedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitedError,
}


# --- errors -----------------------------------------------------------------------------------------------


def api_error(response: requests.Response, what: str, *, secrets: Sequence[str]) -> APIError:
    """Return the exception for an error status (docs/contensis-api.md, "Errors").

    :param what: names the call.
    :param secrets: what the message must not contain, such as the shared secret.
    """
    body = _error_body(response, secrets)
    status = response.status_code
    detail, log_id = body.get("message"), body.get("logid")
    detail = detail if isinstance(detail, str) and detail.strip() else None
    log_id = log_id if isinstance(log_id, str) and log_id != _NO_LOG_ID else None
    wait = retry_after(response)
    message = f"{what} was answered with status {status}: {_advice(response, wait)}"
    if detail:
        message += f" {'The answer' if _foreign(response) else 'Contensis'} says: {detail}"
    if problems := _problems(body.get("data")):
        message += f" ({problems})"
    if log_id:
        message += f" (logId {log_id})"
    return api_error_class(status)(
        message,
        status_code=status,
        detail=detail,
        log_id=log_id,
        error_type=body.get("type") if isinstance(body.get("type"), str) else None,
        data=body.get("data"),
        retry_after=wait,
    )


def api_error_class(status_code: int) -> type[APIError]:
    """Return the exception class for an HTTP error status."""
    return _ERRORS.get(status_code, ServerError if status_code >= 500 else APIError)


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds that an answer asks to wait; None if it does not ask."""
    return parse_retry_after(response.headers.get("Retry-After"))


def date(response: requests.Response) -> datetime | None:
    """Return the time of the service's clock when it answered; None if it does not say."""
    try:
        moment = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def unexpected(response: requests.Response, expected: str) -> InvalidResponseError:
    """Return the exception for an answer of another kind than expected."""
    return InvalidResponseError(f"{_call(response)} was not answered with {expected}.")


def foreign_page(response: requests.Response) -> str | None:
    """Return what an answer holds instead of JSON; None if it is empty, or JSON."""
    if not response.content.strip():
        return None
    try:
        loads_json(response.content)
    except ValueError:
        kind = response.headers.get("Content-Type", "").lower()
        is_page = "html" in kind or response.content.lstrip()[:1] == b"<"
        return "an HTML page" if is_page else "text that is not JSON"
    return None


def _error_body(response: requests.Response, secrets: Sequence[str]) -> dict[str, Any]:
    """Return the error envelope with lower-case keys, for their case varies."""
    try:
        # Secrets are removed after decoding: JSON escapes can hide them.
        body = _without((_sent_token(response), *secrets), loads_json(response.content))
    except (ValueError, RecursionError):
        return {}
    return {key.lower(): value for key, value in body.items()} if isinstance(body, dict) else {}


def _problems(data: Any) -> str:
    """Return the problems of fields that a validation error lists."""
    problems = []
    for item in data if isinstance(data, list) else []:
        known = {str(key).lower(): value for key, value in item.items()} if isinstance(item, dict) else {}
        if isinstance(known.get("message"), str):
            problems.append(f"{known.get('field') or 'all'}: {known['message']}")
    return "; ".join(problems[:3])


def _advice(response: requests.Response, wait: float | None) -> str:
    status = response.status_code
    is_final = 400 <= status < 500 and status not in RETRYABLE_STATUS_CODES
    if (foreign := _foreign(response)) and (is_final or status in REFUSALS):
        return (
            f"the answer is {foreign}, so a firewall or another gateway between Airflow and Contensis has "
            "refused the call. Ask its administrator to allow this worker's calls; if it expects a header, "
            "add that to the connection's extra 'headers'."
        )
    if status == 401:
        return "a new access token was refused too. Check that the API key is enabled, and its scopes."
    if status == 403 and (scope := _missing_scope(response)):
        return (
            f"the access token lacks the scope {scope}. Allow it for the API key in Contensis, and add it to "
            "'Scopes' in the connection."
        )
    if status == 403:
        return (
            "the API key may not do this. Assign it to a role of the project in Contensis, "
            "and check the connection's scopes."
        )
    if status == 404:
        return (
            "it does not exist, or the API key's role may not see it. Check the project id and the other ids."
        )
    if status == 429:
        asked = "" if wait is None else f" It asks to wait {duration(wait)}."
        return f"too many calls.{asked}"
    return "the service failed." if status >= 500 else "the service does not accept the request."


def _foreign(response: requests.Response) -> str | None:
    """Return what an answer is instead of an error of Contensis; None if it may be one."""
    if (page := foreign_page(response)) or response.status_code != 403 or response.request.method == "HEAD":
        return page
    if not response.content.strip():
        return "empty"
    body = json_object_or_none(response) or {}
    return None if "logid" in map(str.lower, body) else "JSON that Contensis does not send"


def _missing_scope(response: requests.Response) -> str | None:
    """Return the scope that a call needs and its token lacks; None if neither is known to be missing."""
    scopes = granted_scopes(_sent_token(response))
    # /api/management/projects/{project}/entries/…
    parts = response.request.path_url.partition("?")[0].lower().strip("/").split("/")
    needed = _SCOPES.get(parts[4] if len(parts) > 4 else "projects")
    return needed if scopes and needed not in scopes else None


# --- JSON -------------------------------------------------------------------------------------------------


def json_object_or_none(response: requests.Response) -> dict[str, Any] | None:
    """Return the JSON object of an answer of any kind; None if it is something else."""
    try:
        body = loads_json(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def project(response: requests.Response, project_id: str) -> Project:
    """Return the project of an answer, which has to be the one that was asked for.

    :raises InvalidResponseError: it is something else; so do the functions below.
    """
    found = _object(response)
    if not _is_named(found.get("id", project_id), project_id):
        raise unexpected(response, "the project that was asked for")
    return cast("Project", found)


def entry(response: requests.Response, entry_id: str, language: str | None, project_id: str) -> Entry:
    """Return the entry of an answer, which has to be the one that was asked for."""
    found = _object(response)
    sys = found.get("sys")
    if not isinstance(sys, dict) or not _is_named(sys.get("id"), entry_id):
        raise unexpected(response, "the entry that was asked for")
    if language and not _is_named(sys.get("language", language), language):
        raise unexpected(response, "the language that was asked for")
    if not _is_named(sys.get("projectId", project_id), project_id):
        raise unexpected(response, "an entry of the project that was asked for")
    return found


def search_page(response: requests.Response) -> SearchPage:
    """Return the page of entries of an answer."""
    return cast("SearchPage", _object(response))


def total_count(response: requests.Response) -> int:
    """Return the number of entries that match, from an answer with a page of them."""
    page = _object(response)
    total, items = page.get("totalCount"), page.get("items")
    if type(total) is not int or not isinstance(items, list):
        raise unexpected(response, "a page of entries")
    if total < len(items):
        raise InvalidResponseError(
            f"The service counts {count(total, 'entry', 'entries')} but shows {len(items):,}."
        )
    return total


def content_type(response: requests.Response, content_type_id: str) -> ContentType:
    """Return the content type of an answer, which has to be the one that was asked for."""
    found = _object(response)
    if not _is_named(found.get("id"), content_type_id):
        raise unexpected(response, "the content type that was asked for")
    return cast("ContentType", found)


def projects(response: requests.Response) -> list[Project]:
    """Return the projects of an answer."""
    return cast("list[Project]", _objects(response))


def content_types(response: requests.Response) -> list[ContentType]:
    """Return the content types of an answer, from which files can be made: of the right shape.

    What names files and columns is valid text; names for people may hold lone surrogates.
    """
    definitions = _objects(response)
    for definition in definitions:
        fields, version = definition.get("fields"), definition.get("version")
        if not isinstance(version, dict | None) or not (fields is None or _are_fields(fields)):
            raise unexpected(response, "content types")
        try:
            json.dumps(definition)  # not nested too deeply
            json.dumps([*_ids(definition), version], ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise unexpected(response, "content types whose ids are valid text") from None
    return cast("list[ContentType]", definitions)


def _value(response: requests.Response) -> Any:
    token = _sent_token(response)
    try:
        value = loads_json(response.content)
        # Ids and languages get into logs, and a token among them would, too.
        if not token or token not in json.dumps(value, ensure_ascii=False):
            return value
        found = "the access token that was sent"
    except (ValueError, RecursionError):
        found = f"{foreign_page(response) or 'nothing'} instead of JSON"
    raise InvalidResponseError(
        f"{_call(response)} was answered with {found}. Something other than Contensis may have answered."
    )


def _object(response: requests.Response) -> dict[str, Any]:
    value = _value(response)
    if not isinstance(value, dict):
        raise unexpected(response, "a JSON object")
    return value


def _objects(response: requests.Response) -> list[dict[str, Any]]:
    value = _value(response)
    if not _is_list_of_objects(value):
        raise unexpected(response, "a JSON list of objects")
    return cast("list[dict[str, Any]]", value)


def _are_fields(value: Any) -> bool:
    return _is_list_of_objects(value) and all(isinstance(field.get("id"), str) for field in value)


def _ids(definition: dict[str, Any]) -> Iterator[Any]:
    """Yield the ids of a content type or field, and of the fields within it."""
    yield definition.get("id")
    fields = definition.get("fields")
    if _is_list_of_objects(fields):
        for field in fields or ():
            yield from _ids(field)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_named(found: Any, asked: str) -> bool:
    return isinstance(found, str) and found.strip().lower() == str(asked).strip().lower()


def _call(response: requests.Response) -> str:
    return f"{response.request.method} {response.request.path_url.partition('?')[0]}"


def _sent_token(response: requests.Response) -> str:
    return response.request.headers.get("Authorization", "").removeprefix("Bearer ")


def _without(secrets: Sequence[str], value: Any) -> Any:
    """Return a JSON value without secrets in any text, plain or percent-encoded."""
    if isinstance(value, str):
        for secret in filter(None, secrets):
            value = value.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return value
    if isinstance(value, dict):
        return {_without(secrets, key): _without(secrets, item) for key, item in value.items()}
    return [_without(secrets, item) for item in value] if isinstance(value, list) else value
