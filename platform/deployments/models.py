"""Tables of what should be served and of what was last published."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from ..kernel.db import Table, document, moment
from .schemas import DeploymentStatus, RevisionStatus, Tier


class Deployment(Table, table=True):
    """A name under which a project serves a model in one environment."""

    __tablename__ = "deployment"
    __table_args__ = (UniqueConstraint("project_id", "name", "environment"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    environment: str
    endpoint_key: str = Field(unique=True)
    tier: str = Tier.AUTO
    # What each replica of an app of its own gets, and how many there are; the pool asks for neither.
    requested: dict[str, Any] = document(default_factory=dict)
    scaling: dict[str, Any] = document(default_factory=dict)
    model_id: str = Field(foreign_key="registered_model.id", index=True)
    # The alias of the model that is followed, the version that was last taken from it, and why that is not served.
    alias: str | None = Field(default=None, index=True)
    alias_version: int | None = None
    alias_reason: str | None = None
    traffic: dict[str, int] = document()
    # What becomes the traffic as soon as all its revisions are ready; empty where nothing is awaited.
    pending_traffic: dict[str, int] = document(default_factory=dict)
    # Numbers of the revisions that had all the traffic, in that order; a rollback takes the last away.
    releases: list[int] = document(default_factory=list)
    access: dict[str, Any] = document(default_factory=lambda: {"policy": "project"})
    # The other settings of the endpoint, in the form in which clients give them.
    options: dict[str, Any] = document(default_factory=dict)
    status: str = Field(default=DeploymentStatus.PENDING, index=True)
    reason: str | None = None
    replicas: int = 0
    # The document that holds this state; None from a change until its publication.
    published_version: int | None = Field(default=None, sa_type=BigInteger)
    created_by: str
    updated_at: datetime = moment()


class Revision(Table, table=True):
    """One immutable state of a deployment: a model version, frozen."""

    __tablename__ = "revision"
    __table_args__ = (UniqueConstraint("deployment_id", "number"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    deployment_id: str = Field(foreign_key="deployment.id", index=True, ondelete="CASCADE")
    number: int
    model_version_id: str = Field(foreign_key="model_version.id", index=True)
    model_version: int
    format: str
    uri: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    signature: dict[str, Any] = document()
    example: list[Any] | None = document(default=None, nullable=True)
    app: str | None = None
    status: str = Field(default=RevisionStatus.WARMING, index=True)
    reason: str | None = None
    # What the cluster last said of the app.
    app_status: str | None = None
    app_message: str | None = None
    app_replicas: int = 0


class Publication(SQLModel, table=True):
    """The last version of one document for the data plane, sealed as it travels.

    Versions are milliseconds of the Unix time, or one more than the last where that is higher: they grow even over a
    database that was restored from a backup.
    """

    __tablename__ = "publication"

    kind: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    project_id: str = Field(default="", description="Project that the document was compiled for; empty for all")
    version: int = Field(default=0, sa_type=BigInteger)
    state_sha256: str = ""
    signed_by: str = Field(default="", description="Id of the public key that verifies the document")
    envelope: bytes = b""
    stored_version: int = Field(default=0, sa_type=BigInteger)
    published_at: datetime = moment()
