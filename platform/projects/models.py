"""Tables of projects, teams, secrets and quotas."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel, UniqueConstraint

from ..kernel.db import Table, document, moment, optional_moment


class Project(Table, table=True):
    """A tenant: everything else belongs to exactly one project; ``quotas`` holds what an administrator set for it."""

    __tablename__ = "project"

    name: str = Field(unique=True)
    description: str = ""
    settings: dict[str, Any] = document(default_factory=dict)
    quotas: dict[str, float] = document(default_factory=dict)
    archived_at: datetime | None = optional_moment()
    updated_at: datetime = moment()


class ProjectMember(Table, table=True):
    """An account's role in a project."""

    __tablename__ = "project_member"
    __table_args__ = (UniqueConstraint("project_id", "user_id"),)

    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    user_id: str = Field(foreign_key="user_account.id", index=True, ondelete="CASCADE")
    role: str


class Team(Table, table=True):
    """A group of accounts; ``permissions`` bounds what any role gives to its members, ``["*"]`` does not."""

    __tablename__ = "team"

    name: str = Field(unique=True)
    description: str = ""
    permissions: list[str] = document()
    updated_at: datetime = moment()


class TeamMember(Table, table=True):
    """An account's place in a team."""

    __tablename__ = "team_member"
    __table_args__ = (UniqueConstraint("team_id", "user_id"),)

    team_id: str = Field(foreign_key="team.id", index=True, ondelete="CASCADE")
    user_id: str = Field(foreign_key="user_account.id", index=True, ondelete="CASCADE")
    role: str


class TeamProject(Table, table=True):
    """A team's role in a project."""

    __tablename__ = "team_project"
    __table_args__ = (UniqueConstraint("team_id", "project_id"),)

    team_id: str = Field(foreign_key="team.id", index=True, ondelete="CASCADE")
    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    role: str


class Secret(Table, table=True):
    """A value that only jobs read, sealed with a data key of its own, which the master key ``key_id`` wraps."""

    __tablename__ = "secret"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    name: str
    key_id: str
    wrapped_key: bytes
    sealed: bytes
    created_by: str
    updated_at: datetime = moment()


class QuotaClaim(SQLModel, table=True):
    """What one owner (a job, a deployment, a blob) takes of a project's quota.

    Without a foreign key: the bytes of a deleted project are still to be collected. ``unused_since`` is when the
    collector first found that no row refers to the blob.
    """

    __tablename__ = "quota_claim"

    project_id: str = Field(primary_key=True)
    quota: str = Field(primary_key=True)
    owner: str = Field(primary_key=True, index=True)
    amount: float
    unused_since: datetime | None = optional_moment()
