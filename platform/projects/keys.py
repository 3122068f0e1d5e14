"""Who may make, see and end the API keys of a project."""

from sqlmodel import Session, col

from ..auth import keys
from ..auth.errors import KeyNotFound
from ..auth.keys import ApiKey
from ..auth.permissions import Permission
from ..auth.schemas import ApiKeyCreate, Principal
from ..kernel.errors import PermissionDenied
from ..kernel.pagination import Page, PageQuery
from .service import authorize, authorize_owned, permissions_by_membership, visible


def create_key(session: Session, *, principal: Principal, data: ApiKeyCreate) -> tuple[ApiKey, str]:
    """Make a key that may do no more than its maker.

    Raises:
        PermissionDenied: If the maker may not make keys, or lacks a right that the key asks for.
    """
    authorize(session, principal, data.project_id, Permission.KEY_WRITE)
    held = permissions_by_membership(session, principal, data.project_id)
    return keys.create_key(
        session,
        name=data.name,
        project_id=data.project_id,
        permissions=_granted(principal, data, held),
        created_by=principal.user_id,
        expires_at=data.expires_at,
    )


def list_keys(session: Session, *, principal: Principal, query: PageQuery, project_id: str | None) -> Page[ApiKey]:
    """Return the keys that the caller may manage, without those of jobs."""
    filters = [visible(principal, col(ApiKey.project_id), Permission.KEY_WRITE)]
    if project_id is not None:
        filters.append(col(ApiKey.project_id) == project_id)
    return keys.list_keys(session, query, *filters)


def get_key(session: Session, *, principal: Principal, key_id: str) -> ApiKey:
    """Return a key that the caller may manage.

    Raises:
        KeyNotFound: If it does not exist, or not for this caller.
        PermissionDenied: If the caller may not manage keys of the project.
    """
    key = keys.get_key(session, key_id)
    return authorize_owned(session, principal, key, Permission.KEY_WRITE, missing=KeyNotFound(key_id))


def _granted(principal: Principal, data: ApiKeyCreate, held: frozenset[Permission]) -> list[str]:
    if not held:
        raise PermissionDenied("A key acts with its maker's membership: become a member of the project first.")
    if "*" in data.permissions:
        return ["*"] if principal.permissions is None else sorted(held)
    if beyond := sorted(set(data.permissions) - held):
        raise PermissionDenied(
            f"A key cannot hold what your own membership lacks: {', '.join(beyond)}.", details={"permissions": beyond}
        )
    return sorted(set(data.permissions))
