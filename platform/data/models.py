"""Tables of datasets and their versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlmodel import Field, UniqueConstraint

from ..kernel.db import Table, document, moment


class Dataset(Table, table=True):
    """A named table of a project; ``last_version`` only grows, so that a number never names two contents."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    description: str = ""
    created_by: str
    last_version: int = 0
    updated_at: datetime = moment()


class DatasetVersion(Table, table=True):
    """One immutable content of a dataset: a Parquet file in the object store."""

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset_id", "version"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    dataset_id: str = Field(foreign_key="dataset.id", ondelete="CASCADE")
    version: int
    uri: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    row_count: int = Field(sa_type=BigInteger)
    columns: list[dict[str, Any]] = document()
    statistics: dict[str, Any] = document()
    quality: dict[str, Any] = document()
    source: dict[str, Any] = document()
    created_by: str
