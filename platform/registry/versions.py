"""The rules of model versions: draft, artifacts, completion, and what may be served."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..kernel.storage import Blob
from . import lineage, pins
from .aliases import aliases_of_versions, delete_aliases_of
from .errors import (
    ArtifactNotFound,
    BadArtifactPath,
    ModelInUse,
    ModelNotFound,
    VersionNotDraft,
    VersionNotFound,
    VersionNotServable,
)
from .formats import ENDINGS, OPENED, find_model
from .models import Artifact, ModelVersion, RegisteredModel
from .schemas import (
    ArtifactType,
    LineageKind,
    Servable,
    Signature,
    VersionComplete,
    VersionCreate,
    VersionRead,
    VersionStatus,
)
from .service import artifacts_of, describe_artifact

_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")
_MAX_PATH = 512


@dataclass(frozen=True)
class ArtifactFile:
    """A file that lies in the object store and awaits its row."""

    path: str
    type: ArtifactType
    blob: Blob


def create_version(session: Session, *, model: RegisteredModel, data: VersionCreate, created_by: str) -> ModelVersion:
    """Make the model's next version, a draft; parallel callers wait for each other and get consecutive numbers.

    Raises:
        ModelNotFound: If the model was deleted meanwhile.
    """
    locked = session.exec(
        select(RegisteredModel)
        .where(RegisteredModel.id == model.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if locked is None:
        raise ModelNotFound(f"There is no model {model.id}.")
    locked.last_version += 1
    locked.updated_at = utc_now()
    version = ModelVersion(
        id=new_id("mdv"),
        project_id=locked.project_id,
        model_id=locked.id,
        version=locked.last_version,
        framework=data.framework or locked.framework,
        signature=data.signature.model_dump() if data.signature else None,
        metrics=data.metrics,
        source=data.source.model_dump(exclude_none=True),
        created_by=created_by,
    )
    session.add(version)
    session.flush()
    return version


def get_version(session: Session, model_id: str, version: int | None = None) -> ModelVersion:
    """Return one version of a model: of this number, or the newest ready one.

    Raises:
        VersionNotFound: If there is none.
    """
    statement = select(ModelVersion).where(ModelVersion.model_id == model_id)
    if version is None:
        statement = statement.where(ModelVersion.status == VersionStatus.READY)
    else:
        statement = statement.where(ModelVersion.version == version)
    found = session.exec(statement.order_by(col(ModelVersion.version).desc()).limit(1)).one_or_none()
    if found is None:
        wanted = "version that is ready" if version is None else f"version {version}"
        raise VersionNotFound(f"The model {model_id} has no {wanted}.")
    return found


def get_version_by_id(session: Session, version_id: str) -> ModelVersion:
    """Return a version without asking who wants it.

    Raises:
        VersionNotFound: If there is none.
    """
    version = session.get(ModelVersion, version_id)
    if version is None:
        raise VersionNotFound(f"There is no model version {version_id}.")
    return version


def list_versions(session: Session, *, model: RegisteredModel, query: PageQuery) -> Page[ModelVersion]:
    """Return the versions of a model, newest first."""
    return paginate(session, ModelVersion, query, col(ModelVersion.model_id) == model.id)


def check_path(path: str) -> str:
    """Return an artifact's path when it is a plain relative one.

    Raises:
        BadArtifactPath: If it is not.
    """
    if len(path) > _MAX_PATH or not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise BadArtifactPath(
            f"The artifact path {path[:100]!r} is not allowed: use names of letters, digits, '.', '_' and '-', "
            "joined by '/'.",
            details={"path": path[:_MAX_PATH]},
        )
    return path


def put_artifact(session: Session, *, version_id: str, file: ArtifactFile) -> Artifact:
    """Add a stored file to a draft; the same path again replaces it.

    Raises:
        VersionNotDraft: If the version takes no more changes.
    """
    version = _lock_draft(session, version_id)
    held = session.exec(select(Artifact).where(Artifact.version_id == version.id, Artifact.path == file.path)).first()
    if held is not None:
        session.delete(held)
        session.flush()
    artifact = Artifact(
        id=new_id("art"),
        project_id=version.project_id,
        version_id=version.id,
        type=file.type,
        path=check_path(file.path),
        uri=file.blob.uri,
        size_bytes=file.blob.size_bytes,
        checksum=file.blob.sha256,
    )
    session.add(artifact)
    session.flush()
    return artifact


def list_artifacts(session: Session, version_id: str) -> list[Artifact]:
    """Return the artifacts of a version, by path."""
    return artifacts_of(session, [version_id]).get(version_id, [])


def get_artifact(session: Session, version: ModelVersion, path: str) -> Artifact:
    """Return the artifact of a version that has this path.

    Raises:
        ArtifactNotFound: If there is none.
    """
    statement = select(Artifact).where(Artifact.version_id == version.id, Artifact.path == path)
    artifact = session.exec(statement).one_or_none()
    if artifact is None:
        raise ArtifactNotFound(f"Version {version.version} has no artifact {path!r}.")
    return artifact


def uris_in_use(session: Session, uris: list[str]) -> set[str]:
    """Return which of these places hold an artifact."""
    return set(session.exec(select(Artifact.uri).where(col(Artifact.uri).in_(uris))))


def artifact_blob(artifact: Artifact) -> Blob:
    """Say where the content of an artifact lies."""
    return Blob(uri=artifact.uri, sha256=artifact.checksum, size_bytes=artifact.size_bytes)


def find_opened(artifacts: list[Artifact]) -> tuple[str, Artifact] | None:
    """Return format and artifact that would be served of those formats that are opened when a version is completed."""
    return find_model(artifacts, OPENED)


def mark_ready(
    session: Session,
    *,
    version_id: str,
    data: VersionComplete,
    signature: Signature | None,
    opened: str | None,
    is_weights: bool = False,
) -> ModelVersion:
    """Close a draft; from then on it never changes. Closing a ready version again changes nothing.

    Args:
        session: The transaction.
        version_id: Which draft.
        data: What its maker adds to it.
        signature: What was given or read from the artifact that was opened.
        opened: Checksum of that artifact.
        is_weights: Whether it turned out to hold weights alone, which nobody can serve.

    Raises:
        VersionNotDraft: If it failed before, has no artifact, or the one that was opened was replaced meanwhile.
    """
    version = _lock(session, version_id)
    if version.status == VersionStatus.READY:
        return version
    if version.status != VersionStatus.DRAFT:
        raise VersionNotDraft(f"Version {version.version} is {version.status}; make a new one.")
    artifacts = list_artifacts(session, version_id)
    if not artifacts:
        raise VersionNotDraft(f"Version {version.version} has no artifacts yet; upload one first.")
    held = find_opened(artifacts)
    if (held[1].checksum if held else None) != opened:
        raise VersionNotDraft(f"An artifact of version {version.version} was replaced just now; complete it again.")
    if held and is_weights:
        held[1].type = ArtifactType.WEIGHTS
        session.add(held[1])
    version.status = VersionStatus.READY
    version.completed_at = utc_now()
    version.signature = signature.model_dump() if signature else None
    version.example = data.example
    version.metrics = version.metrics if data.metrics is None else data.metrics
    session.add(version)
    session.flush()
    return version


def mark_failed(session: Session, *, version_id: str, error: str) -> ModelVersion:
    """Give up a draft.

    Raises:
        VersionNotDraft: If it is ready.
    """
    version = _lock(session, version_id)
    if version.status == VersionStatus.READY:
        raise VersionNotDraft(f"Version {version.version} is ready; delete it instead.")
    version.status = VersionStatus.FAILED
    version.error = error
    version.completed_at = utc_now()
    session.add(version)
    return version


def fail_drafts_of(session: Session, *, model_id: str, kind: str, source_id: str, error: str) -> None:
    """Give up the drafts of a model that something began to make and will not finish."""
    drafts = select(ModelVersion).where(
        ModelVersion.model_id == model_id,
        ModelVersion.status == VersionStatus.DRAFT,
        col(ModelVersion.source).contains({"kind": kind, "id": source_id}),
    )
    for draft in session.exec(drafts.with_for_update()):
        mark_failed(session, version_id=draft.id, error=error)


def delete_version(session: Session, version: ModelVersion) -> None:
    """Remove a version with its artifacts, aliases and lineage; the blobs stay, for others may share their content.

    Raises:
        VersionPinned: If something serves or needs it; names the owners.
        ModelInUse: If something else that is kept refers to it.
    """
    _lock(session, version.id)
    pins.check_unpinned(session, [version.id])
    lineage.forget(session, LineageKind.MODEL_VERSION, [version.id])
    delete_aliases_of(session, version)
    with unless_refused(
        session, ModelInUse(f"Version {version.version} is still used by a deployment or a training job.")
    ):
        session.delete(version)


def servable(session: Session, version_id: str, *, formats: Collection[str] = ENDINGS) -> Servable:
    """Choose the artifact of a ready version to serve, of those formats that the tier can run.

    Raises:
        VersionNotFound: If there is no such version.
        VersionNotServable: If it is not ready, has no such artifact, or nobody told its signature.
    """
    version = get_version_by_id(session, version_id)
    if version.status != VersionStatus.READY:
        raise VersionNotServable(f"Version {version.version} is {version.status}; only a ready version can be served.")
    artifacts = list_artifacts(session, version_id)
    found = find_model(artifacts, formats)
    if found is None:
        raise VersionNotServable(_why_not(version, artifacts, formats))
    if version.signature is None:
        raise VersionNotServable(
            f"Version {version.version} has no signature, and its {found[0]} file is not opened to look: "
            "make a version with one."
        )
    format_name, artifact = found
    return Servable(
        format=format_name,
        uri=artifact.uri,
        sha256=artifact.checksum,
        size_bytes=artifact.size_bytes,
        signature=version.signature,
        example=version.example,
    )


def _why_not(version: ModelVersion, artifacts: list[Artifact], formats: Collection[str]) -> str:
    if other := find_model(artifacts, ENDINGS):
        return (
            f"Version {version.version} has no artifact in {' or '.join(formats)}, only {other[0]}: such a file is a "
            "program, and runs in the dedicated tier alone."
        )
    return f"Version {version.version} has no ONNX artifact, nor one of another format that can be served."


def describe_versions(session: Session, versions: list[ModelVersion]) -> list[VersionRead]:
    """Show versions with their artifacts and lineage."""
    ids = [version.id for version in versions]
    artifacts, aliases = artifacts_of(session, ids), aliases_of_versions(session, ids)
    edges = lineage.lineages(session, LineageKind.MODEL_VERSION, ids)
    return [
        VersionRead(
            **_own_fields(version),
            aliases=aliases.get(version.id, []),
            artifacts=[describe_artifact(artifact) for artifact in artifacts.get(version.id, [])],
            lineage=edges[version.id],
        )
        for version in versions
    ]


def describe_version(session: Session, version: ModelVersion) -> VersionRead:
    """Show one version with its artifacts and lineage."""
    return describe_versions(session, [version])[0]


def _own_fields(version: ModelVersion) -> dict[str, Any]:
    return {**version.model_dump(exclude={"created_by"}), "source": version.source or {}}


def _lock(session: Session, version_id: str) -> ModelVersion:
    statement = select(ModelVersion).where(ModelVersion.id == version_id).with_for_update()
    version = session.exec(statement.execution_options(populate_existing=True)).one_or_none()
    if version is None:
        raise VersionNotFound(f"There is no model version {version_id}.")
    return version


def _lock_draft(session: Session, version_id: str) -> ModelVersion:
    version = _lock(session, version_id)
    if version.status != VersionStatus.DRAFT:
        raise VersionNotDraft(
            f"Version {version.version} is {version.status} and takes no more artifacts; make a new one."
        )
    return version
