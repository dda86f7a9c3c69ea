"""The exceptions that this package raises, in one tree. Public.

ContensisError
├── ConfigurationError        a connection field or an argument is missing or wrong
├── AuthenticationError       the identity provider refused the credentials
├── APIError                  Contensis answered with an error status
│   ├── UnauthorizedError     401, for a new token too
│   ├── PermissionDeniedError 403
│   ├── NotFoundError         404
│   ├── ConflictError         409
│   ├── ValidationError       422
│   ├── RateLimitedError      429
│   └── ServerError           5xx
├── TransportError            no answer, or one that cannot be read
│   ├── HostUnreachableError  name not resolved, connection refused or broken
│   ├── RequestTimeoutError   no answer within the timeout
│   ├── CertificateError      the server's TLS certificate is not trusted
│   ├── RedirectRefusedError  the answer redirected to where the token must not go
│   └── InvalidResponseError  the answer is cut short, or not what Contensis sends
└── ExportError               entries could not be exported
    ├── IncompleteReadError   the read could not be proven complete
    └── DestinationError      the destination could not be written

Two attributes say what to do next: `retryable` (a later attempt may succeed) and `retry_after` (seconds
that the service asked to wait, or None). No message contains a secret.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_contensis.utils.text import single_line

__all__ = [
    "APIError",
    "AuthenticationError",
    "CertificateError",
    "ConfigurationError",
    "ConflictError",
    "ContensisDeprecationWarning",
    "ContensisError",
    "DestinationError",
    "ExportError",
    "HostUnreachableError",
    "IncompleteReadError",
    "InvalidResponseError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RedirectRefusedError",
    "RequestTimeoutError",
    "ServerError",
    "TransportError",
    "UnauthorizedError",
    "ValidationError",
]

# 520 to 530 are those of gateways; 501 and 505 are final.
RETRYABLE_STATUS_CODES = frozenset({408, 429, 500, 502, 503, 504, *range(520, 531)})


class ContensisError(Exception):
    """The root of this package's exceptions.

    :param message: what happened and what to do about it, in one or two sentences.
    """

    retryable: bool = False
    retry_after: float | None = None
    retries_exhausted: bool = False  # set when a retry policy gives up

    def __init__(self, message: str) -> None:
        self.message = single_line(message)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, keyword arguments included."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ContensisError], args: tuple[Any, ...], state: dict[str, Any]) -> ContensisError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(ContensisError, ValueError):
    """A connection field or an argument is missing or wrong."""


class AuthenticationError(ContensisError):
    """The identity provider refused the credentials; another attempt will not help.

    :param message: names the connection field to correct.
    :param status_code: HTTP status of the token endpoint's answer.
    :param error: the OAuth 2.0 error code (RFC 6749, section 5.2); None if there was none.
    """

    def __init__(self, message: str, *, status_code: int | None = None, error: str | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error = error


class APIError(ContensisError):
    """Contensis answered with an error status.

    :param message: what happened and what to do about it.
    :param status_code: HTTP status.
    :param detail: the service's own `message`, if it sent one.
    :param log_id: the service's `logId`, by which Contensis support finds the failure.
    :param error_type: the service's error `type`, such as `Validation`.
    :param data: the service's error `data`, such as a list of fields with messages.
    :param retry_after: seconds that the service asked to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        detail: str | None = None,
        log_id: str | None = None,
        error_type: str | None = None,
        data: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.detail = detail
        self.log_id = log_id
        self.error_type = error_type
        self.data = data
        self.retry_after = retry_after
        self.retryable = status_code in RETRYABLE_STATUS_CODES


class UnauthorizedError(APIError):
    """401: the call was refused, with a new token too."""


class PermissionDeniedError(APIError):
    """403: the API key lacks a role or a scope."""


class NotFoundError(APIError):
    """404: the resource does not exist, or the API key may not see it."""


class ConflictError(APIError):
    """409: the call conflicts with the state of the resource."""


class ValidationError(APIError):
    """422: the service rejected the request as invalid."""


class RateLimitedError(APIError):
    """429: too many calls."""


class ServerError(APIError):
    """5xx: the service, or a gateway in front of it, failed."""


class TransportError(ContensisError):
    """No answer arrived, or one that cannot be read."""

    retryable = True


class HostUnreachableError(TransportError):
    """The host name could not be resolved, or the connection was refused or broken."""


class RequestTimeoutError(TransportError):
    """No answer within the timeout."""


class CertificateError(TransportError):
    """The server's TLS certificate is not trusted."""

    retryable = False


class RedirectRefusedError(TransportError):
    """The answer is a redirect that must not be followed."""

    retryable = False


class InvalidResponseError(TransportError):
    """The answer is cut short, or is not what Contensis sends."""


class ExportError(ContensisError):
    """Entries could not be exported."""


class IncompleteReadError(ExportError):
    """The read could not be proven complete.

    :param message: names what was read, with both figures.
    :param expected: entries that the service counted.
    :param found: distinct entries that were read.
    """

    retryable = True

    def __init__(self, message: str, *, expected: int, found: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class DestinationError(ExportError):
    """The destination could not be written."""

    retryable = True


class ContensisDeprecationWarning(DeprecationWarning):
    """A public name is about to leave: the warning names its replacement and the version that removes it."""
