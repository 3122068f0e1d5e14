"""FastAPI dependencies: who is asking, and a request that may be sent twice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer, OAuth2PasswordBearer
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel
from sqlmodel import Session
from starlette.datastructures import Headers

from ..kernel.acting import identify
from ..kernel.deps import AppResources, DbSession
from ..kernel.idempotency import Answer, once
from . import keys, service
from .errors import CredentialsRequired, GlobalPermissionRequired, UserRequired
from .models import User
from .needs import Caller, needs, open_to
from .permissions import GlobalRole, Permission
from .schemas import Principal

_bearer = HTTPBearer(auto_error=False, description="An access token or an API key")
# Swagger's Authorize asks for email and password; the credential itself is read by the scheme above.
_password = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/token", auto_error=False)
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False)


def credential_of(headers: Headers) -> str | None:
    """Return the access token or API key that a request or websocket carries."""
    scheme, credential = get_authorization_scheme_param(headers.get("authorization"))
    return headers.get("x-api-key") or (credential if scheme.lower() == "bearer" else None)


def authenticate(session: Session, resources: AppResources, credential: str | None) -> Principal:
    """Return the principal of a credential, in whose name the request goes on.

    Raises:
        AuthenticationFailed: If there is none, or it is not valid any more.
    """
    principal = _principal_of(session, resources, credential)
    kind = "session" if principal.kind == "user" else principal.kind
    identify(principal.user_id, credential=kind, credential_id=principal.session_id or principal.id)
    return principal


def _principal_of(session: Session, resources: AppResources, credential: str | None) -> Principal:
    if not credential:
        raise CredentialsRequired
    if credential.startswith("rm_"):
        return keys.principal_of(session, credential)
    claims = resources.signer.verifier.claims(credential)
    user = service.live_user(session, user_id=claims.user_id, session_id=claims.session_id)
    return Principal(
        id=user.id,
        kind="user",
        user_id=user.id,
        global_role=GlobalRole(user.role),
        session_id=claims.session_id,
    )


def get_principal(
    session: DbSession,
    resources: AppResources,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    api_key: Annotated[str | None, Depends(_api_key)],
    _form: Annotated[str | None, Depends(_password)],
) -> Principal:
    """Return who sent the request."""
    token = bearer.credentials if bearer else None
    return authenticate(session, resources, api_key or token)


CurrentPrincipal = Annotated[Principal, Depends(get_principal)]


def get_detached_principal(
    resources: AppResources,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    api_key: Annotated[str | None, Depends(_api_key)],
) -> Principal:
    """Return who sent the request, holding no session afterwards; for routes that stream a body."""
    token = bearer.credentials if bearer else None
    with resources.session() as session:
        return authenticate(session, resources, api_key or token)


DetachedPrincipal = Annotated[Principal, Depends(get_detached_principal)]


@open_to(Caller.PERSON)
def get_person(principal: CurrentPrincipal) -> Principal:
    """Return the logged-in person.

    Raises:
        UserRequired: If the request came with an API key.
    """
    if principal.kind != "user":
        raise UserRequired
    return principal


CurrentPerson = Annotated[Principal, Depends(get_person)]


@open_to(Caller.PERSON)
def get_detached_person(principal: DetachedPrincipal) -> Principal:
    """Return the logged-in person, holding no session afterwards; for routes that wait before they work.

    Raises:
        UserRequired: If the request came with an API key.
    """
    return get_person(principal)


DetachedPerson = Annotated[Principal, Depends(get_detached_person)]


def get_account(person: CurrentPerson, session: DbSession) -> User:
    """Return the account of the logged-in person."""
    return service.get_user(session, person.user_id)


CurrentAccount = Annotated[User, Depends(get_account)]


@needs(Permission.USER_ADMIN)
def get_user_admin(principal: CurrentPrincipal) -> Principal:
    """Return the logged-in administrator.

    Raises:
        GlobalPermissionRequired: If it is somebody else, or an API key.
    """
    if not principal.is_admin:
        raise GlobalPermissionRequired(Permission.USER_ADMIN.value)
    return principal


UserAdmin = Annotated[Principal, Depends(get_user_admin)]


def get_address(request: Request) -> str:
    """Return the address of the client, as the edge has found it out."""
    return request.client.host if request.client else "unknown"


ClientAddress = Annotated[str, Depends(get_address)]


@dataclass(frozen=True)
class Once:
    """The Idempotency-Key of a request, ready to guard its work."""

    principal: Principal
    key: str | None
    route: str

    def once(
        self, session: Session, body: BaseModel, answer_type: type[Answer], action: Callable[[], Answer]
    ) -> Answer:
        """Run ``action``, or return what the same key was answered before."""
        return once(
            session,
            principal_id=self.principal.id,
            key=self.key,
            route=self.route,
            body=body,
            answer_type=answer_type,
            action=action,
        )


def get_once(
    request: Request,
    principal: CurrentPrincipal,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Once:
    """Read the Idempotency-Key header."""
    return Once(principal=principal, key=idempotency_key, route=f"{request.method} {request.url.path}")


OncePerKey = Annotated[Once, Depends(get_once)]
