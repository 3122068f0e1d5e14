"""The rules of API keys: shown once, stored as SHA-256, bound to one project."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, update
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..kernel.security import hash_secret, new_secret
from .errors import ExpiryPassed, InvalidApiKey, KeyNotFound
from .events import ApiKeyChanged
from .models import ApiKey, User
from .permissions import GlobalRole, Permission
from .schemas import Principal

__all__ = [
    "ApiKey",
    "KeyGrant",
    "active_keys",
    "create_key",
    "get_key",
    "list_keys",
    "principal_of",
    "revoke_job_keys",
    "revoke_key",
]

_EVERYTHING = "*"


@dataclass(frozen=True)
class KeyGrant:
    """A living key as the data plane needs it; ``permissions`` None means all of its maker's."""

    id: str
    secret_sha256: str
    created_by: str
    permissions: frozenset[Permission] | None
    expires_at: datetime | None


def create_key(
    session: Session,
    *,
    name: str,
    project_id: str,
    permissions: list[str],
    created_by: str,
    expires_at: datetime | None = None,
    job_id: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is nowhere stored.

    Raises:
        ExpiryPassed: If it would be dead at birth.
    """
    if expires_at is not None and expires_at <= utc_now():
        raise ExpiryPassed
    secret = new_secret("rm")
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        created_by=created_by,
        job_id=job_id,
        name=name,
        prefix=secret[:10],
        secret_sha256=hash_secret(secret),
        permissions=[str(permission) for permission in permissions],
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    record(session, ApiKeyChanged(project_id=project_id))
    return key, secret


def get_key(session: Session, key_id: str) -> ApiKey:
    """Return a key that a person made.

    Raises:
        KeyNotFound: If there is none; the key of a job belongs to the job alone.
    """
    key = session.get(ApiKey, key_id)
    if key is None or key.job_id is not None:
        raise KeyNotFound(key_id)
    return key


def list_keys(session: Session, query: PageQuery, *filters: ColumnElement[bool]) -> Page[ApiKey]:
    """Return a page of the keys that people made, newest first."""
    return paginate(session, ApiKey, query, col(ApiKey.job_id).is_(None), *filters)


def revoke_key(session: Session, key: ApiKey) -> None:
    """End a key; a revoked one stays revoked."""
    key.revoked_at = key.revoked_at or utc_now()
    session.add(key)
    record(session, ApiKeyChanged(project_id=key.project_id))


def revoke_job_keys(session: Session, job_id: str) -> None:
    """End whatever keys a job holds."""
    living = update(ApiKey).where(col(ApiKey.job_id) == job_id, col(ApiKey.revoked_at).is_(None))
    projects = session.execute(living.values(revoked_at=utc_now()).returning(col(ApiKey.project_id))).scalars()
    for project_id in set(projects):
        record(session, ApiKeyChanged(project_id=project_id))


def active_keys(session: Session, project_id: str) -> list[KeyGrant]:
    """Return the living keys of a project, oldest first."""
    rows = session.exec(
        select(ApiKey)
        .where(ApiKey.project_id == project_id, col(ApiKey.revoked_at).is_(None))
        .where(or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > utc_now()))
        .order_by(ApiKey.id)
    )
    return [
        KeyGrant(
            id=key.id,
            secret_sha256=key.secret_sha256,
            created_by=key.created_by,
            permissions=_own_permissions(key),
            expires_at=key.expires_at,
        )
        for key in rows
    ]


def principal_of(session: Session, secret: str) -> Principal:
    """Return the principal that a key stands for.

    Raises:
        InvalidApiKey: If the key is unknown, expired or revoked, or its maker disabled.
    """
    found = session.exec(
        select(ApiKey, User)
        .join(User, col(User.id) == col(ApiKey.created_by))
        .where(ApiKey.secret_sha256 == hash_secret(secret))
    ).one_or_none()
    if found is None:
        raise InvalidApiKey
    key, maker = found
    expired = key.expires_at is not None and key.expires_at <= utc_now()
    if key.revoked_at is not None or expired or maker.disabled_at is not None:
        raise InvalidApiKey
    return Principal(
        id=key.id,
        kind="job" if key.job_id else "key",
        user_id=key.created_by,
        global_role=GlobalRole(maker.role),
        project_id=key.project_id,
        job_id=key.job_id,
        permissions=_own_permissions(key),
    )


def _own_permissions(key: ApiKey) -> frozenset[Permission] | None:
    if _EVERYTHING in key.permissions:
        return None
    return frozenset(Permission(permission) for permission in key.permissions)
