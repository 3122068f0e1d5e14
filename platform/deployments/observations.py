"""What a cluster says of the apps of dedicated revisions: written down, and what it means for their deployments."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import func
from sqlalchemy.orm import InstrumentedAttribute, defer
from sqlmodel import Session, col, select

from ..kernel.resources import Resources
from .models import Deployment, Revision
from .rollouts import locked, record_change, revisions_of, settle, to_warm
from .runtime import AppState, WantedApp
from .schemas import DeploymentStatus, RevisionStatus
from .tiers import ABOUT_APP, FAILED, LATE, RUNNING, UNWELL, UPDATING, is_down

_MAX_MESSAGE = 2000
# How a traceback ends when a model cannot be loaded.
_BROKEN = "ModelBroken: "
_WORKING = frozenset({DeploymentStatus.READY, DeploymentStatus.DEPLOYING})
#: What a cluster says of an app that it does not have.
NOWHERE = AppState("", "", None, 0)


@dataclass(frozen=True)
class Trouble:
    """Why an app is not as its deployment wants it."""

    status: DeploymentStatus
    reason: str


def has_failed(state: AppState) -> bool:
    """Tell whether Serve has given an app up."""
    # UNHEALTHY may be a matter of moments while a replica runs; an app that never had one is given up by Serve.
    return state.status == FAILED or (state.status == UNWELL and not state.replicas)


def is_there(state: AppState, fingerprint: str) -> bool:
    """Tell whether an app runs as it is wanted."""
    return state.status == RUNNING and state.fingerprint in (None, fingerprint)


def needs_app(deployment: Deployment, revision: Revision) -> bool:
    """Tell whether a revision must be able to answer now."""
    return bool(_has_traffic(deployment, revision) or to_warm(deployment, [revision]))


def wanted_app(revision: Revision, deployment: Deployment) -> WantedApp:
    """Return the app of a revision as it should be."""
    return WantedApp(
        name=revision.app or "",
        format=revision.format,
        sha256=revision.sha256,
        size_bytes=revision.size_bytes,
        signature=revision.signature,
        requested=deployment.requested,
        scaling=deployment.scaling,
        is_warm=revision.status == RevisionStatus.READY,
    )


def revisions_with_apps(session: Session) -> list[tuple[Revision, Deployment]]:
    """Return all dedicated revisions, each with its deployment; their examples are left in the database."""
    theirs = (
        select(Revision, Deployment)
        .join(Deployment, col(Revision.deployment_id) == col(Deployment.id))
        .where(col(Revision.app).is_not(None))
        .options(defer(cast("InstrumentedAttribute[Any]", Revision.example)))
        .order_by(col(Revision.id))
    )
    return [(revision, deployment) for revision, deployment in session.exec(theirs)]


def note(resources: Resources, observed: Mapping[str, AppState], *, late: Collection[str]) -> None:
    """Write down what the cluster says of the apps, where it changed.

    Args:
        resources: The open connections.
        observed: What the cluster says, by the names of the apps.
        late: Names of the apps that have not come to run for too long.
    """
    with resources.session() as session:
        changed = [
            (deployment.id, revision.id)
            for deployment, revisions in _by_deployment(revisions_with_apps(session))
            for revision in revisions
            if _said(revision) != _judged(deployment, revision, observed, late)
            or (revision is revisions[-1] and _is_untold(deployment, revisions))
        ]
    for deployment_id, revision_id in changed:
        with resources.session() as session:
            # The deployment first, as everywhere, so that no two changes wait for each other crosswise.
            if (deployment := locked(session, deployment_id)) and (revision := session.get(Revision, revision_id)):
                _note_one(session, deployment, revision, _judged(deployment, revision, observed, late))


def _by_deployment(rows: Sequence[tuple[Revision, Deployment]]) -> list[tuple[Deployment, list[Revision]]]:
    found: dict[str, tuple[Deployment, list[Revision]]] = {}
    for revision, deployment in rows:
        found.setdefault(deployment.id, (deployment, []))[1].append(revision)
    return list(found.values())


def _is_untold(deployment: Deployment, revisions: Sequence[Revision]) -> bool:
    """Tell whether a deployment does not say, or not any more, what its apps are known to do."""
    return _verdict(deployment, revisions) != (deployment.status, deployment.reason)


def _judged(
    deployment: Deployment, revision: Revision, observed: Mapping[str, AppState], late: Collection[str]
) -> AppState:
    """Return a state as it is written down: an app that runs, but not as it is wanted, is not said to run."""
    state = observed.get(revision.app or "", NOWHERE)
    status = state.status
    is_wanted = needs_app(deployment, revision) and not has_failed(state)
    if is_wanted and not is_there(state, wanted_app(revision, deployment).fingerprint):
        status = LATE if revision.app in late else UPDATING if status == RUNNING else status
    return AppState(status, state.message[-_MAX_MESSAGE:], None, state.replicas)


def _said(revision: Revision) -> AppState:
    return AppState(revision.app_status or "", revision.app_message or "", None, revision.app_replicas)


def _note_one(session: Session, deployment: Deployment, revision: Revision, state: AppState) -> None:
    was_down = is_down(revision)
    revision.app_status, revision.app_message, revision.app_replicas = state.status, state.message, state.replicas
    session.add(revision)
    session.flush()
    theirs = select(func.coalesce(func.sum(col(Revision.app_replicas)), 0))
    deployment.replicas = session.exec(theirs.where(col(Revision.deployment_id) == deployment.id)).one()
    session.add(deployment)
    session.flush()
    if has_failed(state) and to_warm(deployment, [revision]):
        settle(session, deployment.id, {revision.number: _failure(revision)})
    else:
        newest_first = revisions_of(session, [deployment.id])
        deployment.status, deployment.reason = _verdict(deployment, newest_first[::-1])
    if is_down(revision) != was_down and _has_traffic(deployment, revision):
        # Model servers say whether the endpoint is ready.
        record_change(session, deployment)


def _verdict(deployment: Deployment, revisions: Sequence[Revision]) -> tuple[str, str | None]:
    """Return the status and reason that the apps, oldest first, give a deployment; what else is wrong stays said."""
    troubles = [trouble for row in revisions if row.app and (trouble := _trouble(deployment, row))]
    worst = next((each for each in troubles if each.status == DeploymentStatus.DEGRADED), next(iter(troubles), None))
    is_ours = (deployment.reason or "").startswith(ABOUT_APP)
    if worst and deployment.pending_traffic:
        # A rollout is under way: its end counts, and what it replaces may well be broken.
        worst = Trouble(DeploymentStatus.DEPLOYING, worst.reason)
    if deployment.status in _WORKING and worst:
        return worst.status, worst.reason
    if deployment.status == DeploymentStatus.DEPLOYING and is_ours:
        return deployment.status, None
    if deployment.status == DeploymentStatus.DEGRADED and is_ours:
        if worst is None:
            return DeploymentStatus.READY, None
        if worst.status == DeploymentStatus.DEGRADED:
            return deployment.status, worst.reason
    return deployment.status, deployment.reason


def _trouble(deployment: Deployment, revision: Revision) -> Trouble | None:
    """Return what is wrong with an app that has traffic, or keeps its deployment waiting."""
    state = _said(revision)
    if _has_traffic(deployment, revision):
        if has_failed(state):
            return Trouble(DeploymentStatus.DEGRADED, _failure(revision))
        if state.status == LATE:
            return Trouble(DeploymentStatus.DEGRADED, _progress(deployment, revision))
        return None if state.status == RUNNING else Trouble(DeploymentStatus.DEPLOYING, _progress(deployment, revision))
    if deployment.status == DeploymentStatus.DEPLOYING and to_warm(deployment, [revision]) and state.message:
        return Trouble(
            DeploymentStatus.DEPLOYING, f"{ABOUT_APP} {revision.number} is starting: {_reason(state.message)}"
        )
    return None


def _has_traffic(deployment: Deployment, revision: Revision) -> bool:
    return bool(deployment.traffic.get(str(revision.number)))


def _progress(deployment: Deployment, revision: Revision) -> str:
    running, wanted = revision.app_replicas, deployment.scaling["min_replicas"]
    # Those that are to be replaced are counted, too, until the new ones run.
    found = f"has {running} of {wanted} replicas" if running < wanted else "changes over to new replicas"
    said = f": {_reason(revision.app_message)}" if revision.app_message else "."
    return f"{ABOUT_APP} {revision.number} {found}{said}"


def _failure(revision: Revision) -> str:
    return f"{ABOUT_APP} {revision.number} fails: {_reason(revision.app_message or '')}"


def _reason(message: str) -> str:
    """Return what the replica said of its model, else the last line of Serve's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["Serve gives no reason."]
    own = (line.partition(_BROKEN)[2] for line in reversed(lines) if _BROKEN in line)
    return next(own, lines[-1])
