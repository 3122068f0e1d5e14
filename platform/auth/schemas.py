"""Bodies of the auth routes, and the principal that every route decides by."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, EmailStr, Field, StringConstraints

from .permissions import GlobalRole, Permission

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


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

    @property
    def is_admin(self) -> bool:
        """Whether this is an administrator's own login; keys never carry the global role."""
        return self.kind == "user" and self.global_role is GlobalRole.ADMIN


class UserRegistration(BaseModel):
    """A new account."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    name: Name
    password: str = Field(max_length=1024)


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


class UserRead(BaseModel):
    """An account as its owner sees it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    email: str
    name: str
    role: str
    teams: list[str] = []
    preferences: dict[str, Any]
    created_at: datetime
    last_login_at: datetime | None


class AuthResponse(BaseModel):
    """A session's tokens; ``expires_in`` is the access token's life in seconds."""

    user: UserRead
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
    expires_at: AwareDatetime | None = None


class ApiKeyRead(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    project_id: str
    name: str
    prefix: str
    permissions: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeyCreated(ApiKeyRead):
    """A key with its secret, shown this once."""

    key: str
