"""The rules of datasets: names, numbered versions, and what keeps them from being deleted."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.ids import new_id
from ..kernel.pagination import Glance, Page, PageQuery, glance, paginate
from ..kernel.storage import Blob
from ..projects.service import authorize, visible
from .errors import DatasetInUse, DatasetNameTaken, DatasetNotFound, DatasetVersionNotFound
from .models import Dataset, DatasetVersion
from .schemas import (
    DataLineage,
    DataSchema,
    DatasetCreate,
    DatasetPatch,
    DatasetRead,
    DatasetVersionRead,
    DataStatistics,
    QualityMetrics,
)


@dataclass(frozen=True)
class StoredTable:
    """A table that lies in the object store and awaits its version."""

    blob: Blob
    row_count: int
    columns: list[dict[str, Any]]
    statistics: dict[str, Any]
    quality: dict[str, Any]
    source: dict[str, Any]


def create_dataset(session: Session, *, principal: Principal, data: DatasetCreate) -> Dataset:
    """Make a dataset without versions.

    Raises:
        DatasetNameTaken: If the project has one of that name.
    """
    authorize(session, principal, data.project_id, Permission.DATASET_WRITE)
    dataset = Dataset(id=new_id("dst"), created_by=principal.id, **data.model_dump())
    with unless_refused(session, DatasetNameTaken(f"The project already has a dataset named {data.name!r}.")):
        session.add(dataset)
    return dataset


def get_dataset(session: Session, dataset_id: str) -> Dataset:
    """Return a dataset without asking who wants it.

    Raises:
        DatasetNotFound: If there is none.
    """
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise DatasetNotFound(dataset_id)
    return dataset


def list_datasets(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None, name: str | None = None
) -> Page[Dataset]:
    """Return the datasets that the principal may read, optionally of one project or of one name."""
    filters = [visible(principal, col(Dataset.project_id), Permission.DATASET_READ)]
    if project_id is not None:
        filters.append(col(Dataset.project_id) == project_id)
    if name is not None:
        filters.append(col(Dataset.name) == name)
    return paginate(session, Dataset, query, *filters)


def glance_at_datasets(session: Session, project_id: str) -> Glance:
    """Return how many datasets a project has, and the newest."""
    return glance(session, Dataset, col(Dataset.project_id) == project_id)


def update_dataset(session: Session, *, dataset: Dataset, data: DatasetPatch) -> Dataset:
    """Change the fields that were given."""
    for field, value in data.model_dump(exclude_none=True).items():
        setattr(dataset, field, value)
    dataset.updated_at = utc_now()
    session.add(dataset)
    return dataset


def delete_dataset(session: Session, dataset: Dataset) -> None:
    """Remove a dataset and its versions; the blobs stay, for equal content may be shared within the project.

    Raises:
        DatasetInUse: If something that is kept was made from one of its versions.
    """
    with unless_refused(
        session, DatasetInUse(f"The dataset {dataset.name!r} is still used, for instance by a training job.")
    ):
        session.delete(dataset)


def add_version(session: Session, *, dataset_id: str, table: StoredTable, created_by: str) -> DatasetVersion:
    """Give a stored table the dataset's next number; parallel callers wait for each other.

    Raises:
        DatasetNotFound: If the dataset was deleted meanwhile.
    """
    dataset = session.exec(select(Dataset).where(Dataset.id == dataset_id).with_for_update()).one_or_none()
    if dataset is None:
        raise DatasetNotFound(dataset_id)
    dataset.last_version += 1
    dataset.updated_at = utc_now()
    version = DatasetVersion(
        id=new_id("dsv"),
        project_id=dataset.project_id,
        dataset_id=dataset.id,
        version=dataset.last_version,
        uri=table.blob.uri,
        sha256=table.blob.sha256,
        size_bytes=table.blob.size_bytes,
        row_count=table.row_count,
        columns=table.columns,
        statistics=table.statistics,
        quality=table.quality,
        source=table.source,
        created_by=created_by,
    )
    session.add(version)
    session.flush()
    return version


def find_version(session: Session, dataset_id: str, version: int | None = None) -> DatasetVersion | None:
    """Return one version of a dataset, the newest unless a number is given."""
    statement = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id)
    if version is not None:
        statement = statement.where(DatasetVersion.version == version)
    return session.exec(statement.order_by(col(DatasetVersion.version).desc()).limit(1)).one_or_none()


def get_version(session: Session, dataset_id: str, version: int | None = None) -> DatasetVersion:
    """Return one version of a dataset, the newest unless a number is given.

    Raises:
        DatasetVersionNotFound: If there is none.
    """
    found = find_version(session, dataset_id, version)
    if found is None:
        wanted = "versions yet; upload one" if version is None else f"version {version}"
        raise DatasetVersionNotFound(f"The dataset {dataset_id} has no {wanted}.")
    return found


def list_versions(session: Session, *, dataset: Dataset, query: PageQuery) -> Page[DatasetVersion]:
    """Return the versions of a dataset, newest first."""
    return paginate(session, DatasetVersion, query, col(DatasetVersion.dataset_id) == dataset.id)


def delete_version(session: Session, version: DatasetVersion) -> None:
    """Remove one version; its number is not given again, and the blob stays.

    Raises:
        DatasetInUse: If something that is kept was made from it.
    """
    with unless_refused(
        session, DatasetInUse(f"Version {version.version} is still used, for instance by a training job.")
    ):
        session.delete(version)


def uris_in_use(session: Session, uris: list[str]) -> set[str]:
    """Return which of these places hold a version of a dataset."""
    return set(session.exec(select(DatasetVersion.uri).where(col(DatasetVersion.uri).in_(uris))))


def version_blob(version: DatasetVersion) -> Blob:
    """Say where the content of a version lies."""
    return Blob(uri=version.uri, sha256=version.sha256, size_bytes=version.size_bytes)


def describe_version(version: DatasetVersion) -> DatasetVersionRead:
    """Show a version as its readers see it."""
    return DatasetVersionRead(
        **version.model_dump(include={"id", "dataset_id", "project_id", "version", "row_count", "size_bytes"}),
        sha256=version.sha256,
        created_at=version.created_at,
        **_contents(version),
    )


def describe_datasets(session: Session, datasets: list[Dataset]) -> list[DatasetRead]:
    """Show datasets, each with what its newest version holds."""
    newest = _newest_versions(session, [dataset.id for dataset in datasets])
    return [_describe(dataset, newest.get(dataset.id)) for dataset in datasets]


def _describe(dataset: Dataset, version: DatasetVersion | None) -> DatasetRead:
    own = dataset.model_dump(include={"id", "project_id", "name", "description", "created_at", "updated_at"})
    if version is None:
        return DatasetRead(**own)
    held = version.model_dump(include={"version", "row_count", "size_bytes"})
    return DatasetRead(**own, **held, **_contents(version))


def _contents(version: DatasetVersion) -> dict[str, Any]:
    return {
        "data_schema": DataSchema.model_validate({"columns": version.columns}),
        "statistics": DataStatistics.model_validate(version.statistics),
        "quality": QualityMetrics.model_validate(version.quality),
        "lineage": DataLineage(**version.source, uploaded_by=version.created_by, uploaded_at=version.created_at),
    }


def _newest_versions(session: Session, dataset_ids: list[str]) -> dict[str, DatasetVersion]:
    statement = (
        select(DatasetVersion)
        .where(col(DatasetVersion.dataset_id).in_(dataset_ids))
        .ext(distinct_on(col(DatasetVersion.dataset_id)))
        .order_by(col(DatasetVersion.dataset_id), col(DatasetVersion.version).desc())
    )
    return {version.dataset_id: version for version in session.exec(statement)}
