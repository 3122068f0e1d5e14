"""The error tree and its one JSON shape.

    RaymillError
    ├── ValidationFailed        422  VALIDATION_ERROR
    │   ├── UnreadableBody      400
    │   ├── BodyTooLarge        413
    │   └── UnsupportedMedia    415
    ├── AuthenticationFailed    401  AUTHENTICATION_ERROR
    ├── PermissionDenied        403  AUTHORIZATION_ERROR
    ├── NotFound                404  RESOURCE_NOT_FOUND
    ├── Conflict                409  RESOURCE_CONFLICT
    ├── RateLimited             429  RATE_LIMIT_EXCEEDED
    ├── ExternalServiceError    503  EXTERNAL_SERVICE_ERROR
    │   └── DiskFull            503
    └── InternalError           500  INTERNAL_SERVER_ERROR

A slice declares its own errors as subclasses of these. A message says what was wrong and what to do.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar


class ErrorType(StrEnum):
    """The eight kinds of failure that a client can tell apart."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    AUTHORIZATION_ERROR = "AUTHORIZATION_ERROR"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    RESOURCE_CONFLICT = "RESOURCE_CONFLICT"
    EXTERNAL_SERVICE_ERROR = "EXTERNAL_SERVICE_ERROR"
    INTERNAL_SERVER_ERROR = "INTERNAL_SERVER_ERROR"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"


class RaymillError(Exception):
    """Root of everything that the platform refuses or fails at, on purpose."""

    status: ClassVar[int] = 500
    type: ClassVar[ErrorType] = ErrorType.INTERNAL_SERVER_ERROR

    def __init__(
        self, message: str, *, details: dict[str, Any] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to this answer."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class ValidationFailed(RaymillError):
    """Raised when the input is readable and wrong."""

    status = 422
    type = ErrorType.VALIDATION_ERROR


class UnreadableBody(ValidationFailed):
    """Raised when the body is not the JSON, CSV or Parquet it claims to be."""

    status = 400


class BodyTooLarge(ValidationFailed):
    """Raised when the body exceeds the limit of its route."""

    status = 413


class UnsupportedMedia(ValidationFailed):
    """Raised when the content type of the body is not one that the route reads."""

    status = 415


class AuthenticationFailed(RaymillError):
    """Raised when no valid credential came with the request."""

    status = 401
    type = ErrorType.AUTHENTICATION_ERROR

    @property
    def headers(self) -> dict[str, str]:
        """Name the scheme, as RFC 9110 section 11.6.1 demands."""
        return {"WWW-Authenticate": "Bearer"}


class PermissionDenied(RaymillError):
    """Raised when the principal is known and lacks the named permission."""

    status = 403
    type = ErrorType.AUTHORIZATION_ERROR


class NotFound(RaymillError):
    """Raised when the object does not exist for this principal."""

    status = 404
    type = ErrorType.RESOURCE_NOT_FOUND


class Conflict(RaymillError):
    """Raised when the request contradicts what is there."""

    status = 409
    type = ErrorType.RESOURCE_CONFLICT


class RateLimited(RaymillError):
    """Raised when a limit is used up; carries the seconds to wait."""

    status = 429
    type = ErrorType.RATE_LIMIT_EXCEEDED


class ExternalServiceError(RaymillError):
    """Raised when something that the platform depends on does not answer."""

    status = 503
    type = ErrorType.EXTERNAL_SERVICE_ERROR


class DiskFull(ExternalServiceError):
    """Raised when a disk of the platform has no room left; free space is all that it needs."""

    def __init__(self) -> None:
        super().__init__("The disk is full; free some space on it and try again.", retry_after_s=5)


class InternalError(RaymillError):
    """Raised when the platform itself is at fault."""


def error_body(
    type_: ErrorType, message: str, *, request_id: str, details: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build the one error shape of every plane."""
    return {
        "type": type_.value,
        "message": message,
        "details": details or {},
        "request_id": request_id,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
