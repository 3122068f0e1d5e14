"""What can go wrong with accounts, sessions and keys."""

from ..kernel.errors import (
    AuthenticationFailed,
    Conflict,
    ExternalServiceError,
    NotFound,
    PermissionDenied,
    RateLimited,
    ValidationFailed,
)


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


class RegistrationClosed(PermissionDenied):
    """Raised when the platform's settings let nobody register, or nobody of this domain, or nobody uninvited."""


class InvitationRefused(PermissionDenied):
    """Raised when an invitation does not let this address in."""

    def __init__(self) -> None:
        super().__init__("The invitation is unknown, used, expired or for another email: ask for a new one.")


class InvitationNotFound(NotFound):
    """Raised when no such invitation waits."""

    def __init__(self, invitation_id: str) -> None:
        super().__init__(f"There is no invitation {invitation_id} that waits.", details={"id": invitation_id})


class TooManyAttempts(RateLimited):
    """Raised when a password was guessed too often, for one account or from one address."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"Too many failed logins: try again in {retry_after_s} seconds.",
            details={"retry_after_s": retry_after_s},
            retry_after_s=retry_after_s,
        )


class AccountNotFound(NotFound):
    """Raised when there is no such account."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no account {user_id}.", details={"id": user_id})


class LastAdmin(Conflict):
    """Raised when a change would leave the platform without an administrator."""

    def __init__(self) -> None:
        super().__init__("The platform needs an administrator: give somebody else that role first.")


class ServiceAccountHasNoRole(Conflict):
    """Raised when a service account is to get a role on the whole platform."""

    def __init__(self) -> None:
        super().__init__("A service account belongs to one project and has no role on the platform.")


class GlobalPermissionRequired(PermissionDenied):
    """Raised when something asks for a right of the whole platform; the message names it."""

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"This needs the permission {permission!r}, by the login of a person.", details={"permission": permission}
        )


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


class SsoProviderNotFound(NotFound):
    """Raised when the settings name no such provider."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no sign-on provider {name!r}; GET /api/v1/auth/sso lists them.")


class SignOnRefused(AuthenticationFailed):
    """Raised when what came back from a provider does not prove who is asking."""


class TooManySignOns(RateLimited):
    """Raised when one address begins sign-ons faster than people do."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"Too many sign-ons were begun from this address; try again in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )


class EmailNotVerified(PermissionDenied):
    """Raised when the provider does not vouch for the email of a person whom it brings for the first time."""

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"The provider {provider!r} did not say that your email is verified; verify it there and sign on again."
        )


class ProviderUnavailable(ExternalServiceError):
    """Raised when a sign-on provider does not answer, or answers what OpenID Connect does not know."""

    status = 502
