"""What clients say and read about deployments."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


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


class DeploymentCreate(BaseModel):
    """Body of a new deployment; without ``version`` the latest ready one is served."""

    model_config = ConfigDict(extra="forbid")

    project_id: str
    name: str
    model: str = Field(description="Name or id of a registered model of the project")
    version: Annotated[int, Field(ge=1)] | None = None
    environment: Environment = Environment.PRODUCTION
    tier: Tier = Tier.SERVERLESS


class DeploymentUpdate(BaseModel):
    """Body of a change: the model version of a new revision, the latest ready one unless named."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1)] | None = None


class DeploymentScale(BaseModel):
    """Body of a wish for a number of replicas."""

    model_config = ConfigDict(extra="forbid")

    replicas: Annotated[int, Field(ge=0, le=1000)]


class RevisionRead(BaseModel):
    """One immutable state of a deployment."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    model_version_id: str
    model_version: int
    format: str
    size_bytes: int
    signature: dict[str, Any]
    created_at: datetime


class DeploymentResources(BaseModel):
    """What a deployment runs on: the serverless tier shares one pool of model servers."""

    shared: bool = True
    model_bytes: int


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
    model_id: str
    resources: DeploymentResources
    revisions: list[RevisionRead]
    created_at: datetime
