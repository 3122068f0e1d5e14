"""Tables of accounts, invitations, sessions, refresh tokens, API keys and the audit log."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from ..kernel.db import Table, document, moment, optional_moment


class User(Table, table=True):
    """An account of a person, or the service account of one project, which ``project_id`` names."""

    __tablename__ = "user_account"

    email: str = Field(unique=True)
    name: str
    role: str
    project_id: str | None = Field(default=None, foreign_key="project.id", index=True, ondelete="CASCADE")
    password_hash: str | None = None
    preferences: dict[str, Any] = document(default_factory=dict)
    last_login_at: datetime | None = optional_moment()
    disabled_at: datetime | None = optional_moment()
    deleted_at: datetime | None = optional_moment()


class Invitation(Table, table=True):
    """A token with which one address may register once."""

    __tablename__ = "invitation"

    email: str
    role: str
    invited_by: str = Field(foreign_key="user_account.id")
    secret_sha256: str = Field(unique=True)
    expires_at: datetime = moment()
    used_at: datetime | None = optional_moment()


class SsoIdentity(Table, table=True):
    """A person at an OpenID Connect provider, and the account that the person signs on to."""

    __tablename__ = "sso_identity"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    issuer: str
    subject: str
    user_id: str = Field(foreign_key="user_account.id", index=True, ondelete="CASCADE")


class AuthSession(Table, table=True):
    """A login; every refresh token of one family belongs to it."""

    __tablename__ = "auth_session"

    user_id: str = Field(foreign_key="user_account.id", index=True, ondelete="CASCADE")
    revoked_at: datetime | None = optional_moment()


class RefreshToken(Table, table=True):
    """One link of a session's chain of refresh tokens."""

    __tablename__ = "refresh_token"

    session_id: str = Field(foreign_key="auth_session.id", index=True, ondelete="CASCADE")
    secret_sha256: str = Field(unique=True)
    expires_at: datetime | None = optional_moment()
    used_at: datetime | None = optional_moment()


class ApiKey(Table, table=True):
    """A credential of one project; ``job_id`` marks the key that a running job holds."""

    __tablename__ = "api_key"

    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    created_by: str = Field(foreign_key="user_account.id")
    job_id: str | None = Field(default=None, index=True)
    name: str
    prefix: str
    secret_sha256: str = Field(unique=True)
    permissions: list[str] = document()
    endpoint: str | None = None
    expires_at: datetime | None = optional_moment()
    revoked_at: datetime | None = optional_moment()
    last_used_at: datetime | None = optional_moment()


class AuditEntry(Table, table=True):
    """What somebody did or was refused; no foreign keys, so that the log outlives what it tells of."""

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "actor_id", "id"),
        Index(None, "object_id", "id"),
        Index(None, "request_id"),
    )

    outcome: str
    action: str | None = None
    change: str | None = None
    actor_id: str
    actor_name: str | None = None
    credential: str | None = None
    credential_id: str | None = None
    address: str | None = None
    request_id: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    object_name: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    before: dict[str, Any] | None = document(default=None, nullable=True)
    after: dict[str, Any] | None = document(default=None, nullable=True)
    status: int | None = None
    message: str | None = None
    repeats: int = 1
