"""Bodies of the model routes, and what the registry tells other slices."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from ..kernel.bodies import IS_A_NUMBER, Number, PlainName, VersionNumber

Description = Annotated[str, StringConstraints(max_length=4000)]
MAX_EXAMPLE_ROWS, MAX_EXAMPLE_BYTES = 10, 16 * 1024
#: What an alias may be, as a regular expression.
ALIAS = r"(?!latest$|v[0-9]+$)[a-z][a-z0-9_-]{0,63}"
# The rule itself is held by ``aliases.check_alias``, which says it in words.
AliasName = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{ALIAS}$"})]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


class Framework(StrEnum):
    """What a model was made with."""

    TENSORFLOW = "tensorflow"
    PYTORCH = "pytorch"
    HUGGINGFACE = "huggingface"
    CUSTOM = "custom"


class VersionStatus(StrEnum):
    """The life of a version."""

    DRAFT = "draft"
    READY = "ready"
    FAILED = "failed"


class ArtifactType(StrEnum):
    """What a file of a version is for."""

    MODEL = "model"
    WEIGHTS = "weights"
    CONFIG = "config"
    TOKENIZER = "tokenizer"


class LineageKind(StrEnum):
    """What an end of a lineage edge may be."""

    DATASET_VERSION = "dataset_version"
    TRAINING_JOB = "training_job"
    MODEL_VERSION = "model_version"
    DEPLOYMENT = "deployment"


class TensorSpec(BaseModel):
    """One tensor: its datatype by the names of the Open Inference Protocol v2; -1 in the shape is any size.

    ``nullable`` names the columns that may be empty: NaN, or "" for BYTES. With the encoding ``days`` a value counts
    days since 1970-01-01 UTC (a time of day: the fraction of a day), and ISO 8601 texts are read as such.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    datatype: Datatype
    shape: list[Annotated[int, Field(ge=-1), IS_A_NUMBER]]
    columns: list[str] | None = None
    nullable: list[str] | None = None
    encoding: Literal["days"] | None = None


class Signature(BaseModel):
    """What a model takes and gives; ``labels`` name the columns of its first output.

    ``ignored`` are columns that a row may hold and the model does not look at, each with the reason.
    """

    model_config = ConfigDict(extra="forbid")

    inputs: list[TensorSpec] = Field(min_length=1)
    outputs: list[TensorSpec] = Field(min_length=1)
    labels: list[str | int | float | bool] | None = None
    ignored: dict[str, str] | None = None


class ModelCreate(BaseModel):
    """A new model without versions."""

    project_id: str
    name: PlainName
    description: Description = ""
    framework: Framework = Framework.CUSTOM
    metadata: dict[str, Any] = {}


class ModelUpdate(BaseModel):
    """What may be changed of a model."""

    model_config = ConfigDict(extra="forbid")

    description: Description | None = None
    framework: Framework | None = None
    metadata: dict[str, Any] | None = None


class AliasUpdate(BaseModel):
    """The version that an alias is to name."""

    model_config = ConfigDict(extra="forbid")

    version: VersionNumber


class VersionSource(BaseModel):
    """What made a version: a training job, an import, or somebody by hand."""

    kind: Literal["training_job", "import", "manual"] = "manual"
    id: str | None = None
    filename: str | None = None


class VersionCreate(BaseModel):
    """A new draft version; the framework is the model's unless given."""

    model_config = ConfigDict(extra="forbid")

    framework: Framework | None = None
    signature: Signature | None = None
    metrics: dict[str, Number] = {}
    source: VersionSource = VersionSource()


class VersionComplete(BaseModel):
    """What may still be said of a draft when it becomes ready."""

    model_config = ConfigDict(extra="forbid")

    signature: Signature | None = None
    metrics: dict[str, Number] | None = None
    example: Annotated[list[Any], Field(min_length=1, max_length=MAX_EXAMPLE_ROWS)] | None = Field(
        None,
        description="Rows in the form of 'instances', for warm-ups and documentation; whoever may call a deployment of "
        f"the version may read them. As JSON at most {MAX_EXAMPLE_BYTES} bytes",
    )


class VersionFailure(BaseModel):
    """Why a draft will never be ready."""

    error: Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class ArtifactRead(BaseModel):
    """A file of a version; the checksum is its SHA-256."""

    id: str
    type: ArtifactType
    path: str
    size: int
    checksum: str
    metadata: dict[str, Any]


class LineageEdgeRead(BaseModel):
    """Says that the target was made from the source, or serves it."""

    model_config = ConfigDict(from_attributes=True)

    source_kind: LineageKind
    source_id: str
    target_kind: LineageKind
    target_id: str


class VersionRead(BaseModel):
    """One version, its files, and all that it was made from or went into."""

    id: str
    project_id: str
    model_id: str
    version: int
    status: VersionStatus
    framework: Framework
    signature: Signature | None
    example: list[Any] | None
    metrics: dict[str, float]
    aliases: list[str]
    artifacts: list[ArtifactRead]
    lineage: list[LineageEdgeRead]
    source: VersionSource
    error: str | None
    created_at: datetime
    completed_at: datetime | None


class ModelRead(BaseModel):
    """A model; version, artifacts and performance are those of its newest ready version."""

    id: str
    project_id: str
    name: str
    description: str
    framework: Framework
    version: int | None
    aliases: dict[str, int] = Field(description="Number of the version that each alias names")
    artifacts: list[ArtifactRead]
    metadata: dict[str, Any]
    performance: dict[str, float]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Servable:
    """The artifact of a ready version that a deployment loads."""

    format: str
    uri: str
    sha256: str
    size_bytes: int
    signature: dict[str, Any]
    example: list[Any] | None
