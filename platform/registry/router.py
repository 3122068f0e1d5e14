"""Routes of models, versions and artifacts."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ..auth.deps import CurrentPrincipal, DetachedPrincipal, OncePerKey
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.downloads import blob_answer, blob_answers
from ..kernel.pagination import Page
from ..kernel.paths import VERSION
from ..kernel.uploads import BINARY_BODY, received
from . import aliases, service, uploads, versions
from .deps import CheckExample, ModelReader, ModelWriter, VersionReader, VersionWriter, authorize_model
from .schemas import (
    AliasName,
    AliasUpdate,
    ArtifactRead,
    ArtifactType,
    ModelCreate,
    ModelRead,
    ModelUpdate,
    VersionComplete,
    VersionCreate,
    VersionFailure,
    VersionRead,
)

router = APIRouter(prefix="/models", tags=["models"])

Filename = Annotated[str, Query(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
SignatureText = Annotated[
    str | None,
    Query(
        max_length=6_000, description="Inputs and outputs as JSON, if the file does not tell; larger go with a draft"
    ),
]
ExampleText = Annotated[
    str | None,
    Query(max_length=2_000, description="Rows in the form of 'instances' as JSON; larger ones go with a draft"),
]


@router.post("", status_code=201)
@needs(Permission.MODEL_WRITE)
def create_model(data: ModelCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey) -> ModelRead:
    """Make a model without versions."""

    def create() -> ModelRead:
        model = service.create_model(session, principal=principal, data=data)
        return service.describe_models(session, [model])[0]

    return key.once(session, data, ModelRead, create)


@router.get("")
@shows(Permission.MODEL_READ)
def list_models(
    session: DbSession,
    principal: CurrentPrincipal,
    query: Paging,
    project_id: str | None = None,
    name: str | None = None,
) -> Page[ModelRead]:
    """List the models that the caller may read."""
    page = service.list_models(session, principal=principal, query=query, project_id=project_id, name=name)
    return Page(items=service.describe_models(session, page.items), next_cursor=page.next_cursor)


@router.get("/{model_id}")
def get_model(model: ModelReader, session: DbSession) -> ModelRead:
    """Return one model with what its newest ready version holds."""
    return service.describe_models(session, [model])[0]


@router.patch("/{model_id}")
def update_model(data: ModelUpdate, model: ModelWriter, session: DbSession) -> ModelRead:
    """Change a model's description, framework or metadata."""
    return service.describe_models(session, [service.update_model(session, model=model, data=data)])[0]


@router.delete("/{model_id}", status_code=204)
def delete_model(model: ModelWriter, session: DbSession) -> None:
    """Remove a model with its versions, unless something needs one of them."""
    service.delete_model(session, model)


@router.put("/{model_id}/aliases/{alias}")
def set_registered_model_alias(
    alias: AliasName, data: AliasUpdate, model: ModelWriter, session: DbSession
) -> VersionRead:
    """Let an alias name a version; deployments that follow it make a revision of that version."""
    version = aliases.set_alias(session, model=model, alias=alias, version=data.version)
    return versions.describe_version(session, version)


@router.get("/{model_id}/aliases/{alias}")
def get_model_version_by_alias(alias: str, model: ModelReader, session: DbSession) -> VersionRead:
    """Return the version that an alias names."""
    version = aliases.get_version_by_alias(session, model.id, alias)
    return versions.describe_version(session, version)


@router.delete("/{model_id}/aliases/{alias}", status_code=204)
def delete_registered_model_alias(alias: str, model: ModelWriter, session: DbSession) -> None:
    """Take an alias away; what serves the version goes on."""
    aliases.delete_alias(session, model=model, alias=alias)


@router.post("/{model_id}/versions", status_code=201)
def create_model_version(
    data: VersionCreate, model: ModelWriter, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> VersionRead:
    """Make the model's next version: a draft that takes artifacts until it is completed."""

    def create() -> VersionRead:
        version = versions.create_version(session, model=model, data=data, created_by=principal.id)
        return versions.describe_version(session, version)

    return key.once(session, data, VersionRead, create)


@router.post("/{model_id}/versions/import", status_code=201, openapi_extra=BINARY_BODY, responses={415: {}})
@needs(Permission.MODEL_WRITE)
async def import_model_version(
    model_id: str,
    filename: Filename,
    request: Request,
    principal: DetachedPrincipal,
    resources: AppResources,
    check_example: CheckExample,
    signature: SignatureText = None,
    example: ExampleText = None,
) -> VersionRead:
    """Make a ready version from the body, a model file; programs such as TorchScript need their signature beside it."""

    def authorize() -> None:
        with resources.session() as session:
            authorize_model(session, principal, model_id, Permission.MODEL_WRITE)

    await run_in_threadpool(authorize)
    async with received(request.stream(), resources.settings) as upload:
        return await run_in_threadpool(
            uploads.import_model,
            resources,
            principal,
            model_id=model_id,
            upload=upload,
            filename=filename,
            given=uploads.given_beside(signature, example),
            check_example=check_example,
        )


@router.get("/{model_id}/versions")
def get_model_versions(model: ModelReader, session: DbSession, query: Paging) -> Page[VersionRead]:
    """List the versions of a model, newest first."""
    page = versions.list_versions(session, model=model, query=query)
    return Page(items=versions.describe_versions(session, page.items), next_cursor=page.next_cursor)


@router.get(f"/{{model_id}}/versions/{VERSION}")
def get_model_version(version: VersionReader, session: DbSession) -> VersionRead:
    """Return one version with its artifacts and lineage."""
    return versions.describe_version(session, version)


@router.delete(f"/{{model_id}}/versions/{VERSION}", status_code=204)
def delete_model_version(version: VersionWriter, session: DbSession) -> None:
    """Remove one version, unless something needs it; its number is not given again."""
    versions.delete_version(session, version)


@router.post(f"/{{model_id}}/versions/{VERSION}/complete")
@needs(Permission.MODEL_WRITE)
def complete_model_version(
    data: VersionComplete,
    model_id: str,
    version: int,
    principal: DetachedPrincipal,
    resources: AppResources,
    check_example: CheckExample,
) -> VersionRead:
    """Make a draft ready; completing a ready version again changes nothing."""
    with resources.session() as session:
        model = authorize_model(session, principal, model_id, Permission.MODEL_WRITE)
        version_id = versions.get_version(session, model.id, version).id
    return uploads.complete_version(resources, version_id=version_id, data=data, check_example=check_example)


@router.post(f"/{{model_id}}/versions/{VERSION}/fail")
def fail_model_version(data: VersionFailure, version: VersionWriter, session: DbSession) -> VersionRead:
    """Give up a draft, saying why."""
    failed = versions.mark_failed(session, version_id=version.id, error=data.error)
    return versions.describe_version(session, failed)


@router.put(f"/{{model_id}}/versions/{VERSION}/artifacts/{{path:path}}", openapi_extra=BINARY_BODY)
@needs(Permission.MODEL_WRITE)
async def upload_model_artifact(
    model_id: str,
    version: int,
    path: str,
    request: Request,
    principal: DetachedPrincipal,
    resources: AppResources,
    type_: Annotated[ArtifactType, Query(alias="type")] = ArtifactType.MODEL,
) -> ArtifactRead:
    """Store the body as an artifact of a draft; the same path again replaces it."""
    versions.check_path(path)
    draft = await run_in_threadpool(uploads.draft_of, resources, principal, model_id, version)
    async with received(request.stream(), resources.settings) as upload:
        return await run_in_threadpool(uploads.store_artifact, resources, draft, upload, path=path, type_=type_)


@router.head(f"/{{model_id}}/versions/{VERSION}/artifacts/{{path:path}}", include_in_schema=False)
@router.get(
    f"/{{model_id}}/versions/{VERSION}/artifacts/{{path:path}}", response_class=Response, responses=blob_answers()
)
def download_model_artifact(
    path: str, version: VersionReader, session: DbSession, request: Request, resources: AppResources
) -> Response:
    """Send an artifact, whole or one range of it."""
    artifact = versions.get_artifact(session, version, path)
    return blob_answer(
        resources.store,
        versions.artifact_blob(artifact),
        method=request.method,
        headers=request.headers,
        filename=artifact.path.rpartition("/")[2],
    )
