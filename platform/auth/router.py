"""Routes of accounts and sessions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.security import OAuth2PasswordRequestForm
from sqlmodel import Session

from ..kernel.deps import AppResources, DbSession
from ..kernel.resources import Resources
from . import registration, service
from .deps import ClientAddress, CurrentPerson, DetachedPerson
from .errors import SessionEnded
from .hashing import in_turn
from .schemas import (
    AuthResponse,
    LoginCredentials,
    PasswordChange,
    RefreshRequest,
    TokenRequest,
    TokenValidation,
    UserRegistration,
)
from .throttle import LoginAttempt
from .users_router import router as users_router

router = APIRouter(tags=["auth"])


@router.post("/auth/register", status_code=201, responses={403: {}, 409: {}})
@in_turn
def register(data: UserRegistration, session: DbSession, resources: AppResources) -> AuthResponse:
    """Make an account and log it in."""
    return registration.register(session, data=data, signer=resources.signer, settings=resources.settings.auth)


@router.post("/auth/login", responses={401: {}})
@in_turn
def login(
    credentials: LoginCredentials, session: DbSession, resources: AppResources, address: ClientAddress
) -> AuthResponse:
    """Open a session."""
    return _login(session, resources, credentials, address)


@router.post("/auth/token", responses={401: {}})
@in_turn
def login_by_form(
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
    session: DbSession,
    resources: AppResources,
    address: ClientAddress,
) -> AuthResponse:
    """Open a session as an OAuth 2 client does (RFC 6749 section 4.3): ``username`` is the email."""
    credentials = LoginCredentials(email=form.username[:320], password=form.password[:1024])
    return _login(session, resources, credentials, address)


@router.post("/auth/refresh", responses={401: {}})
def refresh_token(data: RefreshRequest, resources: AppResources) -> AuthResponse:
    """Exchange a refresh token for a new pair; a second use ends the session."""
    with resources.session() as session:
        answer = service.rotate(
            session, token=data.refresh_token, signer=resources.signer, settings=resources.settings.auth
        )
    if answer is None:
        raise SessionEnded
    return answer


@router.post("/auth/logout", status_code=204)
def logout(person: CurrentPerson, session: DbSession) -> None:
    """End the session of the token that came with the request."""
    service.revoke_session(session, person.session_id or "")


@router.post("/auth/logout-all", status_code=204)
def logout_all(person: CurrentPerson, session: DbSession) -> None:
    """End every session of the caller."""
    service.revoke_sessions(session, person.user_id)


@router.post("/auth/password", status_code=204)
@in_turn
def change_password(
    data: PasswordChange, person: DetachedPerson, resources: AppResources, address: ClientAddress
) -> None:
    """Replace the caller's password; the caller's other sessions end."""
    settings = resources.settings.auth
    with resources.session() as session:
        user = service.get_user(session, person.user_id)
    with LoginAttempt(resources.limiter, settings, user.email, address):
        hashed = service.hash_new_password(
            user, current=data.current_password, new=data.new_password, settings=settings
        )
    with resources.session() as session:
        service.change_password(session, user, hashed, keep_session=person.session_id)


@router.post("/auth/validate")
def validate_token(data: TokenRequest, session: DbSession, resources: AppResources) -> TokenValidation:
    """Say whether an access token would be accepted now."""
    return service.validate_token(session, token=data.token, signer=resources.signer)


@router.get("/auth/jwks")
def get_jwks(resources: AppResources) -> dict[str, Any]:
    """Return the public keys that verify access tokens, the present one first (RFC 7517)."""
    return resources.signer.verifier.jwks()


def _login(session: Session, resources: Resources, credentials: LoginCredentials, address: str) -> AuthResponse:
    settings = resources.settings.auth
    with LoginAttempt(resources.limiter, settings, credentials.email, address):
        return service.login(session, credentials=credentials, signer=resources.signer, settings=settings)


router.include_router(users_router)
