"""Failures of the network, of requests and of urllib3, translated to this package's exceptions."""

from __future__ import annotations

import re
import socket
import ssl

import requests
import urllib3.exceptions

from airflow_provider_contensis.api.deadline import DeadlineExceededError
from airflow_provider_contensis.exceptions import (
    RETRYABLE_STATUS_CODES,
    CertificateError,
    ConfigurationError,
    ContensisError,
    HostUnreachableError,
    InvalidResponseError,
    RedirectRefusedError,
    RequestTimeoutError,
    TransportError,
)
from airflow_provider_contensis.utils.text import duration

PROXY_LOGIN_REQUIRED = 407
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")  # the words of http.client
NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, TypeError, ValueError)


def translate(error: Exception, *, host: str, timeout: float) -> ContensisError:
    """Return our exception for a failed exchange.

    :param error: one of `NETWORK_ERRORS`.
    :param host: the environment's root URL.
    :param timeout: of the session, in seconds.
    """
    text = str(error)
    causes = _causes(error)

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(text, causes, host)
    if isinstance(error, requests.TooManyRedirects):
        return RedirectRefusedError(f"{host} redirects in a loop: check the connection's host.")
    if isinstance(error, requests.exceptions.ProxyError):
        if refused := next(filter(None, map(_TUNNEL_REFUSED.search, map(str, causes))), None):
            return proxy_refusal(int(refused[1]), host)
        return HostUnreachableError(
            f"The proxy on the way to {host} failed: check the connection's extra 'proxies' "
            "and the environment variables HTTPS_PROXY and NO_PROXY."
        )
    if exceeded := next((cause for cause in causes if isinstance(cause, DeadlineExceededError)), None):
        return RequestTimeoutError(str(exceeded))
    if isinstance(error, requests.Timeout) or caused_by(urllib3.exceptions.ReadTimeoutError, TimeoutError):
        return RequestTimeoutError(f"{host} did not answer within {duration(timeout)}.")
    if caused_by(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return HostUnreachableError(f"Cannot resolve the host name of {host}. Check the URL or alias.")
    if caused_by(ConnectionRefusedError):
        return HostUnreachableError(f"{host} refuses connections: check the connection's host and port.")
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return InvalidResponseError(f"{host} sent an answer whose compression is broken.")
    if caused_by(requests.exceptions.ChunkedEncodingError, urllib3.exceptions.IncompleteRead):
        return InvalidResponseError(f"{host} sent an answer that was cut short.")
    if isinstance(error, requests.ConnectionError):
        return HostUnreachableError(f"The connection to {host} broke.")
    if isinstance(error, OSError) and "CA certificate" in text:
        return ConfigurationError("The connection's extra 'verify' names a CA file that does not exist.")
    if isinstance(error, requests.exceptions.InvalidHeader) and not caused_by(
        urllib3.exceptions.InvalidHeader
    ):
        return ConfigurationError(
            f"The call to {host} has an invalid header: names and values are text without line breaks."
        )
    if isinstance(error, requests.exceptions.InvalidHeader):
        return InvalidResponseError(f"{host} sent an answer with invalid headers.")
    if isinstance(error, TypeError | requests.exceptions.InvalidJSONError):
        return ConfigurationError(f"The body of the call to {host} is not JSON-serializable.")
    if isinstance(error, ValueError):
        return ConfigurationError(
            f"Cannot send a request to {host} ({type(error).__name__}): check the call's path, "
            "and the connection's extra 'proxies' or the environment variable HTTPS_PROXY."
        )
    return TransportError(f"The call to {host} failed ({type(error).__name__}).")


def proxy_refusal(status: int, host: str) -> HostUnreachableError:
    """Return our exception for a proxy that refuses to connect.

    :param status: of its answer.
    :param host: the environment's root URL.
    """
    if status == PROXY_LOGIN_REQUIRED:
        advice = (
            "requires a login: write it into the connection's extra 'proxies', such as "
            '{"https": "http://user:password@proxy.example:3128"}, or into the variable HTTPS_PROXY.'
        )
    elif status in RETRYABLE_STATUS_CODES:
        advice = f"failed with status {status}."
    else:
        advice = (
            f"refuses to connect (status {status}): ask its administrator to allow connections to {host}."
        )
    failure = HostUnreachableError(f"The proxy on the way to {host} {advice}")
    failure.retryable = status in RETRYABLE_STATUS_CODES
    return failure


def _tls_error(text: str, causes: list[BaseException], host: str) -> ContensisError:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = _certificate_reason(text)
        if "mismatch" in reason or "not valid for" in reason:
            advice = (
                "It is for another host: check the connection's host, and whether a proxy answers for it."
            )
        elif "expired" in reason or "not yet valid" in reason:
            advice = "Contensis has to renew it, or this machine's clock is wrong."
        else:
            advice = (
                "If a private authority signed it, put the path of its CA file into the connection's extra "
                "'verify'."
            )
        return CertificateError(f"The TLS certificate of {host} is not trusted ({reason}). {advice}")
    if any(isinstance(cause, ssl.SSLError) and cause.library not in {None, "SSL"} for cause in causes):
        return ConfigurationError("The file in the connection's extra 'verify' contains no CA certificate.")
    return HostUnreachableError(
        f"{host} does not speak TLS as expected: check the scheme and port of the connection's host."
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and all that it wraps: as its cause, context, reason or an argument."""
    found: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        candidate = pending.pop()
        if isinstance(candidate, BaseException) and candidate not in found:
            found.append(candidate)
            pending += [candidate.__cause__, candidate.__context__, getattr(candidate, "reason", None)]
            pending += candidate.args
    return found


def _certificate_reason(text: str) -> str:
    """Return OpenSSL's reason, such as `self-signed certificate`."""
    _, _, rest = text.partition("certificate verify failed: ")
    return rest.partition(" (_ssl")[0].rstrip("')") or "verification failed"
