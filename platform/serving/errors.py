"""What the data plane refuses or fails at."""

from math import ceil
from typing import ClassVar

from ..kernel.errors import (
    AuthenticationFailed,
    ErrorType,
    ExternalServiceError,
    InternalError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RaymillError,
    ValidationFailed,
)


class RouteNotFound(NotFound):
    """Raised when nothing is served at the path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Nothing is served at {path}; the API is documented at /api/docs.")


class ExtensionNotOffered(NotFound):
    """Raised when the path belongs to an extension of the protocol that this server does not have."""

    def __init__(self, extension: str) -> None:
        super().__init__(f"This server does not offer {extension}; GET /v2 names the extensions that it has.")


class EndpointNotFound(NotFound):
    """Raised when the endpoint does not exist for this principal."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no endpoint {name!r}; its name is <project>.<deployment>, or ….staging.")


class RevisionNotFound(NotFound):
    """Raised when the endpoint has no such revision."""

    def __init__(self, name: str, number: str) -> None:
        super().__init__(f"The endpoint {name!r} serves no revision {number!r}.")


class EndpointNotReady(ExternalServiceError):
    """Raised when no revision of the endpoint has traffic: it is stopped, or its first one is not ready."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The endpoint {name!r} is stopped, or has no revision that is ready.", retry_after_s=1)


class MethodNotAllowed(ValidationFailed):
    """Raised when the path exists and does not answer this method."""

    status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"The method {method} is not allowed here; use {allowed}.", details={"allowed": allowed})
        self._allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        """Name the allowed method, as RFC 9110 section 15.5.6 demands."""
        return {"Allow": self._allowed}


class CredentialMissing(AuthenticationFailed):
    """Raised when the request carries no credential."""

    def __init__(self) -> None:
        super().__init__("Send 'Authorization: Bearer <token or API key>' or 'X-API-Key: <API key>'.")


class CredentialRefused(AuthenticationFailed):
    """Raised when the credential is unknown, expired or revoked."""

    def __init__(self) -> None:
        super().__init__("The credential is not valid, has expired or was revoked; log in again or make a new API key.")


class KeyNotAdmitted(PermissionDenied):
    """Raised when the endpoint takes API keys alone, or only some, and the credential is none of them."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The endpoint {name!r} takes only the API keys that its access policy admits.",
            details={"access": "keys"},
        )


class TooManyStrangers(RateLimited):
    """Raised when an address has asked a public endpoint too often without a credential."""

    def __init__(self, limit: int, seconds: int) -> None:
        super().__init__(
            f"Too many requests: without a credential an address may send {limit} in a minute; "
            f"try again in {seconds} s, or send an API key.",
            details={"limit": limit, "per": "an address"},
            retry_after_s=seconds,
        )


class RateExceeded(RateLimited):
    """Raised when an endpoint, or one of its callers, has used up its requests per second."""

    def __init__(self, rate: float, whose: str, seconds: float) -> None:
        retry_after_s = max(1, ceil(seconds))
        super().__init__(
            f"Too many requests: {whose} may take {rate:g} in a second; try again in {retry_after_s} s.",
            details={"limit": rate, "per": whose},
            retry_after_s=retry_after_s,
        )
        self._limit = max(1, ceil(rate))

    @property
    def headers(self) -> dict[str, str]:
        """Name the limit beside the time to wait, as every answer of such an endpoint does."""
        reset = str(self.retry_after_s)
        counts = {"X-RateLimit-Limit": str(self._limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
        return {**super().headers, **counts}


class InputRefused(ValidationFailed):
    """Raised when an input tensor does not fit the signature; names the input."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Input {name!r}: {reason}", details={"input": name})


class RequestRefused(ValidationFailed):
    """Raised when the body is JSON and not a request of this protocol."""


class ModelUnavailable(ExternalServiceError):
    """Raised when the model of a revision cannot be loaded now."""


class ModelBroken(ExternalServiceError):
    """Raised when the artifact is not a model that this platform can serve."""


class AppUnavailable(ExternalServiceError):
    """Raised when the app of a dedicated revision is not there, fails, or did not start in time."""


class ModelQuarantined(ModelBroken):
    """Raised when loading the artifact has ended processes, so that it is not loaded any more."""


class ModelFailed(ValidationFailed):
    """Raised when the model itself refuses the input while it runs."""


class AnswerTooLarge(ValidationFailed):
    """Raised when the answer of a dedicated app is larger than the server takes in."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The answer takes {size_bytes} bytes and may take {limit_bytes}; send fewer rows per request, or ask for "
            "fewer outputs."
        )


class QueueFull(RateLimited):
    """Raised when as many requests of the endpoint wait in this server already as may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} requests of this endpoint wait in this server, and no more may; try again in a moment.",
            details={"limit": limit, "per": "a server"},
            retry_after_s=1,
        )


class RequestTimedOut(ExternalServiceError):
    """Raised when the answer was not ready within the endpoint's time limit."""

    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The answer was not ready within {seconds:g} s; send less per request or raise timeout_s.")


class BodyLate(ExternalServiceError):
    """Raised when the whole body was not there within the endpoint's time limit."""

    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The whole body was not here within {seconds:g} s; send it faster or raise timeout_s.")


class ServerStopping(ExternalServiceError):
    """Raised when a model server is ending and no longer writes down what it answers."""

    def __init__(self) -> None:
        super().__init__("This model server is stopping; try again in a moment.", retry_after_s=1)


class DocumentForged(InternalError):
    """Raised when a published document does not carry the platform's signature."""


class ClientGone(RaymillError):
    """Raised when the client hung up before it had sent its whole body; nobody hears the answer."""

    status: ClassVar[int] = 499
    type: ClassVar[ErrorType] = ErrorType.VALIDATION_ERROR

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the whole body had arrived.")
