"""Routes of API keys: here and not in ``auth``, because a key's rights are those of its project."""

from fastapi import APIRouter

from ..auth import keys
from ..auth.deps import CurrentPrincipal
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..auth.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyRead, KeyRotation
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from . import keys as project_keys

router = APIRouter(prefix="/api-keys", tags=["auth"])


@router.post("", status_code=201)
@needs(Permission.KEY_WRITE)
def create_api_key(data: ApiKeyCreate, session: DbSession, principal: CurrentPrincipal) -> ApiKeyCreated:
    """Make a key; its secret is in this answer and nowhere else."""
    key, secret = project_keys.create_key(session, principal=principal, data=data)
    return ApiKeyCreated(**ApiKeyRead.model_validate(key).model_dump(), key=secret)


@router.get("")
@shows(Permission.KEY_WRITE)
def list_api_keys(
    session: DbSession, principal: CurrentPrincipal, query: Paging, project_id: str | None = None
) -> Page[ApiKeyRead]:
    """List the keys of the caller's projects."""
    page = project_keys.list_keys(session, principal=principal, query=query, project_id=project_id)
    return page.map(ApiKeyRead.model_validate)


@router.get("/{key_id}")
@needs(Permission.KEY_WRITE)
def get_api_key(key_id: str, session: DbSession, principal: CurrentPrincipal) -> ApiKeyRead:
    """Return one key without its secret."""
    return ApiKeyRead.model_validate(project_keys.get_key(session, principal=principal, key_id=key_id))


@router.post("/{key_id}/rotate", status_code=201)
@needs(Permission.KEY_WRITE)
def rotate_api_key(key_id: str, data: KeyRotation, session: DbSession, principal: CurrentPrincipal) -> ApiKeyCreated:
    """Replace a key; the old one works ``overlap_s`` seconds more."""
    key, secret = project_keys.rotate_key(session, principal=principal, key_id=key_id, overlap_s=data.overlap_s)
    return ApiKeyCreated(**ApiKeyRead.model_validate(key).model_dump(), key=secret)


@router.delete("/{key_id}", status_code=204)
@needs(Permission.KEY_WRITE)
def revoke_api_key(key_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """End a key."""
    keys.revoke_key(session, project_keys.get_key(session, principal=principal, key_id=key_id))
