"""Bodies of the auth routes, and the principal that every route decides by."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, JsonValue, StringConstraints

from ..kernel.bodies import Moment, Whole
from .permissions import GLOBAL_ROLES, GlobalRole, Permission

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_MAX_PREFERENCES = 16 * 2**10


def _small(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(document)) > _MAX_PREFERENCES:
        raise ValueError(f"preferences may be {_MAX_PREFERENCES} characters of JSON at most")
    return document


Preferences = Annotated[dict[str, JsonValue], AfterValidator(_small)]


@dataclass(frozen=True)
class Principal:
    """Who is asking, and by which credential."""

    id: str
    kind: Literal["user", "key", "job"]
    user_id: str
    global_role: GlobalRole
    session_id: str | None = None
    project_id: str | None = None
    job_id: str | None = None
    permissions: frozenset[Permission] | None = None
    endpoint: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator's own login; keys never carry the global role."""
        return self.kind == "user" and self.global_role is GlobalRole.ADMIN

    @property
    def platform_permissions(self) -> frozenset[Permission]:
        """What this login may do outside of projects; nothing for a key."""
        return GLOBAL_ROLES[self.global_role] if self.kind == "user" else frozenset()


class UserRegistration(BaseModel):
    """A new account."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    name: Name
    password: str = Field(max_length=1024)
    invitation: str | None = Field(None, max_length=200, description="The token of an invitation")


class LoginCredentials(BaseModel):
    """Email and password."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320)
    password: str = Field(max_length=1024)


class RefreshRequest(BaseModel):
    """The refresh token to be exchanged."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: str


class TokenRequest(BaseModel):
    """The access token to be checked."""

    model_config = ConfigDict(extra="forbid")

    token: str


class RoleRead(BaseModel):
    """A role and its permissions."""

    id: str
    name: str
    permissions: list[str]


class AccountRead(BaseModel):
    """An account."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    email: str
    name: str
    role: str
    preferences: dict[str, Any]
    created_at: datetime
    last_login_at: datetime | None


class UserRead(AccountRead):
    """An account as its owner sees it; ``teams`` holds the ids of the teams it is in."""

    teams: list[str] = []


class ManagedAccountRead(AccountRead):
    """An account as an administrator sees it; ``project_id`` names the project of a service account."""

    project_id: str | None
    disabled_at: datetime | None


class ProfileUpdate(BaseModel):
    """What people may change of their own account; fields left out stay."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    preferences: Preferences | None = Field(None, description="Replaces the former ones")


class PasswordChange(BaseModel):
    """The present password and the next one."""

    model_config = ConfigDict(extra="forbid")

    current_password: str = Field(max_length=1024)
    new_password: str = Field(max_length=1024)


class RoleAssignment(BaseModel):
    """The global role that an account gets."""

    model_config = ConfigDict(extra="forbid")

    role: GlobalRole


class InvitationCreate(BaseModel):
    """Who may register, and with which global role."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    role: GlobalRole = GlobalRole.DEVELOPER


class InvitationRead(BaseModel):
    """An invitation without its token."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    email: str
    role: str
    invited_by: str
    created_at: datetime
    expires_at: datetime


class InvitationCreated(InvitationRead):
    """An invitation with its token, shown this once."""

    token: str


class AuthResponse(BaseModel):
    """A session's tokens; ``expires_in`` is the access token's life in seconds."""

    user: AccountRead
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int


class TokenValidation(BaseModel):
    """What a token is worth."""

    valid: bool
    user_id: str | None = None
    session_id: str | None = None
    expires_at: datetime | None = None
    reason: str | None = None


class ApiKeyCreate(BaseModel):
    """A new key; ``["*"]`` stands for all that its maker may do in the project."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    project_id: str
    permissions: list[Permission | Literal["*"]] = Field(min_length=1)
    endpoint: str | None = Field(None, max_length=100, description="The only endpoint that the key may call")
    service_account_id: str | None = Field(None, description="The service account that the key stands for")
    expires_at: Moment | None = None


class KeyRotation(BaseModel):
    """How long the old key works beside the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: Whole = Field(0, ge=0, le=30 * 86400)


class ApiKeyRead(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    project_id: str
    name: str
    prefix: str
    permissions: list[str]
    endpoint: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyCreated(ApiKeyRead):
    """A key with its secret, shown this once."""

    key: str


class AuditOutcome(StrEnum):
    """Whether it was done."""

    DONE = "done"
    REFUSED = "refused"


class AuditRead(BaseModel):
    """What somebody did or was refused: who, by which credential, from where, to what.

    ``before`` and ``after`` hold the fields that changed, without secrets; names are those of that time. One row with
    ``repeats`` stands for the refusals of an address that were too many to have rows of their own.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    outcome: AuditOutcome
    action: str | None
    change: Literal["created", "changed", "deleted"] | None
    actor_id: str
    actor_name: str | None
    credential: Literal["session", "key", "job"] | None
    credential_id: str | None
    address: str | None
    request_id: str | None
    object_type: str | None
    object_id: str | None
    object_name: str | None
    project_id: str | None
    project_name: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    status: int | None
    message: str | None
    repeats: int
