"""Who may make an account of their own."""

from sqlmodel import Session

from ..kernel.security import TokenSigner
from ..kernel.settings import AuthSettings
from . import invitations, service
from .errors import RegistrationClosed
from .permissions import GlobalRole
from .schemas import AuthResponse, UserRegistration


def register(session: Session, *, data: UserRegistration, signer: TokenSigner, settings: AuthSettings) -> AuthResponse:
    """Make an account, as the settings or an invitation allow, and log it in.

    Raises:
        RegistrationClosed: If the settings do not let this address in.
        InvitationRefused: If the invitation does not.
        WeakPassword: If the password breaks a rule.
        EmailTaken: If the email has an account.
    """
    role = _admit(session, data, settings)
    user = service.add_user(session, data=data, settings=settings, role=role)
    return service.open_session(session, user=user, signer=signer, settings=settings)


def _admit(session: Session, data: UserRegistration, settings: AuthSettings) -> GlobalRole:
    """Return the global role that the new account gets; an invitation goes beyond domains, but not beyond "closed"."""
    if settings.registration == "closed":
        raise RegistrationClosed("Registration is closed: ask an administrator.")
    if data.invitation is not None:
        return invitations.accept(session, secret=data.invitation, email=data.email)
    if settings.registration == "invitation":
        raise RegistrationClosed("Registration needs an invitation: ask an administrator for one.")
    allowed = {domain.casefold() for domain in settings.registration_domains}
    if allowed and service.normalised(data.email).rpartition("@")[2] not in allowed:
        raise RegistrationClosed(f"Only addresses of these domains may register: {', '.join(sorted(allowed))}.")
    return GlobalRole.DEVELOPER
