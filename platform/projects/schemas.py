"""Bodies of the project routes."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..auth.permissions import ProjectRole


class ProjectCreate(BaseModel):
    """A new project; names are unique on the platform."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = Field("", max_length=2000)


class ProjectUpdate(BaseModel):
    """What may change; fields left out stay."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, max_length=2000)


class ProjectRead(BaseModel):
    """A project."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    description: str
    settings: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class MemberWrite(BaseModel):
    """The role that a member gets."""

    model_config = ConfigDict(extra="forbid")

    role: ProjectRole


class MemberRead(BaseModel):
    """A member of a project."""

    user_id: str
    email: str
    name: str
    role: ProjectRole
    created_at: datetime
