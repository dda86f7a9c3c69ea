"""The settings in an Airflow connection of type `contensis`: read leniently, checked strictly."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_contensis.api.environment import HOST_FIELD, root_url, secrets_of
from airflow_provider_contensis.api.retry import DEFAULT_RETRY_SECONDS
from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.json import loads_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_contensis.api.client import ContensisClient

log = logging.getLogger(__name__)

DEFAULT_SCOPES = ("Entry_Read", "ContentType_Read", "Project_Read")
DEFAULT_TIMEOUT = 60.0
_MAX_SECONDS = 86_400
KNOWN_FIELDS = ("project_id", "proxies", "retry_seconds", "scopes", "timeout", "verify", "headers")
# Set by each request.
_OWN_HEADERS = {
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
}
_FIELD_NAME = re.compile(r"[\w. -]{1,60}")
_PROXY_NAME = re.compile(r"(https?|all)(://.+)?|no_proxy")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.1


@dataclass(frozen=True)
class ConnectionSettings:
    """The settings of one environment and API key.

    :param root_url: the environment's root URL, without a trailing slash.
    :param client_id: the API key's client id.
    :param client_secret: the API key's shared secret; never shown.
    :param scopes: OAuth scopes to request.
    :param project_id: the default project, or None.
    :param timeout: seconds to wait for a connection, and again for each read of an answer.
    :param retry_seconds: how long failed calls are retried, in seconds; 0 for no retries.
    :param verify: True, False, or the path of a CA bundle.
    :param proxies: as in requests.
    :param headers: sent with every request; never shown.
    :param unknown_fields: names in the extra that are not known, and have no effect.
    """

    root_url: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    project_id: str | None
    timeout: float
    retry_seconds: float
    verify: bool | str
    proxies: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    unknown_fields: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show the environment and the key; not the secret, nor proxies and headers, which may hold one."""
        return f"{type(self).__name__}(root_url={self.root_url!r}, client_id={self.client_id!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values to mask in logs: the shared secret, the passwords of proxies, and headers."""
        return (self.client_secret, *secrets_of(self.proxies, self.headers))

    def client(self, *, is_patient: bool = True) -> ContensisClient:
        """Return a new client; one that is not patient neither retries nor waits long."""
        from airflow.providers.common.compat.sdk import mask_secret

        from airflow_provider_contensis.api.client import ContensisClient
        from airflow_provider_contensis.api.retry import NO_RETRIES, RetryPolicy
        from airflow_provider_contensis.api.token_request import Credentials

        return ContensisClient(
            Credentials(self.root_url, self.client_id, self.client_secret, self.scopes),
            timeout=self.timeout,
            deadline_factor=10 if is_patient else 1,
            verify=self.verify,
            proxies=self.proxies,
            headers=self.headers,
            retry=RetryPolicy(total=self.retry_seconds) if is_patient else NO_RETRIES,
            on_new_token=mask_secret,
        )

    @classmethod
    def from_connection(cls, connection: Connection) -> ConnectionSettings:
        """Return the settings in an Airflow connection; null, empty and missing fields mean the same.

        :raises ConfigurationError: names the field and what to write there.
        """
        client_id = _text("Client ID", connection.login)
        client_secret = _text("Shared secret", connection.password)
        url = root_url(_text(HOST_FIELD, connection.host), connection.port)
        if client_id is None:
            raise ConfigurationError("'Client ID' is empty: copy it from the API key in Contensis.")
        if client_secret is None:
            raise ConfigurationError("'Shared secret' is empty: copy it from the API key in Contensis.")
        extra = _extra(connection)
        return cls(
            root_url=url,
            client_id=client_id,
            client_secret=client_secret,
            scopes=_scopes(extra.get("scopes")),
            project_id=_text("Project", extra.get("project_id")),
            timeout=_seconds(extra.get("timeout"), "'Timeout (seconds)'", DEFAULT_TIMEOUT),
            retry_seconds=_seconds(
                extra.get("retry_seconds"), "The extra field 'retry_seconds'", DEFAULT_RETRY_SECONDS, least=0
            ),
            verify=_verify(extra.get("verify")),
            proxies=_proxies(extra.get("proxies")),
            headers=_headers(extra.get("headers")),
            unknown_fields=_unknown(extra),
        )


def _extra(connection: Connection) -> dict[str, Any]:
    try:
        text = _text("extra", connection.extra)
        extra = {} if text is None else loads_json(text)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise ConfigurationError("The connection's extra is not a JSON object.")
    if unknown := _unknown(extra):
        log.warning(
            "The connection's extra contains unknown fields: %s. Known fields: %s",
            ", ".join(unknown),
            ", ".join(KNOWN_FIELDS),
        )
    return {
        name: value for name, value in extra.items() if name not in KNOWN_FIELDS or value not in (None, "")
    }


def _unknown(extra: Mapping[str, Any]) -> tuple[str, ...]:
    # What is no name is not shown: it may be a setting with a secret.
    return tuple(
        sorted(
            {name if _FIELD_NAME.fullmatch(name) else "***" for name in set(extra).difference(KNOWN_FIELDS)}
        )
    )


def _text(field: str, value: object) -> str | None:
    if value is None:
        return None
    # In a connection written as JSON, an id of digits may be a number.
    if not isinstance(value, str | int) or (isinstance(value, int) and abs(value) >= 10**40):
        raise ConfigurationError(f"'{field}' must be text.")
    return str(value).strip() or None


def _scopes(value: object) -> tuple[str, ...]:
    if value is None:
        return DEFAULT_SCOPES
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    if len(texts) != len(values):
        raise ConfigurationError("'Scopes' must be scope names separated by spaces, or a JSON list of them.")
    # People also paste them with commas, or one to a line.
    names = tuple(dict.fromkeys(name for text in texts for name in re.split(r"[\s,;]+", text) if name))
    return names or DEFAULT_SCOPES


def _seconds(value: object, field: str, default: float, *, least: float | None = None) -> float:
    """Return a time in seconds.

    :param least: the smallest allowed; None for anything above 0.
    """
    if value is None:
        return default
    try:
        seconds = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    is_enough = seconds > 0 if least is None else seconds >= least
    if isinstance(value, bool) or not is_enough or seconds > _MAX_SECONDS:
        bound = "above 0" if least is None else f"of at least {least:g}"
        raise ConfigurationError(f"{field} must be a number {bound}, or empty for {default:g}.")
    return seconds


def _verify(value: object) -> bool | str:
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, str):
        # An empty text is not a path: requests would take it for false.
        return {"true": True, "false": False, "": True}.get(value.strip().lower(), value.strip())
    raise ConfigurationError("The extra field 'verify' must be true, false, or the path of a CA file.")


def _headers(value: object) -> Mapping[str, str]:
    headers = _json(value)
    if headers is None:
        return {}
    if not isinstance(headers, dict) or not all(isinstance(text, str | int) for text in headers.values()):
        raise ConfigurationError(
            'The extra field \'headers\' must be an object such as {"X-Gateway-Key": "a-key"}.'
        )
    headers = {str(name).strip(): str(text).strip() for name, text in headers.items()}
    for name, text in headers.items():
        if not _HEADER_NAME.fullmatch(name):  # not shown: it may be a whole header, with a secret
            raise ConfigurationError(
                "The extra field 'headers' contains an invalid name: write each header like "
                '{"X-Gateway-Key": "a-key"}.'
            )
        if not text.isprintable() or not text.isascii():
            raise ConfigurationError(f"The extra field 'headers' contains an invalid value of {name}.")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(
                f"The extra field 'headers' must not set {name}: each request sets its own."
            )
    return headers


def _json(value: object) -> Any:
    try:
        return loads_json(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _proxies(value: object) -> Mapping[str, str]:
    proxies = _json(value)
    if proxies is None:
        return {}
    if (
        not isinstance(proxies, dict)
        or not all(isinstance(url, str) for url in proxies.values())
        or not all(map(_PROXY_NAME.fullmatch, proxies))  # requests ignores other names
    ):
        raise ConfigurationError(
            'The extra field \'proxies\' must be an object such as {"https": "http://proxy.example:3128"}; '
            "its names are https, http, all, or such as https://host."
        )
    return proxies
