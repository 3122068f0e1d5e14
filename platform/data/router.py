"""Routes of datasets."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from ..auth.deps import CurrentPrincipal, DetachedPrincipal, OncePerKey
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from ..kernel.uploads import spooled
from . import service
from .download import byte_range
from .schemas import DatasetCreate, DatasetRead, DatasetVersionRead

router = APIRouter(prefix="/datasets", tags=["data"])

_READ, _WRITE = Permission.DATASET_READ, Permission.DATASET_WRITE


@router.post("", status_code=201)
def create_dataset(
    data: DatasetCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> DatasetRead:
    """Make an empty dataset."""

    def create() -> DatasetRead:
        return DatasetRead.model_validate(service.create_dataset(session, principal=principal, data=data))

    return key.once(session, data, DatasetRead, create)


@router.get("")
def list_datasets(
    session: DbSession, principal: CurrentPrincipal, query: Paging, project_id: str | None = None
) -> Page[DatasetRead]:
    """List the datasets that the caller may read."""
    page = service.list_datasets(session, principal=principal, query=query, project_id=project_id)
    return page.map(lambda dataset: service.read_dataset(session, dataset))


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, session: DbSession, principal: CurrentPrincipal) -> DatasetRead:
    """Return one dataset with what its latest version holds."""
    dataset = service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_READ)
    return service.read_dataset(session, dataset)


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove a dataset with its versions."""
    service.delete_dataset(
        session, service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_WRITE)
    )


@router.post("/{dataset_id}/versions", status_code=201)
async def upload_dataset(
    dataset_id: str,
    request: Request,
    resources: AppResources,
    principal: DetachedPrincipal,
    filename: Annotated[str, Query(min_length=1, max_length=255)],
) -> DatasetVersionRead:
    """Store the body, a CSV or Parquet file, as the dataset's next version."""

    def authorise() -> str:
        with resources.session() as session:
            return service.get_dataset(
                session, principal=principal, dataset_id=dataset_id, permission=_WRITE
            ).project_id

    project_id = await run_in_threadpool(authorise)
    settings = resources.settings
    async with spooled(
        request.stream(), folder=settings.home / "tmp", limit_bytes=settings.http.max_upload_bytes
    ) as upload:

        def store() -> DatasetVersionRead:
            blob, summary = service.store_table(
                resources.store, project_id=project_id, upload=upload, filename=filename
            )
            with resources.session() as session:
                version = service.add_version(
                    session,
                    dataset_id=dataset_id,
                    principal=principal,
                    filename=filename,
                    blob=blob,
                    summary=summary,
                )
                return service.read_version(version)

        return await run_in_threadpool(store)


@router.get("/{dataset_id}/versions")
def list_dataset_versions(
    dataset_id: str, session: DbSession, principal: CurrentPrincipal, query: Paging
) -> Page[DatasetVersionRead]:
    """List the versions of a dataset."""
    service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_READ)
    return service.list_versions(session, dataset_id=dataset_id, query=query).map(service.read_version)


@router.get("/{dataset_id}/versions/{version}")
def get_dataset_version(
    dataset_id: str, version: int, session: DbSession, principal: CurrentPrincipal
) -> DatasetVersionRead:
    """Return one version of a dataset."""
    service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_READ)
    return service.read_version(service.get_version(session, dataset_id, version))


@router.delete("/{dataset_id}/versions/{version}", status_code=204)
def delete_dataset_version(dataset_id: str, version: int, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove one version of a dataset."""
    service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_WRITE)
    service.delete_version(session, service.get_version(session, dataset_id, version))


@router.get("/{dataset_id}/versions/{version}/content", response_class=Response)
def download_dataset(
    dataset_id: str,
    version: int,
    resources: AppResources,
    principal: DetachedPrincipal,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
) -> StreamingResponse:
    """Return the stored Parquet file, or the asked range of its bytes."""
    with resources.session() as session:
        service.get_dataset(session, principal=principal, dataset_id=dataset_id, permission=_READ)
        found = service.get_version(session, dataset_id, version)
    asked = byte_range(range_header, found.size_bytes)
    return StreamingResponse(
        resources.store.chunks(found.uri, start=asked.start, stop=asked.stop),
        status_code=asked.status,
        headers=asked.headers | {"ETag": f'"{found.sha256}"'},
        media_type="application/vnd.apache.parquet",
    )
