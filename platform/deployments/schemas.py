"""What clients say and read about deployments."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic.json_schema import SkipJsonSchema

from ..kernel.bodies import Number, PlainName, VersionNumber, Whole
from ..registry.schemas import AliasName


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
    """How far the desired state has come: ready means that every live model server follows it.

    A degraded deployment answers, and its latest change failed; a failed one has nothing to answer with.
    """

    PENDING = "pending"
    DEPLOYING = "deploying"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPED = "stopped"


class RevisionStatus(StrEnum):
    """Whether a revision may have traffic: only when every live model server has had an answer from it."""

    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"


class Exact(BaseModel):
    """A document in which nothing but its own fields may stand."""

    model_config = ConfigDict(extra="forbid")


class ProjectAccess(Exact):
    """Members and keys of the project that hold ``endpoint:invoke``."""

    policy: Literal["project"] = "project"


class AuthenticatedAccess(Exact):
    """Any living login or API key of the platform; to choose it takes ``endpoint:open``."""

    policy: Literal["authenticated"] = "authenticated"


class PublicAccess(Exact):
    """Anybody, without a credential too; to choose it takes ``endpoint:open``."""

    policy: Literal["public"] = "public"


class KeysAccess(Exact):
    """API keys of the project that hold ``endpoint:invoke``, or only those named by their ids; no login."""

    policy: Literal["keys"] = "keys"
    keys: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Ids of the only keys that may invoke; a key that is rotated brings its successor"
    )


Access = Annotated[ProjectAccess | AuthenticatedAccess | PublicAccess | KeysAccess, Field(discriminator="policy")]


class ResourceRequest(Exact):
    """What each replica of a dedicated deployment gets."""

    cpus: Annotated[Number, Field(gt=0, le=1024)] = 1.0
    gpus: Annotated[Number, Field(ge=0, le=64)] = 0.0
    memory_bytes: Annotated[Whole, Field(ge=2**20, le=2**44)] | None = None


class Scaling(Exact):
    """How many replicas a dedicated deployment has; with ``min_replicas`` 0 it costs nothing while nobody asks."""

    min_replicas: Annotated[Whole, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1
    target_ongoing_requests: Annotated[Number, Field(gt=0, le=1000)] = 2.0
    scale_to_zero_after_s: Annotated[Number, Field(ge=1, le=86_400)] = 300.0

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        return self


class Routing(Exact):
    """How requests are told apart where several revisions have traffic."""

    sticky_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Request header whose value decides the revision; without it each request is on its own",
    )


class RateLimit(Exact):
    """Requests a second that an endpoint takes, over all its servers; none: any number."""

    requests_per_s: Annotated[Number, Field(gt=0, le=1e6)] | None = None
    per_caller_per_s: Annotated[Number, Field(gt=0, le=1e6)] | None = Field(
        None, description="Of each user, key or, without either, address"
    )


class Batching(Exact):
    """Rows of requests that wait at the same time run together; for models whose rows do not see each other."""

    max_size: Annotated[Whole, Field(ge=2, le=10_000)] = 32
    max_wait_ms: Annotated[Number, Field(ge=0, le=1000)] = 0.0


class Logging(Exact):
    """What the inference log keeps: a row for each request, and payloads for a share of them."""

    sample_rate: Annotated[Number, Field(ge=0, le=1)] = 1.0
    payloads: StrictBool = False
    redact: Annotated[list[str], Field(max_length=1000)] = Field(
        [], description="Columns whose values are taken out of the payloads that are kept"
    )


class Options(BaseModel):
    """Settings of an endpoint that every model server follows as soon as they are published."""

    routing: Routing = Routing()
    rate_limit: RateLimit | None = None
    timeout_s: Annotated[Number, Field(gt=0, le=3600)] = 30.0
    max_queued: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Requests that may wait in one model server; none: as many as its own setting says"
    )
    batching: Batching | None = None
    logging: Logging = Logging()


class VersionChoice(BaseModel):
    """Which version of the model: of this number, or whichever an alias names, now and later."""

    version: VersionNumber | None = None
    alias: AliasName | None = Field(None, description="Name of a version; when it moves, a new revision is made")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.version is not None and self.alias is not None:
            raise ValueError("either version or alias is wanted, not both")
        return self


class DeploymentCreate(Options, VersionChoice):
    """Body of a new deployment; without ``version`` and ``alias`` the latest ready version is served."""

    model_config = ConfigDict(extra="forbid")

    project_id: str
    name: PlainName
    model: str = Field(description="Name or id of a registered model of the project")
    environment: Environment = Environment.PRODUCTION
    tier: Tier = Tier.AUTO
    resources: ResourceRequest | None = Field(None, description="For each replica; dedicated deployments alone")
    scaling: Scaling | None = Field(None, description="Dedicated deployments alone")
    access: Access = ProjectAccess()


_FIXED = ("project_id", "name", "model", "environment", "tier")
_NEVER_NULL = ("access", "resources", "scaling")


class DeploymentUpdate(Options, VersionChoice):
    """Body of a change: the model version of a new revision, the latest ready one unless named, or settings.

    With settings and no ``version`` or ``alias`` the revisions stay as they are. What is left out stays as it is. A
    number of a version, and an ``alias`` of null, end the following of an alias. ``promote`` goes with a new revision.
    """

    model_config = ConfigDict(extra="forbid")

    promote: StrictBool = Field(True, description="Give the new revision all traffic as soon as it is ready")
    access: Access | SkipJsonSchema[None] = None
    resources: ResourceRequest | SkipJsonSchema[None] = Field(
        None, description="For each replica; dedicated deployments alone"
    )
    scaling: Scaling | SkipJsonSchema[None] = Field(None, description="Dedicated deployments alone")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_fixed(cls, body: Any) -> Any:
        if isinstance(body, dict) and (fixed := [name for name in _FIXED if name in body]):
            raise ValueError(f"{', '.join(fixed)} cannot change; make another deployment")
        return body

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> Self:
        if empty := [name for name in _NEVER_NULL if name in self.model_fields_set and getattr(self, name) is None]:
            raise ValueError(f"{', '.join(empty)} cannot be null; what is left out stays as it is")
        if "promote" in self.model_fields_set and not self.makes_revision:
            raise ValueError("promote goes with a new revision; name a version or an alias, too")
        return self

    @property
    def makes_revision(self) -> bool:
        """Whether a model version is to be served anew."""
        asks = "version" in self.model_fields_set or self.alias is not None
        return asks or not self.model_fields_set - {"promote"}

    @property
    def releases_alias(self) -> bool:
        """Whether no alias is to be followed any more, whatever else is asked."""
        return "alias" in self.model_fields_set and self.alias is None

    @property
    def changed_options(self) -> dict[str, Any]:
        """The options that the body names, as they are kept."""
        return self.model_dump(mode="json", include=self.model_fields_set & Options.model_fields.keys())


Weight = Annotated[Whole, Field(ge=0, le=100)]


class TrafficUpdate(Exact):
    """Body of a division of the traffic: percentages by revision number, which sum to 100."""

    weights: Annotated[dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")], Weight], Field(max_length=10)]

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if sum(self.weights.values()) != 100:
            raise ValueError(f"the weights must sum to 100, and sum to {sum(self.weights.values())}")
        return self


class Promotion(Exact):
    """Body of a promotion: the revision that gets all traffic, the newest ready one unless named."""

    revision: VersionNumber | None = None


class DeploymentScale(Exact):
    """Body of a wish for a number of replicas, or for the bounds within which it follows the load."""

    replicas: Annotated[Whole, Field(ge=0, le=1000)] | None = Field(
        None, description="Neither more nor fewer; with 0 one starts when somebody asks"
    )
    min_replicas: Annotated[Whole, Field(ge=0, le=1000)] | None = None
    max_replicas: Annotated[Whole, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _check_wish(self) -> Self:
        if (self.replicas is None) == (self.min_replicas is None and self.max_replicas is None):
            raise ValueError("either replicas, or min_replicas or max_replicas or both are wanted")
        return self

    @property
    def bounds(self) -> dict[str, int]:
        """What of the scaling is to change."""
        if self.replicas is not None:
            return {"min_replicas": self.replicas, "max_replicas": max(self.replicas, 1)}
        return self.model_dump(exclude_none=True)


class RevisionRead(BaseModel):
    """One immutable state of a deployment."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    model_version_id: str
    model_version: int
    format: str
    size_bytes: int
    signature: dict[str, Any]
    status: RevisionStatus
    reason: str | None
    app: str | None = Field(None, description="Serve app that answers for it; none: the shared pool does")
    created_at: datetime


class DeploymentResources(BaseModel):
    """What a deployment runs on: the serverless tier shares one pool, the dedicated one has replicas of its own."""

    shared: bool = True
    model_bytes: int
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None


class Authentication(BaseModel):
    """Who may call, and how a caller says who it is."""

    policy: str
    required: bool
    schemes: list[str] = Field(["bearer", "X-API-Key"], description="A bearer is an access token or an API key")


class ApiEndpoint(BaseModel):
    """One operation that clients may call; paths are below the platform's URL."""

    id: str
    deployment_id: str
    path: str
    method: str
    schema_: dict[str, Any] | None = Field(
        alias="schema", description="JSON schemas of request and response; none while no revision could answer"
    )
    authentication: Authentication
    rate_limit: RateLimit | None


class Examples(BaseModel):
    """Calls to copy, with the version's example, or a row of zeros."""

    curl: str
    python: str


class DeploymentStatusRead(BaseModel):
    """How a deployment is, in short."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    status: DeploymentStatus
    reason: str | None
    alias: str | None = Field(description="The alias that is followed")
    alias_reason: str | None = Field(description="Why the version that the alias names is not served, if it is not")
    replicas: int
    traffic: dict[str, int]
    pending_traffic: dict[str, int] = Field(description="Traffic as soon as all revisions in it are ready")
    updated_at: datetime


class RevisionState(BaseModel):
    """How far a revision has come."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    status: RevisionStatus
    reason: str | None


class DeploymentEvent(DeploymentStatusRead):
    """A state that a deployment came to, newest revision first."""

    revisions: list[RevisionState]


class DeploymentRead(DeploymentStatusRead, Options):
    """A deployment with its endpoint and revisions, newest revision first."""

    project_id: str
    name: str
    environment: Environment
    tier: Tier
    endpoint: str
    access: Access
    model_id: str
    resources: DeploymentResources
    scaling: Scaling | None = Field(description="Of a dedicated deployment")
    examples: Examples | None = Field(description="None while no revision could answer")
    revisions: list[RevisionRead]
    created_at: datetime
