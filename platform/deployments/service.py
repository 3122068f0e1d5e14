"""The rules of deployments: names, revisions, and who may serve what where."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, literal_column
from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.db import unless_refused
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Glance, Page, PageQuery, glance, paginate
from ..kernel.settings import QuotaSettings
from ..projects import quotas
from ..projects.quotas import Quota
from ..projects.service import authorize, authorize_owned, visible
from ..registry import lineage, pins
from ..registry import service as models
from ..registry.schemas import LineageKind
from . import rollouts
from .access import add_key, names_key, set_access
from .bindings import choose_version, release_alias
from .compile import endpoint_key, endpoint_url
from .endpoints import describe_endpoints, make_examples
from .errors import DeploymentExists, DeploymentNotFound
from .models import Deployment, Revision
from .rollouts import add_revision, locked, note_change, pin_owner, record_change, revisions_of
from .schemas import (
    ApiEndpoint,
    DeploymentCreate,
    DeploymentEvent,
    DeploymentRead,
    DeploymentResources,
    DeploymentScale,
    DeploymentUpdate,
    Environment,
    Options,
    Promotion,
    RevisionRead,
    RevisionState,
    Tier,
    TrafficUpdate,
)
from .tiers import amounts_of, refuse_batching, set_bounds, set_scale, set_tier


def deploy_model(
    session: Session, *, principal: Principal, data: DeploymentCreate, defaults: QuotaSettings
) -> Deployment:
    """Serve a model under a new name; its endpoint answers as soon as the change is published.

    Raises:
        ScalingNotApplicable: If resources or scaling are asked for on the serverless tier.
        BatchingNotApplicable: If batching is asked for on the dedicated tier.
        ModelNotFound: If the project has no such model.
        VersionNotFound: If the model has no such version, or no ready one.
        AliasNotFound: If the model has no such alias.
        VersionNotServable: If the version is not ready or has no form that the tier can run.
        PermissionDenied: If it is to be open beyond the project and the principal may not do that.
        KeysNotUsable: If it is to be open to keys that could never invoke it.
        DeploymentExists: If the project has a deployment of that name in that environment.
        QuotaExceeded: If the project may not have one more, or not the CPUs or GPUs of its replicas.
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
        options=data.model_dump(mode="json", include=set(Options.model_fields)),
        created_by=principal.id,
    )
    set_tier(deployment, data)
    set_access(session, principal=principal, deployment=deployment, access=data.access)
    with unless_refused(session, DeploymentExists(data.name, data.environment)):
        session.add(deployment)
    amounts = {Quota.DEPLOYMENTS: 1}
    quotas.reserve(session, defaults=defaults, project_id=project.id, owner=deployment.id, amounts=amounts)
    add_revision(
        session, deployment, version=choose_version(session, deployment, version=data.version, alias=data.alias)
    )
    # The artifact may have settled the tier.
    refuse_batching(deployment, data.batching)
    _claim_replicas(session, deployment, defaults)
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


def endpoints_in_use(session: Session, project_id: str) -> list[tuple[str, str, frozenset[str]]]:
    """Return id, name and revisions with traffic of each endpoint of a project."""
    asked = select(Deployment.id, Deployment.endpoint_key, Deployment.traffic)
    found = session.exec(asked.where(Deployment.project_id == project_id).order_by(col(Deployment.id)))
    return [(id_, name, frozenset(traffic)) for id_, name, traffic in found]


def glance_at_deployments(session: Session, project_id: str) -> Glance:
    """Return how many deployments a project has, and the newest."""
    return glance(session, Deployment, col(Deployment.project_id) == project_id)


def update_deployment(
    session: Session, *, principal: Principal, deployment_id: str, data: DeploymentUpdate, defaults: QuotaSettings
) -> Deployment:
    """Make a revision of another model version and give it all traffic when it is warm, or change settings.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        VersionNotFound: If the model has no such version, or no ready one.
        AliasNotFound: If the model has no such alias.
        VersionNotServable: If the version is not ready or has no form that the tier can run.
        PermissionDenied: If it is to be open beyond the project and the principal may not do that.
        KeysNotUsable: If it is to be open to keys that could never invoke it.
        ScalingNotApplicable: If resources or scaling are asked for and it is serverless.
        BatchingNotApplicable: If batching is asked for and it is dedicated.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    if data.access is not None:
        set_access(session, principal=principal, deployment=deployment, access=data.access)
    refuse_batching(deployment, data.batching)
    deployment.options = deployment.options | data.changed_options
    if data.resources is not None or data.scaling is not None:
        set_scale(deployment, resources=data.resources, scaling=data.scaling)
        rollouts.outdate_apps(session, deployment)
    if data.releases_alias:
        release_alias(deployment)
    if data.makes_revision:
        version = choose_version(session, deployment, version=data.version, alias=data.alias)
        add_revision(session, deployment, version=version, takes_over=data.promote)
    else:
        note_change(session, deployment)
    if data.makes_revision or data.resources is not None or data.scaling is not None:
        _claim_replicas(session, deployment, defaults)
    return deployment


def admit_successor(session: Session, *, project_id: str, key_id: str, successor_id: str) -> None:
    """Let a key that replaces another invoke where the other was named."""
    theirs = select(Deployment).where(Deployment.project_id == project_id, names_key(key_id), ~names_key(successor_id))
    for deployment in session.exec(theirs.order_by(Deployment.id).with_for_update()):
        add_key(session, deployment, successor_id)
        note_change(session, deployment)


def set_traffic(
    session: Session, *, principal: Principal, deployment_id: str, data: TrafficUpdate, defaults: QuotaSettings
) -> Deployment:
    """Divide the traffic among ready revisions.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        RevisionNotReady: If a revision is not there or not ready.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    rollouts.route(session, deployment, data.weights)
    _claim_replicas(session, deployment, defaults)
    return deployment


def promote_revision(
    session: Session, *, principal: Principal, deployment_id: str, data: Promotion, defaults: QuotaSettings
) -> Deployment:
    """Give one ready revision all traffic.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        RevisionNotReady: If the revision is not there or not ready.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    rollouts.promote(session, deployment, number=data.revision)
    _claim_replicas(session, deployment, defaults)
    return deployment


def roll_back_deployment(
    session: Session, *, principal: Principal, deployment_id: str, defaults: QuotaSettings
) -> Deployment:
    """Give all traffic back to the last ready revision that had it.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        NothingToRollBackTo: If there is none.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    rollouts.roll_back(session, deployment)
    _claim_replicas(session, deployment, defaults)
    return deployment


def stop_deployment(
    session: Session, *, principal: Principal, deployment_id: str, defaults: QuotaSettings
) -> Deployment:
    """Let the endpoint answer nobody until it is started.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    deployment = _writable(session, principal, deployment_id)
    rollouts.stop(session, deployment)
    _claim_replicas(session, deployment, defaults)
    return deployment


def start_deployment(
    session: Session, *, principal: Principal, deployment_id: str, defaults: QuotaSettings
) -> Deployment:
    """Let a stopped endpoint answer again as before.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        NothingToStart: If no revision is to have traffic.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    rollouts.start(session, deployment)
    _claim_replicas(session, deployment, defaults)
    return deployment


def scale_deployment(
    session: Session, *, principal: Principal, deployment_id: str, data: DeploymentScale, defaults: QuotaSettings
) -> Deployment:
    """Set the replicas of a dedicated deployment, or the bounds within which they follow the load.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        ScalingNotApplicable: If it is serverless.
        BoundsCrossed: If it would have more replicas at least than at most.
        QuotaExceeded: If the project may not have the CPUs or GPUs of its replicas.
    """
    deployment = _writable(session, principal, deployment_id)
    set_bounds(deployment, data.bounds)
    rollouts.outdate_apps(session, deployment)
    _claim_replicas(session, deployment, defaults)
    note_change(session, deployment)
    return deployment


def delete_deployment(session: Session, *, principal: Principal, deployment_id: str) -> None:
    """Stop serving; the endpoint answers 404 as soon as that is published.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    deployment = _writable(session, principal, deployment_id)
    for revision in revisions_of(session, [deployment.id]):
        pins.unpin(session, version_id=revision.model_version_id, owner=pin_owner(deployment))
    quotas.release(session, deployment.id)
    lineage.forget(session, LineageKind.DEPLOYMENT, [deployment.id])
    session.delete(deployment)
    record_change(session, deployment)


def describe_deployments(session: Session, deployments: Sequence[Deployment], *, base_url: str) -> list[DeploymentRead]:
    """Show deployments with their endpoints and revisions."""
    revisions: dict[str, list[Revision]] = {deployment.id: [] for deployment in deployments}
    for revision in revisions_of(session, list(revisions)):
        revisions[revision.deployment_id].append(revision)
    return [_describe(deployment, revisions[deployment.id], base_url) for deployment in deployments]


def describe_deployment(session: Session, deployment: Deployment, *, base_url: str) -> DeploymentRead:
    """Show one deployment with its endpoint and revisions."""
    return describe_deployments(session, [deployment], base_url=base_url)[0]


def get_state(session: Session, *, principal: Principal, deployment_id: str) -> DeploymentEvent:
    """Return how far a deployment and its revisions have come.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    deployment = get_deployment(session, principal=principal, deployment_id=deployment_id)
    rows = revisions_of(session, [deployment.id])
    revisions = [RevisionState.model_validate(row) for row in rows]
    return DeploymentEvent.model_validate({**deployment.model_dump(), "revisions": revisions})


def change_marks(session: Session, deployment_ids: Sequence[str]) -> dict[str, str]:
    """Return for each deployment that exists what differs after every change of its row."""
    # PostgreSQL's name for the transaction that wrote this version of the row.
    mark: ColumnElement[str] = literal_column(f"{Deployment.__tablename__}.xmin::text")
    asked = select(Deployment.id, mark).where(col(Deployment.id).in_(deployment_ids))
    return {id_: mark for id_, mark in session.execute(asked)}


def list_endpoints(session: Session, *, principal: Principal, deployment_id: str) -> list[ApiEndpoint]:
    """Return what clients may call of a deployment.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
    """
    deployment = get_deployment(session, principal=principal, deployment_id=deployment_id)
    return describe_endpoints(deployment, revisions_of(session, [deployment.id]))


def uris_in_use(session: Session, uris: list[str]) -> set[str]:
    """Return which of these places hold what a revision serves."""
    return set(session.exec(select(Revision.uri).where(col(Revision.uri).in_(uris))))


def _describe(deployment: Deployment, revisions: list[Revision], base_url: str) -> DeploymentRead:
    wanted = deployment.traffic or deployment.pending_traffic
    return DeploymentRead.model_validate(
        {
            **deployment.model_dump(),
            "endpoint": endpoint_url(base_url, deployment.endpoint_key),
            "scaling": deployment.scaling if deployment.tier == Tier.DEDICATED else None,
            **deployment.options,
            "examples": make_examples(deployment, revisions, base_url=base_url),
            "resources": _resources(deployment, [row for row in revisions if str(row.number) in wanted]),
            "revisions": [RevisionRead.model_validate(revision) for revision in revisions],
        }
    )


def _resources(deployment: Deployment, serving: list[Revision]) -> DeploymentResources:
    shared = deployment.tier != Tier.DEDICATED
    own = {} if shared else deployment.requested
    return DeploymentResources(shared=shared, model_bytes=sum(row.size_bytes for row in serving), **own)


def _authorized(session: Session, principal: Principal, deployment_id: str, permission: Permission) -> Deployment:
    deployment = session.get(Deployment, deployment_id)
    return authorize_owned(session, principal, deployment, permission, missing=DeploymentNotFound(deployment_id))


def _writable(session: Session, principal: Principal, deployment_id: str) -> Deployment:
    deployment = _authorized(session, principal, deployment_id, Permission.DEPLOYMENT_WRITE)
    _check_environment(session, principal, deployment.project_id, deployment.environment)
    held = locked(session, deployment_id)
    if held is None:
        raise DeploymentNotFound(deployment_id)
    return held


def _claim_replicas(session: Session, deployment: Deployment, defaults: QuotaSettings) -> None:
    if deployment.tier != Tier.DEDICATED:
        return
    apps = rollouts.count_apps(deployment, revisions_of(session, [deployment.id]))
    owner, amounts = deployment.id, amounts_of(deployment, apps)
    quotas.reserve(session, defaults=defaults, project_id=deployment.project_id, owner=owner, amounts=amounts)


def _check_environment(session: Session, principal: Principal, project_id: str, environment: str) -> None:
    if environment == Environment.PRODUCTION:
        authorize(session, principal, project_id, Permission.DEPLOYMENT_PRODUCTION)
