"""Bodies of the dataset routes."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=4000)]


class DatasetCreate(BaseModel):
    """A new, empty dataset."""

    project_id: str
    name: Name
    description: Description = ""


class ColumnRead(BaseModel):
    """One column: its name and its Arrow type."""

    name: str
    type: str
    nullable: bool = True


class DataSchema(BaseModel):
    """The columns of a version, in order."""

    columns: list[ColumnRead]


class ColumnStatistics(BaseModel):
    """What one column holds; ``distinct`` is an estimate when ``distinct_exact`` is false.

    ``min``, ``max``, ``mean`` and ``std`` (of a sample) belong to numbers and leave out NaN and infinities,
    which ``non_finite`` counts; ``min`` and ``max`` also belong to dates and times; ``top`` to text and booleans.
    """

    count: int
    nulls: int
    distinct: int | None = None
    distinct_exact: bool = True
    min: int | float | str | None = None
    max: int | float | str | None = None
    mean: float | None = None
    std: float | None = None
    non_finite: int = 0
    top: list["TopValue"] | None = None


class TopValue(BaseModel):
    """A frequent value and how often it was seen (at least, in a column of very many values)."""

    value: str
    count: int


class DataStatistics(BaseModel):
    """Statistics by column name."""

    columns: dict[str, ColumnStatistics]


class QualityMetrics(BaseModel):
    """Share of empty cells, and rows that repeat an earlier one (None when there are too many rows to compare)."""

    null_share: float
    duplicate_rows: int | None


class DataLineage(BaseModel):
    """Where a version came from."""

    filename: str
    source_sha256: str
    source_size_bytes: int
    uploaded_by: str
    uploaded_at: datetime


class DatasetVersionRead(BaseModel):
    """One immutable version; sha256 and size_bytes are those of the Parquet file that is kept."""

    # A field called ``schema`` would hide a method of pydantic's own models.
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    id: str
    dataset_id: str
    project_id: str
    version: int
    row_count: int
    size_bytes: int
    sha256: str
    data_schema: DataSchema = Field(alias="schema")
    statistics: DataStatistics
    quality: QualityMetrics
    lineage: DataLineage
    created_at: datetime


class DatasetRead(BaseModel):
    """A dataset and, from ``version`` to ``lineage``, what its newest version holds."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    id: str
    project_id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    version: int | None = None
    row_count: int | None = None
    size_bytes: int | None = None
    data_schema: DataSchema | None = Field(default=None, alias="schema")
    statistics: DataStatistics | None = None
    quality: QualityMetrics | None = None
    lineage: DataLineage | None = None


class DatasetPatch(BaseModel):
    """What may be changed of a dataset."""

    model_config = ConfigDict(extra="forbid")

    description: Description | None = None
