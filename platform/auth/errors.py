"""What can go wrong with accounts, sessions and keys."""

from ..kernel.errors import AuthenticationFailed, Conflict, NotFound, PermissionDenied, ValidationFailed


class CredentialsRequired(AuthenticationFailed):
    """Raised when a request that needs a principal brings no credential."""

    def __init__(self) -> None:
        super().__init__("This needs a login: send 'Authorization: Bearer <token or API key>' or 'X-API-Key'.")


class InvalidCredentials(AuthenticationFailed):
    """Raised when email or password is wrong; which of them is not told."""

    def __init__(self) -> None:
        super().__init__("Email or password is wrong.")


class InvalidApiKey(AuthenticationFailed):
    """Raised when an API key is unknown, expired or revoked."""

    def __init__(self) -> None:
        super().__init__("The API key is unknown, expired or revoked.")


class SessionEnded(AuthenticationFailed):
    """Raised when the session of a token was revoked or its account disabled."""

    def __init__(self) -> None:
        super().__init__("The session has ended; log in again.")


class EmailTaken(Conflict):
    """Raised when an account with this email exists."""


class WeakPassword(ValidationFailed):
    """Raised when a password breaks a rule; the message and ``details`` name the rule."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message, details={"rule": rule})


class ExpiryPassed(ValidationFailed):
    """Raised when a new API key would be dead at birth."""

    def __init__(self) -> None:
        super().__init__("expires_at lies in the past: give a later moment, or none for a key that does not expire.")


class KeyNotFound(NotFound):
    """Raised when the principal can see no such API key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no API key {key_id}.", details={"id": key_id})


class UserRequired(PermissionDenied):
    """Raised when something that only a person may do is asked with an API key."""

    def __init__(self) -> None:
        super().__init__("This needs the login of a person; an API key is not enough.")
