"""The rules of accounts and sessions."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import update
from sqlmodel import Session, col, select

from ..kernel.acting import Subject, about, identify
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.errors import AuthenticationFailed
from ..kernel.events import record
from ..kernel.ids import new_id
from ..kernel.security import TokenSigner, hash_password, hash_secret, new_secret, password_matches
from ..kernel.settings import AuthSettings
from .audit import record_reuse
from .errors import EmailTaken, InvalidCredentials, SessionEnded
from .events import AccountChanged, RefreshTokenReused, SessionRevoked
from .models import AuthSession, RefreshToken, User
from .passwords import check_password
from .permissions import GlobalRole
from .schemas import AccountRead, AuthResponse, LoginCredentials, ProfileUpdate, TokenValidation, UserRegistration


def add_user(
    session: Session, *, data: UserRegistration, settings: AuthSettings, role: GlobalRole = GlobalRole.DEVELOPER
) -> User:
    """Make an account with a password.

    Raises:
        WeakPassword: If the password breaks a rule.
        EmailTaken: If the email has an account.
    """
    check_password(data.password, settings, about=(data.email, data.name))
    return make_account(
        session, email=data.email, name=data.name, role=role, password_hash=hash_password(data.password)
    )


def make_account(
    session: Session,
    *,
    email: str,
    name: str,
    role: GlobalRole,
    password_hash: str | None = None,
    project_id: str | None = None,
) -> User:
    """Make an account; one without a password cannot log in by one.

    Raises:
        EmailTaken: If the email has an account.
    """
    user = User(
        id=new_id("usr"),
        email=normalised(email),
        name=name,
        role=role,
        project_id=project_id,
        password_hash=password_hash,
    )
    with unless_refused(session, EmailTaken(f"The email {user.email} already has an account; log in instead.")):
        session.add(user)
    if role is GlobalRole.ADMIN:
        record(session, AccountChanged(user_id=user.id))
    return user


def set_password(
    session: Session, user: User, password: str, *, settings: AuthSettings, keep_session: str | None = None
) -> None:
    """Replace an account's password and end its sessions, all but the one to keep.

    Raises:
        WeakPassword: If the password breaks a rule.
    """
    check_password(password, settings, about=(user.email, user.name))
    user.password_hash = hash_password(password)
    session.add(user)
    revoke_sessions(session, user.id, but=keep_session)


def hash_new_password(user: User, *, current: str, new: str, settings: AuthSettings) -> str:
    """Return the hash of a new password of a person who knows the present one; needs no database.

    Raises:
        InvalidCredentials: If the present password is wrong.
        WeakPassword: If the new one breaks a rule.
    """
    if not password_matches(user.password_hash, current):
        raise InvalidCredentials
    check_password(new, settings, about=(user.email, user.name))
    return hash_password(new)


def change_password(session: Session, known: User, password_hash: str, *, keep_session: str | None) -> None:
    """Replace the password of an account that was read before, and end its sessions, all but the one to keep.

    Raises:
        SessionEnded: If the account is gone or disabled since.
        InvalidCredentials: If its password was changed since.
    """
    user = get_user(session, known.id)
    session.refresh(user, with_for_update=True)
    if user.password_hash != known.password_hash:
        raise InvalidCredentials
    user.password_hash = password_hash
    session.add(user)
    revoke_sessions(session, user.id, but=keep_session)


def update_profile(session: Session, user: User, data: ProfileUpdate) -> User:
    """Change the fields that were given."""
    for field, value in data.model_dump(exclude_none=True).items():
        setattr(user, field, value)
    session.add(user)
    return user


def login(
    session: Session, *, credentials: LoginCredentials, signer: TokenSigner, settings: AuthSettings
) -> AuthResponse:
    """Open a session for a correct email and password.

    Raises:
        InvalidCredentials: If either is wrong or the account is disabled, in the same time.
    """
    user = find_user(session, credentials.email)
    if user is not None:
        about(Subject("user_account", user.id, user.email))
    matches = password_matches(user.password_hash if user else None, credentials.password)
    if user is None or not matches or user.disabled_at is not None:
        raise InvalidCredentials
    return open_session(session, user=user, signer=signer, settings=settings)


def find_user(session: Session, email: str) -> User | None:
    """Return the account of this email, if any."""
    return session.exec(select(User).where(User.email == normalised(email))).one_or_none()


def find_account(session: Session, user: str) -> User | None:
    """Return the account that is named by its id or by its email, if any."""
    return find_user(session, user) if "@" in user else session.get(User, user)


def get_user(session: Session, user_id: str) -> User:
    """Return the account of a logged-in user.

    Raises:
        SessionEnded: If the account is gone or disabled.
    """
    user = session.get(User, user_id)
    if user is None or user.disabled_at is not None:
        raise SessionEnded
    return user


def accounts_by_id(session: Session, ids: Iterable[str]) -> dict[str, User]:
    """Return the accounts that exist among these ids."""
    return {user.id: user for user in session.exec(select(User).where(col(User.id).in_(list(ids))))}


def live_user(session: Session, *, user_id: str, session_id: str) -> User:
    """Return the account behind a valid access token.

    Raises:
        SessionEnded: If the session was revoked, or the account is gone or disabled.
    """
    login_session = session.get(AuthSession, session_id)
    if login_session is None or login_session.revoked_at is not None or login_session.user_id != user_id:
        raise SessionEnded
    return get_user(session, user_id)


def rotate(session: Session, *, token: str, signer: TokenSigner, settings: AuthSettings) -> AuthResponse | None:
    """Exchange a refresh token for a new pair; None means that it was used before and its session is now revoked.

    The caller must let the transaction commit in both cases, so that the revocation stands.

    Raises:
        AuthenticationFailed: If the token is unknown or expired, or its session has ended.
    """
    now = utc_now()
    row = session.exec(
        select(RefreshToken).where(RefreshToken.secret_sha256 == hash_secret(token)).with_for_update()
    ).one_or_none()
    if row is None or row.expires_at is None or row.expires_at <= now:
        raise AuthenticationFailed("The refresh token is unknown or has expired; log in again.")
    login_session = session.get_one(AuthSession, row.session_id)
    if login_session.revoked_at is not None:
        raise SessionEnded
    identify(login_session.user_id, credential="session", credential_id=login_session.id)
    if row.used_at is not None:
        revoke_session(session, login_session.id)
        record_reuse(session, session_id=login_session.id, user_id=login_session.user_id)
        record(session, RefreshTokenReused(session_id=login_session.id, user_id=login_session.user_id))
        return None
    row.used_at = now
    user = get_user(session, login_session.user_id)
    return _issue(session, user=user, session_id=login_session.id, signer=signer, settings=settings)


def revoke_session(session: Session, session_id: str) -> None:
    """End a session; its tokens are refused at once by the control plane."""
    session.execute(update(AuthSession).where(col(AuthSession.id) == session_id).values(revoked_at=utc_now()))
    record(session, SessionRevoked(session_id=session_id))


def revoke_sessions(session: Session, user_id: str, *, but: str | None = None) -> None:
    """End the living sessions of an account, all but one if one is named."""
    living = update(AuthSession).where(col(AuthSession.user_id) == user_id, col(AuthSession.revoked_at).is_(None))
    if but is not None:
        living = living.where(col(AuthSession.id) != but)
    ended = session.execute(living.values(revoked_at=utc_now()).returning(col(AuthSession.id))).scalars().all()
    if ended:
        # One for all of them: what follows from it reads the table.
        record(session, SessionRevoked(session_id=ended[-1]))


def revoked_sessions(session: Session, settings: AuthSettings) -> dict[str, float]:
    """Map revoked sessions that a living token may still name to the moment (Unix seconds) when none can."""
    life = timedelta(seconds=settings.access_token_ttl_s)
    rows = session.exec(
        select(AuthSession.id, AuthSession.revoked_at).where(col(AuthSession.revoked_at) > utc_now() - life)
    )
    return {id_: (revoked_at + life).timestamp() for id_, revoked_at in rows if revoked_at is not None}


def disabled_users(session: Session) -> list[str]:
    """Return the ids of all disabled accounts."""
    return list(session.exec(select(User.id).where(col(User.disabled_at).is_not(None)).order_by(User.id)))


def validate_token(session: Session, *, token: str, signer: TokenSigner) -> TokenValidation:
    """Say whether an access token would be accepted now, and if not, why."""
    try:
        claims = signer.verifier.claims(token)
        live_user(session, user_id=claims.user_id, session_id=claims.session_id)
    except AuthenticationFailed as refusal:
        return TokenValidation(valid=False, reason=refusal.message)
    return TokenValidation(
        valid=True,
        user_id=claims.user_id,
        session_id=claims.session_id,
        expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
    )


def open_session(session: Session, *, user: User, signer: TokenSigner, settings: AuthSettings) -> AuthResponse:
    """Log an account in whose holder has proven who they are."""
    user.last_login_at = utc_now()
    login_session = AuthSession(id=new_id("ses"), user_id=user.id)
    identify(user.id, credential="session", credential_id=login_session.id)
    session.add(user)
    session.add(login_session)
    session.flush()
    return _issue(session, user=user, session_id=login_session.id, signer=signer, settings=settings)


def _issue(
    session: Session, *, user: User, session_id: str, signer: TokenSigner, settings: AuthSettings
) -> AuthResponse:
    now = utc_now()
    secret = new_secret("rt")
    expires_at = now + timedelta(seconds=settings.refresh_token_ttl_s)
    session.add(
        RefreshToken(id=new_id("rft"), session_id=session_id, secret_sha256=hash_secret(secret), expires_at=expires_at)
    )
    return AuthResponse(
        user=AccountRead.model_validate(user),
        access_token=signer.access_token(user_id=user.id, session_id=session_id, now=now),
        refresh_token=secret,
        expires_in=settings.access_token_ttl_s,
    )


def normalised(email: str) -> str:
    """Return the form in which an address is stored and compared."""
    return email.strip().casefold()
