"""The rules of API keys: shown once, stored as SHA-256, bound to one project."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..kernel.resources import Resources
from ..kernel.security import hash_secret, new_secret
from .errors import ExpiryPassed, InvalidApiKey, KeyNotFound
from .events import ApiKeyChanged, ApiKeyRotated, ApiKeyUsed
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
    "projects_with_keys_of",
    "revoke_job_keys",
    "revoke_key",
    "revoke_keys_of",
    "rights_of",
    "rotate_key",
    "subscribe",
]

_EVERYTHING = "*"
_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class KeyGrant:
    """A living key as the data plane needs it; ``permissions`` None means all of its maker's."""

    id: str
    secret_sha256: str
    created_by: str
    permissions: frozenset[Permission] | None
    expires_at: datetime | None
    endpoint: str | None = None


def subscribe(resources: Resources) -> None:
    """Note, in this process, which keys are used."""
    resources.events.subscribe(ApiKeyUsed, lambda event: _note_use(resources, event.key_id))


def create_key(
    session: Session,
    *,
    name: str,
    project_id: str,
    permissions: list[str],
    created_by: str,
    expires_at: datetime | None = None,
    job_id: str | None = None,
    endpoint: str | None = None,
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
        endpoint=endpoint,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    record(session, ApiKeyChanged(project_id=project_id))
    return key, secret


def rotate_key(session: Session, key: ApiKey, *, overlap_s: int) -> tuple[ApiKey, str]:
    """Make a key of the same rights, and let the old one die ``overlap_s`` seconds from now or when it would have.

    Raises:
        InvalidApiKey: If the old one is dead already.
    """
    session.refresh(key, with_for_update=True)
    if not _lives(key):
        raise InvalidApiKey
    successor, secret = create_key(
        session,
        name=key.name,
        project_id=key.project_id,
        permissions=key.permissions,
        created_by=key.created_by,
        expires_at=key.expires_at,
        endpoint=key.endpoint,
    )
    end = utc_now() + timedelta(seconds=overlap_s)
    if overlap_s == 0:
        key.revoked_at = end
    elif key.expires_at is None or key.expires_at > end:
        key.expires_at = end
    session.add(key)
    record(session, ApiKeyRotated(project_id=key.project_id, key_id=key.id, successor_id=successor.id))
    return successor, secret


def rights_of(key: ApiKey, of_account: frozenset[Permission]) -> frozenset[Permission]:
    """Return what a key may do in its project, given what the account may do that it stands for."""
    own = _own_permissions(key)
    return of_account if own is None else of_account & own


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
    _revoke(session, col(ApiKey.job_id) == job_id)


def revoke_keys_of(session: Session, user_id: str) -> None:
    """End the keys that stand for an account."""
    _revoke(session, col(ApiKey.created_by) == user_id)


def projects_with_keys_of(session: Session, user_id: str) -> set[str]:
    """Return the ids of the projects in which living keys stand for an account."""
    theirs = select(ApiKey.project_id).where(ApiKey.created_by == user_id, col(ApiKey.revoked_at).is_(None))
    return set(session.exec(theirs.distinct()))


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
            endpoint=key.endpoint,
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
    if not _lives(key) or maker.disabled_at is not None:
        raise InvalidApiKey
    # A job's key belongs to the job alone, which reports far more often than anybody wants to know.
    if key.job_id is None and (key.last_used_at is None or key.last_used_at <= utc_now() - _NOTED_EVERY):
        record(session, ApiKeyUsed(key_id=key.id))
    return Principal(
        id=key.id,
        kind="job" if key.job_id else "key",
        user_id=key.created_by,
        global_role=GlobalRole(maker.role),
        project_id=key.project_id,
        job_id=key.job_id,
        permissions=_own_permissions(key),
        endpoint=key.endpoint,
    )


def _note_use(resources: Resources, key_id: str) -> None:
    stale = or_(col(ApiKey.last_used_at).is_(None), col(ApiKey.last_used_at) <= utc_now() - _NOTED_EVERY)
    with resources.database.session() as session:
        session.execute(update(ApiKey).where(col(ApiKey.id) == key_id, stale).values(last_used_at=utc_now()))


def _revoke(session: Session, whose: ColumnElement[bool]) -> None:
    living = update(ApiKey).where(whose, col(ApiKey.revoked_at).is_(None))
    projects = session.execute(living.values(revoked_at=utc_now()).returning(col(ApiKey.project_id))).scalars()
    for project_id in set(projects):
        record(session, ApiKeyChanged(project_id=project_id))


def _lives(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > utc_now())


def _own_permissions(key: ApiKey) -> frozenset[Permission] | None:
    if _EVERYTHING in key.permissions:
        return None
    return frozenset(Permission(permission) for permission in key.permissions)
