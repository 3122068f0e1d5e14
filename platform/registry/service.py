"""The rules of models: names, fields, and what keeps a model from being deleted."""

from collections.abc import Sequence

from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, or_, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Glance, Page, PageQuery, glance, paginate
from ..projects.service import authorize, visible
from . import lineage, pins
from .aliases import aliases_of_models
from .errors import ModelInUse, ModelNameTaken, ModelNotFound
from .models import Artifact, ModelVersion, RegisteredModel
from .schemas import (
    ArtifactRead,
    ArtifactType,
    Framework,
    LineageKind,
    ModelCreate,
    ModelRead,
    ModelUpdate,
    VersionStatus,
)


def create_model(session: Session, *, principal: Principal, data: ModelCreate) -> RegisteredModel:
    """Make a model without versions.

    Raises:
        ValidationFailed: If the name breaks the rule.
        ModelNameTaken: If the project has a model of that name.
    """
    authorize(session, principal, data.project_id, Permission.MODEL_WRITE)
    model = RegisteredModel(
        id=new_id("mdl"),
        project_id=data.project_id,
        name=check_name(data.name),
        description=data.description,
        framework=data.framework,
        attributes=data.metadata,
        created_by=principal.id,
    )
    with unless_refused(session, ModelNameTaken(f"The project already has a model named {data.name!r}.")):
        session.add(model)
    return model


def get_model(session: Session, model_id: str) -> RegisteredModel:
    """Return a model without asking who wants it.

    Raises:
        ModelNotFound: If there is none.
    """
    model = session.get(RegisteredModel, model_id)
    if model is None:
        raise ModelNotFound(f"There is no model {model_id}.")
    return model


def find_model(session: Session, project_id: str, reference: str) -> RegisteredModel | None:
    """Return the model of a project that has this name or id."""
    named = or_(col(RegisteredModel.name) == reference, col(RegisteredModel.id) == reference)
    return session.exec(select(RegisteredModel).where(RegisteredModel.project_id == project_id, named)).first()


def glance_at_models(session: Session, project_id: str) -> Glance:
    """Return how many models a project has, and the newest."""
    return glance(session, RegisteredModel, col(RegisteredModel.project_id) == project_id)


def get_model_in(session: Session, project_id: str, reference: str) -> RegisteredModel:
    """Return the model of a project that has this name or id.

    Raises:
        ModelNotFound: If the project has none.
    """
    model = find_model(session, project_id, reference)
    if model is None:
        raise ModelNotFound(f"The project has no model {reference!r}.")
    return model


def ensure_model(
    session: Session, *, project_id: str, name: str, framework: Framework, created_by: str
) -> RegisteredModel:
    """Return the project's model of that name, made if it is missing; the caller has checked ``model:write``.

    Raises:
        ValidationFailed: If the name breaks the rule.
    """
    model = RegisteredModel(
        id=new_id("mdl"), project_id=project_id, name=check_name(name), framework=framework, created_by=created_by
    )
    found = find_model(session, project_id, name)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            session.add(model)
    except IntegrityError:
        # Another transaction made it first.
        return get_model_in(session, project_id, name)
    return model


def list_models(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None, name: str | None = None
) -> Page[RegisteredModel]:
    """Return the models that the principal may read, optionally of one project or of one name."""
    filters = [visible(principal, col(RegisteredModel.project_id), Permission.MODEL_READ)]
    if project_id is not None:
        filters.append(col(RegisteredModel.project_id) == project_id)
    if name is not None:
        filters.append(col(RegisteredModel.name) == name)
    return paginate(session, RegisteredModel, query, *filters)


def update_model(session: Session, *, model: RegisteredModel, data: ModelUpdate) -> RegisteredModel:
    """Change the fields that were given."""
    changes = data.model_dump(exclude_none=True)
    if "metadata" in changes:
        changes["attributes"] = changes.pop("metadata")
    for field, value in changes.items():
        setattr(model, field, value)
    model.updated_at = utc_now()
    session.add(model)
    return model


def delete_model(session: Session, model: RegisteredModel) -> None:
    """Remove a model with its versions, artifacts and lineage; the blobs stay, for others may share their content.

    Raises:
        VersionPinned: If something serves or needs one of its versions.
        ModelInUse: If something else that is kept refers to it.
    """
    statement = select(ModelVersion.id).where(ModelVersion.model_id == model.id).with_for_update()
    version_ids = list(session.exec(statement))
    pins.check_unpinned(session, version_ids)
    lineage.forget(session, LineageKind.MODEL_VERSION, version_ids)
    with unless_refused(
        session,
        ModelInUse(f"The model {model.name!r} is still used by a deployment or a training job; delete that first."),
    ):
        session.delete(model)


def describe_models(session: Session, models: Sequence[RegisteredModel]) -> list[ModelRead]:
    """Show models, each with the artifacts and metrics of its newest ready version."""
    ids = [model.id for model in models]
    newest, aliases = _newest_ready(session, ids), aliases_of_models(session, ids)
    artifacts = artifacts_of(session, [version.id for version in newest.values()])
    answers = []
    for model in models:
        version = newest.get(model.id)
        answers.append(
            ModelRead(
                **model.model_dump(
                    include={"id", "project_id", "name", "description", "framework", "created_at", "updated_at"}
                ),
                metadata=model.attributes,
                version=version.version if version else None,
                aliases=aliases.get(model.id, {}),
                artifacts=[
                    describe_artifact(artifact) for artifact in artifacts.get(version.id if version else "", [])
                ],
                performance=version.metrics if version else {},
            )
        )
    return answers


def artifacts_of(session: Session, version_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """Return the artifacts of each version, by path."""
    found: dict[str, list[Artifact]] = {}
    statement = select(Artifact).where(col(Artifact.version_id).in_(version_ids)).order_by(Artifact.path)
    for artifact in session.exec(statement):
        found.setdefault(artifact.version_id, []).append(artifact)
    return found


def describe_artifact(artifact: Artifact) -> ArtifactRead:
    """Show an artifact as its readers see it."""
    return ArtifactRead(
        id=artifact.id,
        type=ArtifactType(artifact.type),
        path=artifact.path,
        size=artifact.size_bytes,
        checksum=artifact.checksum,
        metadata=artifact.attributes,
    )


def _newest_ready(session: Session, model_ids: Sequence[str]) -> dict[str, ModelVersion]:
    statement = (
        select(ModelVersion)
        .where(col(ModelVersion.model_id).in_(model_ids), ModelVersion.status == VersionStatus.READY)
        .ext(distinct_on(col(ModelVersion.model_id)))
        .order_by(col(ModelVersion.model_id), col(ModelVersion.version).desc())
    )
    return {version.model_id: version for version in session.exec(statement)}
