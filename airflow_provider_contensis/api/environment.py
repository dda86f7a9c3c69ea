"""The address of a Contensis environment, as a person writes it: a URL, a host name or an alias."""

from __future__ import annotations

import re
from base64 import b64encode
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

from airflow_provider_contensis.exceptions import ConfigurationError
from airflow_provider_contensis.utils.text import as_text, long_enough_to_hide

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_FIELD = "Contensis URL or alias"
# ASCII only, or a long s (U+017F) would match an s.
_FLAGS = re.IGNORECASE | re.ASCII
_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", _FLAGS)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?", _FLAGS)
_DEFAULT_PORTS = {"https": 443, "http": 80}


class _Field(NamedTuple):
    """Where a person writes a root URL: how messages name it, and what they say of it."""

    name: str
    example: str
    if_invalid: str
    if_login: str
    if_path: str
    if_plain: str


_HOST = _Field(
    name=f"'{HOST_FIELD}'",
    example="https://cms-example.cloud.contensis.com",
    if_invalid="is neither a URL, a host name nor an alias: write it like "
    "https://cms-example.cloud.contensis.com, or example",
    if_login="put the client id into 'Client ID' and the shared secret into 'Shared secret'",
    if_path="must be the root of the environment, with nothing after the host",
    if_plain="starts with http://, which would send the shared secret in the clear",
)
_SITE = _Field(
    name="",
    example="https://www.example.com",
    if_invalid="is neither a URL nor a host name: write it like https://www.example.com",
    if_login="logs and results would show it",
    if_path="must be the root of the website, with nothing after the host",
    if_plain="starts with http://, which would let anyone on the way change the files",
)


def root_url(host: str | None, port: int | str | None = None) -> str:
    """Return the root URL of a Contensis environment, without a trailing slash.

    The alias `example` stands for `https://cms-example.cloud.contensis.com` (docs/contensis-api.md,
    "Hosts"). A host name without a scheme means https; a loopback host without one means http, which
    is allowed for loopback hosts only.

    :param host: a URL, a host name or an alias; surrounding spaces and trailing slashes do not matter.
    :param port: a TCP port; None, 0 and empty mean the scheme's default.
    :raises ConfigurationError: names the field and what to write instead.
    """
    text = (host or "").strip()
    if not text:
        raise ConfigurationError(
            f"The connection has no host: fill in '{HOST_FIELD}', "
            "such as https://cms-example.cloud.contensis.com or example."
        )
    if _is_alias(text):
        text = f"https://cms-{text.lower().removeprefix('cms-')}.cloud.contensis.com"
    elif "://" not in text:
        # An IPv6 address may come bare, or in brackets with a port.
        text = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
        text = f"{'http' if _is_loopback(_host_name(f'//{text}')) else 'https'}://{text}"
    parts = _split(text, _HOST)
    return _root(parts, _port(parts, port))


def site_url(argument: str, value: object) -> str:
    """Return the root URL of a website, without a trailing slash; without a scheme it is https.

    :param argument: its name, for messages.
    :raises ConfigurationError: names the argument and what to write instead.
    """
    text = as_text(value)
    parts = _split(text if "://" in text else f"https://{text}", _SITE._replace(name=argument))
    return _root(parts, parts.port)


def _root(parts: SplitResult, port: int | None) -> str:
    name = parts.hostname or ""
    authority = f"[{name}]" if ":" in name else name
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        authority += f":{port}"
    return f"{parts.scheme}://{authority}"


def origin(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)


def secrets_of(proxies: Mapping[str, str] | None, headers: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return what an answer may repeat of proxies, those of the environment included, and of headers."""
    urls = [*(proxies or {}).values(), *getproxies().values()]
    found = []
    for url in urls:
        try:
            parts = urlsplit(url if "://" in url else f"//{url}")
        except ValueError:
            continue
        if parts.password:
            login = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
            basic = b64encode(login.encode(errors="surrogateescape")).decode()
            found += [parts.password, unquote(parts.password), basic]
    return (*dict.fromkeys(found), *long_enough_to_hide((headers or {}).values()))


def _is_alias(text: str) -> bool:
    return bool(_ALIAS.fullmatch(text)) and text.lower() != "localhost"


def _is_loopback(name: str | None) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name or "").is_loopback
    except ValueError:
        return False


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _split(text: str, field: _Field) -> SplitResult:
    """Return the parts of a root URL.

    :raises ConfigurationError: names the field and what to write instead.
    """
    try:
        parts = urlsplit(text)
        name, _ = parts.hostname or "", parts.port  # reading the port checks it
        # `https//host` and `https:/host` lost a sign.
        valid = name not in _DEFAULT_PORTS and bool(_HOST_NAME.fullmatch(name) or ip_address(name))
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(f"{field.name} {field.if_invalid}.")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"{field.name} must start with https://, such as {field.example}.")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{field.name} must not contain a user name or password: {field.if_login}.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{field.name} {field.if_path}: write {parts.scheme}://{parts.netloc}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{field.name} {field.if_plain}: "
            f"use https://{parts.hostname}. Plain http is for loopback hosts only."
        )
    return parts


def _port(parts: SplitResult, field: int | str | None) -> int | None:
    try:
        port = int(as_text(field) or 0) if field is not None else 0
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ConfigurationError("'Port' must be a number from 1 to 65535, or empty.")
    if port and parts.port and port != parts.port:
        raise ConfigurationError(
            f"'{HOST_FIELD}' has port {parts.port} but 'Port' has {port}: give it in one place only."
        )
    return port or parts.port or None
