"""Datasets and their versions."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import Field

from .documents import Document
from .transport import Transport

_PATH = "/api/v1/datasets"


class Column(Document):
    """One column: its name and its Arrow type."""

    name: str
    type: str


class TableSchema(Document):
    """The columns of a version, in order."""

    columns: list[Column]


class Dataset(Document):
    """A dataset and what its newest version holds."""

    id: str
    project_id: str
    name: str
    description: str
    version: int | None = None
    row_count: int | None = None
    created_at: datetime


class DatasetVersion(Document):
    """One immutable version, kept as Parquet."""

    id: str
    dataset_id: str
    version: int
    row_count: int
    size_bytes: int
    sha256: str
    table_schema: TableSchema = Field(alias="schema")
    statistics: dict[str, Any]


class Datasets:
    """Calls below ``/datasets``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, *, project_id: str, name: str, description: str = "") -> Dataset:
        """Make an empty dataset."""
        body = {"project_id": project_id, "name": name, "description": description}
        return Dataset.model_validate(self._transport.document("POST", _PATH, json=body, once=str(uuid4())))

    def upload(self, dataset_id: str, content: Path | bytes, *, filename: str | None = None) -> DatasetVersion:
        """Stream a CSV or Parquet file up as the next version.

        Args:
            dataset_id: The dataset.
            content: A file's path, or its bytes (then ``filename`` must be given).
            filename: Name whose ending tells the format.
        """
        name = filename or (content.name if isinstance(content, Path) else "")
        answer = self._transport.document(
            "POST", f"{_PATH}/{dataset_id}/versions", params={"filename": name}, content=content
        )
        return DatasetVersion.model_validate(answer)

    def get(self, dataset_id: str) -> Dataset:
        """Return a dataset."""
        return Dataset.model_validate(self._transport.document("GET", f"{_PATH}/{dataset_id}"))

    def list(self, *, project_id: str | None = None) -> Iterator[Dataset]:
        """Walk through the datasets that the caller may read, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id})
        return (Dataset.model_validate(item) for item in items)

    def versions(self, dataset_id: str) -> Iterator[DatasetVersion]:
        """Walk through the versions, newest first."""
        items = self._transport.items(f"{_PATH}/{dataset_id}/versions")
        return (DatasetVersion.model_validate(item) for item in items)

    def get_version(self, dataset_id: str, version: int) -> DatasetVersion:
        """Return one version."""
        return DatasetVersion.model_validate(
            self._transport.document("GET", f"{_PATH}/{dataset_id}/versions/{version}")
        )

    def download(self, dataset_id: str, version: int, target: Path) -> None:
        """Stream a version's Parquet file to ``target``."""
        self._transport.download(f"{_PATH}/{dataset_id}/versions/{version}/content", target)

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset and its versions."""
        self._transport.request("DELETE", f"{_PATH}/{dataset_id}")
