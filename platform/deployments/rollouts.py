"""The way of a revision: made, warmed on every live model server, given traffic, and taken back.

No revision gets weight before it is warm: traffic that names one which is not yet waits as ``pending_traffic``.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, exists
from sqlmodel import Session, col, or_, select

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.ids import new_id
from ..projects import quotas
from ..registry import lineage, pins
from ..registry import versions as model_versions
from ..registry.schemas import LineageKind
from .errors import NothingToRollBackTo, NothingToStart, RevisionNotReady
from .events import DeploymentChanged
from .models import Deployment, Revision
from .schemas import DeploymentStatus, RevisionStatus, Tier
from .tiers import LATE, RUNNING, UPDATING, amounts_of, app_of, choose_artifact

_ALL = 100
# States that a change of settings does not end.
_LASTING = frozenset(
    {DeploymentStatus.PENDING, DeploymentStatus.DEGRADED, DeploymentStatus.FAILED, DeploymentStatus.STOPPED}
)


def to_warm(deployment: Deployment, revisions: Iterable[Revision]) -> set[int]:
    """Return the numbers of the revisions that model servers must warm now."""
    if deployment.status == DeploymentStatus.STOPPED:
        return set()
    awaited = deployment.pending_traffic.keys() - deployment.traffic.keys()
    return {
        row.number
        for row in revisions
        if row.status == RevisionStatus.WARMING or (row.status == RevisionStatus.READY and str(row.number) in awaited)
    }


def count_apps(deployment: Deployment, revisions: Iterable[Revision]) -> int:
    """Return how many apps of a deployment count against the quotas: those with traffic, and all but one on its way."""
    warming = {str(row.number) for row in revisions if row.status == RevisionStatus.WARMING}
    at_once = deployment.traffic.keys() | deployment.pending_traffic.keys() | warming
    return max(1, len(deployment.traffic), len(deployment.pending_traffic), len(at_once) - 1)


def is_rolling() -> ColumnElement[bool]:
    """Return the condition that a deployment waits for a revision to be warm."""
    theirs = select(Revision.id).where(
        col(Revision.deployment_id) == col(Deployment.id), col(Revision.status) == RevisionStatus.WARMING
    )
    return or_(exists(theirs), col(Deployment.pending_traffic) != {})


def revisions_of(session: Session, deployment_ids: Sequence[str]) -> list[Revision]:
    """Return the revisions of the deployments, newest first."""
    theirs = select(Revision).where(col(Revision.deployment_id).in_(deployment_ids))
    return list(session.exec(theirs.order_by(col(Revision.number).desc())))


def add_revision(session: Session, deployment: Deployment, *, version: int | None, takes_over: bool = True) -> Revision:
    """Make a revision of a model version; it gets all traffic as soon as it is warm, if it is to take over.

    Raises:
        VersionNotFound: If the model has no such version, or no ready one.
        VersionNotServable: If the version is not ready or has no form that the tier can run.
    """
    revision = _freeze(session, deployment, version)
    if takes_over:
        _await(session, deployment, {str(revision.number): _ALL})
    note_rollout(session, deployment)
    lineage.link(
        session,
        project_id=deployment.project_id,
        source=(LineageKind.MODEL_VERSION, revision.model_version_id),
        target=(LineageKind.DEPLOYMENT, deployment.id),
    )
    return revision


def route(session: Session, deployment: Deployment, weights: Mapping[str, int]) -> None:
    """Divide the traffic among ready revisions: at once, or when an app that sleeps is awake.

    Raises:
        RevisionNotReady: If one of them is not there or not ready.
    """
    wanted = {number: weight for number, weight in weights.items() if weight}
    rows = {str(row.number): row for row in revisions_of(session, [deployment.id])}
    for number in sorted(wanted, key=int):
        if number not in rows or rows[number].status != RevisionStatus.READY:
            raise RevisionNotReady(number, rows[number].status if number in rows else None)
    sleeping = any(_sleeps(rows[number]) for number in wanted if number not in deployment.traffic)
    _await(session, deployment, wanted)
    if not sleeping and deployment.status != DeploymentStatus.STOPPED:
        _switch(deployment)
    note_rollout(session, deployment)


def promote(session: Session, deployment: Deployment, *, number: int | None) -> None:
    """Give one revision all traffic: the newest ready one unless named.

    Raises:
        RevisionNotReady: If it is not there or not ready, or none is.
    """
    if number is None:
        ready = (row.number for row in revisions_of(session, [deployment.id]) if row.status == RevisionStatus.READY)
        number = next(ready, None)
    if number is None:
        raise RevisionNotReady(None, None)
    route(session, deployment, {str(number): _ALL})


def roll_back(session: Session, deployment: Deployment) -> None:
    """Give all traffic to the last ready revision that had it before; of a rollout under way, that is the present one.

    Raises:
        NothingToRollBackTo: If there is none.
    """
    ready = {row.number for row in revisions_of(session, [deployment.id]) if row.status == RevisionStatus.READY}
    present = _whole(_present(deployment))
    before = [number for number in deployment.releases if number in ready and str(number) not in present]
    if not before:
        raise NothingToRollBackTo(deployment.id)
    left = deployment.releases[: deployment.releases.index(before[-1]) + 1]
    route(session, deployment, {str(before[-1]): _ALL})
    # Not before: giving up another wait would put the present revision back.
    deployment.releases = left


def stop(session: Session, deployment: Deployment) -> None:
    """Take all traffic away, and remember it for the start."""
    if deployment.status == DeploymentStatus.STOPPED:
        return
    _await(session, deployment, deployment.traffic or deployment.pending_traffic)
    deployment.traffic, deployment.replicas = {}, 0
    deployment.status, deployment.reason = DeploymentStatus.STOPPED, None
    note_change(session, deployment)


def start(session: Session, deployment: Deployment) -> None:
    """Give back the traffic that was taken by a stop, as soon as its revisions are warm.

    Raises:
        NothingToStart: If no revision is to have traffic.
    """
    if deployment.status != DeploymentStatus.STOPPED:
        return
    if not deployment.pending_traffic:
        raise NothingToStart(deployment.id)
    deployment.status = DeploymentStatus.PENDING
    # Its apps may run still.
    deployment.replicas = sum(row.app_replicas for row in revisions_of(session, [deployment.id]))
    note_change(session, deployment)


def settle(session: Session, deployment_id: str, outcomes: Mapping[int, str]) -> bool:
    """Take note of warm-ups, and give the traffic that waited for them; return whether that changed anything.

    Args:
        session: Where the change is made.
        deployment_id: The deployment.
        outcomes: By the numbers of revisions: "" where every live model server has it warm, else why one has not.
    """
    deployment = locked(session, deployment_id)
    if deployment is None or deployment.status == DeploymentStatus.STOPPED:
        return False
    rows = revisions_of(session, [deployment_id])
    concerned = to_warm(deployment, rows) & outcomes.keys()
    before = (deployment.pending_traffic, [row.status for row in rows])
    serving = deployment.traffic
    failed = [(row.number, outcomes[row.number]) for row in rows if row.number in concerned and outcomes[row.number]]
    for row in rows:
        if row.number in concerned and row.status == RevisionStatus.WARMING:
            reason = outcomes[row.number]
            row.status, row.reason = (RevisionStatus.FAILED if reason else RevisionStatus.READY), reason or None
            session.add(row)
    _take_over(deployment, {str(number) for number in concerned if not outcomes[number]})
    if failed:
        _fail(session, deployment, *failed[0])
    if (deployment.pending_traffic, [row.status for row in rows]) == before:
        return False
    if deployment.tier == Tier.DEDICATED:
        quotas.lower(session, owner=deployment.id, amounts=amounts_of(deployment, count_apps(deployment, rows)))
    is_switched = not failed and deployment.traffic != serving
    (note_rollout if is_switched else note_change)(session, deployment)
    return True


def note_rollout(session: Session, deployment: Deployment) -> None:
    """Let the deployment be ready again when every model server follows what its revisions became."""
    if deployment.status not in (DeploymentStatus.PENDING, DeploymentStatus.STOPPED):
        deployment.status, deployment.reason = DeploymentStatus.DEPLOYING, None
    note_change(session, deployment)


def note_change(session: Session, deployment: Deployment) -> None:
    """Publish what was changed, and wait for every model server to follow it."""
    if deployment.status not in _LASTING:
        deployment.status, deployment.reason = DeploymentStatus.DEPLOYING, None
    deployment.published_version = None
    deployment.updated_at = utc_now()
    session.add(deployment)
    session.flush()
    record_change(session, deployment)


def outdate_apps(session: Session, deployment: Deployment) -> None:
    """Let no app with traffic count as running, or as late, until the cluster says how it does with the new wish."""
    for row in revisions_of(session, [deployment.id]):
        if row.app_status in (RUNNING, LATE) and deployment.traffic.get(str(row.number)):
            if row.app_status == LATE:
                deployment.status, deployment.reason = DeploymentStatus.DEPLOYING, None
            row.app_status = UPDATING
            session.add(row)


def record_change(session: Session, deployment: Deployment) -> None:
    """Tell that the endpoint answers other than before."""
    changed = DeploymentChanged(
        deployment_id=deployment.id, project_id=deployment.project_id, endpoint_key=deployment.endpoint_key
    )
    record(session, changed)


def locked(session: Session, deployment_id: str) -> Deployment | None:
    """Read a deployment anew; its changes happen one after the other."""
    row = select(Deployment).where(Deployment.id == deployment_id).with_for_update()
    return session.exec(row.execution_options(populate_existing=True)).one_or_none()


def pin_owner(deployment: Deployment) -> str:
    """Return the name under which a deployment pins the versions that it serves."""
    return f"deployment {deployment.endpoint_key}"


def _freeze(session: Session, deployment: Deployment, version: int | None) -> Revision:
    model_version = model_versions.get_version(session, deployment.model_id, version)
    artifact = choose_artifact(session, deployment, model_version.id)
    pins.pin(session, version_id=model_version.id, owner=pin_owner(deployment))
    newest = revisions_of(session, [deployment.id])[:1]
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
        example=artifact.example,
        app=app_of(deployment, number),
    )
    session.add(revision)
    session.flush()
    return revision


def _await(session: Session, deployment: Deployment, weights: Mapping[str, int]) -> None:
    """Let this be the traffic that is waited for; revisions that were never ready and lose it are given up."""
    given_up = deployment.pending_traffic.keys() - weights.keys()
    for row in revisions_of(session, [deployment.id]):
        if str(row.number) in given_up and row.status == RevisionStatus.WARMING:
            row.status, row.reason = RevisionStatus.FAILED, "It was superseded before it was ready."
            session.add(row)
    deployment.pending_traffic = dict(weights)
    present = [number for number in _whole(deployment.traffic) if int(number) not in deployment.releases]
    # A rollback that waited has taken it away, and is over now.
    _note_releases(deployment, present)


def _take_over(deployment: Deployment, warm: set[str]) -> None:
    pending = deployment.pending_traffic.keys()
    if pending and pending <= warm | deployment.traffic.keys():
        _switch(deployment)


def _switch(deployment: Deployment) -> None:
    deployment.traffic, deployment.pending_traffic = deployment.pending_traffic, {}
    _note_releases(deployment, _whole(deployment.traffic))


def _note_releases(deployment: Deployment, numbers: Iterable[str]) -> None:
    for number in map(int, numbers):
        deployment.releases = [*(each for each in deployment.releases if each != number), number]


def _fail(session: Session, deployment: Deployment, number: int, reason: str) -> None:
    if str(number) in deployment.pending_traffic:
        _await(session, deployment, {})
    deployment.status = DeploymentStatus.DEGRADED if deployment.traffic else DeploymentStatus.FAILED
    deployment.reason = f"Revision {number} did not become ready: {reason}"


def _present(deployment: Deployment) -> Mapping[str, int]:
    """Return the traffic that a rollback leaves: that before a stop, none while a rollout is under way."""
    if deployment.status == DeploymentStatus.STOPPED:
        return deployment.pending_traffic
    return {} if deployment.pending_traffic else deployment.traffic


def _whole(weights: Mapping[str, int]) -> list[str]:
    return [number for number, weight in weights.items() if weight == _ALL]


def _sleeps(revision: Revision) -> bool:
    """Tell whether a revision has an app of its own that could not answer at once."""
    return revision.app is not None and (revision.app_status != RUNNING or not revision.app_replicas)
