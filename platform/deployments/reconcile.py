"""From the dedicated revisions in PostgreSQL to their apps, and back to what became of them.

Every cluster runs every app, so that a new cluster is complete before the old one goes. An app whose revision lost its
traffic stays a while, for a quick way back; one whose deployment is gone goes at once.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog
from sqlalchemy import func
from sqlmodel import Session, col, select

from ..kernel.errors import ExternalServiceError
from ..kernel.resources import Resources
from .models import Deployment, Revision
from .rollouts import locked, settle, to_warm
from .runtime import AppRuntime, AppState, WantedApp
from .schemas import DeploymentStatus

log = structlog.get_logger("raymill.deployments")

# UNHEALTHY may be a matter of moments while a replica runs; an app that never had one is given up by Serve.
_FAILED, _UNWELL = "DEPLOY_FAILED", "UNHEALTHY"
_DELETING = "DELETING"
_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 300.0
_MAX_MESSAGE = 2000
# How a traceback ends when a model cannot be loaded.
_BROKEN = "ModelBroken: "
_FAILS = "The app of revision"
_WORKING = frozenset({DeploymentStatus.READY, DeploymentStatus.DEPLOYING})
_NOWHERE = AppState("", "", None, 0)


@dataclass(frozen=True)
class Make:
    """Deploy an app that is missing, other than wanted, or failed some time ago."""

    name: str


@dataclass(frozen=True)
class Remove:
    """Delete an app that nothing wants."""

    name: str


Action = Make | Remove


def plan(
    wanted: Mapping[str, str],
    observed: Mapping[str, AppState],
    *,
    kept: Collection[str] = (),
    may_retry: Callable[[str], bool] = lambda name: True,
) -> list[Action]:
    """Return what closes the gap.

    Args:
        wanted: Fingerprints by name.
        observed: What the cluster has.
        kept: Names that are not wanted and may stay.
        may_retry: Whether a failed app may be tried again by now.
    """
    actions: list[Action] = [
        Make(name)
        for name, fingerprint in wanted.items()
        if _is_to_be_made(observed.get(name), fingerprint, partial(may_retry, name))
    ]
    unwanted = observed.keys() - wanted.keys() - set(kept)
    return actions + [Remove(name) for name in sorted(unwanted) if observed[name].status != _DELETING]


def _is_to_be_made(state: AppState | None, fingerprint: str, may_retry: Callable[[], bool]) -> bool:
    if state is None:
        return True
    if state.status == _DELETING:
        return False
    # While Serve does not say what an app was made from, it is left alone.
    if state.fingerprint is not None and state.fingerprint != fingerprint:
        return True
    return has_failed(state) and may_retry()


def has_failed(state: AppState) -> bool:
    """Tell whether Serve has given an app up."""
    return state.status == _FAILED or (state.status == _UNWELL and not state.replicas)


class Retries:
    """When failed apps may be tried again: after pauses that double."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._due: dict[str, tuple[float, float]] = {}

    def may(self, name: str) -> bool:
        """Tell whether it is time; the first question begins the first pause."""
        now = self._monotonic()
        due, pause_s = self._due.setdefault(name, (now + _FIRST_RETRY_S, _FIRST_RETRY_S))
        if now < due:
            return False
        pause_s = min(pause_s * 2, _LAST_RETRY_S)
        self._due[name] = (now + pause_s, pause_s)
        return True

    def forget(self, names: Collection[str]) -> None:
        """Begin anew with those that do well or are gone."""
        for name in self._due.keys() & set(names):
            del self._due[name]


class DedicatedApps:
    """The apps of one cluster."""

    def __init__(
        self, resources: Resources, runtime: AppRuntime, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._resources = resources
        self._runtime = runtime
        self._monotonic = monotonic
        self._keep_s = resources.settings.controller.keep_apps_s
        self._wanted_at: dict[str, float] = {}
        self._retries = Retries(monotonic)

    def step(self) -> None:
        """Look, decide, act, and note what became of the apps; one that fails holds up no other.

        Raises:
            ClusterUnreachable: If the cluster does not answer.
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        with self._resources.session() as session:
            wanted, living = _wanted(session)
        observed = self._runtime.observe()
        now = self._monotonic()
        self._wanted_at |= dict.fromkeys(wanted, now)
        self._retries.forget([name for name, state in observed.items() if not has_failed(state)])
        kept = {name for name in living if now - self._wanted_at.get(name, now) < self._keep_s}
        kept -= {name for name, state in observed.items() if has_failed(state)}
        fingerprints = {name: app.fingerprint for name, app in wanted.items()}
        for action in plan(fingerprints, observed, kept=kept, may_retry=self._retries.may):
            self._do(action, wanted)
        self._wanted_at = {name: self._wanted_at.get(name, now) for name in observed.keys() | wanted.keys()}
        _note(self._resources, {name: _plain(state) for name, state in observed.items()})

    def _do(self, action: Action, wanted: Mapping[str, WantedApp]) -> None:
        try:
            match action:
                case Make(name):
                    log.info("app_made", app=name)
                    self._runtime.make(wanted[name])
                case Remove(name):
                    log.info("app_removed", app=name)
                    self._runtime.remove(name)
        except ExternalServiceError as error:
            log.warning("app_action_failed", app=action.name, reason=error.message)
        except Exception:  # Ray raises whatever went wrong; the other apps must not wait for this one
            log.exception("app_action_failed", app=action.name)


def _wanted(session: Session) -> tuple[dict[str, WantedApp], set[str]]:
    """Return the apps that are needed, and the names of all whose deployment is not stopped."""
    rows = session.exec(
        select(Revision, Deployment)
        .join(Deployment, col(Revision.deployment_id) == col(Deployment.id))
        .where(col(Revision.app).is_not(None))
    ).all()
    needed = {
        revision.app: _app(revision, deployment) for revision, deployment in rows if needs_app(deployment, revision)
    }
    living = {revision.app or "" for revision, deployment in rows if deployment.status != DeploymentStatus.STOPPED}
    return {name: app for name, app in needed.items() if name}, living


def needs_app(deployment: Deployment, revision: Revision) -> bool:
    """Tell whether a revision must be able to answer now."""
    return bool(deployment.traffic.get(str(revision.number)) or to_warm(deployment, [revision]))


def _app(revision: Revision, deployment: Deployment) -> WantedApp:
    return WantedApp(
        name=revision.app or "",
        format=revision.format,
        sha256=revision.sha256,
        size_bytes=revision.size_bytes,
        signature=revision.signature,
        requested=deployment.requested,
        scaling=deployment.scaling,
    )


def _note(resources: Resources, observed: Mapping[str, AppState]) -> None:
    """Write down what the cluster says of the apps, where it changed."""
    theirs = select(Revision).where(col(Revision.app).is_not(None)).order_by(col(Revision.id))
    with resources.session() as session:
        changed = [
            (row.deployment_id, row.id, state)
            for row in session.exec(theirs)
            if _said(row) != (state := observed.get(row.app or "", _NOWHERE))
        ]
    for deployment_id, revision_id, state in changed:
        with resources.session() as session:
            # The deployment first, as everywhere, so that no two changes wait for each other crosswise.
            if (deployment := locked(session, deployment_id)) and (revision := session.get(Revision, revision_id)):
                _note_one(session, deployment, revision, state)


def _plain(state: AppState) -> AppState:
    """Return what is written down of a state."""
    return replace(state, message=state.message[-_MAX_MESSAGE:], fingerprint=None)


def _said(revision: Revision) -> AppState:
    return AppState(revision.app_status or "", revision.app_message or "", None, revision.app_replicas)


def _note_one(session: Session, deployment: Deployment, revision: Revision, state: AppState) -> None:
    revision.app_status, revision.app_message, revision.app_replicas = state.status, state.message, state.replicas
    session.add(revision)
    session.flush()
    theirs = select(func.coalesce(func.sum(col(Revision.app_replicas)), 0))
    deployment.replicas = session.exec(theirs.where(col(Revision.deployment_id) == deployment.id)).one()
    session.add(deployment)
    session.flush()
    failure = f"{_FAILS} {revision.number} fails: {_reason(state.message)}"
    if not has_failed(state):
        _recover(deployment, f"{_FAILS} {revision.number} fails")
        _explain_start(deployment, revision, state)
    elif to_warm(deployment, [revision]):
        settle(session, deployment.id, {revision.number: failure})
    elif deployment.traffic.get(str(revision.number)) and deployment.status in _WORKING:
        deployment.status, deployment.reason = DeploymentStatus.DEGRADED, failure


def _recover(deployment: Deployment, failure: str) -> None:
    if deployment.status == DeploymentStatus.DEGRADED and (deployment.reason or "").startswith(failure):
        deployment.status, deployment.reason = DeploymentStatus.READY, None


def _explain_start(deployment: Deployment, revision: Revision, state: AppState) -> None:
    if deployment.status == DeploymentStatus.DEPLOYING and state.status == "DEPLOYING" and state.message:
        deployment.reason = f"The app of revision {revision.number} is starting: {_reason(state.message)}"


def _reason(message: str) -> str:
    """Return what the replica said of its model, else the last line of Serve's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["Serve gives no reason."]
    own = (line.partition(_BROKEN)[2] for line in reversed(lines) if _BROKEN in line)
    return next(own, lines[-1])
