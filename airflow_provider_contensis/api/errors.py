"""Every failure this package raises on purpose, in one tree.

ContensisError
├── ConfigurationError        a connection field or an argument is missing or wrong
├── AuthenticationError       the identity provider refused the credentials
├── APIError                  Contensis answered with an error status
│   ├── UnauthorizedError     401, twice in a row with different tokens
│   ├── PermissionDeniedError 403
│   ├── NotFoundError         404
│   ├── ConflictError         409
│   ├── ValidationError       422
│   ├── RateLimitedError      429
│   └── ServerError           5xx
├── TransportError            no answer, or none that can be read
│   ├── HostUnreachableError  name not found, connection refused or broken
│   ├── RequestTimeoutError   no answer within the timeout
│   ├── CertificateError      the server's TLS certificate is not trusted
│   ├── RedirectRefusedError  the answer pointed somewhere the token must not go
│   └── InvalidResponseError  an answer that is cut short, or not what Contensis sends
└── ExportError               entries could not be exported
    ├── IncompleteReadError   what was read could not be proven complete
    └── DestinationError      the file could not be written

Two attributes tell a caller what to do: `retryable` (trying again later may help) and
`retry_after` (seconds the service asked to wait, or None). No message ever holds a secret.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_contensis.api.words import sentence


class ContensisError(Exception):
    """The root of this package's exceptions.

    :param message: what happened and what to do about it, in a sentence or two.
    """

    retryable: bool = False
    retry_after: float | None = None
    retries_exhausted: bool = False  # set once a retry policy has given up on it

    def __init__(self, message: str) -> None:
        self.message = sentence(message)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the trip to another process, keyword arguments and all."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ContensisError], args: tuple[Any, ...], state: dict[str, Any]) -> ContensisError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(ContensisError, ValueError):
    """A connection field or an argument is missing or wrong."""


class AuthenticationError(ContensisError):
    """The identity provider refused the credentials; asking again will not help.

    :param message: names the connection field to mend.
    :param status_code: HTTP status of the token endpoint's answer.
    :param error: the OAuth 2.0 error code (RFC 6749, section 5.2), or None where none was sent.
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
    :param log_id: the service's `logId`: what Contensis support needs to find the failure.
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
    """401: the call was refused with a new token too."""


class PermissionDeniedError(APIError):
    """403: the API key may not do this; it lacks a role or a scope."""


class NotFoundError(APIError):
    """404: there is no such thing, or the API key may not see it."""


class ConflictError(APIError):
    """409: the call does not fit the state of the resource."""


class ValidationError(APIError):
    """422: the service found the request to be wrong."""


class RateLimitedError(APIError):
    """429: too many calls."""


class ServerError(APIError):
    """5xx: the service, or a gateway in front of it, failed."""


class TransportError(ContensisError):
    """No answer came, or none that can be read."""

    retryable = True


class HostUnreachableError(TransportError):
    """The host's name is not known, or the connection was refused or broken."""


class RequestTimeoutError(TransportError):
    """No answer within the timeout."""


class CertificateError(TransportError):
    """The server's TLS certificate is not trusted."""

    retryable = False


class RedirectRefusedError(TransportError):
    """The answer was a redirect that must not be followed."""

    retryable = False


class InvalidResponseError(TransportError):
    """The answer is cut short or is not what Contensis sends."""


class ExportError(ContensisError):
    """Entries could not be exported."""


class IncompleteReadError(ExportError):
    """What was read could not be proven complete.

    :param message: names what was read, with both figures.
    :param expected: how many entries the service told.
    :param found: how many distinct entries were seen.
    """

    retryable = True

    def __init__(self, message: str, *, expected: int, found: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class DestinationError(ExportError):
    """The file could not be written."""

    retryable = True


RETRYABLE_STATUS_CODES = frozenset({408, 429, 500, 502, 503, 504})

_BY_STATUS: dict[int, type[APIError]] = {
    401: UnauthorizedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitedError,
}


def api_error_class(status_code: int) -> type[APIError]:
    """Return the exception class for an HTTP error status."""
    return _BY_STATUS.get(status_code, ServerError if status_code >= 500 else APIError)
