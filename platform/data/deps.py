"""Dependencies that put the caller's right to a dataset into an endpoint's signature."""

from typing import Annotated

from fastapi import Depends
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession
from ..projects.service import authorize_owned
from .errors import DatasetNotFound
from .models import Dataset, DatasetVersion
from .service import get_version

__all__ = ["DatasetReader", "DatasetWriter", "VersionReader", "VersionWriter", "authorize_dataset"]


def authorize_dataset(session: Session, principal: Principal, dataset_id: str, permission: Permission) -> Dataset:
    """Return the dataset when the principal holds the permission in its project.

    Raises:
        DatasetNotFound: If it does not exist, or belongs to a project of strangers.
        PermissionDenied: If this one right is missing.
    """
    dataset = session.get(Dataset, dataset_id)
    return authorize_owned(session, principal, dataset, permission, missing=DatasetNotFound(dataset_id))


@needs(Permission.DATASET_READ)
def _reader(dataset_id: str, principal: CurrentPrincipal, session: DbSession) -> Dataset:
    return authorize_dataset(session, principal, dataset_id, Permission.DATASET_READ)


@needs(Permission.DATASET_WRITE)
def _writer(dataset_id: str, principal: CurrentPrincipal, session: DbSession) -> Dataset:
    return authorize_dataset(session, principal, dataset_id, Permission.DATASET_WRITE)


DatasetReader = Annotated[Dataset, Depends(_reader)]
DatasetWriter = Annotated[Dataset, Depends(_writer)]


def _version_reader(version: int, dataset: DatasetReader, session: DbSession) -> DatasetVersion:
    return get_version(session, dataset.id, version)


def _version_writer(version: int, dataset: DatasetWriter, session: DbSession) -> DatasetVersion:
    return get_version(session, dataset.id, version)


VersionReader = Annotated[DatasetVersion, Depends(_version_reader)]
VersionWriter = Annotated[DatasetVersion, Depends(_version_writer)]
