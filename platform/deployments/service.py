"""The rules of deployments: names, revisions, and who may serve what where."""

from collections.abc import Sequence
from typing import NoReturn

from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.events import record
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Glance, Page, PageQuery, glance, paginate
from ..kernel.settings import QuotaSettings
from ..projects import quotas
from ..projects.quotas import Quota
from ..projects.service import authorize, authorize_owned, visible
from ..registry import lineage, pins
from ..registry import service as models
from ..registry import versions as model_versions
from ..registry.schemas import LineageKind
from .access import add_key, names_key, set_access
from .compile import endpoint_key, endpoint_url
from .errors import DeploymentExists, DeploymentNotFound, ScalingNotApplicable
from .events import DeploymentChanged
from .models import Deployment, Revision
from .schemas import (
    DeploymentCreate,
    DeploymentRead,
    DeploymentResources,
    DeploymentStatus,
    DeploymentUpdate,
    Environment,
    RevisionRead,
)
from .tiers import app_of, choose_artifact, is_shared, set_tier


def deploy_model(
    session: Session, *, principal: Principal, data: DeploymentCreate, defaults: QuotaSettings
) -> Deployment:
    """Serve a model under a new name; its endpoint answers as soon as the change is published.

    Raises:
        ScalingNotApplicable: If resources or scaling are asked for on the serverless tier.
        ModelNotFound: If the project has no such model.
        VersionNotFound: If the model has no such version, or no ready one.
        VersionNotServable: If the version is not ready or has no form that the tier can run.
        PermissionDenied: If it is to be open beyond the project and the principal may not do that.
        KeysNotUsable: If it is to be open to keys that could never invoke it.
        DeploymentExists: If the project has a deployment of that name in that environment.
        QuotaExceeded: If the project may not have one more.
    """
    project = authorize(session, principal, data.project_id, Permission.DEPLOYMENT_WRITE)
    _check_environment(session, principal, project.id, data.environment)
    model = models.get_model_in(session, project.id, data.model)
    deployment = Deployment(
        id=new_id("dep"),
        project_id=project.id,
        name=check_name(data.name),
        environment=data.environment,
        endpoint_key=endpoint_key(project.name, data.name, data.environment),
        model_id=model.id,
        traffic={},
        created_by=principal.id,
    )
    set_tier(deployment, data)
    set_access(session, principal=principal, deployment=deployment, access=data.access)
    with unless_refused(session, DeploymentExists(data.name, data.environment)):
        session.add(deployment)
    amounts = {Quota.DEPLOYMENTS: 1}
    quotas.reserve(session, defaults=defaults, project_id=project.id, owner=deployment.id, amounts=amounts)
    _add_revision(session, deployment, version=data.version)
    return deployment


def get_deployment(session: Session, *, principal: Principal, deployment_id: str) -> Deployment:
    """Return a deployment that the principal may read.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    return _authorized(session, principal, deployment_id, Permission.DEPLOYMENT_READ)


def list_deployments(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None
) -> Page[Deployment]:
    """Return the deployments that the principal may read, optionally of one project."""
    filters = [visible(principal, col(Deployment.project_id), Permission.DEPLOYMENT_READ)]
    if project_id is not None:
        filters.append(col(Deployment.project_id) == project_id)
    return paginate(session, Deployment, query, *filters)


def glance_at_deployments(session: Session, project_id: str) -> Glance:
    """Return how many deployments a project has, and the newest."""
    return glance(session, Deployment, col(Deployment.project_id) == project_id)


def update_deployment(
    session: Session, *, principal: Principal, deployment_id: str, data: DeploymentUpdate
) -> Deployment:
    """Make a revision of another model version and give it all traffic, or say who may invoke.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        VersionNotFound: If the model has no such version, or no ready one.
        VersionNotServable: If the version is not ready or has no form that the tier can run.
        PermissionDenied: If it is to be open beyond the project and the principal may not do that.
        KeysNotUsable: If it is to be open to keys that could never invoke it.
    """
    deployment = _writable(session, principal, deployment_id)
    if data.access is not None:
        set_access(session, principal=principal, deployment=deployment, access=data.access)
    if data.makes_revision:
        _add_revision(session, deployment, version=data.version)
    else:
        _note_change(session, deployment)
    return deployment


def admit_successor(session: Session, *, project_id: str, key_id: str, successor_id: str) -> None:
    """Let a key that replaces another invoke where the other was named."""
    theirs = select(Deployment).where(Deployment.project_id == project_id, names_key(key_id), ~names_key(successor_id))
    for deployment in session.exec(theirs.order_by(Deployment.id).with_for_update()):
        add_key(deployment, successor_id)
        _note_change(session, deployment)


def scale_deployment(session: Session, *, principal: Principal, deployment_id: str) -> NoReturn:
    """Refuse to set a number of replicas: deployments share the pool.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        ScalingNotApplicable: Always otherwise.
    """
    _writable(session, principal, deployment_id)
    raise ScalingNotApplicable


def delete_deployment(session: Session, *, principal: Principal, deployment_id: str) -> None:
    """Stop serving; the endpoint answers 404 as soon as that is published.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    deployment = _writable(session, principal, deployment_id)
    for revision in _revisions(session, [deployment.id]):
        pins.unpin(session, version_id=revision.model_version_id, owner=_pin_owner(deployment))
    quotas.release(session, deployment.id)
    session.delete(deployment)
    _record_change(session, deployment)


def describe_deployments(session: Session, deployments: Sequence[Deployment], *, base_url: str) -> list[DeploymentRead]:
    """Show deployments with their endpoints and revisions."""
    revisions: dict[str, list[Revision]] = {deployment.id: [] for deployment in deployments}
    for revision in _revisions(session, list(revisions)):
        revisions[revision.deployment_id].append(revision)
    return [_describe(deployment, revisions[deployment.id], base_url) for deployment in deployments]


def describe_deployment(session: Session, deployment: Deployment, *, base_url: str) -> DeploymentRead:
    """Show one deployment with its endpoint and revisions."""
    return describe_deployments(session, [deployment], base_url=base_url)[0]


def uris_in_use(session: Session, uris: list[str]) -> set[str]:
    """Return which of these places hold what a revision serves."""
    return set(session.exec(select(Revision.uri).where(col(Revision.uri).in_(uris))))


def _describe(deployment: Deployment, revisions: list[Revision], base_url: str) -> DeploymentRead:
    return DeploymentRead.model_validate(
        {
            **deployment.model_dump(),
            "endpoint": endpoint_url(base_url, deployment.endpoint_key),
            "resources": _resources(deployment, [row for row in revisions if str(row.number) in deployment.traffic]),
            "revisions": [RevisionRead.model_validate(revision) for revision in revisions],
        }
    )


def _resources(deployment: Deployment, serving: list[Revision]) -> DeploymentResources:
    shared = is_shared(serving)
    own = {} if shared else deployment.requested
    return DeploymentResources(shared=shared, model_bytes=sum(row.size_bytes for row in serving), **own)


def _authorized(session: Session, principal: Principal, deployment_id: str, permission: Permission) -> Deployment:
    deployment = session.get(Deployment, deployment_id)
    return authorize_owned(session, principal, deployment, permission, missing=DeploymentNotFound(deployment_id))


def _writable(session: Session, principal: Principal, deployment_id: str) -> Deployment:
    deployment = _authorized(session, principal, deployment_id, Permission.DEPLOYMENT_WRITE)
    _check_environment(session, principal, deployment.project_id, deployment.environment)
    # Changes of one deployment happen one after the other.
    locked = select(Deployment).where(Deployment.id == deployment_id).with_for_update()
    held = session.exec(locked.execution_options(populate_existing=True)).one_or_none()
    if held is None:
        raise DeploymentNotFound(deployment_id)
    return held


def _check_environment(session: Session, principal: Principal, project_id: str, environment: str) -> None:
    if environment == Environment.PRODUCTION:
        authorize(session, principal, project_id, Permission.DEPLOYMENT_PRODUCTION)


def _add_revision(session: Session, deployment: Deployment, *, version: int | None) -> None:
    model_version = model_versions.get_version(session, deployment.model_id, version)
    artifact = choose_artifact(session, deployment, model_version.id)
    pins.pin(session, version_id=model_version.id, owner=_pin_owner(deployment))
    newest = _revisions(session, [deployment.id])[:1]
    number = newest[0].number + 1 if newest else 1
    revision = Revision(
        id=new_id("rev"),
        project_id=deployment.project_id,
        deployment_id=deployment.id,
        number=number,
        model_version_id=model_version.id,
        model_version=model_version.version,
        format=artifact.format,
        uri=artifact.uri,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        signature=artifact.signature,
        app=app_of(deployment, number),
    )
    session.add(revision)
    _give_all_traffic(session, deployment, revision)
    lineage.link(
        session,
        project_id=deployment.project_id,
        source=(LineageKind.MODEL_VERSION, model_version.id),
        target=(LineageKind.DEPLOYMENT, deployment.id),
    )


def _give_all_traffic(session: Session, deployment: Deployment, revision: Revision) -> None:
    deployment.traffic = {str(revision.number): 100}
    _note_change(session, deployment)


def _note_change(session: Session, deployment: Deployment) -> None:
    """Let the deployment be ready again when every model server follows what was changed."""
    deployment.status, deployment.reason = DeploymentStatus.DEPLOYING, None
    deployment.published_version = None
    deployment.updated_at = utc_now()
    session.add(deployment)
    session.flush()
    _record_change(session, deployment)


def _record_change(session: Session, deployment: Deployment) -> None:
    changed = DeploymentChanged(
        deployment_id=deployment.id, project_id=deployment.project_id, endpoint_key=deployment.endpoint_key
    )
    record(session, changed)


def _revisions(session: Session, deployment_ids: Sequence[str]) -> list[Revision]:
    """Return the revisions of the deployments, newest first."""
    theirs = select(Revision).where(col(Revision.deployment_id).in_(deployment_ids))
    return list(session.exec(theirs.order_by(col(Revision.number).desc())))


def _pin_owner(deployment: Deployment) -> str:
    return f"deployment {deployment.endpoint_key}"
