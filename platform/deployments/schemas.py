"""What clients say and read about deployments."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..kernel.bodies import Number, PlainName, VersionNumber, Whole


class Environment(StrEnum):
    """Where a deployment answers; each has its own endpoint."""

    STAGING = "staging"
    PRODUCTION = "production"


class Tier(StrEnum):
    """How a deployment runs: in the shared pool, in an app of its own, or as the platform sees fit."""

    SERVERLESS = "serverless"
    DEDICATED = "dedicated"
    AUTO = "auto"


class DeploymentStatus(StrEnum):
    """How far the desired state has come: ready means that every live model server follows it."""

    DEPLOYING = "deploying"
    READY = "ready"


class ProjectAccess(BaseModel):
    """Members and keys of the project that hold ``endpoint:invoke``."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["project"] = "project"


class AuthenticatedAccess(BaseModel):
    """Any living login or API key of the platform; to choose it takes ``endpoint:open``."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["authenticated"] = "authenticated"


class PublicAccess(BaseModel):
    """Anybody, without a credential too; to choose it takes ``endpoint:open``."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["public"] = "public"


class KeysAccess(BaseModel):
    """API keys of the project that hold ``endpoint:invoke``, or only those named by their ids; no login."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["keys"] = "keys"
    keys: Annotated[list[str], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Ids of the only keys that may invoke; a key that is rotated brings its successor"
    )


Access = Annotated[ProjectAccess | AuthenticatedAccess | PublicAccess | KeysAccess, Field(discriminator="policy")]


class ResourceRequest(BaseModel):
    """What each replica of a dedicated deployment gets."""

    model_config = ConfigDict(extra="forbid")

    cpus: Annotated[Number, Field(gt=0, le=1024)] = 1.0
    gpus: Annotated[Number, Field(ge=0, le=64)] = 0.0
    memory_bytes: Annotated[Whole, Field(ge=2**20, le=2**44)] | None = None


class Scaling(BaseModel):
    """How many replicas a dedicated deployment has; with ``min_replicas`` 0 it costs nothing while nobody asks."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: Annotated[Whole, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1
    target_ongoing_requests: Annotated[Number, Field(gt=0, le=1000)] = 2.0
    scale_to_zero_after_s: Annotated[Number, Field(ge=1, le=86_400)] = 300.0

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


class DeploymentCreate(BaseModel):
    """Body of a new deployment; without ``version`` the latest ready one is served."""

    model_config = ConfigDict(extra="forbid")

    project_id: str
    name: PlainName
    model: str = Field(description="Name or id of a registered model of the project")
    version: VersionNumber | None = None
    environment: Environment = Environment.PRODUCTION
    tier: Tier = Tier.AUTO
    resources: ResourceRequest | None = Field(None, description="For each replica; dedicated deployments alone")
    scaling: Scaling | None = Field(None, description="Dedicated deployments alone")
    access: Access = ProjectAccess()


class DeploymentUpdate(BaseModel):
    """Body of a change: the model version of a new revision, the latest ready one unless named, or who may invoke.

    With ``access`` and no ``version`` the revisions stay as they are.
    """

    model_config = ConfigDict(extra="forbid")

    version: VersionNumber | None = None
    access: Access | None = None

    @property
    def makes_revision(self) -> bool:
        """Whether a model version is to be served anew."""
        return self.access is None or "version" in self.model_fields_set


class DeploymentScale(BaseModel):
    """Body of a wish for a number of replicas."""

    model_config = ConfigDict(extra="forbid")

    replicas: Annotated[Whole, Field(ge=0, le=1000)]


class RevisionRead(BaseModel):
    """One immutable state of a deployment."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    model_version_id: str
    model_version: int
    format: str
    size_bytes: int
    signature: dict[str, Any]
    app: str | None = Field(None, description="Serve app that answers for it; none: the shared pool does")
    created_at: datetime


class DeploymentResources(BaseModel):
    """What a deployment runs on: the serverless tier shares one pool, the dedicated one has replicas of its own."""

    shared: bool = True
    model_bytes: int
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None


class DeploymentStatusRead(BaseModel):
    """How a deployment is, in short."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    status: DeploymentStatus
    reason: str | None
    replicas: int
    traffic: dict[str, int]
    updated_at: datetime


class DeploymentRead(DeploymentStatusRead):
    """A deployment with its endpoint and revisions, newest revision first."""

    project_id: str
    name: str
    environment: Environment
    tier: Tier
    endpoint: str
    access: Access
    model_id: str
    resources: DeploymentResources
    revisions: list[RevisionRead]
    created_at: datetime
