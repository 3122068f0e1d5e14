"""Routes of accounts and sessions."""

from typing import Any

from fastapi import APIRouter

from ..kernel.deps import AppResources, DbSession
from . import service
from .deps import CurrentPerson
from .errors import SessionEnded
from .permissions import ROLES
from .schemas import (
    AuthResponse,
    LoginCredentials,
    RefreshRequest,
    RoleRead,
    TokenRequest,
    TokenValidation,
    UserRead,
    UserRegistration,
)

router = APIRouter(tags=["auth"])


@router.post("/auth/register", status_code=201)
def register(data: UserRegistration, session: DbSession, resources: AppResources) -> AuthResponse:
    """Make an account and log it in."""
    return service.register(session, data=data, signer=resources.signer, settings=resources.settings.auth)


@router.post("/auth/login")
def login(credentials: LoginCredentials, session: DbSession, resources: AppResources) -> AuthResponse:
    """Open a session."""
    return service.login(session, credentials=credentials, signer=resources.signer, settings=resources.settings.auth)


@router.post("/auth/refresh")
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


@router.post("/auth/validate")
def validate_token(data: TokenRequest, session: DbSession, resources: AppResources) -> TokenValidation:
    """Say whether an access token would be accepted now."""
    return service.validate_token(session, token=data.token, signer=resources.signer)


@router.get("/auth/me")
def get_me(person: CurrentPerson, session: DbSession) -> UserRead:
    """Return the account of the caller."""
    return UserRead.model_validate(service.get_user(session, person.user_id))


@router.get("/auth/jwks")
def get_jwks(resources: AppResources) -> dict[str, Any]:
    """Return the public key that verifies access tokens (RFC 7517)."""
    return resources.signer.verifier.jwks()


@router.get("/roles")
def list_roles(person: CurrentPerson) -> list[RoleRead]:
    """Return the project roles and what each may do."""
    return [RoleRead(id=role, name=role, permissions=sorted(held)) for role, held in ROLES.items()]
