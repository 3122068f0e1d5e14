"""Tables of projects and their members."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, UniqueConstraint

from ..kernel.db import Table, document, moment


class Project(Table, table=True):
    """A tenant: everything else belongs to exactly one project."""

    __tablename__ = "project"

    name: str = Field(unique=True)
    description: str = ""
    settings: dict[str, Any] = document(default_factory=dict)
    updated_at: datetime = moment()


class ProjectMember(Table, table=True):
    """An account's role in a project."""

    __tablename__ = "project_member"
    __table_args__ = (UniqueConstraint("project_id", "user_id"),)

    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    user_id: str = Field(foreign_key="user_account.id", index=True, ondelete="CASCADE")
    role: str
