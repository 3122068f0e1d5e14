"""Tables of models, versions, aliases, artifacts, lineage and pins."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlmodel import Field, Index, UniqueConstraint

from ..kernel.db import Table, document, moment, optional_moment
from .schemas import VersionStatus


class RegisteredModel(Table, table=True):
    """A named model of a project; ``last_version`` only grows, so that a number never names two versions."""

    __tablename__ = "registered_model"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    description: str = ""
    framework: str
    attributes: dict[str, Any] = document(default_factory=dict)
    created_by: str
    last_version: int = 0
    updated_at: datetime = moment()


class ModelVersion(Table, table=True):
    """One version of a model: a draft takes artifacts, a ready version never changes again."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("model_id", "version"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    model_id: str = Field(foreign_key="registered_model.id", ondelete="CASCADE")
    version: int
    status: str = VersionStatus.DRAFT
    framework: str
    signature: dict[str, Any] | None = document(default=None, nullable=True)
    example: list[Any] | None = document(default=None, nullable=True)
    metrics: dict[str, float] = document(default_factory=dict)
    source: dict[str, Any] | None = document(default=None, nullable=True)
    error: str | None = None
    created_by: str
    completed_at: datetime | None = optional_moment()


class ModelAlias(Table, table=True):
    """A name for one version of a model, which may move to another."""

    __tablename__ = "model_alias"
    __table_args__ = (UniqueConstraint("model_id", "name"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    model_id: str = Field(foreign_key="registered_model.id", ondelete="CASCADE")
    name: str
    version_id: str = Field(foreign_key="model_version.id", index=True, ondelete="CASCADE")
    updated_at: datetime = moment()


class Artifact(Table, table=True):
    """A file of a version; the content lies in the object store under its checksum."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("version_id", "path"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    version_id: str = Field(foreign_key="model_version.id", ondelete="CASCADE")
    type: str
    path: str
    uri: str
    size_bytes: int = Field(sa_type=BigInteger)
    checksum: str
    attributes: dict[str, Any] = document(default_factory=dict)


class LineageEdge(Table, table=True):
    """Says that the target was made from the source, or serves it."""

    __tablename__ = "lineage_edge"
    __table_args__ = (
        UniqueConstraint("source_kind", "source_id", "target_kind", "target_id"),
        Index(None, "target_kind", "target_id"),
    )

    project_id: str = Field(foreign_key="project.id", index=True, ondelete="CASCADE")
    source_kind: str
    source_id: str
    target_kind: str
    target_id: str


class Pin(Table, table=True):
    """Keeps a version from being deleted as long as ``owner`` needs it."""

    __tablename__ = "pin"
    __table_args__ = (UniqueConstraint("version_id", "owner"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    version_id: str = Field(foreign_key="model_version.id")
    owner: str
