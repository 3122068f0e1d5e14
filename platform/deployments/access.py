"""The rules of access policies: who may open an endpoint, and which keys one may name."""

from sqlalchemy import cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col

from ..auth import keys
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.errors import ValidationFailed
from ..projects.service import authorize
from .errors import KeysNotUsable
from .models import Deployment
from .schemas import Access, AuthenticatedAccess, KeysAccess, PublicAccess

_MOST_KEYS = 100


def set_access(session: Session, *, principal: Principal, deployment: Deployment, access: Access) -> None:
    """Note who may invoke a deployment.

    Raises:
        PermissionDenied: If it is to be opened beyond its project and the principal may not do that.
        ValidationFailed: If more than 100 keys are named.
        KeysNotUsable: If a named key could never invoke it.
    """
    if isinstance(access, AuthenticatedAccess | PublicAccess):
        authorize(session, principal, deployment.project_id, Permission.ENDPOINT_OPEN)
    elif isinstance(access, KeysAccess) and access.keys is not None:
        _check_keys(session, deployment, access.keys)
    deployment.access = access.model_dump(mode="json", exclude_none=True)


def names_key(key_id: str) -> ColumnElement[bool]:
    """Build the filter that keeps the deployments whose policy lists this key."""
    return cast(col(Deployment.access), JSONB).contains({"keys": [key_id]})


def add_key(session: Session, deployment: Deployment, key_id: str) -> None:
    """List one more key, and no longer those that are dead."""
    living = {key.id for key in keys.active_keys(session, deployment.project_id)}
    deployment.access = {**deployment.access, "keys": sorted({*living.intersection(deployment.access["keys"]), key_id})}


def _check_keys(session: Session, deployment: Deployment, named: list[str]) -> None:
    if len(named) > _MOST_KEYS:
        raise ValidationFailed(f"At most {_MOST_KEYS} keys may be named; leave 'keys' out to admit all of the project.")
    usable = {key.id for key in keys.active_keys(session, deployment.project_id) if _can_invoke(key, deployment)}
    if unusable := sorted(set(named) - usable):
        raise KeysNotUsable(unusable)


def _can_invoke(key: keys.KeyGrant, deployment: Deployment) -> bool:
    may_invoke = key.permissions is None or Permission.ENDPOINT_INVOKE in key.permissions
    return may_invoke and key.endpoint in (None, deployment.endpoint_key)
