"""Who may make, see and end the API keys of a project."""

import re
from collections.abc import Iterable

from sqlmodel import Session, col

from ..auth import keys
from ..auth.errors import KeyNotFound
from ..auth.keys import ApiKey
from ..auth.permissions import Permission
from ..auth.schemas import ApiKeyCreate, Principal
from ..kernel.errors import PermissionDenied
from ..kernel.pagination import Page, PageQuery
from . import service_accounts
from .errors import EndpointNotOfProject, KeyTooWide
from .rights import held_by_member
from .service import authorize, authorize_owned, permissions_by_membership, visible

_ENDPOINT_NAME = r"[a-z0-9][a-z0-9-]{0,39}(\.[a-z0-9-]{1,40})?"


def create_key(session: Session, *, principal: Principal, data: ApiKeyCreate) -> tuple[ApiKey, str]:
    """Make a key that may do no more than its maker, nor than the service account that it stands for.

    Raises:
        PermissionDenied: If the maker may not make keys, or lacks a right that the key asks for.
        EndpointNotOfProject: If the key is to call an endpoint that cannot be one of the project.
        ServiceAccountNotFound: If the project has no such service account.
    """
    project = authorize(session, principal, data.project_id, Permission.KEY_WRITE)
    check_endpoint(project.name, data)
    held = permissions_by_membership(session, principal, data.project_id)
    stands_for = principal.user_id
    if data.service_account_id is not None:
        stands_for = service_accounts.get_service_account(session, project.id, data.service_account_id).id
        of_account = held_by_member(session, project.id, stands_for)
        _refuse_beyond(of_account if "*" in data.permissions else frozenset(), held)
        held = of_account if "*" in data.permissions else of_account & held
    return keys.create_key(
        session,
        name=data.name,
        project_id=data.project_id,
        permissions=_granted(principal, data, held),
        created_by=stands_for,
        expires_at=data.expires_at,
        endpoint=data.endpoint,
    )


def rotate_key(session: Session, *, principal: Principal, key_id: str, overlap_s: int) -> tuple[ApiKey, str]:
    """Replace a key by one of the same rights, which the caller must hold, or the old key would be a ladder.

    Raises:
        KeyNotFound: If it does not exist, or not for this caller.
        PermissionDenied: If the caller may not manage keys of the project, or may do less than the key.
        InvalidApiKey: If the key is dead.
    """
    key = get_key(session, principal=principal, key_id=key_id)
    of_key = keys.rights_of(key, held_by_member(session, key.project_id, key.created_by))
    _refuse_beyond(of_key, permissions_by_membership(session, principal, key.project_id))
    return keys.rotate_key(session, key, overlap_s=overlap_s)


def check_endpoint(project_name: str, data: ApiKeyCreate) -> None:
    """Hold the endpoint of a new key against its project and its other permissions.

    Raises:
        EndpointNotOfProject: If it cannot be one of the project's.
        KeyTooWide: If the key asks for more than to call it.
    """
    if data.endpoint is None:
        return
    if not re.fullmatch(rf"{re.escape(project_name)}\.{_ENDPOINT_NAME}", data.endpoint):
        raise EndpointNotOfProject(data.endpoint, project_name)
    if set(data.permissions) != {Permission.ENDPOINT_INVOKE}:
        raise KeyTooWide


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
    _refuse_beyond({Permission(one) for one in data.permissions}, held)
    return sorted(set(data.permissions))


def _refuse_beyond(asked: Iterable[Permission], held: frozenset[Permission]) -> None:
    if beyond := sorted(set(asked) - held):
        raise PermissionDenied(
            f"A key cannot hold what your own membership lacks: {', '.join(beyond)}.", details={"permissions": beyond}
        )
