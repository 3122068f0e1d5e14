"""Which tier runs which format, and what a deployment with apps of its own asks for."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Text, cast, exists
from sqlmodel import Session, col, select

from ..projects.quotas import Quota
from ..registry import versions as model_versions
from ..registry.schemas import Servable
from ..serving.formats import POOL_FORMATS, PROGRAM_FORMATS
from .errors import BatchingNotApplicable, BoundsCrossed, ScalingNotApplicable
from .models import Deployment, Revision
from .schemas import Batching, DeploymentCreate, DeploymentStatus, ResourceRequest, Scaling, Tier

APP_PREFIX = "ep-"
#: How every reason of a deployment begins that is about an app.
ABOUT_APP = "The app of revision"
#: Serve's word for an app that can answer, if only after a cold start.
RUNNING = "RUNNING"
#: Our words for an app that runs, but not as it is wanted now, and for one that has not come to run for too long.
UPDATING, LATE = "UPDATING", "LATE"
#: Serve's words for an app that it has given up, and for one that lost replicas.
FAILED, UNWELL = "DEPLOY_FAILED", "UNHEALTHY"


def tier_of(format_name: str) -> Tier:
    """Return where a format runs unless its deployment says otherwise."""
    return Tier.SERVERLESS if format_name in POOL_FORMATS else Tier.DEDICATED


def set_tier(deployment: Deployment, data: DeploymentCreate) -> None:
    """Note the tier, and what an app of its own gets; whoever asks for resources asks for an app.

    Raises:
        ScalingNotApplicable: If resources or scaling are asked for on the serverless tier.
    """
    asks = data.resources is not None or data.scaling is not None
    if data.tier is Tier.SERVERLESS and asks:
        raise ScalingNotApplicable
    deployment.tier = Tier.DEDICATED if asks else data.tier
    deployment.requested = (data.resources or ResourceRequest()).model_dump()
    deployment.scaling = (data.scaling or Scaling()).model_dump()


def set_scale(
    deployment: Deployment, *, resources: ResourceRequest | None = None, scaling: Scaling | None = None
) -> None:
    """Change what the apps of a dedicated deployment get.

    Raises:
        ScalingNotApplicable: If it is serverless.
    """
    if deployment.tier != Tier.DEDICATED:
        raise ScalingNotApplicable
    if resources is not None:
        deployment.requested = resources.model_dump()
    if scaling is not None:
        deployment.scaling = scaling.model_dump()


def set_bounds(deployment: Deployment, bounds: Mapping[str, int]) -> None:
    """Change how few and how many replicas a dedicated deployment may have.

    Raises:
        ScalingNotApplicable: If it is serverless.
        BoundsCrossed: If it would have more replicas at least than at most.
    """
    if deployment.tier != Tier.DEDICATED:
        raise ScalingNotApplicable
    scaling = {**deployment.scaling, **bounds}
    if scaling["min_replicas"] > scaling["max_replicas"]:
        raise BoundsCrossed(scaling["min_replicas"], scaling["max_replicas"])
    deployment.scaling = scaling


def refuse_batching(deployment: Deployment, batching: Batching | None) -> None:
    """Let nobody believe that the requests of an app of its own are batched.

    Raises:
        BatchingNotApplicable: If it is dedicated and batching is asked for.
    """
    if deployment.tier == Tier.DEDICATED and batching is not None:
        raise BatchingNotApplicable


def choose_artifact(session: Session, deployment: Deployment, version_id: str) -> Servable:
    """Choose what of a model version to serve; the first one settles the tier of a deployment that left it open.

    Raises:
        VersionNotServable: If the version is not ready or has no form that the tier can run.
    """
    formats = POOL_FORMATS if deployment.tier == Tier.SERVERLESS else POOL_FORMATS + PROGRAM_FORMATS
    # In the order of preference, so the pool's formats come first.
    chosen = model_versions.servable(session, version_id, formats=formats)
    if deployment.tier == Tier.AUTO:
        deployment.tier = tier_of(chosen.format)
    return chosen


def app_of(deployment: Deployment, number: int) -> str | None:
    """Return the app that answers for a revision, None where the pool does."""
    return f"{APP_PREFIX}{deployment.id}-r{number}" if deployment.tier == Tier.DEDICATED else None


def is_down(revision: Revision) -> bool:
    """Tell whether the app of a revision has nothing to answer with, and neither sleeps nor starts."""
    return revision.app is not None and not revision.app_replicas and revision.app_status in (FAILED, UNWELL, LATE)


def amounts_of(deployment: Deployment, apps: int) -> dict[Quota, float]:
    """Return what so many apps of a deployment may take at once, by its bounds; nothing where the pool answers."""
    is_up = deployment.tier == Tier.DEDICATED and deployment.status != DeploymentStatus.STOPPED
    replicas = apps * deployment.scaling["max_replicas"] if is_up else 0
    return {
        Quota.CPUS: deployment.requested["cpus"] * replicas,
        Quota.GPUS: deployment.requested["gpus"] * replicas,
    }


def awaits_app() -> ColumnElement[bool]:
    """Return the condition that an app of a deployment with traffic does not run yet."""
    theirs = select(Revision.id).where(
        col(Revision.deployment_id) == col(Deployment.id),
        col(Deployment.traffic).op("?")(cast(col(Revision.number), Text)),
        col(Revision.app).is_not(None),
        col(Revision.app_status).is_distinct_from(RUNNING),
    )
    return exists(theirs)
