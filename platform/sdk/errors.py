"""What a call may raise; the same eight types as in the answers of the platform.

RaymillError
├── ValidationFailed        VALIDATION_ERROR
├── AuthenticationFailed    AUTHENTICATION_ERROR
├── PermissionDenied        AUTHORIZATION_ERROR
├── NotFound                RESOURCE_NOT_FOUND
├── Conflict                RESOURCE_CONFLICT
├── RateLimited             RATE_LIMIT_EXCEEDED
├── ExternalServiceError    EXTERNAL_SERVICE_ERROR
│   └── ConnectionLost      no answer, or one that is not the platform's
├── InternalError           INTERNAL_SERVER_ERROR
└── WaitTimeout             what was waited for did not happen in time
"""

from typing import Any, ClassVar

import httpx


class RaymillError(Exception):
    """Root of everything that a call may raise."""

    type: ClassVar[str] = "INTERNAL_SERVER_ERROR"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        details: dict[str, Any] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.details = details or {}
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ValidationFailed(RaymillError):
    """Raised when the input is wrong."""

    type = "VALIDATION_ERROR"


class AuthenticationFailed(RaymillError):
    """Raised when the credential is missing, wrong or expired."""

    type = "AUTHENTICATION_ERROR"


class PermissionDenied(RaymillError):
    """Raised when a permission is missing; the message names it."""

    type = "AUTHORIZATION_ERROR"


class NotFound(RaymillError):
    """Raised when the object does not exist, or not for this caller."""

    type = "RESOURCE_NOT_FOUND"


class Conflict(RaymillError):
    """Raised when the call contradicts what is there."""

    type = "RESOURCE_CONFLICT"


class RateLimited(RaymillError):
    """Raised when a limit is used up; ``retry_after_s`` says how long."""

    type = "RATE_LIMIT_EXCEEDED"


class ExternalServiceError(RaymillError):
    """Raised when something that the platform depends on does not answer."""

    type = "EXTERNAL_SERVICE_ERROR"


class ConnectionLost(ExternalServiceError):
    """Raised when the platform does not answer, or something in between answers instead."""


class InternalError(RaymillError):
    """Raised when the platform itself is at fault."""


class DeploymentFailed(RaymillError):
    """Raised when the change of a deployment that is waited for has failed; what answered before still does."""


class WaitTimeout(RaymillError):
    """Raised when a job or deployment did not get where it should within the time given."""


_BY_TYPE: dict[str, type[RaymillError]] = {
    error.type: error
    for error in (
        ValidationFailed,
        AuthenticationFailed,
        PermissionDenied,
        NotFound,
        Conflict,
        RateLimited,
        ExternalServiceError,
        InternalError,
    )
}


def error_from(response: httpx.Response) -> RaymillError:
    """Build the error that an answer of status 4xx or 5xx stands for; its body must have been read."""
    body = _body(response)
    kind = _BY_TYPE.get(str(body.get("type")))
    if kind is None:
        return ConnectionLost(
            f"Something between here and the platform answered HTTP {response.status_code} "
            f"at {response.request.url.path}.",
            status=response.status_code,
            retry_after_s=_retry_after(response),
        )
    return kind(
        str(body.get("message", "")),
        status=response.status_code,
        details=body.get("details"),
        request_id=body.get("request_id"),
        retry_after_s=_retry_after(response),
    )


def error_named(kind: str, message: str) -> RaymillError:
    """Build the error that a stream of events names when it ends before its time."""
    return _BY_TYPE.get(kind, InternalError)(message)


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
