"""Routes of datasets and their versions."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ..auth.deps import CurrentPrincipal, DetachedPrincipal, OncePerKey
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.downloads import blob_answer, blob_answers
from ..kernel.pagination import Page
from ..kernel.paths import VERSION
from ..kernel.resources import Resources
from ..kernel.uploads import BINARY_BODY, received
from . import service
from .deps import DatasetReader, DatasetWriter, VersionReader, VersionWriter, authorize_dataset
from .ingest import store_table
from .schemas import DatasetCreate, DatasetPatch, DatasetRead, DatasetVersionRead

router = APIRouter(prefix="/datasets", tags=["data"])

_PARQUET = "application/vnd.apache.parquet"
Filename = Annotated[str, Query(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


@router.post("", status_code=201)
@needs(Permission.DATASET_WRITE)
def create_dataset(
    data: DatasetCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> DatasetRead:
    """Make a dataset without versions."""

    def create() -> DatasetRead:
        dataset = service.create_dataset(session, principal=principal, data=data)
        return service.describe_datasets(session, [dataset])[0]

    return key.once(session, data, DatasetRead, create)


@router.get("")
@shows(Permission.DATASET_READ)
def list_datasets(
    session: DbSession,
    principal: CurrentPrincipal,
    query: Paging,
    project_id: str | None = None,
    name: str | None = None,
) -> Page[DatasetRead]:
    """List the datasets that the caller may read."""
    page = service.list_datasets(session, principal=principal, query=query, project_id=project_id, name=name)
    return Page(items=service.describe_datasets(session, page.items), next_cursor=page.next_cursor)


@router.get("/{dataset_id}")
def get_dataset(dataset: DatasetReader, session: DbSession) -> DatasetRead:
    """Return one dataset with what its newest version holds."""
    return service.describe_datasets(session, [dataset])[0]


@router.patch("/{dataset_id}")
def update_dataset(data: DatasetPatch, dataset: DatasetWriter, session: DbSession) -> DatasetRead:
    """Change a dataset's description."""
    changed = service.update_dataset(session, dataset=dataset, data=data)
    return service.describe_datasets(session, [changed])[0]


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset: DatasetWriter, session: DbSession) -> None:
    """Remove a dataset with its versions."""
    service.delete_dataset(session, dataset)


@router.post(
    "/{dataset_id}/versions",
    status_code=201,
    openapi_extra=BINARY_BODY,
    responses={415: {}},
)
@needs(Permission.DATASET_WRITE)
async def upload_dataset(
    dataset_id: str, filename: Filename, request: Request, principal: DetachedPrincipal, resources: AppResources
) -> DatasetVersionRead:
    """Store the body, a CSV, TSV or Parquet file, as the dataset's next version."""
    project_id = await run_in_threadpool(_authorize_upload, resources, principal, dataset_id)
    async with received(request.stream(), resources.settings) as upload:
        return await run_in_threadpool(_add_version, resources, principal, (project_id, dataset_id), upload, filename)


@router.get("/{dataset_id}/versions")
def list_dataset_versions(dataset: DatasetReader, session: DbSession, query: Paging) -> Page[DatasetVersionRead]:
    """List the versions of a dataset, newest first."""
    return service.list_versions(session, dataset=dataset, query=query).map(service.describe_version)


@router.get(f"/{{dataset_id}}/versions/{VERSION}")
def get_dataset_version(version: VersionReader) -> DatasetVersionRead:
    """Return one version of a dataset."""
    return service.describe_version(version)


@router.delete(f"/{{dataset_id}}/versions/{VERSION}", status_code=204)
def delete_dataset_version(version: VersionWriter, session: DbSession) -> None:
    """Remove one version of a dataset; its number is not given again."""
    service.delete_version(session, version)


@router.head(f"/{{dataset_id}}/versions/{VERSION}/content", include_in_schema=False)
@router.get(f"/{{dataset_id}}/versions/{VERSION}/content", response_class=Response, responses=blob_answers(_PARQUET))
def download_dataset(version: VersionReader, request: Request, resources: AppResources) -> Response:
    """Send the Parquet file of a version, whole or one range of it."""
    return blob_answer(
        resources.store,
        service.version_blob(version),
        method=request.method,
        headers=request.headers,
        filename=f"{version.dataset_id}-{version.version}.parquet",
        media_type=_PARQUET,
    )


def _authorize_upload(resources: Resources, principal: Principal, dataset_id: str) -> str:
    with resources.session() as session:
        return authorize_dataset(session, principal, dataset_id, Permission.DATASET_WRITE).project_id


def _add_version(
    resources: Resources, principal: Principal, target: tuple[str, str], upload: Path, filename: str
) -> DatasetVersionRead:
    project_id, dataset_id = target
    table = store_table(resources, project_id=project_id, upload=upload, filename=filename)
    with resources.session() as session:
        version = service.add_version(session, dataset_id=dataset_id, table=table, created_by=principal.id)
        return service.describe_version(version)
