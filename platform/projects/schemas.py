"""Bodies of the project routes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..auth.permissions import Permission, ProjectRole
from ..kernel.bodies import Amount, Count, PlainName, Whole


class JobDefaults(BaseModel):
    """What a training job of the project does when machines are lost, unless the job says otherwise."""

    model_config = ConfigDict(extra="forbid")

    on_loss: Literal["fail", "resume"] = "fail"
    max_restarts: Whole = Field(3, ge=0, le=100)


class ProjectSettings(BaseModel):
    """The settings of a project."""

    model_config = ConfigDict(extra="forbid")

    job_restart: JobDefaults = JobDefaults()


class ProjectCreate(BaseModel):
    """A new project; names are unique on the platform."""

    model_config = ConfigDict(extra="forbid")

    name: PlainName
    description: str = Field("", max_length=2000)
    settings: ProjectSettings = ProjectSettings()


class ProjectUpdate(BaseModel):
    """What may change; fields left out stay."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, max_length=2000)
    settings: ProjectSettings | None = None


class ProjectRead(BaseModel):
    """A project."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    description: str
    settings: ProjectSettings
    archived_at: datetime | None
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


TeamPermissions = Annotated[list[Permission | Literal["*"]], Field(min_length=1, max_length=100)]


class TeamCreate(BaseModel):
    """A new team; ``permissions`` bounds what its members get by it in any project, ``["*"]`` does not."""

    model_config = ConfigDict(extra="forbid")

    name: PlainName
    description: str = Field("", max_length=2000)
    permissions: TeamPermissions = ["*"]


class TeamUpdate(BaseModel):
    """What may change; fields left out stay."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, max_length=2000)
    permissions: TeamPermissions | None = None


class TeamMemberWrite(BaseModel):
    """The place that an account gets in a team; an owner decides who is in it."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["owner", "member"] = "member"


class TeamMemberRead(BaseModel):
    """A member of a team."""

    user_id: str
    email: str
    name: str
    role: Literal["owner", "member"]


class TeamProjectRead(BaseModel):
    """A project that a team has a role in, and what its members may do there by that."""

    project_id: str
    name: str
    role: ProjectRole
    permissions: list[Permission]


class TeamRead(BaseModel):
    """A team; of its projects only those are shown that the caller may see."""

    id: str
    name: str
    description: str
    permissions: TeamPermissions
    members: list[TeamMemberRead]
    projects: list[TeamProjectRead]
    created_at: datetime
    updated_at: datetime


class TeamOfProject(BaseModel):
    """A team that has a role in a project."""

    team_id: str
    name: str
    role: ProjectRole


class SecretWrite(BaseModel):
    """The value of a secret."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr = Field(min_length=1, max_length=65_536)


class SecretRead(BaseModel):
    """A secret without its value."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    created_by: str
    created_at: datetime
    updated_at: datetime


class SecretValue(BaseModel):
    """What a secret hides, for a running job."""

    value: str


class ServiceAccountCreate(BaseModel):
    """A principal of the project that is no person; it acts by API keys."""

    model_config = ConfigDict(extra="forbid")

    name: PlainName
    role: Literal[ProjectRole.DEVELOPER, ProjectRole.VIEWER] = ProjectRole.VIEWER


class ServiceAccountRead(BaseModel):
    """A service account; ``role`` is None when it was taken out of the project's members."""

    id: str
    name: str
    email: str
    role: ProjectRole | None
    created_at: datetime


class QuotaLimits(BaseModel):
    """What one project may take at once, instead of the platform's defaults; a field left out stays the default."""

    model_config = ConfigDict(extra="forbid")

    concurrent_jobs: Count | None = None
    cpus: Amount | None = None
    gpus: Amount | None = None
    stored_bytes: Count | None = None
    deployments: Count | None = None


class QuotaUse(BaseModel):
    """How much of a quota is used."""

    used: float
    limit: float


class UsageRead(BaseModel):
    """What a project uses of each of its quotas."""

    project_id: str
    quotas: dict[str, QuotaUse]
