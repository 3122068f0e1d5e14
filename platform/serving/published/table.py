"""The routing table: one small document per endpoint, compiled and signed by the control plane.

Fields that a reader does not know are ignored, so that a newer control plane can talk to older model servers.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Label = str | int | float | bool


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TensorSpec(_Part):
    """One tensor of a model: -1 in the shape stands for any size.

    The columns named in ``nullable`` may be empty: NaN, or "" for BYTES. With the encoding ``days`` a value counts days
    since 1970-01-01 UTC (a time of day: the fraction of a day), and ISO 8601 texts are read as such.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    nullable: tuple[str, ...] | None = None
    encoding: Literal["days"] | None = None


class Signature(_Part):
    """What a model takes and gives; ``labels`` name the columns of its first output.

    ``ignored`` are columns that a row may hold and the model does not look at, each with the reason.
    """

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    labels: tuple[Label, ...] | None = None
    ignored: dict[str, str] | None = None


class Revision(_Part):
    """An immutable artifact that an endpoint may answer with."""

    number: int = Field(ge=1)
    format: str
    uri: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)
    signature: Signature
    made_at: float = Field(0.0, description="Unix time of its making; a quarantine from before it does not hold for it")
    app: str | None = Field(None, description="Route-less Serve app that answers for it; None: the pool does")
    example: tuple[Any, ...] | None = Field(
        None, description="Rows in the form of 'instances' for the warm-up request; None: made from the signature"
    )


class AccessPolicy(_Part):
    """Who may invoke an endpoint.

    * ``project``: the members and keys that the project's grants name;
    * ``authenticated``: any login or key of the platform;
    * ``public``: anybody, with or without a credential;
    * ``keys``: the keys that the project's grants name, or those of them whose ids are listed, and no login.
    """

    policy: Literal["project", "authenticated", "public", "keys"] = "project"
    keys: frozenset[str] | None = Field(None, description="Ids of the only keys that may; None means all of them")


class LogPolicy(_Part):
    """What the inference log keeps: one row per request, payloads for a share of them."""

    sample_rate: float = Field(1.0, ge=0, le=1, description="Share of requests whose payloads are kept")
    payloads: bool = Field(False, description="Keep inputs and outputs of the sampled requests")
    redact: tuple[str, ...] = Field((), description="Columns whose values are taken out of the payloads that are kept")


class RateLimit(_Part):
    """Requests a second that an endpoint takes, over all its servers; None: any number."""

    requests_per_s: float | None = Field(None, gt=0, description="Of all callers together")
    per_caller_per_s: float | None = Field(None, gt=0, description="Of each user, key or, without either, address")


class Batching(_Part):
    """Rows of requests that wait at the same time run together; only for models whose rows do not see each other."""

    max_size: int = Field(32, ge=2, description="Rows that run together at most")
    max_wait_ms: float = Field(0.0, ge=0, le=1000, description="Longest wait for company while requests come close")


class EndpointDocument(_Part):
    """Everything that a model server must know to answer for one endpoint."""

    kind: Literal["endpoint"] = "endpoint"
    key: str = Field(description="Name in the URL: <project>.<name> or <project>.<name>.staging")
    version: int = Field(ge=1)
    endpoint_id: str = Field(description="Id of the deployment")
    project_id: str
    revisions: tuple[Revision, ...]
    traffic: dict[int, int] = Field(description="Percentage by revision number; sums to 100, or empty: nothing answers")
    warming: tuple[int, ...] = Field((), description="Revisions that servers load and try before they get weight")
    failing: tuple[int, ...] = Field((), description="Revisions with traffic whose app has nothing to answer with")
    sticky_header: str | None = Field(None, description="Request header whose value decides the revision")
    access: AccessPolicy = AccessPolicy()
    rate_limit: RateLimit | None = None
    timeout_s: float = Field(30.0, gt=0)
    max_queued: int | None = Field(None, ge=1, description="Requests that may wait in one server; None: its setting")
    batching: Batching | None = None
    log: LogPolicy = LogPolicy()

    @model_validator(mode="after")
    def _check_traffic(self) -> Self:
        known = {revision.number for revision in self.revisions}
        if unknown := {*self.traffic, *self.warming} - known:
            raise ValueError(f"traffic or warming names revisions that are not there: {sorted(unknown)}")
        weights = self.traffic.values()
        if any(weight < 0 for weight in weights) or (weights and sum(weights) != 100):
            raise ValueError("traffic weights must not be negative and must sum to 100")
        return self
